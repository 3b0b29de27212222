# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""What the poller does with one agent: reap, claim, begin, in one transaction.

The jobs that an agent holds are ASSIGNED, or ACTIVE.  Those of the second kind
have a ticket in the pool: being worked on, or waiting for a thread that will be
free in a moment.  ACTIVE is committed before a ticket is handed out, so the
commits of this module are shared by as many jobs as have come together.  If the
process dies, whoever buries the dispatcher finds each job as one or the other.
"""

from collections import deque
from typing import Any

from ZODB.utils import u64

from . import clock, failure, transactions
from .batches import Batches, Brevity, Chains
from .interfaces import ACTIVE, ASSIGNED, PENDING
from .membership import hand_back_job
from .orphans import adopt, take_back
from .performer import (
    AWAITS,
    BACK,
    BROKEN,
    DONE,
    LOST,
    NOTHING,
    UNBEGUN,
    WAITS,
    Batch,
    Ticket,
)
from .pool import Pool
from .utils import log

#: How many batches per thread are made ACTIVE before a thread is free for them.
AHEAD = 1


class Holding:
    """One agent of this dispatcher, its pool, and its jobs not yet begun.

    Belongs to the poller, whose connection the objects come from.
    """

    def __init__(
        self, queue: Any, agent: Any, pool: Pool, manager: Any, durations: Any
    ):
        self.durations = durations
        self.queue = queue
        self.agent = agent
        self.pool = pool
        self.manager = manager
        self.assigned: deque[Any] = deque()
        self.queue_name = queue.name
        self.agent_name = agent.name
        self.error: Any = None
        self.more = False
        self._tickets: set[tuple[bytes, int]] = set()
        self._unsure = False

    def wants_step(self) -> bool:
        """Whether threads gave something to reap, or can take up jobs."""
        can_begin = self.assigned and self.pool.outstanding() < self.pool.size
        return self.pool.has_finished or bool(can_begin or self.pool.stuck())

    @property
    def threads(self) -> int:
        """How many threads the agent asks for."""
        return getattr(self.agent, "threads", self.agent.size)

    def resize(self) -> None:
        """Give the pool as many threads as the agent asks for."""
        if self.threads != self.pool.size:
            self.pool.resize(self.threads)

    def step(self, claim: bool = True) -> list[tuple[int, str]]:
        """Reap, claim, begin; commits.  Returns the ids of the claimed jobs."""
        finished = self.pool.take_finished()
        try:
            step = _Step(self, finished, claim, unsure=self._unsure)
            transactions.attempt(step, f"step of {self.agent_name}", self.manager)
        except Exception:
            self._unsure = True
            self.pool.give_back(finished)
            if not claim:
                raise
            # What a chooser or a filter raised must not keep jobs from
            # being reaped.
            self.error = failure.current()
            log.exception(
                "agent %r in queue %r cannot claim", self.agent_name, self.queue_name
            )
            return self.step(claim=False)
        if claim:
            self.error = None
        self._unsure = False
        self._note_tickets(finished, step.batches)
        self.pool.leave(step.stuck)
        self.assigned = step.assigned
        self.more = step.more
        self.pool.hungry = bool(step.assigned)
        self.pool.submit(step.batches)
        return step.claimed

    def _note_tickets(self, finished: list, batches: list[Batch]) -> None:
        for ticket, outcome in finished:
            if outcome != AWAITS:
                self._tickets.discard((ticket.oid, ticket.token))
        for batch in batches:
            self._tickets.update((one.oid, one.token) for one in batch.tickets)

    def has_ticket(self, job: Any) -> bool:
        """Whether a thread, or a value that is awaited, will account for `job`."""
        return (job._p_oid, job._active_start) in self._tickets

    def hand_back_unbegun(self, tickets: list[Ticket]) -> None:
        """Return jobs that no thread has taken up, and reap the others; commits.

        They were not interrupted, so that does not count as one.
        """
        finished = self.pool.take_finished()

        def hand_back() -> None:
            step = _Step(self, finished, may_claim=False, may_begin=False)
            step()
            for ticket in tickets:
                step.unbegin(ticket)

        transactions.attempt(hand_back, f"end of {self.agent_name}", self.manager)


class _Step:
    """One transaction of a holding; called again after a conflict."""

    def __init__(
        self,
        holding: Holding,
        finished: list,
        may_claim: bool = True,
        may_begin: bool = True,
        unsure: bool = False,
    ):
        self.unsure = unsure
        self.holding = holding
        self.finished = finished
        self.may_claim = may_claim
        self.may_begin = may_begin

    def __call__(self) -> None:
        holding = self.holding
        self.agent, self.queue = holding.agent, holding.queue
        self.brevity = Brevity(self.agent, holding.durations)
        self.claimed: list[tuple[int, str]] = []
        self.batches: list[Batch] = []
        self.assigned = deque(holding.assigned)
        self.more = False
        for ticket, outcome in self.finished:
            if outcome != WAITS:
                self._reap(ticket, outcome)
        if self.unsure:
            adopt(self.queue, self.agent, self.assigned, holding.has_ticket)
        self.unsure = True  # when this is repeated: its commit may have arrived
        self.stuck = holding.pool.stuck()
        for ticket in self.stuck:
            self.unbegin(ticket, called=True)
        if self.may_claim:
            self._claim()
        if self.may_begin:
            self._begin()
        for ticket, outcome in self.finished:
            if outcome == WAITS:
                # Its slot is there from the next claim on.
                self.more = True
                self._reap(ticket, outcome)

    def _reap(self, ticket: Ticket, outcome: str) -> None:
        if outcome == AWAITS:
            return  # it keeps its slot until the value is there
        agent = self.agent
        job = self._job(ticket)
        if outcome == DONE and ticket.key is not None:
            agent.reap(ticket.key, job, ticket.quota_names)
        elif outcome == DONE:
            agent.jobCompleted(job)
        elif outcome == WAITS:
            if job.waiting:
                agent.jobWaits(job)
            elif job in agent:  # completed meanwhile, in another thread
                agent.jobCompleted(job)
        elif outcome == UNBEGUN:
            self.unbegin(ticket)
        elif outcome in (BACK, LOST, BROKEN):
            self._drop(ticket, job)

    def unbegin(self, ticket: Ticket, called: bool = False) -> None:
        """Put back a job whose ticket was not taken up, or was `called` in vain."""
        if ticket.value is not NOTHING:
            return  # it was begun before its value came: this interrupts it
        job = self._job(ticket)
        if job.status == ACTIVE and job._active_start == ticket.token:
            if job in self.agent:
                take_back(self.queue, self.agent, job, called)

    def _job(self, ticket: Ticket) -> Any:
        jar = self.agent._p_jar
        return jar.get_connection(ticket.database_name).get(ticket.oid)

    def _drop(self, ticket: Ticket, job: Any) -> None:
        """Let go of a job that is elsewhere by now, or was claimed here again."""
        agent = self.agent
        if self._is_unfinished(ticket, job):
            # Broken off; or a worker that had lost its connection saw the past.
            hand_back_job(self.queue, agent, job, died=False)
        elif ticket.key is not None:
            agent.forget(ticket.key, job)
        elif job in agent and job.parent is not agent:
            agent.release(job)

    def _is_unfinished(self, ticket: Ticket, job: Any) -> bool:
        """Whether the job is ours, and just where the ticket says."""
        mine = job.parent is self.agent and job._active_start == ticket.token
        return mine and job.status not in (PENDING, ASSIGNED) and job in self.agent

    def _claim(self) -> None:
        jobs = self._claim_jobs()
        for job in jobs:
            self.claimed.append((u64(job._p_oid), job._p_jar.db().database_name))
            self.assigned.append(job)
        pending = getattr(self.queue, "_pending", None)
        self.more = bool(pending is not None and pending.more_to_file and not jobs)

    def _claim_jobs(self) -> list:
        agent = self.agent
        if hasattr(agent, "claim_some"):
            return agent.claim_some(agent.size, Chains(self.brevity, self.assigned))
        jobs: list[Any] = []
        while len(jobs) < agent.size:
            job = agent.claimJob()
            if job is None:
                break
            self._store(job)
            jobs.append(job)
        return jobs

    def _store(self, job: Any) -> None:
        if job._p_oid is None:  # a wrapper that makes an expired job fail
            self.agent._p_jar.add(job)

    def _begin(self) -> None:
        """Make jobs ACTIVE, in batches for the threads and for a moment ahead."""
        pool, agent = self.holding.pool, self.agent
        outstanding = pool.outstanding()
        free = pool.size - outstanding
        room = pool.size * (1 + AHEAD) - outstanding
        if not self.assigned or room <= 0:
            return
        keys = _keys(agent)
        now = clock.micros(clock.utcnow())
        batches = Batches(self.brevity, self.assigned, room, free)
        kept: list[Any] = []
        while self.assigned:
            job = self.assigned.popleft()
            if not self._is_mine(job):
                continue
            follows = self._follows(job)
            if batches.place(job, follows):
                self._store(job)
                token = job._begin(now)
                batches.add(job, self._ticket(job, keys.get(job._p_oid), token))
                continue
            kept.append(job)
            if not follows:
                break  # those behind it must not keep the threads from it
        self.assigned.extendleft(reversed(kept))
        self.batches = batches.made()

    def _follows(self, job: Any) -> bool:
        """Whether another job has the place of `job` in one of its quotas."""
        quotas = self.queue.quotas
        return any(
            name in quotas and quotas[name].follows(job) for name in job.quota_names
        )

    def _is_mine(self, job: Any) -> bool:
        """Whether nobody has taken away a job that was claimed."""
        return job.status == ASSIGNED and job.parent is self.agent

    def _ticket(self, job: Any, key: int | None, token: int) -> Ticket:
        return Ticket(
            job._p_oid,
            job._p_jar.db().database_name,
            token,
            key,
            self.holding.queue_name,
            self.holding.agent_name,
            job.quota_names,
            type(job),
        )


def _keys(agent: Any) -> dict[bytes, int]:
    """The keys by which an agent of ours reaps, by oid."""
    items = agent.active_items() if hasattr(agent, "active_items") else ()
    return {job._p_oid: key for key, job in items}
