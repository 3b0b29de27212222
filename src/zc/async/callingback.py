# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""How the callbacks of a job are performed, once or again, each with its commits.

The job's result is committed before.  Callbacks may be added meanwhile, so after
each round the list is looked at again, and the commit that completes the job
conflicts with an addition that it has not seen.
"""

from typing import Any

from . import clock, transactions
from .callbacks import due_callbacks
from .errors import ReassignedError
from .interfaces import ACTIVE, CALLBACKS, COMPLETED, NEW
from .performance import Performance, manager_of


def perform_callbacks(job: Any, tell_agent: bool = True) -> None:
    """Perform the callbacks of `job` that have not been begun; complete it.

    Looks again after each round, since callbacks may be added meanwhile.  A job
    one of whose callbacks was postponed stays in CALLBACKS: a job in the queue
    will resume it.
    """
    manager = manager_of(job)
    begun: list = []

    def settle_some() -> bool:
        manager.begin()
        try:
            due = [one for one in _due(job) if one not in begun]
            for callback in due:
                perform_callback(callback, job.result)
            begun.extend(due)
            return not due and _completed(job, manager, tell_agent)
        except BaseException as error:
            manager.abort()
            if transactions.is_transient(error):
                return False  # somebody added a callback: look again
            raise

    transactions.until_settled(settle_some)


def _due(job: Any) -> list:
    if job.status not in (CALLBACKS, COMPLETED):
        raise ReassignedError(f"the callbacks of {job!r} are not due", job=job)
    callbacks = due_callbacks(job.callbacks, job.result)
    return [callback for callback in callbacks if callback.status == NEW]


def _completed(job: Any, manager: Any, tell_agent: bool) -> bool:
    if job.status == CALLBACKS and not job._postponed:
        job._complete()
        agent = job.agent if tell_agent else None
        if agent is not None:
            agent.jobCompleted(job)
    manager.commit()
    return True


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
    if job._postponed:
        job._postponed = False
        manager_of(job).commit()
    for callback in list(due_callbacks(job.callbacks, job.result)):
        if callback.status == ACTIVE and not callback.waiting:
            callback.handleCallbackInterrupt(job)
        elif callback.status == CALLBACKS and not callback.waiting:
            callback.resumeCallbacks()
    perform_callbacks(job)
