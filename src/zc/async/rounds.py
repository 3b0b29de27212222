# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Rounds: several short jobs performed in one transaction, exactly once each.

A worker begins a transaction, calls the jobs one after the other, each behind a
savepoint, and commits once.  The results are stored by a hook of that commit, so
it does not matter who commits:

* A callable raises: its savepoint is rolled back, the failure is its result; or
  its policy has it tried again, alone, after the commit.
* A callable commits: all that was called before it is stored with that commit.
  It goes on by itself in the transaction that follows.
* A callable aborts or dooms: what was called before it is lost and performed
  again; so it counts once.
* A callable uses a data manager without savepoints: commit at once, since those
  who come later may need savepoints, or have to be rolled back.
* The commit fails, or a savepoint cannot be rolled back: abort; each is performed
  alone, under its own retry policy, and the lost attempt counts for nobody.

A job that is taken away meanwhile makes the commit conflict, and the others are
performed again, alone.  If the process dies, all jobs of the round are ACTIVE and
so interrupted; they will be performed alone.
"""

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import transaction
from transaction._transaction import Status

from . import clock, failure
from .culprits import Culprits
from .durations import FOREVER, Durations
from .errors import ReassignedError
from .members import Fate, Mark, Member
from .performance import discard, is_awaitable
from .shared import Shared
from .utils import tracelog

_numbers = itertools.count(1)


class Round:
    """Performs the jobs of `tickets` in the calling worker thread; commits.

    After `perform`, `members` are the jobs that were begun, each with its fate,
    and `rest` the tickets that the time was too short for.  Another thread may
    take over what has not been begun.  `left` are jobs that were taken away from it,
    which the one that did this sees to.
    """

    def __init__(
        self,
        tickets: list[Any],
        load: Callable[[Any], Any],
        observer: Any,
        durations: Durations,
        seconds: float,
        chained: bool = False,
    ):
        self.number = next(_numbers)
        self.rest: deque[Any] = deque(tickets)
        self.members: list[Member] = []
        self.left: frozenset[Any] = frozenset()
        self._load = load
        self._observer = observer
        self._durations = durations
        self._seconds = seconds
        self._chained = chained
        self._called: list[Member] = []
        self._culprits = Culprits()
        self._manager = transaction.manager
        self._transaction: Any = None
        self._settling = False
        self._entered: Shared | None = None

    def perform(self) -> None:
        """See the class.  No error of a job or of the database is raised."""
        self._manager.begin()
        self._transaction = self._manager.get()
        self._transaction.addBeforeCommitHook(self._settle)
        try:
            self._call_all()
            if self._transaction is not None:
                self._commit()
        finally:
            if self._entered is not None:
                self._entered.leave()

    def take_over(self) -> list[Any]:
        """Take what has not been begun, to be performed by others.

        From any thread: each ticket is taken once, by the round or by somebody.
        """
        taken = []
        while True:
            try:
                taken.append(self.rest.popleft())
            except IndexError:
                return taken

    def called(self) -> list[Any]:
        """The tickets of jobs that were called, and wait for the commit.

        From any thread.
        """
        return [member.ticket for member in list(self._called)]

    # The calls.

    def _call_all(self) -> None:
        deadline = time.monotonic() + self._seconds
        while self._transaction is not None:
            try:
                member = Member(self.rest.popleft())
            except IndexError:
                return
            self.members.append(member)
            if self._is_ours(member):
                self._call(member)
                if time.monotonic() > deadline or self._must_end(member):
                    return

    def _must_end(self, member: Member) -> bool:
        """Whether nobody can be called after `member`."""
        # In a chain, the others are not to run while it goes on.
        return (self._chained and is_awaitable(member.value)) or not (
            self._can_go_back()
        )

    def _can_go_back(self) -> bool:
        """Whether all data managers have savepoints, as far as this is known."""
        resources = getattr(self._transaction, "_resources", ())
        return all(hasattr(each, "savepoint") for each in resources)

    def _is_ours(self, member: Member) -> bool:
        try:
            member.load(self._load, self._observer)
            if not member.performance.is_done():
                return True
            member.fate = Fate.FINISH  # settled already, though nobody was told
        except ReassignedError as error:
            tracelog.warning("%s", error)
            member.fate = Fate.LOST
        except Exception as error:
            self._break_off(f"a job could not be loaded: {error!r}")
        return False

    def _call(self, member: Member) -> None:
        if self._entered is None and not self._enter(member):
            return
        try:
            mark = Mark(self._transaction)
        except Exception as error:
            # What an earlier job left cannot be stored: each will find out alone.
            self._blame(one.name for one in self._called[-1:])
            self._break_off(f"no savepoint: {error!r}")
            return
        member.begun = True
        self._observer.begins(member.ticket, member.job)
        try:
            member.value = member.performance.call()
        except BaseException:
            self._raised(member, failure.current(), mark)
        else:
            self._returned(member)
        self._durations.note(member.name, member.performance.seconds)

    def _enter(self, member: Member) -> bool:
        """Set up the surroundings, which all jobs of a round share."""
        self._entered = member.performance
        try:
            member.performance.enter()
            if not self._is_ended():
                return True
            problem = "setUp ended the transaction"
        except BaseException as error:
            problem = f"setUp raised {error!r}"
        self._durations.blame(member.name)
        self._break_off(problem)
        return False

    def _is_ended(self) -> bool:
        """Whether a callable has ended the round's transaction, or tried to."""
        return (
            self._manager.get() is not self._transaction
            or self._transaction.status is not Status.ACTIVE
            or self._settling
        )

    def _returned(self, member: Member) -> None:
        if self._is_ended():
            self._go_on_alone(member)
        else:
            self._note_end(member)

    def _note_end(self, member: Member) -> None:
        self._culprits.note(member.name, member.job)
        member.ended = clock.micros(clock.utcnow())
        self._called.append(member)

    def _raised(self, member: Member, problem: Any, mark: Mark) -> None:
        if self._is_ended():
            self._go_on_alone(member, problem)
            return
        try:
            mark.go_back(self._transaction)
        except Exception as error:
            # A data manager that cannot undo a part undoes all.
            self._durations.blame(member.name)
            self._break_off(f"no way back: {error!r}")
            return
        if member.performance.ask(problem):
            member.value = problem
        else:
            member.hoped = Fate.ANSWERED
        self._note_end(member)

    def _go_on_alone(self, member: Member, problem: Any = None) -> None:
        """`member` has ended the transaction; what it did after that is its own."""
        self._durations.keep_out(member.name, FOREVER)
        if self._manager.get() is self._transaction:
            discard(member.value)
            self._break_off("a callable left a transaction that cannot be committed")
            return
        if self._transaction.status is Status.COMMITTED:
            self._have_fates()
        self._give_up()
        member.performance.close(member.value, problem)
        member.fate = Fate.CONCLUDE

    def _have_fates(self) -> None:
        for member in self._called:
            member.fate = member.hoped
        self._called = []

    def _break_off(self, reason: str) -> None:
        """Abort; all that was called is to be performed alone."""
        tracelog.info("a round of %d is broken off: %s", len(self.members), reason)
        self._manager.abort()
        self._give_up()

    def _give_up(self) -> None:
        """The transaction of this round is over."""
        for member in self._called:
            discard(member.value)
        self._called = []
        self._transaction = None

    def _blame(self, names: Iterable[str]) -> None:
        for name in set(names):
            self._durations.blame(name)

    # The commit.

    def _settle(self) -> None:
        """Store what is known: called before each commit of the transaction."""
        self._settling = True
        for member in self._called:
            if member.hoped is Fate.FINISH:
                member.performance.accept(member.value, member.ended)

    def _commit(self) -> None:
        try:
            self._manager.commit()
        except BaseException as error:
            self._blame_for(error)
            self._break_off(repr(error))
        else:
            self._have_fates()

    def _blame_for(self, error: BaseException) -> None:
        oid = getattr(error, "oid", None)
        if any(oid == member.ticket.oid for member in self._called):
            return  # it was taken away
        names = self._culprits.of(oid)
        if names:
            self._blame(names)
        else:
            for member in self._called:
                self._durations.keep_out(member.name)
