# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""How claimed jobs are grouped for the threads of an agent.

A job that may share a transaction, and is known to be short, joins its neighbours
in a batch; any other makes a batch of its own.  What is there is divided: nothing
waits for a batch to be full.
"""

import itertools
from collections.abc import Iterable
from typing import Any

from .durations import callable_name
from .performer import Batch, Ticket
from .retry import may_repeat
from .rounds import may_share

#: A share below which dividing work among threads costs more than it gains.
LEAST_SHARE = 0.002

_numbers = itertools.count(1)


class Batches:
    """Groups jobs as they are begun; see the module.

    `free` is how many threads wait for work, `waiting` the jobs there are.
    """

    def __init__(self, agent: Any, durations: Any, waiting: Iterable[Any], free: int):
        self._durations = durations
        self._size = getattr(agent, "round_size", 1)
        self._seconds = getattr(agent, "round_seconds", 0.0)
        self._made: list[Batch] = []
        self._open: dict[Any, tuple[Batch, float]] = {}
        self._expected: dict[bytes, float | None] = {}
        self._joined: Batch | None = None
        self._share = self._seconds
        if self._size > 1:
            total = sum(self._expect(job) or 0.0 for job in waiting)
            self._share = min(self._seconds, max(total / free, LEAST_SHARE))

    def _expect(self, job: Any) -> float | None:
        """How long `job` will take in a round; None when it must be alone."""
        oid = job._p_oid
        if oid not in self._expected:
            seconds = None
            if self._size > 1 and oid is not None and may_share(job):
                seconds = self._durations.expected(callable_name(job))
                if seconds is not None and 2 * seconds > self._seconds:
                    seconds = None
            self._expected[oid] = seconds
        return self._expected[oid]

    def _joins(self, job: Any) -> Batch | None:
        """The open batch that `job` can join, if there is one."""
        seconds = self._expect(job)
        if seconds is None:
            return None
        batch, total = self._open.get(job.surroundings(), (None, 0.0))
        if batch is None or len(batch.tickets) >= self._size:
            return None
        return batch if total + seconds <= self._share else None

    def has_room(self, job: Any, room: int, free: int) -> bool:
        """Whether `job` can be begun, with `room` for batches and `free` threads.

        One that must not be begun twice is begun only for a free thread.  What is
        answered here holds for the `add` that follows.
        """
        self._joined = self._joins(job)
        if self._joined is not None:
            return True
        count = len(self._made)
        return count < room and (count < free or may_repeat(job))

    def add(self, job: Any, ticket: Ticket) -> None:
        """Put the ticket of a job, that has been begun, where `has_room` found."""
        key, seconds = job.surroundings(), self._expected.get(job._p_oid)
        if self._joined is not None and seconds is not None:
            batch, total = self._open[key]
            batch.tickets.append(ticket)
            self._open[key] = batch, total + seconds
            return
        batch = Batch([ticket], next(_numbers), self._seconds)
        self._made.append(batch)
        if seconds is not None:
            self._open[key] = batch, seconds

    def made(self) -> list[Batch]:
        """The batches."""
        return self._made
