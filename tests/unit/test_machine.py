# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Generated histories of one queue: puts, claims, work, quotas, deaths, stops.

Whatever happens in whatever order: a job is in one place, none is lost, quotas are
never exceeded, and a status changes only as `status.STEPS` allows.
"""

import datetime
import uuid

import zope.component.testing
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.support.queueing import World, number
from zc.async_.interfaces import ACTIVE, ASSIGNED, COMPLETED, NEW, PENDING
from zc.async_.job import Job
from zc.async_.status import STEPS

UUIDS = [uuid.UUID(int=each) for each in (1, 2, 3)]


class Machine(RuleBasedStateMachine):
    """One connection drives everything; other processes are only records here."""

    def __init__(self):
        super().__init__()
        zope.component.testing.setUp()
        self.world = World()
        self.seat = self.world.seat
        self.queue = self.seat.queue
        self.queue.default_begin_by = None
        self.queue.quotas.create("one", 1)
        self.queue.quotas.create("two", 2)
        self.agents = [self.seat.agent(each, size=2) for each in UUIDS]
        self.jobs = []
        self.seen = {}
        for names in ((), ("one",), ("two",), ("one", "two"), (), ("one",)):
            self._put(names, 0)
        self.seat.commit()

    def teardown(self):
        self.world.__exit__(None, None, None)
        zope.component.testing.tearDown()

    # What happens.

    @rule(
        quotas=st.sampled_from([(), ("one",), ("two",), ("one", "two")]),
        delay=st.sampled_from([0, 0, 30]),
    )
    def put(self, quotas, delay):
        self._put(quotas, delay)
        self.seat.commit()

    def _put(self, quotas, delay):
        job = Job(number, len(self.jobs))
        job.quota_names = quotas
        when = self.world.clock.utcnow() + datetime.timedelta(seconds=delay)
        self.jobs.append(self.queue.put(job, begin_after=when))

    @rule(which=st.integers(0, 2))
    def claim(self, which):
        agent = self.agents[which]
        if agent.parent.activated:
            agent.claimJob()
            self.seat.commit()

    @rule(which=st.integers(0, 2))
    def begin(self, which):
        for job in self.agents[which]:
            if job.status == ASSIGNED:
                job._begin(0)
                self.seat.commit()
                return

    @rule(which=st.integers(0, 2))
    def end(self, which):
        for job in self.agents[which]:
            if job.status == ACTIVE:
                job._settle(42)
                self.agents[which].jobCompleted(job)
                self.seat.commit()
                return

    @rule(which=st.integers(0, 2), kept=st.integers(0, 2))
    def die(self, which, kept):
        """A dispatcher falls silent, and a sibling buries it."""
        agents = self.agents[which].parent
        if which != kept and agents.activated:
            self.queue.dispatchers.bury_dead(UUIDS[kept], lambda one: one is agents)
            self.seat.commit()

    @rule(which=st.integers(0, 2))
    def stop(self, which):
        if self.agents[which].parent.activated:
            self.agents[which].parent.deactivate(died=False)
            self.seat.commit()

    @rule(which=st.integers(0, 2))
    def start(self, which):
        if not self.agents[which].parent.activated:
            self.agents[which].parent.activate()
            self.seat.commit()

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def lose_a_commit(self, data):
        """A claim whose transaction is aborted has not happened."""
        agent = data.draw(st.sampled_from(self.agents))
        if agent.parent.activated:
            agent.claimJob()
            self.seat.abort()

    @rule()
    def pause_or_resume(self):
        (self.queue.resume if self.queue.paused else self.queue.pause)()
        self.seat.commit()

    @rule(seconds=st.sampled_from([1, 31]))
    def wait(self, seconds):
        self.world.advance(seconds=seconds)

    @rule()
    def housekeep(self):
        self.seat.housekeep()
        self.seat.commit()

    # What holds.

    @invariant()
    def each_job_is_in_one_place(self):
        waiting = [job for job in self.queue if job in self.jobs]
        assert len(self.queue) == len(list(self.queue))
        held = [job for agent in self.agents for job in agent]
        done = {id(job) for agent in self.agents for job in agent.completed}
        for job in self.jobs:
            places = waiting.count(job) + held.count(job) + (id(job) in done)
            ending = job.status == ACTIVE and job not in held  # a job will fail it
            assert places == 1 or (places == 0 and ending), (job, job.status, places)
            if job in waiting:
                assert job.status == PENDING
            elif job in held:
                assert job.status in (ASSIGNED, ACTIVE)

    @invariant()
    def quotas_are_never_exceeded(self):
        for quota in self.queue.quotas.values():
            held = [job for agent in self.agents for job in agent]
            claimed = [job for job in held if quota.name in job.quota_names]
            assert len(claimed) <= quota.size and len(quota) <= quota.size

    @invariant()
    def only_legal_steps_are_made(self):
        for job in self.jobs:
            before, now = self.seen.get(id(job), NEW), job.status
            assert before == now or _reaches(before, now), (job, before, now)
            assert before != COMPLETED or now == COMPLETED
            self.seen[id(job)] = now


def _reaches(before, after):
    """Whether legal steps lead from one status to the other; a rule makes several."""
    found, todo = set(), [before]
    while todo:
        for step in STEPS[todo.pop()]:
            if step not in found:
                found.add(step)
                todo.append(step)
    return after in found


MachineTest = Machine.TestCase
MachineTest.settings = settings(
    max_examples=100, stateful_step_count=50, deadline=None, derandomize=True
)
