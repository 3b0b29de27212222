# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Rounds: several short jobs performed in one transaction, exactly once each.

A worker begins a transaction, calls the jobs one after the other, each behind a
savepoint, and commits once.  The results are stored by a hook of that commit, so
it does not matter who commits:

* A callable raises: its savepoint is rolled back, the failure is its result.
* A callable commits: all that was called before it is stored with that commit.
  It goes on by itself in the transaction that follows.
* A callable aborts or dooms: what was called before it is lost and performed
  again; so it counts once.
* The commit fails, or a savepoint cannot be rolled back: abort; each is performed
  alone, under its own retry policy, and the lost attempt counts for nobody.

A job that is taken away meanwhile makes the commit conflict, and the others are
performed again, alone.  If the process dies, all jobs of the round are ACTIVE and
so interrupted; they will be performed alone.
"""

import time
from collections import deque
from typing import Any

import transaction

from . import clock, failure
from .durations import Durations, callable_name
from .errors import ReassignedError
from .performance import Performance
from .retry import ask, may_repeat
from .threadlocal import local
from .utils import log, tracelog


def may_share(job: Any) -> bool:
    """Whether a claimed job may be in a round at all.

    Not if its policy forbids repetition, if it or its class asks to be alone, or
    if it has a history.
    """
    return not (
        job.alone
        or job._attempts
        or job.interruptions
        or job.retry_data
        or job.surroundings() is None
    ) and may_repeat(job)


class Shared(Performance):
    """A performance that can be one of several in a transaction.

    `seconds` is how long its last call took.
    """

    seconds = 0.0

    def _call(self) -> Any:
        started = time.perf_counter()
        try:
            return super()._call()
        finally:
            self.seconds = time.perf_counter() - started

    def call(self) -> Any:
        """Only call the callable; raise what it raises."""
        job, outer = self.job, local.surroundings
        self._also_settled = []
        local.surroundings = outer._replace(job=job, also_settled=self._also_settled)
        started = time.perf_counter()
        try:
            return job._call()
        finally:
            self.seconds = time.perf_counter() - started
            local.surroundings = outer

    def is_done(self) -> bool:
        """Whether an earlier commit arrived; ReassignedError if it is not ours."""
        return self._is_done()

    def accept(self, value: Any, ended: int | None = None) -> None:
        """Store what the callable returned, or its Failure.  Does not commit.

        `ended` is when that was, in microseconds, when it is not just now.
        """
        self.value = value
        self._store()
        if ended is not None and self.job._active_end is not None:
            self.job._active_end = ended

    def conclude(self, value: Any, problem: Any = None) -> None:
        """Commit what is known of a call that ended the round's transaction."""
        self.value = value
        question = "jobError"
        if problem is None:
            try:
                self._commit()
            except BaseException:
                problem, question = failure.current(), "commitError"
                self.manager.abort()
        else:
            self.manager.abort()
        done = self._finish() if problem is None else self._failed(question, problem)
        if not done:
            self.begun()

    def finish(self) -> None:
        """Do what follows the commit: tell, wait, perform callbacks."""
        self._finish()


class Member:
    """One job of a round, and what has become of it."""

    __slots__ = ("ended", "job", "name", "performance", "settled", "ticket", "value")

    def __init__(self, ticket: Any, job: Any, observer: Any):
        self.ticket = ticket
        self.job = job
        self.performance = Shared(
            job, observer=observer, token=ticket.token, tell_agent=False
        )
        self.name = callable_name(job)
        self.value: Any = None
        self.ended: int | None = None
        self.settled = False


class Round:
    """Performs the jobs of `tickets` in the calling worker thread; commits.

    After `perform`, `done` holds the members whose result is committed, `again`
    those to be performed alone, `concluded` one that went on alone, `lost` those that belong to somebody else, and
    `rest` the tickets that the time was too short for.  `rest` may be emptied
    by another thread that takes over what has not been begun.
    """

    def __init__(
        self,
        tickets: list[Any],
        load: Any,
        observer: Any,
        durations: Durations,
        seconds: float,
    ):
        self.rest: deque[Any] = deque(tickets)
        self.taken: list[Any] = []
        self.done: list[Member] = []
        self.again: list[Member] = []
        self.lost: list[Member] = []
        self.concluded: list[Member] = []
        self._load = load
        self._observer = observer
        self._durations = durations
        self._seconds = seconds
        self._called: list[Member] = []
        self._manager = transaction.manager
        self._transaction: Any = None
        self._committed = False
        self._entered: tuple[Any, Any] | None = None

    def perform(self) -> None:
        """See the class.  Errors of the database end up in `again`."""
        self._begin()
        try:
            self._call_all()
            if self._transaction is not None:
                self._commit()
        finally:
            self._leave()

    def _begin(self) -> None:
        self._manager.begin()
        self._transaction = self._manager.get()
        self._transaction.addBeforeCommitHook(self._settle)
        self._transaction.addAfterCommitHook(self._note_commit)

    def take_over(self) -> list[Any]:
        """Take what has not been begun, for others to perform.  From any thread."""
        while True:
            try:
                self.taken.append(self.rest.pop())
            except IndexError:
                return list(self.taken)

    # The calls.

    def _call_all(self) -> None:
        deadline = time.monotonic() + self._seconds
        while self._transaction is not None:
            try:
                ticket = self.rest.popleft()
            except IndexError:
                return
            member = Member(ticket, self._load(ticket), self._observer)
            if self._is_ours(member):
                self._call(member)
                if time.monotonic() > deadline:
                    return

    def _is_ours(self, member: Member) -> bool:
        try:
            if not member.performance.is_done():
                return True
            self.done.append(member)  # settled already, though nobody was told
        except ReassignedError as error:
            tracelog.warning("%s", error)
            self.lost.append(member)
        return False

    def _call(self, member: Member) -> None:
        if self._entered is None:
            self._enter(member)
        try:
            savepoint = self._transaction.savepoint(optimistic=True)
        except Exception:
            # What an earlier job left cannot be stored: each will find out alone.
            self._break_off(member)
            return
        self._observer.begins(member.ticket, member.job)
        try:
            member.value = member.performance.call()
        except BaseException:
            self._raised(member, failure.current(), savepoint)
        else:
            self._returned(member)
        self._durations.note(member.name, member.performance.seconds)

    def _enter(self, member: Member) -> None:
        """Set up the surroundings, which all jobs of a round share."""
        self._entered = (member.job, None)
        self._entered = (member.job, member.job.setUp())

    def _leave(self) -> None:
        if self._entered is not None:
            job, info = self._entered
            try:
                job.tearDown(info)
            except Exception:
                log.critical("tearDown of %r failed", job, exc_info=True)

    def _ended_transaction(self) -> bool:
        """Whether a callable has ended the transaction of the round."""
        return self._manager.get() is not self._transaction or (
            self._transaction.isDoomed()
        )

    def _returned(self, member: Member) -> None:
        member.ended = clock.micros(clock.utcnow())
        if self._ended_transaction():
            self._go_on_alone(member)
        else:
            self._called.append(member)

    def _raised(self, member: Member, problem: Any, savepoint: Any) -> None:
        if self._ended_transaction():
            self._go_on_alone(member, problem)
            return
        try:
            savepoint.rollback()
        except Exception:
            # A data manager that cannot undo a part undoes all.
            self._durations.keep_out(member.name)
            self._break_off(member)
            return
        if self._is_final(member, problem):
            member.value = problem
            member.ended = clock.micros(clock.utcnow())
            self._called.append(member)
        else:
            self.again.append(member)

    def _is_final(self, member: Member, problem: Any) -> bool:
        job = member.job
        return ask(job.getRetryPolicy, "jobError", job, problem, {}) is False

    def _go_on_alone(self, member: Member, problem: Any = None) -> None:
        """`member` has ended the transaction; whatever it did after is its own."""
        self._durations.keep_out(member.name, 3600.0)
        doomed = self._manager.get() is self._transaction
        self._divide_called()
        self._transaction = None
        if doomed:
            self._manager.abort()
            self.again.append(member)
        else:
            member.performance.conclude(member.value, problem)
            self.concluded.append(member)

    def _divide_called(self) -> None:
        (self.done if self._committed else self.again).extend(self._called)
        self._called = []

    def _break_off(self, *members: Member) -> None:
        """Abort; all that was called is to be performed alone."""
        self._manager.abort()
        self.again.extend(self._called)
        self.again.extend(members)
        self._called = []
        self._transaction = None

    # The commit.

    def _settle(self) -> None:
        """Store what is known: called before each commit of the transaction."""
        for member in self._called:
            if not member.settled:
                member.settled = True
                member.performance.accept(member.value, member.ended)

    def _note_commit(self, succeeded: bool) -> None:
        self._committed = succeeded

    def _commit(self) -> None:
        try:
            self._manager.commit()
        except BaseException as error:
            tracelog.info("a round of %d is broken up: %r", len(self._called), error)
            for member in self._called:
                self._durations.keep_out(member.name, 1.0)
            self._break_off()
        else:
            self.done.extend(self._called)
            self._called = []
