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

from twisted.internet.defer import Deferred

from . import clock, failure, status, transactions
from .callbacks import unfinished
from .errors import ReassignedError
from .interfaces import ACTIVE, ASSIGNED, CALLBACKS, COMPLETED, NEW
from .observing import BY_HAND, Observer
from .retry import ask
from .threadlocal import local
from .utils import log

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
        self.manager = transactions.manager_of(job)
        self.args: tuple = ()
        self.kwargs: dict = {}
        self.value: Any = None
        self._given: Any = _NOT_CALLED
        self._data_cache: dict = {}
        self._policy: Any = None
        self._extra_attempts = 0
        self._info: Any = None
        self._set_up = False
        self._also_settled: list = []
        self._fresh = False

    # Entrances.

    def by_hand(self, args: tuple, kwargs: dict) -> Any:
        """Perform a NEW or ASSIGNED job; see `IJob.__call__`."""
        status.require(self.job, "call", (NEW, ASSIGNED))
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
        self._given = value
        self.begun()
        if self.job.is_callback:
            self.job._finish_caller()

    def end(self, result: Any) -> None:
        """Settle the job with `result` in the caller's transaction, and commit."""
        job = self.job
        job._settle(result, expect_callbacks=True)
        self.token = job._disown()
        self.manager.commit()
        self._finish()

    # One attempt.

    def _attempt(self) -> bool:
        """Whether the job is settled, rescheduled, or waits."""
        if not self._fresh:
            self.manager.begin()
        self._fresh = False
        if self._is_done():
            return self._finish()
        failed = self._try()
        return self._finish() if failed is None else self._failed(*failed)

    def _is_done(self) -> bool:
        """Whether the commit of an attempt arrived; then its answer was lost.

        ReassignedError when the job is not ours any more.
        """
        job = self.job
        mine = job._active_start == self.token and job.parent is self.parent
        if not mine or job.status not in (ACTIVE, CALLBACKS, COMPLETED):
            raise ReassignedError(f"{job!r} belongs to somebody else now", job=job)
        if job.status == ACTIVE:
            # An awaitable that nobody has any more is made again.
            awaits = job._awaits and self._given is _NOT_CALLED
            return job.waiting or (awaits and is_awaitable(self.value))
        return True

    def _try(self) -> tuple[str, Any] | None:
        """Call and commit, or abort.

        Returns what to ask the policy, and the failure; None after a commit.
        """
        outer = local.surroundings
        self._also_settled = []
        local.surroundings = outer._replace(
            job=self.job, also_settled=self._also_settled
        )
        question = "jobError"
        try:
            self.value = self._call()
            question = "commitError"
            self._commit()
            return None
        except BaseException as error:
            problem = failure.current()
            self._also_settled = []
            self.manager.abort()
            if self._is_for_the_thread(error):
                raise
            return question, problem
        finally:
            self._tear_down()
            local.surroundings = outer

    def _call(self) -> Any:
        if self._given is not _NOT_CALLED:
            return self._given
        job = self.job
        self._get_policy()  # one that cannot be made fails before the call
        self._info = None
        self._set_up = True
        self._info = job.setUp()
        return self._run_coroutine(job._call(self.args, self.kwargs))

    def _run_coroutine(self, value: Any) -> Any:
        # Without a dispatcher there is no loop but one of our own.
        if inspect.iscoroutine(value) and not self.observer.is_worker:
            return asyncio.run(value)
        return value

    def _commit(self) -> None:
        """Commit with the result, or with what it will come from."""
        self._store()
        self.manager.commit()

    def _store(self) -> None:
        job, value = self.job, self.value
        # The callable may have given the job away: to its queue, say.
        status.require(job, "complete", (ACTIVE,))
        if is_awaitable(value):
            job._awaits = True
        else:
            if failure.is_failure(value):
                value = self.value = failure.sanitize(value)
            # By hand the two steps of release 1.0 can be seen; a worker needs one.
            job._accept(value, expect_callbacks=self.two_steps)
        self._remember()

    def _remember(self) -> None:
        if self._extra_attempts:
            self.job._attempts += self._extra_attempts
        self._get_policy().updateData(self._data_cache)

    def _tear_down(self) -> None:
        if not self._set_up:
            return
        self._set_up = False
        try:
            self.job.tearDown(self._info)
        except BaseException as error:
            if self._is_for_the_thread(error):
                raise
            log.critical("tearDown of %r failed", self.job, exc_info=True)

    def _is_for_the_thread(self, error: BaseException) -> bool:
        """Whether `error` asks the thread to end, and the thread is no worker."""
        stops = isinstance(error, (SystemExit, KeyboardInterrupt))
        return stops and not self.observer.is_worker

    # After an error.

    def _failed(self, question: str, problem: Any) -> bool:
        """Ask the policy; whether the job is done with."""
        self.manager.begin()
        if self._is_done():
            return self._finish()
        discard(self.value)
        answer = ask(self._get_policy, question, self.job, problem, self._data_cache)
        return self._answered(problem, answer)

    def _answered(self, problem: Any, answer: Any) -> bool:
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
            if not self._is_done():
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
            if not self._is_done():
                self._remember_if_possible()
                self.job._postpone(when, self.tell_agent)

        transactions.attempt(reschedule, f"retry of {self.job!r}", self.manager)
        self.observer.retrying(self.job, problem, when)
        return True

    # After the commit.

    def _finish(self) -> bool:
        job = self.job
        for other in self._also_settled:
            self.observer.settled(other)
        if job._awaits:
            self.observer.awaiting(job, self.value)
        elif job.status in (CALLBACKS, COMPLETED):
            self.observer.settled(job)
            if job.status == CALLBACKS or _has_new_callbacks(job):
                job._perform_callbacks(self.tell_agent)
        return True


def is_awaitable(value: Any) -> bool:
    """Whether the result will come from `value`, after the call."""
    return isinstance(value, Deferred) or inspect.isawaitable(value)


def _has_new_callbacks(job: Any) -> bool:
    return job._companion.has_callbacks and unfinished(job.callbacks)


def discard(value: Any) -> None:
    """Forget what a call returned whose effects are lost."""
    if inspect.iscoroutine(value):
        value.close()  # it was never begun; this keeps Python from complaining
