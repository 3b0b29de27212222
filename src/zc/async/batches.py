# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""How claimed jobs are grouped for the threads of an agent.

A job that may share a transaction, and is known to be short, joins its neighbours
in a batch; any other makes a batch of its own.  What is there is divided: nothing
waits for a batch to be full.

Jobs of a full quota may be claimed to follow one that is claimed with them, since
in one batch they are performed one after the other: a chain.
"""

from collections.abc import Iterable
from typing import Any

from .durations import Durations, callable_name
from .performer import Batch, Ticket
from .retry import may_repeat
from .shared import may_share

#: A share below which dividing work among threads costs more than it gains.
LEAST_SHARE = 0.002


class Brevity:
    """How long jobs will take in a round of `agent`; for one step of the poller."""

    def __init__(self, agent: Any, durations: Durations):
        self.size = getattr(agent, "round_size", 1)
        self.seconds = getattr(agent, "round_seconds", 0.0)
        self._durations = durations
        #: By the id of the job; the job is kept, so that nothing else has its id.
        self._expected: dict[int, tuple[Any, float | None]] = {}

    def of(self, job: Any) -> float | None:
        """The seconds that `job` is expected to take; None if it must be alone.

        The first answer stands, also when the job has been begun since.
        """
        if self.size <= 1:
            return None
        found = self._expected.get(id(job))
        if found is None:
            found = self._expected[id(job)] = job, self._expect(job)
        return found[1]

    def _expect(self, job: Any) -> float | None:
        if not may_share(job):
            return None
        name = callable_name(job)
        if job.quota_names and self._durations.awaits(name):
            return None  # nobody could follow it
        seconds = self._durations.expected(name)
        return None if seconds is None or 2 * seconds > self.seconds else seconds


class Chains:
    """Which jobs of full quotas can follow others that this agent has claimed.

    A chain is as long as two batches: while one is performed, the next is there.
    `waiting` are the jobs claimed earlier and not yet begun.
    """

    def __init__(self, brevity: Brevity, waiting: Iterable[Any] = ()):
        self._brevity = brevity
        self._lengths: dict[Any, tuple[int, float]] = {}
        for job in waiting:
            self.note(job)

    def admits(self, job: Any) -> bool:
        """Whether `job` fits into the chain of its quotas, if there is one."""
        count, total = self._lengths.get(_chain(job), (0, 0.0))
        if not 0 < count < 2 * self._brevity.size:
            return False
        seconds = self._brevity.of(job)
        return seconds is not None and total + seconds <= 2 * self._brevity.seconds

    def note(self, job: Any) -> None:
        """`job` was claimed."""
        if job.quota_names:
            seconds = self._brevity.of(job)
            key = _chain(job)
            count, total = self._lengths.get(key, (0, 0.0))
            if seconds is None:
                count = 2 * self._brevity.size  # nothing follows it
            self._lengths[key] = count + 1, total + (seconds or 0.0)


def _chain(job: Any) -> Any:
    return job.surroundings(), job.quota_names


class Batches:
    """Groups jobs as they are begun; see the module.

    `room` is how many batches can be made, `free` how many threads wait for one,
    `waiting` the jobs there are.
    """

    def __init__(self, brevity: Brevity, waiting: Iterable[Any], room: int, free: int):
        self._brevity = brevity
        self._room = room
        self._free = free
        self._made: list[Batch] = []
        self._open: dict[Any, tuple[Batch, float]] = {}
        self._joined: Batch | None = None
        total = sum(brevity.of(job) or 0.0 for job in waiting)
        self._share = min(brevity.seconds, max(total / max(free, 1), LEAST_SHARE))

    def place(self, job: Any, follows: bool = False) -> bool:
        """Whether `job` can be begun now; then `add` is to be called.

        One that must not be begun twice is begun only for a free thread; one that
        `follows` another only in its batch.
        """
        self._joined = self._joins(job)
        if self._joined is not None:
            return True
        count = len(self._made)
        if follows or count >= self._room:
            return False
        return count < self._free or may_repeat(job)

    def _joins(self, job: Any) -> Batch | None:
        """The open batch that `job` can join, if there is one."""
        seconds = self._brevity.of(job)
        if seconds is None:
            return None
        batch, total = self._open.get(_chain(job), (None, 0.0))
        if batch is None or len(batch.tickets) >= self._brevity.size:
            return None
        share = self._brevity.seconds if batch.chained else self._share
        return batch if total + seconds <= share else None

    def add(self, job: Any, ticket: Ticket) -> None:
        """Put the ticket of a job, now begun, where `place` has found room."""
        key, seconds = _chain(job), self._brevity.of(job)
        if self._joined is not None:
            _, total = self._open[key]
            self._joined.tickets.append(ticket)
            self._open[key] = self._joined, total + (seconds or 0.0)
            return
        chained = bool(job.quota_names)
        batch = Batch([ticket], self._brevity.seconds, chained)
        self._made.append(batch)
        if seconds is not None:
            self._open[key] = batch, seconds

    def made(self) -> list[Batch]:
        """The batches."""
        return self._made
