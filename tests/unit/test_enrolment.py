# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Becoming, staying and ending being a member of queues."""

import uuid

import transaction
import zope.component

from tests.support.jobs import JobsCase, nothing
from tests.support.lossy import LossyManager
from zc.async_ import clock
from zc.async_.agent import addMainAgentActivationHandler
from zc.async_.enrolment import Enrolment
from zc.async_.events import IDispatcherActivated, IDispatcherReactivated
from zc.async_.interfaces import ASSIGNED, PENDING
from zc.async_.job import Job


class EnrolmentTests(JobsCase):
    def setUp(self):
        super().setUp()
        self.clock = clock.MovableClock()
        clock.install(self.clock)
        self.addCleanup(clock.uninstall)
        zope.component.provideHandler(addMainAgentActivationHandler)
        self.events = []
        for interface in (IDispatcherActivated, IDispatcherReactivated):
            zope.component.provideHandler(
                lambda event, name=interface.__name__: self.events.append(name),
                (interface,),
            )
        self.make_queue()
        self.UUID = uuid.uuid4()

    def enrolment(self, UUID=None, owns_identity=False):
        return Enrolment(
            self.connection, transaction.manager, UUID or self.UUID, owns_identity
        )

    def enrol(self, enrolment=None, ping=False):
        return (enrolment or self.enrolment()).agents_of(self.queue, ping)

    def claimed(self, agents):
        """A job that is held by the agent of `agents`."""
        job = self.put(Job(nothing))
        self.assertIs(agents["main"].claimJob(), job)
        transaction.commit()
        return job

    def test_the_queues_are_those_of_the_mapping(self):
        self.assertEqual(self.enrolment().queues(), [self.queue])

    def test_without_a_mapping_there_are_no_queues(self):
        self.root.clear()
        self.assertEqual(self.enrolment().queues(), [])

    def test_it_registers_activates_and_pings(self):
        agents = self.enrol()
        self.assertIs(agents, self.queue.dispatchers[self.UUID])
        self.assertEqual(agents.activated, clock.utcnow())
        self.assertEqual(agents.last_ping, clock.utcnow())
        self.assertEqual(self.events, ["IDispatcherActivated"])
        self.assertEqual(list(agents), ["main"])

    def test_the_second_time_it_writes_nothing(self):
        enrolment = self.enrolment()
        self.enrol(enrolment)
        before = self.db.lastTransaction()
        self.enrol(enrolment)
        self.assertEqual(self.db.lastTransaction(), before)

    def test_it_pings_only_where_nobody_else_does(self):
        enrolment = self.enrolment()
        agents = self.enrol(enrolment)
        self.clock.advance(31)
        self.enrol(enrolment)
        self.assertNotEqual(agents.last_ping, clock.utcnow())
        self.enrol(enrolment, ping=True)
        self.assertEqual(agents.last_ping, clock.utcnow())

    def test_one_who_was_declared_dead_comes_back(self):
        enrolment = self.enrolment()
        agents = self.enrol(enrolment)
        agents.deactivate()
        transaction.commit()
        self.clock.advance(1)
        with self.assertLogs("zc.async.events", "WARNING") as logs:
            self.enrol(enrolment)
        self.assertIn("was declared dead", logs.output[0])
        self.assertEqual(agents.activated, clock.utcnow())
        self.assertEqual(self.events[1:], ["IDispatcherReactivated"])

    def test_a_ghost_is_taken_over_at_once_when_the_identity_is_ours(self):
        agents = self.enrol()
        job = self.claimed(agents)
        self.clock.advance(1)
        with self.assertLogs("zc.async.events", "WARNING"):
            self.enrol(self.enrolment(owns_identity=True))
        self.assertEqual(agents.activated, clock.utcnow())
        self.assertEqual(job.status, PENDING)
        self.assertEqual(len(agents["main"]), 0)

    def test_else_it_is_watched_until_it_is_dead(self):
        agents = self.enrol()
        job = self.claimed(agents)
        another = self.enrolment()
        with self.assertLogs("zc.async.events", "ERROR") as logs:
            self.assertIsNone(self.enrol(another))
            self.clock.advance(60)
            self.assertIsNone(self.enrol(another))
        self.assertEqual(len(logs.output), 1)
        self.assertEqual(job.status, ASSIGNED)
        self.clock.advance(1)
        self.assertIs(self.enrol(another), agents)
        self.assertEqual(job.status, PENDING)

    def test_an_activation_whose_answer_was_lost_is_ours_all_the_same(self):
        enrolment = Enrolment(
            self.connection, LossyManager(transaction.manager), self.UUID, False
        )
        agents = self.enrol(enrolment)
        self.assertIs(agents, self.queue.dispatchers[self.UUID])
        self.assertEqual(self.events, ["IDispatcherActivated"])

    def test_it_buries_siblings_that_died(self):
        agents = self.enrol()
        job = self.claimed(agents)
        sibling = self.enrolment(uuid.uuid4())
        self.enrol(sibling)
        self.clock.advance(61)
        self.enrol(sibling)
        self.assertIsNone(agents.activated)
        self.assertEqual(job.status, PENDING)

    def test_leaving_hands_back_and_is_no_interruption(self):
        enrolment = self.enrolment()
        agents = self.enrol(enrolment)
        job = self.claimed(agents)
        enrolment.leave()
        enrolment.leave()
        self.assertIsNone(agents.activated)
        self.assertEqual((job.status, job.interruptions), (PENDING, 0))

    def test_who_never_came_in_does_not_leave(self):
        agents = self.enrol()
        another = self.enrolment()
        self.enrol(another)
        another.leave()
        self.assertIsNotNone(agents.activated)

    def test_after_leaving_it_can_come_back(self):
        enrolment = self.enrolment()
        agents = self.enrol(enrolment)
        enrolment.leave()
        self.assertIs(self.enrol(enrolment), agents)
        self.assertIsNotNone(agents.activated)
