# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""A job whose callable returned a job, or a list of jobs, waits for them.

It stays ACTIVE, leaves its slot and its quota, and takes their result, or the
list of their results, by a callback that it gave to each.  Nobody watches it:
when the process dies, the callback is interrupted and performed again.
"""

from typing import Any

from .errors import BadStatusError
from .interfaces import ACTIVE, CALLBACKS, COMPLETED, ICallbackProxy, IJob
from .threadlocal import local
from .transactions import read_current


def awaited_jobs(value: Any) -> tuple | None:
    """The jobs that stand for a result, or None when `value` is the result."""
    if _is_job(value):
        return (value,)
    if isinstance(value, (list, tuple)) and value and all(map(_is_job, value)):
        return tuple(value)
    return None


def _is_job(value: Any) -> bool:
    return IJob.providedBy(value) or ICallbackProxy.providedBy(value)


def has_result(job: Any) -> bool:
    """Whether the result of `job` is known, its callbacks done or not."""
    return job.status in (CALLBACKS, COMPLETED)


def first_without_result(jobs: Any) -> Any:
    """One of `jobs` that has no result as yet, or None.

    That it has none is checked by the commit.  So, when the last two of them end
    at once, each asking in a transaction that began after its own end, one sees
    that all are done.  The last ones are tried first: they are likely to end last.
    """
    for job in reversed(jobs):
        if not has_result(job):
            read_current(job)
            return job
    return None


class Waiting:
    """The part of a job that knows about jobs it waits for.

    `_awaited` is a job, or a tuple of jobs, while it waits for them; `_awaits`
    tells that it awaits a value of something that cannot be stored.  `_postponed`
    is true of a callback that a job in the queue will perform, and of a job in
    CALLBACKS that lacks only such callbacks.
    """

    _awaited: Any = None
    _awaits = False
    _postponed = False

    @property
    def waiting(self) -> bool:
        """Whether it holds no slot: waits for jobs, or for a callback's retry."""
        return (self._awaited is not None and self._status == ACTIVE) or (
            self._postponed and self._status == CALLBACKS
        )

    def _accept(self, value: Any, expect_callbacks: bool = False) -> None:
        """Take what the callable returned: a result, or jobs to wait for."""
        jobs = awaited_jobs(value)
        if jobs is None:
            self._settle(value, expect_callbacks)
        elif all(map(has_result, jobs)):
            self._settle(_results(value), expect_callbacks)
        else:
            self._wait_for(value, jobs)

    def _wait_for(self, value: Any, jobs: tuple) -> None:
        self._refuse_circle(jobs)
        self._forget_waiting()
        self._awaited = value if _is_job(value) else tuple(value)
        for job in jobs:
            if not has_result(job):
                job.addCallback(self.substitute(self._inner_done))

    def _refuse_circle(self, jobs: tuple) -> None:
        """Raise BadStatusError when one of `jobs` cannot end before this one does."""
        seen: list = []
        waiting = list(jobs)
        while waiting:
            job = waiting.pop()
            if job is self:
                raise BadStatusError(
                    "a job cannot wait for itself, not through others either", job=self
                )
            if not has_result(job) and job not in seen:
                seen.append(job)
                read_current(job)  # it may begin to wait for us at this moment
                waiting.extend(_needed_by(job))

    def _inner_done(self, result: Any) -> None:
        """One of them has its result; performed as its callback."""
        if self._awaited is not None and self._status == ACTIVE:
            if first_without_result(awaited_jobs(self._awaited)) is None:
                self._settle_within(_results(self._awaited))

    def _settle_within(self, result: Any) -> None:
        """Take `result`, in the transaction of another job that is performed.

        Our own callbacks are performed by a callback of that job, which is
        resumed like any other when the process dies.
        """
        self._settle(result)
        if self._status == CALLBACKS:
            local.getJob().addCallback(self.substitute(self._go_on))
        elif self.agent is not None and not self.is_callback:
            self.agent.jobCompleted(self)
        local.surroundings.also_settled.append(self)

    def _go_on(self, result: Any) -> None:
        """Perform our callbacks; performed as a callback.  Commits."""
        if self._status == CALLBACKS:
            self.resumeCallbacks()

    def _forget_waiting(self) -> None:
        if self._awaited is not None:
            self._awaited = None
        if self._awaits:
            self._awaits = False

    def _forget_postponement(self) -> None:
        if self._postponed:
            self._postponed = False


def _needed_by(job: Any) -> list:
    """The jobs that must end before `job` can."""
    if ICallbackProxy.providedBy(job):
        return [job.parent if job.job is None else job.job]
    needed = list(awaited_jobs(job._awaited) or ()) if job.status == ACTIVE else []
    if job.is_callback and job.status not in (ACTIVE, CALLBACKS, COMPLETED):
        needed.append(job.parent)
    return needed


def _results(value: Any) -> Any:
    if _is_job(value):
        return value.result
    return [job.result for job in value]
