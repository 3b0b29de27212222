# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""What a job can ask about its surroundings, and live annotations."""

import datetime
import threading
import time

import transaction

import zc.async_
from tests.support.jobs import CALLS, JobsCase, nothing
from zc.async_.job import Job
from zc.async_.threadlocal import NOWHERE, Surroundings, local

PATIENCE = 20


class Dispatcher:
    reactor = "reactor"


def surroundings():
    CALLS.append(
        (local.getJob(), local.getQueue(), local.getAgent(), local.getDispatcher())
    )


def in_a_callback(result):
    CALLS.append(local.getJob())


def annotate(name, value):
    local.setLiveAnnotation(name, value)
    CALLS.append((local.getLiveAnnotation(name), dict(local.getJob().annotations)))


def annotate_and_fail():
    local.setLiveAnnotation("progress", "half")
    raise ValueError


class GetterTests(JobsCase):
    def test_the_package_publishes_it(self):
        self.assertIs(zc.async_.local, local)

    def test_outside_of_a_job_there_is_nothing(self):
        found = local.getJob(), local.getQueue(), local.getAgent()
        self.assertEqual(found, (None, None, None))
        self.assertEqual((local.getDispatcher(), local.getReactor()), (None, None))

    def test_a_job_finds_itself_its_queue_and_its_agent(self):
        job = self.put(surroundings)
        agent = self.make_agent()
        agent.claimJob()
        transaction.commit()
        job()
        self.assertEqual(CALLS, [(job, self.queue, agent, None)])
        self.assertIs(local.surroundings, NOWHERE)

    def test_a_job_called_by_hand_has_no_queue(self):
        job = self.stored(surroundings)
        job()
        self.assertEqual(CALLS, [(job, None, None, None)])

    def test_in_a_callback_the_job_is_the_callback(self):
        job = self.stored(nothing)
        callback = job.addCallback(Job(in_a_callback))
        transaction.commit()
        job()
        self.assertEqual(CALLS, [callback])

    def test_a_job_called_by_a_job_is_its_own(self):
        inner = self.stored(surroundings)
        outer = self.stored(inner)
        outer()
        self.assertIs(CALLS[0][0], inner)
        self.assertIsNone(local.getJob())

    def test_the_dispatcher_and_its_reactor(self):
        self.addCleanup(setattr, local, "surroundings", NOWHERE)
        local.surroundings = Surroundings(dispatcher=Dispatcher)
        self.assertIs(local.getDispatcher(), Dispatcher)
        self.assertEqual(local.getReactor(), "reactor")

    def test_each_thread_has_its_own(self):
        self.addCleanup(setattr, local, "surroundings", NOWHERE)
        local.surroundings = Surroundings(job="mine")
        found = []
        thread = threading.Thread(target=lambda: found.append(local.getJob()))
        thread.start()
        thread.join(PATIENCE)
        self.assertEqual((found, local.getJob()), ([None], "mine"))


class LiveAnnotationTests(JobsCase):
    def test_they_are_there_at_once_beside_the_jobs_own_transaction(self):
        job = self.stored(annotate, "progress", 0.5)
        job()
        self.assertIsNone(job.result)
        self.assertEqual(CALLS, [(0.5, {})])
        transaction.begin()
        self.assertEqual(job.annotations, {"progress": 0.5})
        self.assertEqual(job.attempts, 1)

    def test_they_stay_when_the_job_fails(self):
        job = self.stored(annotate_and_fail)
        job()
        transaction.begin()
        self.assertEqual(job.result.type, ValueError)
        self.assertEqual(job.annotations, {"progress": "half"})

    def test_another_job_can_be_annotated(self):
        job = self.stored(nothing)
        local.setLiveAnnotation("a", 1, job)
        self.assertEqual(local.getLiveAnnotation("a", job=job), 1)
        self.assertEqual(job.annotations, {})
        transaction.begin()
        self.assertEqual(job.annotations, {"a": 1})

    def test_without_one_the_default_is_returned(self):
        job = self.stored(nothing)
        self.assertIsNone(local.getLiveAnnotation("a", job=job))
        self.assertEqual(local.getLiveAnnotation("a", "default", job=job), "default")
        local.setLiveAnnotation("a", None, job)
        self.assertIsNone(local.getLiveAnnotation("a", "default", job=job))

    def test_it_waits_until_there_is_one(self):
        job = self.stored(nothing)
        there = self.fetch(job)
        there.status  # noqa: B018 - loaded before the thread begins
        asked = threading.Event()
        found = []

        def wait():
            asked.set()
            found.append(
                local.getLiveAnnotation("a", timeout=PATIENCE, poll=0.01, job=there)
            )

        thread = threading.Thread(target=wait)
        thread.start()
        asked.wait(PATIENCE)
        local.setLiveAnnotation("a", "at last", job)
        thread.join(PATIENCE)
        self.assertEqual(found, ["at last"])

    def test_it_gives_up_after_the_timeout(self):
        job = self.stored(nothing)
        for timeout in (0.05, datetime.timedelta(milliseconds=50)):
            began = time.monotonic()
            found = local.getLiveAnnotation("a", 1, timeout, poll=0.01, job=job)
            self.assertEqual(found, 1)
            self.assertGreaterEqual(time.monotonic() - began, 0.05)

    def test_a_long_poll_does_not_outlast_the_timeout(self):
        job = self.stored(nothing)
        began = time.monotonic()
        local.getLiveAnnotation("a", timeout=0.05, poll=3600, job=job)
        self.assertLess(time.monotonic() - began, PATIENCE)

    def test_outside_of_a_job_the_job_must_be_given(self):
        for ask in (
            lambda: local.getLiveAnnotation("a"),
            lambda: local.setLiveAnnotation("a", 1),
        ):
            with self.assertRaisesRegex(LookupError, "pass job="):
                ask()

    def test_a_job_that_is_not_stored_is_refused(self):
        with self.assertRaisesRegex(ValueError, "is not stored"):
            local.setLiveAnnotation("a", 1, Job(nothing))
