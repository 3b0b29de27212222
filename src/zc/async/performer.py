# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""A worker thread's side of performing a claimed job.

The dispatcher hands out tickets, plain values, since persistent objects belong
to one connection; the worker loads the job in its own.  What it reports back is
again a plain value: the dispatcher reaps by it.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import transaction
from ZODB.utils import u64

from . import clock, failure
from .callables import describe
from .durations import callable_name
from .errors import ReassignedError
from .ghosts import ghost
from .interfaces import ACTIVE, CALLBACKS, COMPLETED
from .members import Fate, Member
from .observing import Observer
from .rounds import Round
from .shared import Shared
from .threadlocal import NOWHERE, Surroundings, local
from .utils import log, tracelog

#: Outcomes of a ticket.
DONE = "completed"
BACK = "rescheduled"
WAITS = "waits for a job"
AWAITS = "awaits a value"
LOST = "reassigned"
BROKEN = "broken off"
UNBEGUN = "not begun"

NOTHING = object()


class Ticket(NamedTuple):
    """One claimed job whose ACTIVE is committed.

    `token` is its `_active_start`, `key` its key in the agent.  `value` is what
    an awaitable gave, when the job was begun earlier and waited for one.  `held` is
    false of a job that no agent holds: a callback, or one that a job called.
    """

    oid: bytes
    database_name: str
    token: int
    key: int | None
    queue_name: str
    agent_name: str
    quota_names: tuple[str, ...]
    job_class: type
    value: Any = NOTHING
    held: bool = True

    @property
    def holder(self) -> tuple[str, str]:
        """The names of queue and agent."""
        return self.queue_name, self.agent_name

    @property
    def job_id(self) -> tuple[int, str]:
        """The job as records and logs name it."""
        return u64(self.oid), self.database_name


class Batch(NamedTuple):
    """Tickets that one thread performs, more than one of them as a round.

    `seconds` is how long the round may take before it commits.  `chained` ones
    share a quota: they must not be performed by several threads.  `noted` ones are
    in the records already: a round that they were in was broken off.
    """

    tickets: list[Ticket]
    seconds: float = 0.0
    chained: bool = False
    noted: bool = False


class Performed(NamedTuple):
    """What a thread has done of a batch: outcomes, and what remains.

    `again` are jobs of a round that was broken off, each to be performed alone;
    `rest` the tickets that have not been begun.
    """

    outcomes: list[tuple[Ticket, str]]
    again: Sequence[Batch] = ()
    rest: Sequence[Ticket] = ()


class Performer(Observer):
    """Performs tickets in one worker thread, with that thread's connection.

    `round` is the round in hand: others may take over what it has not begun.
    """

    is_worker = True

    def __init__(self, dispatcher: Any, records: Any):
        self.dispatcher = dispatcher
        self.records = records
        self.durations = dispatcher.durations
        self.round: Round | None = None
        self._connection: Any = None
        self._ticket: Any = None

    def perform_batch(self, batch: Batch, connection: Any) -> Performed:
        """Perform tickets that were handed out together; commits.  Never raises."""
        self._connection = connection
        local.surroundings = Surroundings(dispatcher=self.dispatcher, observer=self)
        try:
            if len(batch.tickets) == 1:
                [ticket] = batch.tickets
                return Performed([(ticket, self._alone(ticket, batch.noted))])
            return self._together(batch)
        finally:
            local.surroundings = NOWHERE

    def _together(self, batch: Batch) -> Performed:
        self.round = round = Round(
            batch.tickets, self._load, self, self.durations, batch.seconds,
            batch.chained,
        )  # fmt: skip
        try:
            round.perform()
        except BaseException:
            log.exception("a round of %d jobs was broken off", len(round.members))
            self._abort()
        self.round = None
        outcomes, again = [], []
        for member in round.members:
            if member.fate is not Fate.AGAIN:
                outcomes.append((member.ticket, self._go_on(member)))
            elif member.ticket in round.left:
                outcomes.append((member.ticket, LOST))
            else:
                alone = batch._replace(tickets=[member.ticket], noted=member.begun)
                again.append(alone)
        return Performed(outcomes, again, round.take_over())

    def _go_on(self, member: Member) -> str:
        """Do what follows for a member of a round; return an outcome."""
        if member.fate is Fate.LOST:
            return LOST

        def go_on() -> str:
            member.go_on()
            return self._outcome(member.ticket, member.job)

        self._ticket = member.ticket
        return self._guarded(member.ticket, go_on)

    def _alone(self, ticket: Ticket, noted: bool = False) -> str:
        """Perform one ticket in transactions of its own; return an outcome."""

        def perform() -> str:
            transaction.begin()  # whatever is left of the last job is aborted here
            job = self._load(ticket)
            performance = Shared(
                job, observer=self, token=ticket.token, tell_agent=False
            )
            if ticket.value is not NOTHING:
                performance.with_value(ticket.value)
            elif noted:
                self.records.job_left_round(ticket.job_id, threading.get_ident())
                self._begun(performance)
            else:
                self.begins(ticket, job)
                self._begun(performance)
            return self._outcome(ticket, job)

        self._ticket = ticket
        return self._guarded(ticket, perform)

    def _begun(self, performance: Shared) -> None:
        performance.begun(fresh=True)
        name = callable_name(performance.job)
        self.durations.note(name, performance.seconds)
        if performance.commit_failed:
            self.durations.blame(name)

    def _guarded(self, ticket: Ticket, perform: Callable[[], str]) -> str:
        try:
            return perform()
        except ReassignedError as error:
            tracelog.warning("%s", error)
            self._abort()
            self.records.job_reassigned(ticket.job_id)
            return LOST
        except BaseException:
            # The database, or this package, failed; the job is asked later
            # what that means to it.
            log.exception("performing job %r was broken off", ticket.job_id)
            self._abort()
            self.records.job_rescheduled(ticket.job_id, clock.utcnow())
            return BROKEN

    def _load(self, ticket: Ticket) -> Any:
        connection = self._connection
        if connection.db().database_name != ticket.database_name:
            connection = connection.get_connection(ticket.database_name)
        return ghost(connection, ticket.oid, ticket.job_class)

    def begins(self, ticket: Ticket, job: Any) -> None:
        """The callable of `job` is about to be called."""
        self._ticket = ticket
        self.records.job_started(
            ticket.job_id,
            ticket.queue_name,
            ticket.agent_name,
            repr(job),
            ticket.quota_names,
            threading.get_ident(),
            clock.utcnow(),
            None if self.round is None else self.round.number,
        )

    def _outcome(self, ticket: Ticket, job: Any) -> str:
        if not ticket.held:
            return AWAITS  # nothing to reap
        status = job.status
        if status == COMPLETED:
            return DONE
        if job.waiting:
            self.records.job_waits(ticket.job_id)
            return WAITS
        if status not in (ACTIVE, CALLBACKS) or job._active_start != ticket.token:
            # Put back, and perhaps claimed again by now.
            self.records.job_rescheduled(ticket.job_id, clock.utcnow())
            return BACK
        return AWAITS

    def _abort(self) -> None:
        try:
            transaction.abort()
        except Exception:
            log.exception("abort failed")

    # What happens to jobs: see `Observer`.

    def settled(self, job: Any) -> None:
        """See `Observer`."""
        super().settled(job)
        job_id = u64(job._p_oid), job._p_jar.db().database_name
        failed = failure.is_failure(job.result)
        text = job.result.getTraceback() if failed else describe(job.result)
        self.records.job_settled(job_id, text, failed, clock.utcnow())

    def awaiting(self, job: Any, awaited: Any) -> None:
        """See `Observer`."""
        ticket = self._ticket_for(job)
        self.durations.note_awaiting(callable_name(job))
        self.records.job_waits(ticket.job_id)

        def resume(value: Any) -> None:
            self.dispatcher.resume(ticket._replace(value=value))

        self.dispatcher.loops.watch(awaited, resume)

    def _ticket_for(self, job: Any) -> Ticket:
        """The ticket in hand, or one for another job that was begun in its course."""
        oid, database_name = job._p_oid, job._p_jar.db().database_name
        ticket = self._ticket
        if (oid, database_name) == (ticket.oid, ticket.database_name):
            return ticket
        return ticket._replace(
            oid=oid,
            database_name=database_name,
            token=job._active_start,
            key=None,
            quota_names=(),
            job_class=type(job),
            held=False,
        )
