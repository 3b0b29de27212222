# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Jobs that an agent holds and its dispatcher knows nothing of."""

from collections import deque

import transaction

from tests.support.jobs import JobsCase, nothing
from zc.async_ import clock
from zc.async_.interfaces import ASSIGNED, CALLBACKS, COMPLETED, PENDING
from zc.async_.job import Job
from zc.async_.orphans import adopt, take_back


class OrphansTests(JobsCase):
    def setUp(self):
        super().setUp()
        self.agent = self.make_agent()
        self.assigned = deque()
        self.known = []

    def adopt(self):
        adopt(self.queue, self.agent, self.assigned, self.known.__contains__)
        transaction.commit()

    def claimed(self, job=None):
        job = self.put(job or Job(nothing))
        self.assertIs(self.agent.claimJob(), job)
        transaction.commit()
        return job

    def begun(self, job=None):
        job = self.claimed(job)
        job._begin(clock.micros(clock.utcnow()))
        transaction.commit()
        return job

    def test_what_was_claimed_is_adopted_once(self):
        job = self.claimed()
        self.adopt()
        self.adopt()
        self.assertEqual(list(self.assigned), [job])
        self.assertEqual(job.status, ASSIGNED)

    def test_what_was_begun_by_nobody_goes_back_and_counts_for_nothing(self):
        job = self.begun()
        self.adopt()
        self.assertEqual((job.status, job.attempts, job.interruptions), (PENDING, 0, 0))
        self.assertEqual(list(self.queue), [job])
        self.assertEqual(len(self.agent), 0)

    def test_what_has_a_ticket_is_left_alone(self):
        job = self.begun()
        self.known.append(job)
        before = self.db.lastTransaction()
        self.adopt()
        self.assertEqual(self.db.lastTransaction(), before)
        self.assertEqual(list(self.agent), [job])

    def test_what_awaits_a_value_that_nobody_has_was_interrupted(self):
        job = self.begun()
        job._awaits = True
        self.adopt()
        self.assertEqual((job.status, job.interruptions), (PENDING, 1))

    def test_what_has_a_result_goes_on_with_its_callbacks(self):
        job = Job(nothing)
        job.addCallback(nothing)
        self.begun(job)._settle(1)
        self.assertEqual(job.status, CALLBACKS)
        self.adopt()
        self.assertEqual(len(self.agent), 0)
        [resuming] = self.queue
        self.assertEqual(resuming.callable, job.resumeCallbacks)

    def test_what_is_completed_is_among_the_completed(self):
        job = self.begun()
        job._settle(1)
        self.adopt()
        self.assertEqual(job.status, COMPLETED)
        self.assertEqual(list(self.agent.completed), [job])
        self.assertEqual(len(self.agent), 0)

    def test_what_belongs_to_somebody_else_is_let_go(self):
        job = self.begun()
        self.queue.putBack(job)
        other = self.make_agent()
        self.assertIs(other.claimJob(), job)
        self.adopt()
        self.assertEqual(len(self.agent), 0)
        self.assertEqual(list(other), [job])

    def test_an_agent_of_somebody_elses_making_is_left_alone(self):
        adopt(self.queue, object(), self.assigned, self.known.__contains__)
        self.assertEqual(list(self.assigned), [])

    def test_taking_back_leaves_the_first_start_of_an_earlier_attempt(self):
        job = self.begun()
        first = job.first_active
        self.queue.putBack(job)
        self.agent.release(job)
        self.assertIs(self.agent.claimJob(), job)
        job._begin(clock.micros(clock.utcnow()))
        take_back(self.queue, self.agent, job)
        self.assertEqual((job.status, job.attempts), (PENDING, 1))
        self.assertEqual(job.first_active, first)
