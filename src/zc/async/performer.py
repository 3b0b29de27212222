# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""A worker thread's side of performing a claimed job.

The dispatcher hands out tickets, plain values, since persistent objects belong
to one connection; the worker loads the job in its own.  What it reports back is
again a plain value: the dispatcher reaps by it.
"""

import threading
from typing import Any, NamedTuple

import transaction
from ZODB.utils import u64

from . import clock, failure
from .callables import describe
from .errors import ReassignedError
from .interfaces import COMPLETED, PENDING
from .observing import Observer
from .performance import Performance
from .threadlocal import NOWHERE, Surroundings, local
from .utils import log, tracelog

#: Outcomes of a ticket.
DONE = "completed"
BACK = "rescheduled"
WAITS = "waits for a job"
AWAITS = "awaits a value"
LOST = "reassigned"
BROKEN = "broken off"

_NOTHING = object()


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
    value: Any = _NOTHING

    @property
    def holder(self) -> tuple[str, str]:
        """The names of queue and agent."""
        return self.queue_name, self.agent_name

    @property
    def job_id(self) -> tuple[int, str]:
        """The job as records and logs name it."""
        return u64(self.oid), self.database_name


class Performer(Observer):
    """Performs tickets in one worker thread, with that thread's connection."""

    is_worker = True

    def __init__(self, dispatcher: Any, records: Any):
        self.dispatcher = dispatcher
        self.records = records
        self._ticket: Any = None

    def perform(self, ticket: Ticket, connection: Any) -> str:
        """Perform one ticket; commits.  Returns an outcome, and never raises."""
        local.surroundings = Surroundings(dispatcher=self.dispatcher, observer=self)
        self._ticket = ticket
        job = None
        try:
            job = self._load(ticket, connection)
            return self._perform(ticket, job)
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
        finally:
            local.surroundings = NOWHERE

    def _load(self, ticket: Ticket, connection: Any) -> Any:
        transaction.begin()  # whatever is left of the last job is aborted here
        if connection.db().database_name != ticket.database_name:
            connection = connection.get_connection(ticket.database_name)
        return connection.get(ticket.oid)

    def _perform(self, ticket: Ticket, job: Any) -> str:
        performance = Performance(
            job, observer=self, token=ticket.token, tell_agent=False
        )
        if ticket.value is not _NOTHING:
            performance.with_value(ticket.value)
        else:
            self._note_start(ticket, job)
            performance.begun(fresh=True)
        return self._outcome(ticket, job, performance)

    def _note_start(self, ticket: Ticket, job: Any) -> None:
        self.records.job_started(
            ticket.job_id,
            ticket.queue_name,
            ticket.agent_name,
            repr(job),
            ticket.quota_names,
            threading.get_ident(),
            clock.utcnow(),
        )

    def _outcome(self, ticket: Ticket, job: Any, performance: Performance) -> str:
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

        def resume(value: Any) -> None:
            self.dispatcher.resume(ticket._replace(value=value))

        self.dispatcher.loops.watch(awaited, resume)
