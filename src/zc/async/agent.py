# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Agents: what a dispatcher takes from a queue, and what it holds.

An agent is written by its dispatcher.  The two mappings of jobs merge, so that
a job completed by hand, or one that another process completes by a callback, can
leave them at any time.
"""

from collections.abc import Callable, Iterator
from typing import Any

import zope.component
from persistent import Persistent
from zope.interface import implementer

from . import callables, clock
from .containers import History, MergingMapping
from .interfaces import (
    ACTIVE,
    ASSIGNED,
    ICompletedCollection,
    IDispatcherActivated,
    IFilterAgent,
)
from .keys import new_key


def chooseFirst(agent: Any) -> Any:
    """The default chooser: the first job that is due."""
    return agent.queue.claim()


@implementer(ICompletedCollection)
class Completed(History):
    """See `ICompletedCollection`."""

    def add(self, job: Any) -> None:
        """See `ICompletedCollection`."""
        super().add(job, clock.micros(clock.utcnow()))


@implementer(IFilterAgent)
class Agent(Persistent):
    """See `IAgent` and `IFilterAgent`.

    `chooser` is a function of the agent that claims one job from its queue;
    `filter` a predicate of a job.  A chooser and a filter exclude each other.
    `threads` is how many of the jobs it holds are performed at once, by default
    all: as many as `size`.  A thread performs up to `round_size` short jobs in
    one transaction, for `round_seconds` at most; none when the agent is `alone`.
    """

    name: str | None = None
    parent: Any = None
    _chooser: Any = None
    _filter: Any = None
    _size = 3
    _threads: int | None = None
    _round_size = 32
    round_seconds = 0.02
    alone = False

    def __init__(
        self,
        chooser: Callable | None = None,
        filter: Callable | None = None,
        size: int = 3,
        threads: int | None = None,
    ):
        self.chooser = chooser
        self.filter = filter
        self.size = size
        self.threads = threads
        self._active = MergingMapping()
        self._waiting = MergingMapping()
        self.completed = Completed()

    @property
    def chooser(self) -> Callable | None:
        """What claims; None when there is a filter.

        Set None for `chooseFirst`.  UnloadableCallableError when its code has gone.
        """
        if self._chooser is not None:
            return callables.resolve(self._chooser)
        return chooseFirst if self._filter is None else None

    @chooser.setter
    def chooser(self, value: Callable | None) -> None:
        if value is chooseFirst:
            value = None
        _at_most_one(value, self._filter)
        self._chooser = None if value is None else callables.reference(value)

    @property
    def filter(self) -> Callable | None:
        """See `IFilterAgent`.  UnloadableCallableError when its code has gone."""
        return None if self._filter is None else callables.resolve(self._filter)

    @filter.setter
    def filter(self, value: Callable | None) -> None:
        _at_most_one(self._chooser, value)
        self._filter = None if value is None else callables.reference(value)

    @property
    def size(self) -> int:
        """See `IAgent`."""
        return self._size

    @size.setter
    def size(self, value: int) -> None:
        self._size = _count("size", value)

    @property
    def threads(self) -> int:
        """How many jobs are performed at once; set None for as many as `size`."""
        return self._size if self._threads is None else min(self._threads, self._size)

    @threads.setter
    def threads(self, value: int | None) -> None:
        self._threads = None if value is None else _count("threads", value)

    @property
    def round_size(self) -> int:
        """How many short jobs may share a round, that is a commit; 1 for none."""
        return 1 if self.alone else self._round_size

    @round_size.setter
    def round_size(self, value: int) -> None:
        self._round_size = _count("round_size", value)

    @property
    def queue(self) -> Any:
        """See `IAgent`."""
        return None if self.parent is None else self.parent.parent

    # Claiming.

    def claimJob(self) -> Any:
        """See `IAgent`."""
        while True:
            jobs = self.claim_some(1)
            if jobs:
                return jobs[0]
            if self.queue is None or not self.queue.more_to_claim:
                return None

    def claim_some(self, count: int, chains: Any = None) -> list:
        """Take up to `count` jobs, no more than there is room for; return them.

        Claims nothing unless the dispatcher is activated.  `chains` tells which
        jobs may follow others of a full quota: see `batches`.
        """
        if self.parent is None or not self.parent.activated:
            return []
        count = min(count, self.size - len(self))
        jobs = []
        for job in self._choose(count, chains) if count > 0 else ():
            if job._p_oid is None and self._p_jar is not None:
                self._p_jar.add(job)  # one that makes an expired job fail
            job.parent = self
            self._active.add(new_key(clock.micros(clock.utcnow())), job)
            jobs.append(job)
        return jobs

    def _choose(self, count: int, chains: Any) -> Iterator[Any]:
        if self._chooser is None:
            yield from self.queue.claim_some(count, self.filter, self, chains)
            return
        chooser = self.chooser
        for _ in range(count):
            job = chooser(self)
            if job is None:
                return
            yield job

    # Holding.

    def __len__(self) -> int:
        return len(self._active)

    def __bool__(self) -> bool:
        return len(self) > 0

    def __iter__(self) -> Iterator[Any]:
        return iter(self._active.values())

    def __contains__(self, job: Any) -> bool:
        return any(held is job for held in self)

    def waiting(self) -> Iterator[Any]:
        """The jobs that wait for others and so hold no slot."""
        return iter(self._waiting.values())

    def index(self, job: Any) -> int:
        """The position of `job` among those held; ValueError when absent."""
        return list(self).index(job)

    def remove(self, job: Any) -> None:
        """See `IAgent`."""
        if not self._drop(job):
            raise LookupError(f"{job!r} is not held by agent {self.name!r}")
        self.queue.release(job)
        if job.parent is self and job.status == ASSIGNED:
            job.parent = None

    def pull(self, index: int = 0) -> Any:
        """See `IAgent`."""
        job = list(self)[index]
        self.remove(job)
        return job

    def reap(self, key: int, job: Any, quota_names: tuple[str, ...]) -> None:
        """`jobCompleted` for a job known to be at `key`: does not load it."""
        if key in self._active:
            self._active.remove(key)
            for name in quota_names:
                quota = self.queue.quotas.get(name)
                if quota is not None:
                    quota.discard(job)
            self.completed.add(job)

    def active_items(self) -> list[tuple[int, Any]]:
        """The jobs it holds, with the keys that `reap` takes."""
        return self._active.items()

    def release(self, job: Any) -> None:
        """Hold `job` no longer, without touching it.

        Its places in the quotas stay if another agent has claimed it by now: they
        are that agent's.
        """
        is_held = job.parent is not self and job.status in (ASSIGNED, ACTIVE)
        if self._drop(job) and not is_held:
            self.queue.release(job)

    def abandon(self, job: Any) -> None:
        """Hold no longer a job that cannot even be loaded."""
        self._drop(job)

    def forget(self, key: int, job: Any) -> None:
        """Hold `job` no longer at `key`; it was put back, and perhaps claimed again.

        Also by this agent: then it is held at another key, and that stays.
        """
        if key in self._active:
            self._active.remove(key)
            if job.status not in (ASSIGNED, ACTIVE):
                self.queue.release(job)

    def jobWaits(self, job: Any) -> None:
        """Give up the slot and the quotas of a job that waits for others."""
        self.release(job)
        if not any(held is job for held in self._waiting.values()):
            self._waiting.add(new_key(clock.micros(clock.utcnow())), job)

    def jobCompleted(self, job: Any) -> None:
        """See `IAgent`."""
        self._drop(job)
        if self.queue is not None:
            self.queue.release(job)
        if job.parent is not self:
            job.parent = self
        self.completed.add(job)

    def _drop(self, job: Any) -> bool:
        for mapping in (self._active, self._waiting):
            for key, held in mapping.items():
                if held is job:
                    mapping.remove(key)
                    return True
        return False


def _at_most_one(chooser: Any, filter: Any) -> None:
    if chooser is not None and filter is not None:
        raise ValueError(
            "found a chooser and a filter, expected at most one of them: a chooser "
            "claims by itself"
        )


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"found {name} {value!r}, expected an integer of at least 1")
    return value


@zope.component.adapter(IDispatcherActivated)
def addMainAgentActivationHandler(event: Any) -> None:
    """Give a dispatcher that has no agent one named 'main' that takes any job."""
    agents = event.object
    if "main" not in agents:
        agents["main"] = Agent()
