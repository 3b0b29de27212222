# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""What claims and puts cost does not grow with what waits.

Counted in bytes written and objects loaded; the benchmarks measure the time.
"""

import datetime
import statistics
import uuid

import pytest
from ZODB.FileStorage import FileStorage

from benchmarks.jobs import no_op
from tests.support.queueing import World
from zc.async_.job import Job

FEW, MANY, BLOCKED = 100, 100_000, 10_000
AT_ONCE = 10_000
ROUNDS, WARM_UP = 40, 8
RATIO = 1.5


class Measured:
    """A queue, with an agent that claims one job at a time."""

    def __init__(self, folder):
        self.storage = FileStorage(str(folder / f"{uuid.uuid4()}.fs"))
        self.world = World(self.storage)
        self.seat = self.world.seat
        self.seat.queue.default_begin_by = None
        self.seat.queue.quotas.create("full")
        self.agent = self.seat.agent(size=1000)
        self.seat.commit()

    def fill(self, count, names=()):
        for start in range(0, count, AT_ONCE):
            for _ in range(min(AT_ONCE, count - start)):
                job = Job(no_op)
                job.quota_names = names
                self.seat.queue.put(job)
            self.seat.commit()
            self.seat.connection.cacheMinimize()

    def measure(self):
        """Medians of a claim and of a put: bytes, objects loaded."""
        claims, puts = [], []
        for _ in range(WARM_UP + ROUNDS):
            claims.append(self.cost(self.claim))
            puts.append(self.cost(lambda: self.seat.queue.put(no_op)))
        return [
            (statistics.mean(sizes), statistics.mean(loads))
            for sizes, loads in (zip(*each[WARM_UP:], strict=True)
                                 for each in (claims, puts))
        ]  # fmt: skip

    def claim(self):
        assert self.agent.claimJob() is not None

    def cost(self, step):
        size = self.storage.getSize()
        self.seat.connection.getTransferCounts(clear=True)
        self.seat.begin()
        step()
        self.seat.commit()
        loaded, _ = self.seat.connection.getTransferCounts(clear=True)
        return self.storage.getSize() - size, loaded


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    return measured(tmp_path_factory, lambda it: it.fill(FEW))


def measured(tmp_path_factory, fill):
    it = Measured(tmp_path_factory.mktemp("cost"))
    with it.world:
        fill(it)
        return it.measure()


def compare(found, few):
    for (size, loads), (few_size, few_loads) in zip(found, few, strict=True):
        assert size <= RATIO * few_size
        assert loads <= RATIO * few_loads + 1


def test_behind_many_waiting_jobs(tmp_path_factory, few):
    compare(measured(tmp_path_factory, lambda it: it.fill(MANY)), few)


def test_behind_many_jobs_of_a_full_quota(tmp_path_factory, few):
    def fill(it):
        it.fill(1, ("full",))
        it.claim()
        it.fill(BLOCKED, ("full",))
        it.fill(FEW)

    compare(measured(tmp_path_factory, fill), few)


def test_behind_many_scheduled_jobs(tmp_path_factory, few):
    def fill(it):
        later = it.world.clock.utcnow() + datetime.timedelta(days=1)
        for _ in range(BLOCKED):
            it.seat.queue.put(no_op, begin_after=later)
        it.seat.commit()
        it.fill(FEW)

    compare(measured(tmp_path_factory, fill), few)


def test_an_idle_look_at_blocked_and_scheduled_jobs_writes_nothing(tmp_path_factory):
    it = Measured(tmp_path_factory.mktemp("cost"))
    with it.world:
        it.fill(1, ("full",))
        it.claim()
        it.fill(3000, ("full",))
        for _ in range(3):
            assert it.agent.claim_some(1) == []
            it.seat.commit()
        looks = [it.cost(lambda: it.agent.claim_some(1)) for _ in range(5)]
        assert looks == [(0, 0)] * 5
