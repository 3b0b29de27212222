# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The waiting jobs through several connections, threads, and a real storage."""

import datetime

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from ZODB.POSException import ConflictError

from tests.support.queueing import World, numbers
from zc.async_ import clock
from zc.async_.housekeeping import KEEP
from zc.async_.wakeup import CommitListener

# Generated interleavings.

QUOTAS = ("", "roomy", "tight")


class Writer:
    """One connection, what its transaction has done so far, and what it heard."""

    def __init__(self, world):
        self.seat = world.open()
        self.heard = set()
        self.reset()

    def reset(self):
        self.put, self.returned = [], []
        self.claimed = {}  # jobs by number
        self.only_puts = True

    def take(self, job):
        """Note that the transaction took a job out of the queue."""
        value = job.args[0]
        assert value not in self.claimed, "taken twice in one transaction"
        self.claimed[value] = job
        if value in self.returned:
            self.returned.remove(value)

    @property
    def queue(self):
        return self.seat.queue


class Interleavings(RuleBasedStateMachine):
    """Connections whose transactions overlap in any way.

    `waiting` and `taken` are the numbers of the jobs that are so by what has been
    committed.
    """

    writers_count = 3
    storage = None

    def __init__(self):
        super().__init__()
        self.world = World(self.storage and self.storage())
        seat = self.world.seat
        seat.queue.quotas.create("roomy", 1000)
        seat.queue.quotas.create("tight", 2)
        seat.commit()
        self.writers = [Writer(self.world) for _ in range(self.writers_count)]
        self.listener = CommitListener(self.world.db, self.hear)
        assert self.listener.start()
        self.waiting, self.taken = set(), set()
        self.next = 0
        for writer in self.writers:
            writer.seat.begin()

    def hear(self, oids):
        for writer in self.writers:
            writer.heard.update(oids)

    writers_range = st.integers(0, 2)

    def writer(self, which):
        return self.writers[which % len(self.writers)]

    @rule(which=writers_range, count=st.sampled_from([1, 2, 5, 18, 40]),
          quota=st.sampled_from(QUOTAS), after=st.sampled_from([None, -5, 5, 60]))
    def put(self, which, count, quota, after):  # fmt: skip
        writer = self.writer(which)
        begin_after = None
        if after is not None:
            begin_after = clock.utcnow() + datetime.timedelta(seconds=after)
        values = range(self.next, self.next + count)
        self.next += count
        names = (quota,) if quota else ()
        writer.seat.put(*values, quota_names=names, begin_after=begin_after)
        writer.put += values

    @rule(which=writers_range, count=st.sampled_from([1, 3, 20, 60]))
    def claim(self, which, count):
        writer = self.writer(which)
        writer.only_puts = False
        for _ in range(count):
            job = writer.queue.claim()
            if job is None:
                break
            writer.take(job)

    @rule(which=writers_range, later=st.sampled_from([None, 0, 7]))
    def give_back(self, which, later):
        """What this transaction has claimed goes back."""
        writer = self.writer(which)
        for value in list(writer.claimed)[:3]:
            job = writer.claimed.pop(value)
            writer.returned.append(value)
            if later is None:
                writer.queue.putBack(job)
            else:
                writer.queue.reschedule(job, datetime.timedelta(seconds=later))

    @rule(which=writers_range, quota=st.sampled_from(QUOTAS), index=st.integers(0, 9))
    def refile(self, which, quota, index):
        writer = self.writer(which)
        writer.only_puts = False
        jobs = list(writer.queue)
        if jobs:
            jobs[index % len(jobs)].quota_names = (quota,) if quota else ()

    @rule(which=writers_range, index=st.integers(-3, 3))
    def pull(self, which, index):
        writer = self.writer(which)
        writer.only_puts = False
        try:
            writer.take(writer.queue.pull(index))
        except IndexError:
            pass

    @rule(which=writers_range)
    def housekeep(self, which):
        writer = self.writer(which)
        writer.only_puts = False
        heard, writer.heard = writer.heard, set()
        writer.seat.pending.touched(heard)
        writer.seat.housekeep()

    @rule(which=writers_range)
    def savepoint(self, which):
        self.writer(which).seat.manager.savepoint()

    @rule(seconds=st.sampled_from([1, 6, 12, 25]))
    def advance(self, seconds):
        self.world.advance(seconds=seconds)

    @rule(which=writers_range)
    def forget_cache(self, which):
        self.writer(which).seat.connection.cacheMinimize()

    @rule(which=writers_range)
    def commit(self, which):
        writer = self.writer(which)
        try:
            writer.seat.commit()
        except ConflictError:
            assert not writer.only_puts, "a putter has met a conflict"
            writer.seat.abort()
        else:
            self.apply(writer)
        writer.reset()
        writer.seat.begin()

    def apply(self, writer):
        claimed = set(writer.claimed)
        assert claimed <= self.waiting | set(writer.put), "was not there to be claimed"
        self.waiting |= set(writer.put)
        self.waiting -= claimed
        self.taken |= claimed
        self.taken -= set(writer.returned)

    @rule(which=writers_range)
    def abort(self, which):
        writer = self.writer(which)
        writer.seat.abort()
        writer.reset()
        writer.seat.begin()

    @precondition(lambda self: self.next)
    @invariant()
    def each_job_is_in_one_place(self):
        seat = self.world.seat
        seat.begin()
        found = numbers(seat.queue)
        assert len(found) == len(set(found)) == len(seat.queue)
        assert set(found) == self.waiting
        keys = [due.key for due in seat.pending._sorted()]
        assert len(keys) == len(set(keys))

    def teardown(self):
        try:
            self.drain()
        finally:
            self.listener.stop()
            self.world.__exit__()

    def drain(self):
        """All that waits is claimed in the end, in the order of the keys."""
        for writer in self.writers:
            writer.seat.abort()
        seat = self.world.open()
        seat.queue.quotas["tight"].size = 1000
        seat.queue.default_begin_by = None
        seat.commit()
        for _ in range(2 * KEEP // 20 + 20):
            self.world.advance(seconds=20)
            seat.housekeep()
            seat.commit()
        assert not list(seat.pending.inbox.passed)
        expected = [due.job.args[0] for due in seat.pending._sorted()]
        assert set(expected) == self.waiting
        for job in seat.queue:
            job.begin_by = None
        claimed = seat.claim_all()
        assert len(claimed) == len(expected)
        assert claimed == expected


def run(machine, examples, steps):
    run_state_machine_as_test(
        machine, settings=settings(max_examples=examples, stateful_step_count=steps)
    )


def test_three_overlapping_writers_lose_nothing():
    run(Interleavings, 40, 50)


class Two(Interleavings):
    writers_count = 2


def test_two_overlapping_writers_lose_nothing():
    run(Two, 30, 40)
