# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""A worker thread's side of performing a claimed job: outcomes and records."""

import datetime
from types import SimpleNamespace

import transaction
from twisted.internet.defer import Deferred

from tests.support.jobs import Counter, JobsCase, answer, fail, nothing
from zc.async_ import clock
from zc.async_.durations import Durations
from zc.async_.interfaces import ACTIVE, COMPLETED
from zc.async_.job import Job
from zc.async_.performer import (
    AWAITS,
    BACK,
    BROKEN,
    DONE,
    LOST,
    WAITS,
    Batch,
    Performer,
    Ticket,
)
from zc.async_.records import Records
from zc.async_.retry import RetryWithBackoff
from zc.async_.threadlocal import local

HOUR = datetime.timedelta(hours=1)


class StubLoops:
    def __init__(self):
        self.watched = []

    def watch(self, awaited, resume):
        self.watched.append((awaited, resume))


def later(job):
    return RetryWithBackoff(job, first_wait=HOUR, longest_wait=HOUR)


def defer():
    return Deferred()


def put_inner():
    return local.getQueue().put(Job(nothing))


def surroundings():
    return local.getDispatcher().name, local.getJob().status


class PerformerTests(JobsCase):
    def setUp(self):
        super().setUp()
        self.agent = self.make_agent()
        self.records = Records()
        self.resumed = []
        self.dispatcher = SimpleNamespace(
            name="the dispatcher",
            records=self.records,
            durations=Durations(),
            loops=StubLoops(),
            resume=self.resumed.append,
        )
        self.performer = Performer(self.dispatcher, self.records)

    def begun(self, *args, **options):
        """A job that was put, claimed and begun, and its ticket."""
        job = args[0] if isinstance(args[0], Job) else Job(*args)
        self.put(job, **options)
        self.assertIs(self.agent.claimJob(), job)
        token = job._begin(clock.micros(clock.utcnow()))
        transaction.commit()
        [(key, _)] = [each for each in self.agent.active_items() if each[1] is job]
        return job, Ticket(
            job._p_oid, "unnamed", token, key, "", "main", job.quota_names, type(job)
        )

    def perform(self, *tickets, seconds=10.0):
        performed = self.performer.perform_batch(
            Batch(list(tickets), seconds), self.connection
        )
        transaction.begin()
        return performed

    def outcome(self, *args, **options):
        job, ticket = self.begun(*args, **options)
        [(found, outcome)] = self.perform(ticket).outcomes
        self.assertIs(found, ticket)
        return job, outcome

    def info(self, job):
        return self.records.getJobInfo(*self.ids(job))

    def ids(self, job):
        return int.from_bytes(job._p_oid, "big"), "unnamed"

    def test_a_job_that_succeeds_is_done_and_on_record(self):
        job, outcome = self.outcome(answer)
        self.assertEqual((outcome, job.status, job.result), (DONE, COMPLETED, 42))
        self.assertEqual(self.info(job)["result"], "42")
        self.assertFalse(self.info(job)["failed"])

    def test_a_job_that_fails_is_done_as_well(self):
        job, outcome = self.outcome(fail)
        self.assertEqual((outcome, job.status), (DONE, COMPLETED))
        self.assertTrue(self.info(job)["failed"])
        self.assertIn("on purpose", self.info(job)["result"])

    def test_the_job_knows_its_surroundings_and_the_thread_forgets_them(self):
        job, _ = self.outcome(surroundings)
        self.assertEqual(job.result, ("the dispatcher", ACTIVE))
        self.assertIsNone(local.getDispatcher())

    def test_how_long_the_call_took_is_noted(self):
        self.outcome(answer)
        self.assertIsNotNone(
            self.dispatcher.durations.expected("tests.support.jobs:answer")
        )

    def test_a_job_that_is_rescheduled_goes_back(self):
        job, outcome = self.outcome(fail, retry_policy_factory=later)
        self.assertEqual(outcome, BACK)
        self.assertEqual(list(self.queue), [job])
        self.assertIsNone(self.info(job)["result"])

    def test_one_that_was_claimed_again_meanwhile_went_back_too(self):
        # Before this thread has looked: the poller is quick.
        job, ticket = self.begun(answer)
        self.queue.putBack(job)
        transaction.commit()
        self.assertIs(self.agent.claimJob(), job)
        transaction.commit()
        self.assertEqual(job._active_start, ticket.token)
        self.assertEqual(self.performer._outcome(ticket, job), BACK)
        job._begin(clock.micros(clock.utcnow()))
        self.assertEqual(self.performer._outcome(ticket, job), BACK)

    def test_a_job_that_belongs_to_somebody_else_is_lost(self):
        job, ticket = self.begun(answer)
        ticket = ticket._replace(token=ticket.token - 1)
        self.assertEqual(self.perform(ticket).outcomes, [(ticket, LOST)])
        self.assertEqual(job.status, ACTIVE)

    def test_a_job_that_is_taken_away_while_it_is_performed_is_lost(self):
        counter = self.root["counter"] = Counter()
        transaction.commit()
        job, ticket = self.begun(taken_away, counter)
        [(_, outcome)] = self.perform(ticket).outcomes
        self.assertEqual(outcome, LOST)
        self.assertEqual(counter.count, 0)
        self.assertTrue(self.info(job)["reassigned"])

    def test_a_job_that_returned_a_job_waits(self):
        job, outcome = self.outcome(put_inner)
        self.assertEqual((outcome, job.status), (WAITS, ACTIVE))
        self.assertEqual(self.records.active_ids(), [])

    def test_a_job_that_returned_a_deferred_awaits_its_value(self):
        job, outcome = self.outcome(defer)
        self.assertEqual((outcome, job.status), (AWAITS, ACTIVE))
        [(awaited, resume)] = self.dispatcher.loops.watched
        self.assertIsInstance(awaited, Deferred)
        resume(42)
        [ticket] = self.resumed
        self.assertEqual(ticket.value, 42)
        self.assertEqual(self.perform(ticket).outcomes, [(ticket, DONE)])
        self.assertEqual(job.result, 42)

    def test_what_goes_wrong_outside_of_the_job_is_broken_off(self):
        job, ticket = self.begun(answer)
        ticket = ticket._replace(database_name="another")
        with self.assertLogs("zc.async.events", "ERROR"):
            [(_, outcome)] = self.perform(ticket).outcomes
        self.assertEqual(outcome, BROKEN)

    def test_a_round_gives_an_outcome_for_each_of_its_jobs(self):
        begun = [self.begun(each) for each in (answer, fail, put_inner, answer)]
        performed = self.perform(*[ticket for _, ticket in begun])
        outcomes = dict(performed.outcomes)
        self.assertEqual(
            [outcomes[ticket] for _, ticket in begun], [DONE, DONE, WAITS, DONE]
        )
        self.assertEqual((list(performed.again), list(performed.rest)), ([], []))
        self.assertEqual([job.result for job, _ in begun][::3], [42, 42])


def taken_away(counter):
    """A job that somebody takes away while it is performed."""
    counter.increase()
    job = local.getJob()
    manager = transaction.TransactionManager()
    connection = job._p_jar.db().open(manager)
    try:
        there = connection.get(job._p_oid)
        there.agent.remove(there)
        there.queue.putBack(there)
        manager.commit()
    finally:
        manager.abort()
        connection.close()
