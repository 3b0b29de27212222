# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""How the callbacks of a job are performed, once or again, each with its commits.

The job's result is committed before.  Callbacks may be added meanwhile, so after
each one the list is looked at again, and the commit that completes the job
conflicts with an addition that it has not seen.

A job is completed when each callback has ended, or waits for other jobs.  One that
awaits a value holds it in CALLBACKS, so that it is resumed should the process die.
"""

from typing import Any

from . import clock, transactions
from .callbacks import all_ended, due_callbacks, has_ended, unfinished
from .errors import ReassignedError
from .interfaces import ACTIVE, CALLBACKS, COMPLETED, NEW
from .performance import Performance


def perform_callbacks(job: Any, tell_agent: bool = True) -> None:
    """Perform the callbacks of `job` that have not been begun; complete it.

    A job that only lacks postponed callbacks stays in CALLBACKS and waits for
    them.  ReassignedError when another thread has taken over.
    """
    transactions.until_settled(_Callbacks(job, tell_agent).step)


class _Callbacks:
    """The callbacks of one job on their way, in one thread."""

    def __init__(self, job: Any, tell_agent: bool):
        self.job = job
        self.tell_agent = tell_agent
        self.manager = transactions.manager_of(job)
        self._begun: list = []
        self._found: list | None = None
        self._tried: tuple | None = None
        self._conflicts = 0

    def step(self) -> bool:
        """Perform the next callback; True when there is none."""
        self.manager.begin()
        try:
            callback = self._begin_next()
            self.manager.commit()
        except BaseException as error:
            self.manager.abort()
            self._conflicts += 1
            transient = transactions.is_transient(error)
            if not transient or self._conflicts == transactions.TRIES:
                raise
            return False  # most likely somebody added a callback: look again
        if callback is None:
            return True
        self._conflicts = 0
        self._begun.append(callback)
        Performance(callback).begun((self.job.result,))
        return False

    def _begin_next(self) -> Any:
        job = self.job
        if job.status not in (CALLBACKS, COMPLETED):
            raise ReassignedError(f"the callbacks of {job!r} are not due", job=job)
        callbacks = list(due_callbacks(job.callbacks, job.result))
        begun = self._has_begun()
        if begun is not None:
            return begun
        self._check_alone(callbacks)
        for callback in callbacks:
            if callback.status == NEW and not callback._postponed:
                token = callback._begin(clock.micros(clock.utcnow()))
                self._tried = callback, token
                return callback
        if job.status == CALLBACKS:
            self._complete(callbacks)
        return None

    def _has_begun(self) -> Any:
        """The callback whose commit had arrived, when only its answer was lost."""
        if self._tried is None or self._tried[0] in self._begun:
            return None
        callback, token = self._tried
        mine = callback.status == ACTIVE and callback._active_start == token
        return callback if mine else None

    def _check_alone(self, callbacks: list) -> None:
        """Stop when another thread has begun a callback since we first looked."""
        active = [one for one in callbacks if one.status == ACTIVE and not one.waiting]
        if self._found is None:
            self._found = active
        known = [*self._found, *self._begun]
        if self.job.status == CALLBACKS and any(one not in known for one in active):
            raise ReassignedError(
                f"the callbacks of {self.job!r} are performed elsewhere now",
                job=self.job,
            )

    def _complete(self, callbacks: list) -> None:
        missing = [one for one in callbacks if not has_ended(one)]
        if not missing:
            complete(self.job, self.tell_agent)
        elif not self.job._postponed and all(one._postponed for one in missing):
            # Whoever ends one of them must see this, or we must see its end.
            for callback in missing:
                transactions.read_current(callback)
            self.job._postponed = True


def complete(job: Any, tell_agent: bool) -> None:
    """Note that the callbacks of `job` have been performed.  Does not commit."""
    job._complete()
    agent = None if job.is_callback or not tell_agent else job.agent
    if agent is not None:
        agent.jobCompleted(job)


def finish_caller(callback: Any) -> None:
    """Complete the caller of a callback that came to its result late; commits.

    Does nothing when it lacks others: whoever performs those will complete it.
    """
    caller = callback.caller
    manager = transactions.manager_of(callback)

    def finish() -> None:
        if caller.status == CALLBACKS and all_ended(caller.callbacks):
            complete(caller, tell_agent=True)

    transactions.attempt(finish, f"completion of {caller!r}", manager)
    # Not what `finish` returned: it may have been repeated when it had succeeded.
    if caller.status == COMPLETED and caller.is_callback:
        finish_caller(caller)


def perform_callback(callback: Any, result: Any) -> None:
    """Perform one callback that has not been begun with `result`; commits."""
    callback._begin(clock.micros(clock.utcnow()))
    performance = Performance(callback)
    performance.manager.commit()
    performance.begun((result,))


def add_to_settled(job: Any, callback: Any) -> None:
    """Perform a callback just added to a completed job, in this thread; commits."""
    for one in due_callbacks([callback], job.result):
        perform_callback(one, job.result)


def retry_as_callback(callback: Any, result: Any) -> None:
    """Perform an interrupted callback again; commits."""
    callback._take_back()
    perform_callback(callback, result)


def resume_callbacks(job: Any) -> None:
    """See `IJob.resumeCallbacks`."""
    for callback in list(due_callbacks(job.callbacks, job.result)):
        _resume(callback, job)
    perform_callbacks(job)


def _resume(callback: Any, caller: Any) -> None:
    """Go on with a callback that a process left behind."""
    if callback.waiting:
        return
    if callback.status == ACTIVE:
        callback.handleCallbackInterrupt(caller)
    elif callback.status == CALLBACKS or unfinished(callback.callbacks):
        if callback.status != NEW:
            callback.resumeCallbacks()


def perform_postponed(callback: Any) -> None:
    """Perform a callback whose policy had asked for a later time; commits.

    May be called again after an interruption.
    """
    caller = callback.caller
    if callback.status == NEW:
        perform_callback(callback, caller.result)
    else:
        _resume(callback, caller)
    if caller.status == CALLBACKS and caller._postponed:
        perform_callbacks(caller)
