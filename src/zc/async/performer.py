# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""A worker thread's side of performing a claimed job.

The dispatcher hands out tickets, plain values, since persistent objects belong
to one connection; the worker loads the job in its own.  What it reports back is
again a plain value: the dispatcher reaps by it.
"""

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import transaction
from ZODB.utils import u64

from . import clock, failure
from .callables import describe
from .durations import callable_name
from .errors import ReassignedError
from .ghosts import ghost
from .interfaces import COMPLETED, PENDING
from .observing import Observer
from .performance import Performance
from .rounds import Round, Shared
from .threadlocal import NOWHERE, Surroundings, local
from .utils import log, tracelog

#: Outcomes of a ticket.
DONE = "completed"
BACK = "rescheduled"
WAITS = "waits for a job"
AWAITS = "awaits a value"
LOST = "reassigned"
BROKEN = "broken off"

NOTHING = object()


class Ticket(NamedTuple):
    """One claimed job whose ACTIVE is committed.

    `token` is its `_active_start`, `key` its key in the agent.  `value` is what
    an awaitable gave, when the job was begun earlier and waited for one.
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
    share a quota: they must not be performed by several threads.
    """

    tickets: list[Ticket]
    number: int
    seconds: float
    chained: bool = False


class Performer(Observer):
    """Performs tickets in one worker thread, with that thread's connection.

    `rest` is what another thread may take over from the round in hand.
    """

    is_worker = True

    def __init__(self, dispatcher: Any, records: Any):
        self.dispatcher = dispatcher
        self.records = records
        self.durations = dispatcher.durations
        self.round: Round | None = None
        self._connection: Any = None
        self._ticket: Any = None
        self._round_number: int | None = None

    def perform_batch(
        self, batch: Batch, connection: Any
    ) -> tuple[list[tuple[Ticket, str]], list[Ticket]]:
        """Perform tickets that were handed out together; commits.

        Returns the outcomes, and the tickets that there was no time for.  Never
        raises.
        """
        self._connection = connection
        local.surroundings = Surroundings(dispatcher=self.dispatcher, observer=self)
        try:
            if len(batch.tickets) == 1:
                return [(batch.tickets[0], self._alone(batch.tickets[0]))], []
            return self._together(batch)
        finally:
            local.surroundings = NOWHERE

    def _together(self, batch: Batch) -> tuple[list[tuple[Ticket, str]], list[Ticket]]:
        self._round_number = batch.number
        self.round = Round(
            batch.tickets, self._load, self, self.durations, batch.seconds
        )
        try:
            self.round.perform()
        except BaseException:
            log.exception("a round of %d jobs was broken off", len(batch.tickets))
            self._abort()
        round, self.round = self.round, None
        self._round_number = None
        outcomes = [(one.ticket, self._finished(one)) for one in round.done]
        outcomes += [
            (one.ticket, self._outcome(one.ticket, one.job)) for one in round.concluded
        ]
        outcomes += [(one.ticket, LOST) for one in round.lost]
        known = {ticket.oid for ticket, _ in outcomes}
        known.update(ticket.oid for ticket in round.rest)
        for ticket in batch.tickets:
            if ticket.oid not in known and ticket not in round.taken:
                outcomes.append((ticket, self._alone(ticket, noted=True)))
        return outcomes, list(round.rest)

    def _finished(self, member: Any) -> str:
        def finish() -> str:
            member.performance.finish()
            return self._outcome(member.ticket, member.job)

        self._ticket = member.ticket
        return self._guarded(member.ticket, finish)

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
            else:
                if not noted:
                    self.begins(ticket, job)
                performance.begun(fresh=True)
                self.durations.note(callable_name(job), performance.seconds)
            return self._outcome(ticket, job)

        self._ticket = ticket
        return self._guarded(ticket, perform)

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
            self._round_number,
        )

    def _outcome(self, ticket: Ticket, job: Any) -> str:
        status = job.status
        if status == COMPLETED:
            return DONE
        if job.waiting:
            self.records.job_waits(ticket.job_id)
            return WAITS
        if status == PENDING or job._active_start != ticket.token:
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
        ticket = self._ticket
        self.records.job_waits(ticket.job_id)

        def resume(value: Any) -> None:
            self.dispatcher.resume(ticket._replace(value=value))

        self.dispatcher.loops.watch(awaited, resume)
