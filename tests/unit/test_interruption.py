# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""What becomes of jobs that were active when their process ended."""

import datetime

import transaction

from tests.support.jobs import CALLS, Counter, JobsCase, answer, note, nothing
from zc.async_.errors import (
    AbortedError,
    BadStatusError,
    QuarantinedError,
    ReassignedError,
)
from zc.async_.interfaces import ACTIVE, CALLBACKS, COMPLETED, NEW, PENDING
from zc.async_.interruption import MAX_DEATHS, note_interruption
from zc.async_.job import Job
from zc.async_.performance import Performance
from zc.async_.retry import NeverRetry

SECOND = datetime.timedelta(seconds=1)


class Saying:
    """A policy that answers what it was made with to an interruption."""

    def __init__(self, answer, job=None):
        self.answer = answer

    def __call__(self, job):
        return self

    def interrupted(self):
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    def updateData(self, data_cache):
        pass


class InterruptionCase(JobsCase):
    def active(self, function=answer, policy=None):
        """A job that an agent holds and that was begun."""
        job = Job(function)
        job.retry_policy_factory = policy
        self.put(job)
        self.agent = self.make_agent()
        self.agent.claimJob()._begin(1)
        transaction.commit()
        return job

    def begin_again(self, job):
        self.queue.remove(job)
        job.parent = self.agent
        job._begin(1)


class HandleTests(InterruptionCase):
    def test_the_job_goes_back_to_the_front(self):
        job = self.active()
        other = self.put(nothing)
        job.handleInterrupt()
        self.assertEqual(list(self.queue), [job, other])
        self.assertEqual((job.status, job.interruptions, job.deaths), (PENDING, 1, 1))
        self.assertEqual(list(self.agent), [])
        self.assertEqual(self.fetch(job).status, PENDING)

    def test_it_is_performed_then(self):
        job = self.active()
        job.handleInterrupt()
        self.perform_due()
        self.assertEqual((job.status, job.result, job.attempts), (COMPLETED, 42, 2))

    def test_the_worker_that_is_still_alive_commits_nothing(self):
        job = self.active()
        performance = Performance(job, token=job._active_start)
        job.handleInterrupt()
        with self.assertRaises(ReassignedError):
            performance.begun()
        self.assertEqual(CALLS, [])

    def test_a_policy_may_ask_for_a_later_time(self):
        job = self.active(policy=Saying(3600 * SECOND))
        job.handleInterrupt()
        self.assertEqual((job.status, self.perform_due()), (PENDING, []))

    def test_a_policy_that_gives_up_or_fails_ends_the_job(self):
        for policy in (NeverRetry, Saying(ValueError()), Saying("nonsense")):
            with self.subTest(policy=policy):
                job = self.active(policy=policy)
                callback = job.addCallback(Job(note, "callback"))
                transaction.commit()
                job.handleInterrupt()
                self.assertEqual(job.result.type, AbortedError)
                self.assertIn("interrupted once", job.result.getErrorMessage())
                self.assertEqual((job.status, callback.status), (COMPLETED,) * 2)

    def test_the_tenth_interruption_ends_the_job(self):
        job = self.active()
        for count in range(1, 10):
            self.assertIsNone(note_interruption(job, died=False))
            self.assertEqual((job.interruptions, job.deaths), (count, 0))
            self.begin_again(job)
        error = note_interruption(job, died=False)
        self.assertIs(type(error), AbortedError)
        self.assertIn("interrupted 10 times", str(error))

    def test_a_job_under_which_the_process_dies_is_quarantined(self):
        job = self.active()
        for _ in range(MAX_DEATHS - 1):
            self.assertIsNone(note_interruption(job))
            self.begin_again(job)
        transaction.commit()
        job.handleInterrupt()
        self.assertEqual((job.status, job.result.type), (COMPLETED, QuarantinedError))
        self.assertIn("died 3 times in a row", job.result.getErrorMessage())

    def test_deaths_count_only_in_a_row(self):
        job = self.active(fail_once_later)
        job.retry_policy_factory = Later
        transaction.commit()
        note_interruption(job)
        transaction.commit()
        self.assertEqual(job.deaths, 1)
        self.perform_due()
        self.assertEqual((job.status, job.deaths), (PENDING, 0))

    def test_without_a_queue_it_ends(self):
        job = Job(answer)
        job._begin(1)
        self.stored(job).handleInterrupt()
        self.assertEqual(job.result.type, AbortedError)

    def test_only_active_jobs_can_be_interrupted(self):
        for status in (NEW, PENDING, CALLBACKS, COMPLETED):
            job = Job(nothing)
            job._status = status
            for interrupt in (
                job.handleInterrupt,
                lambda job=job: job.handleCallbackInterrupt(job),
            ):
                with self.assertRaises(BadStatusError) as caught:
                    interrupt()
                self.assertEqual(
                    str(caught.exception),
                    "can only handle the interruption of a job with ACTIVE status",
                )

    def test_a_job_that_waits_for_another_was_not_interrupted(self):
        inner = self.stored(answer)
        job = self.stored(note, inner)
        job()
        job.handleInterrupt()
        self.assertEqual((job.status, job.interruptions), (ACTIVE, 0))
        inner()
        self.assertEqual(job.result, 42)


class Later(Saying):
    def __init__(self, job):
        super().__init__(datetime.timedelta())

    def jobError(self, failure, data_cache):
        return 3600 * SECOND


def fail_once_later():
    raise ValueError


class CallbackTests(InterruptionCase):
    def interrupted(self, policy=None, deaths=0):
        job = self.active()
        callback = job.addCallback(Job(note, "callback"), None, policy)
        job._settle(42)
        callback._begin(1)
        callback.deaths = deaths
        transaction.commit()
        return job, callback

    def test_it_is_performed_again_at_once(self):
        job, callback = self.interrupted()
        callback.handleCallbackInterrupt(job)
        self.assertEqual(CALLS, [("callback", 42)])
        self.assertEqual((callback.status, callback.attempts), (COMPLETED, 2))

    def test_a_policy_may_ask_for_a_later_time(self):
        job, callback = self.interrupted(Saying(3600 * SECOND))
        job.resumeCallbacks()
        self.assertEqual((job.status, callback.status), (CALLBACKS, NEW))
        self.assertTrue(job.waiting)
        self.assertEqual((len(self.queue), CALLS), (1, []))
        self.queue[0].callable()
        self.assertEqual((job.status, callback.status), (COMPLETED, COMPLETED))

    def test_a_policy_may_give_up(self):
        job, callback = self.interrupted(NeverRetry)
        job.resumeCallbacks()
        self.assertEqual((job.status, callback.result.type), (COMPLETED, AbortedError))

    def test_one_under_which_the_process_dies_is_quarantined(self):
        job, callback = self.interrupted(deaths=MAX_DEATHS - 1)
        job.resumeCallbacks()
        self.assertEqual(callback.result.type, QuarantinedError)
        self.assertEqual((job.status, CALLS), (COMPLETED, []))

    def test_the_job_that_resumes_outlives_it(self):
        job, callback = self.interrupted(deaths=MAX_DEATHS - 1)
        substitute = self.put(job.resumeCallbacks)
        self.assertTrue(substitute.is_substitute)
        self.assertFalse(job.is_substitute)
        substitute.deaths = MAX_DEATHS - 1
        self.begin_again(substitute)
        self.assertIsNone(note_interruption(substitute))
        self.begin_again(substitute)
        self.assertIs(type(note_interruption(substitute)), QuarantinedError)


class ObjectsTests(InterruptionCase):
    def test_changes_of_an_interrupted_attempt_are_not_there(self):
        counter = self.root["counter"] = Counter()
        job = self.active(counter.increase)
        counter.increase()
        transaction.abort()  # as the death of the process does
        job.handleInterrupt()
        self.perform_due()
        self.assertEqual((job.result, counter.count), (1, 1))
