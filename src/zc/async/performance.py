# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""How one job is performed, with every commit that this takes.

By hand, ``job()``:

1. ACTIVE is committed, so that an interruption can be noticed.
2. `setUp`, the callable; result and CALLBACKS are committed with all that the
   callable changed.  After an error the retry policy is asked: again now, later
   (the job goes back to its queue), or not at all (a Failure is the result).
3. Each callback is performed the same way.
4. COMPLETED is committed, and the agent told.

A worker of a dispatcher does the same, but is given jobs whose ACTIVE has been
committed, completes a job without callbacks in the commit of step 2, and leaves
telling the agent to the dispatcher.

Before each piece of work the job is looked at: somebody who took it away has
written it, so a commit of ours would conflict, and we stop with ReassignedError.
If the process dies between any two commits, the job is ACTIVE (it is
interrupted) or CALLBACKS (its callbacks are resumed).
"""

import asyncio
import inspect
from typing import Any

import transaction
from twisted.internet.defer import Deferred

from . import clock, failure, transactions
from .callbacks import unfinished
from .errors import BadStatusError, ReassignedError
from .interfaces import ACTIVE, ASSIGNED, CALLBACKS, COMPLETED, NEW
from .observing import Observer
from .retry import ask
from .threadlocal import local
from .utils import log, tracelog

_NOT_CALLED = object()


class Performance:
    """One job on its way to a result, in one thread.

    `token` is the `_active_start` of the claim that this performance serves.
    `tell_agent` is False where a dispatcher reaps.
    """

    def __init__(
        self,
        job: Any,
        observer: Observer | None = None,
        token: int | None = None,
        tell_agent: bool = True,
    ):
        self.job = job
        self.observer = observer or local.surroundings.observer or BY_HAND
        self.token = token
        self.parent = job.parent
        self.tell_agent = tell_agent
        self.two_steps = False
        self.manager = manager_of(job)
        self.args: tuple = ()
        self.kwargs: dict = {}
        self.value: Any = None
        self._given: Any = _NOT_CALLED
        self._data_cache: dict = {}
        self._policy: Any = None
        self._extra_attempts = 0
        self._info: Any = None
        self._fresh = False

    # Entrances.

    def by_hand(self, args: tuple, kwargs: dict) -> Any:
        """Perform a NEW or ASSIGNED job; see `IJob.__call__`."""
        if self.job.status not in (NEW, ASSIGNED):
            raise BadStatusError(
                "can only call a job with NEW or ASSIGNED status",
                job=self.job,
                expected=(NEW, ASSIGNED),
            )
        self.two_steps = True
        self.job._begin(clock.micros(clock.utcnow()))
        self.manager.commit()
        return self.begun(args, kwargs)

    def begun(
        self, args: tuple = (), kwargs: dict | None = None, fresh: bool = False
    ) -> Any:
        """Perform a job whose ACTIVE has been committed.

        `fresh` says that the job was loaded in a transaction that has just begun.
        """
        self.args, self.kwargs = args, kwargs or {}
        self._fresh = fresh
        if self.token is None:
            self.token = self.job._active_start
        transactions.until_settled(self._attempt)
        return self.value

    def with_value(self, value: Any) -> None:
        """Settle an ACTIVE job with a value that was waited for."""
        self._given = failure.sanitize(value) if failure.is_failure(value) else value
        self.begun()

    def end(self, result: Any) -> Any:
        """Settle the job with `result` in the caller's transaction, and commit."""
        self.token = self.job._active_start
        self.job._settle(result, expect_callbacks=True)
        self.manager.commit()
        self._finish()
        return result

    # One attempt.

    def _attempt(self) -> bool:
        """Whether the job is settled, rescheduled, or waits."""
        if not self._fresh:
            self.manager.begin()
        self._fresh = False
        if not self._check_own():
            return self._finish()
        called = self._given is _NOT_CALLED
        try:
            try:
                value = self._call() if called else self._given
            except BaseException as error:
                self._let_through(error)
                return self._failed("jobError")
            return self._succeeded(value)
        finally:
            if called:
                self._tear_down()

    def _check_own(self) -> bool:
        """Whether the job is still ours to perform; False when it is settled.

        Settled by us, that is: the commit arrived, only its answer was lost.
        """
        job = self.job
        status = job.status
        mine = job._active_start == self.token and job.parent is self.parent
        if not mine or status not in (ACTIVE, CALLBACKS, COMPLETED):
            raise ReassignedError(f"{job!r} belongs to somebody else now", job=job)
        return status == ACTIVE

    def _call(self) -> Any:
        job, outer = self.job, local.surroundings
        local.surroundings = outer._replace(job=job)
        self._info = None
        try:
            self._info = job.setUp()
            kwargs = {**dict(job._kwargs), **self.kwargs}
            return self._run_coroutine(job.callable(*job._args, *self.args, **kwargs))
        finally:
            local.surroundings = outer

    def _run_coroutine(self, value: Any) -> Any:
        # Without a dispatcher there is no loop but one of our own.
        if inspect.iscoroutine(value) and not self.observer.is_worker:
            return asyncio.run(value)
        return value

    def _tear_down(self) -> None:
        try:
            self.job.tearDown(self._info)
        except Exception:
            log.critical("tearDown of %r failed", self.job, exc_info=True)

    def _let_through(self, error: BaseException) -> None:
        """Raise what asks this thread to end, when the thread is not a worker's."""
        if not self.observer.is_worker and isinstance(
            error, (SystemExit, KeyboardInterrupt)
        ):
            self.manager.abort()
            raise error

    def _succeeded(self, value: Any) -> bool:
        self.value = value
        try:
            awaited = self._accept(value)
            self._remember()
            self.manager.commit()
        except BaseException as error:
            self._let_through(error)
            return self._failed("commitError")
        if awaited:
            self.observer.awaiting(self.job, value)
            return True
        return self._finish()

    def _accept(self, value: Any) -> bool:
        """Store the result; True when it is still to come from an awaitable."""
        if isinstance(value, Deferred) or inspect.isawaitable(value):
            self.job._p_changed = True  # so that the commit meets the fence
            return True
        if failure.is_failure(value):
            value = self.value = failure.sanitize(value)
        # By hand the two steps of release 1.0 can be seen; a worker needs one.
        self.job._accept(value, expect_callbacks=self.two_steps)
        return False

    def _remember(self) -> None:
        if self._extra_attempts:
            self.job._attempts += self._extra_attempts
        if self._policy is None:
            self._policy = self.job.getRetryPolicy()
        self._policy.updateData(self._data_cache)

    # After an error.

    def _failed(self, question: str) -> bool:
        """Ask the policy; whether the job is done with."""
        problem = failure.current()
        self.manager.abort()
        self.manager.begin()
        if not self._check_own():
            return self._finish()
        answer = ask(self._get_policy, question, self.job, problem, self._data_cache)
        if answer is True:
            self._extra_attempts += 1
            self.observer.retrying(self.job, problem, answer)
            return False
        if answer is False or self.job.queue is None:
            return self._give_up(problem)
        return self._later(problem, answer)

    def _get_policy(self) -> Any:
        if self._policy is None:
            self._policy = self.job.getRetryPolicy()
        return self._policy

    def _give_up(self, problem: Any) -> bool:
        self.value = problem

        def store() -> None:
            if self._check_own():
                self.job._settle(problem, expect_callbacks=self.two_steps)
                self._remember_if_possible()

        transactions.attempt(store, f"failure of {self.job!r}", self.manager)
        return self._finish()

    def _remember_if_possible(self) -> None:
        try:
            self._remember()
        except Exception:
            # A policy that cannot be made or that raises is what failed here.
            log.exception("the retry policy of %r failed in updateData", self.job)

    def _later(self, problem: Any, when: Any) -> bool:
        self.value = None

        def reschedule() -> None:
            if self._check_own():
                self._remember_if_possible()
                postpone(self.job, when)

        transactions.attempt(reschedule, f"retry of {self.job!r}", self.manager)
        self.observer.retrying(self.job, problem, when)
        return True

    # After the commit.

    def _finish(self) -> bool:
        job = self.job
        if job.status in (CALLBACKS, COMPLETED):
            self.observer.settled(job)
            if job.status == CALLBACKS or unfinished(job.callbacks):
                job._perform_callbacks(self.tell_agent)
        return True


class _ByHand(Observer):
    """Used where no dispatcher is."""

    def awaiting(self, job: Any, awaited: Any) -> None:
        """`job` is ACTIVE and committed; its result comes from `awaited`."""
        db, oid, token = job._p_jar.db(), job._p_oid, job._active_start

        def resume(value: Any) -> None:
            settle_elsewhere(db, oid, token, value)

        as_deferred(awaited).addBoth(resume)


BY_HAND = _ByHand()


def as_deferred(awaited: Any) -> Deferred:
    """A Deferred of an awaitable."""
    if isinstance(awaited, Deferred):
        return awaited
    return Deferred.fromCoroutine(awaited)


def settle_elsewhere(db: Any, oid: bytes, token: int, value: Any) -> None:
    """Give the job `oid` of `db` its result, in a connection of its own."""
    manager = transaction.TransactionManager()
    connection = db.open(transaction_manager=manager)
    try:
        job = connection.get(oid)
        Performance(job, token=token).with_value(value)
    except ReassignedError as error:
        tracelog.warning("a late result is discarded: %s", error)
    finally:
        manager.abort()
        connection.close()


def manager_of(job: Any) -> Any:
    """The transaction manager of the job's connection, or the thread's."""
    while job is not None:
        jar = getattr(job, "_p_jar", None)
        if jar is not None:
            return jar.transaction_manager
        job = getattr(job, "parent", None)  # a callback that was just added
    return transaction.manager


def postpone(job: Any, when: Any) -> None:
    """Have an ACTIVE job performed again at `when`.  Does not commit.

    A callback is performed again by a job that resumes its caller's callbacks,
    since it belongs to the caller and not to a queue.
    """
    job.deaths = 0
    if not job.is_callback:
        job.queue.reschedule(job, when)
        return
    caller = job.parent
    while not hasattr(caller, "resumeCallbacks"):
        caller = caller.parent  # a proxy
    job._take_back()
    if caller.status == CALLBACKS:
        caller._postponed = True
    caller.queue.put_later(caller.resumeCallbacks, when)
