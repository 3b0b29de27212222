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
from .performance import Performance


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


class Waiting:
    """The part of a job that knows about jobs it waits for.

    `_awaited` is a job, or a tuple of jobs, while it waits.
    """

    _awaited: Any = None
    _missing = 0
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
        if any(job is self for job in jobs):
            raise BadStatusError("a job cannot wait for itself", job=self)
        missing = [job for job in jobs if not has_result(job)]
        self._awaited = value if _is_job(value) else tuple(value)
        self._missing = len(missing)
        for job in missing:
            job.addCallback(self._inner_done)

    def _inner_done(self, result: Any) -> None:
        """One of them has its result; performed as its callback.  Commits.

        May be performed again after a crash at any point.
        """
        if self._awaited is not None and self._status == ACTIVE:
            # The last two may end at once, each not seeing the other's result:
            # both write this, so one of them conflicts and looks again.
            self._missing = max(self._missing - 1, 0)
            jobs = awaited_jobs(self._awaited)
            if all(map(has_result, jobs)):
                Performance(self).end(_results(self._awaited))
        elif self._status == CALLBACKS and not self._postponed:
            self._perform_callbacks()

    def _forget_waiting(self) -> None:
        if self._awaited is not None:
            self._awaited = None
            self._missing = 0


def _results(value: Any) -> Any:
    if _is_job(value):
        return value.result
    return [job.result for job in value]
