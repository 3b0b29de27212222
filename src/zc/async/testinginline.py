# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Performing a queue's jobs in the calling thread, without a dispatcher.

Published by `testing`.  The jobs are claimed by an agent all the same, so that they
know their queue, fill quotas, are rescheduled and handed back as in real life.
"""

import contextlib
import datetime
import uuid
from typing import Any

from . import clock, transactions
from .agent import Agent
from .membership import DispatcherAgents, hand_back_job
from .testingreactor import at_time
from .threadlocal import local

#: How many jobs that returned Deferreds are held at the same time.
SIZE = 1000


def perform_due(
    queue: Any, now: datetime.datetime | None = None, limit: int | None = None
) -> list:
    """Perform the due jobs of `queue` here and now, until none is due.

    Jobs that these put are performed too, if they are due; so are callbacks and
    retries.  With `now`, an aware datetime, that is what the clock says meanwhile.
    At most `limit` jobs are performed.  Returns the jobs in the order in which they
    were performed; one that is past its `begin_by` as the job that makes it fail.

    Commits, beginning with what the caller has changed.  A job's SystemExit or
    KeyboardInterrupt reaches the caller, and the job is handed back.  A job that
    returned another job, or a Deferred, stays active until that has a result.
    """
    if local.getJob() is not None:
        raise RuntimeError(f"perform_due was called by a job: {local.getJob()!r}")
    manager = queue._p_jar.transaction_manager
    manager.commit()
    agent = transactions.attempt(lambda: _join(queue), "joining a queue", manager)
    try:
        with at_time(now) if now is not None else contextlib.nullcontext():
            return _perform(agent, manager, limit)
    finally:
        manager.abort()
        transactions.attempt(lambda: _leave(agent), "leaving a queue", manager)
        manager.begin()


def _join(queue: Any) -> Agent:
    """An agent of its own.  Without events: no others are wanted beside it."""
    key = uuid.uuid4()
    queue.dispatchers[key] = agents = DispatcherAgents(key)
    agents.activated = clock.utcnow()
    agents["inline"] = Agent(size=SIZE)
    return agents["inline"]


def _perform(agent: Agent, manager: Any, limit: int | None) -> list:
    jobs: list = []
    while limit is None or len(jobs) < limit:
        job = transactions.attempt(agent.claimJob, "claiming a job", manager)
        if job is None:
            break
        jobs.append(job)
        try:
            job()
        except BaseException:
            _hand_back(agent, job, manager)
            raise
    return jobs


def _hand_back(agent: Agent, job: Any, manager: Any) -> None:
    def step() -> None:
        if job in agent:
            hand_back_job(agent.queue, agent, job, died=False)

    manager.abort()
    transactions.attempt(step, f"handing back {job!r}", manager)


def _leave(agent: Agent) -> None:
    """Be gone, unless a job that still waits for something belongs to us."""
    agents = agent.parent
    agents.activated = None
    if not agent and not any(True for _ in agent.waiting()):
        del agent.queue.dispatchers[agents.UUID]
