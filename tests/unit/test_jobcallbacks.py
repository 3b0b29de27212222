# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Callbacks are added to jobs of any status."""

import logging

import transaction
from persistent import Persistent
from ZODB.POSException import ConflictError, ReadConflictError

from tests.support.jobs import CALLS, Counter, JobsCase, multiply, note, nothing
from zc.async_.errors import BadStatusError
from zc.async_.interfaces import ACTIVE, ASSIGNED, CALLBACKS, COMPLETED, NEW, PENDING
from zc.async_.job import Job
from zc.async_.retry import NeverRetry


def add_to(job, *ignored):
    """Add a callback to a job that is being performed."""
    job.addCallback(Job(note, "added"))


class AddTests(JobsCase):
    def test_the_job_is_returned_and_is_in_the_list(self):
        job, callback = Job(nothing), Job(nothing)
        self.assertIs(job.addCallback(callback), callback)
        self.assertEqual(job.callbacks, [callback])
        self.assertIs(callback.parent, job)
        self.assertIs(callback.caller, job)
        self.assertTrue(callback.is_callback)
        self.assertFalse(job.is_callback)

    def test_what_adapts_to_a_job_is_adapted(self):
        job = Job(nothing)
        for function in (nothing, Counter().increase, Counter(), len):
            self.assertEqual(job.addCallback(function).callable, function)

    def test_what_does_not_is_refused(self):
        job = Job(nothing)
        for wrong in ("text", Persistent(), None):
            with self.assertRaises(TypeError):
                job.addCallback(wrong)
        self.assertEqual(job.callbacks, [])

    def test_options(self):
        callback = Job(nothing).addCallback(nothing, 10, NeverRetry)
        self.assertEqual(callback.failure_log_level, 10)
        self.assertIs(callback.retry_policy_factory, NeverRetry)

    def test_the_level_of_failures_is_critical_unless_told_otherwise(self):
        job = Job(nothing)
        self.assertEqual(job.effective_failure_log_level(), logging.ERROR)
        callback = job.addCallback(nothing)
        self.assertEqual(callback.effective_failure_log_level(), logging.CRITICAL)
        callback.failure_log_level = 0
        self.assertEqual(callback.effective_failure_log_level(), 0)

    def test_a_job_that_another_is_to_fail_is_no_callback(self):
        job = Job(nothing)
        failing = job.substitute(job.fail)
        job._parent = failing
        self.assertFalse(job.is_callback)
        self.assertEqual(job.effective_failure_log_level(), logging.ERROR)
        self.assertTrue(failing.is_substitute)

    def test_several_are_performed_in_order(self):
        job = self.stored(multiply, 6, 7)
        for number in range(3):
            job.addCallback(Job(note, number))
        transaction.commit()
        job()
        self.assertEqual(CALLS, [(0, 42), (1, 42), (2, 42)])
        self.assertEqual(job.status, COMPLETED)

    def test_a_job_as_callback_has_callbacks_of_its_own(self):
        job = self.stored(multiply, 5, 3)
        second = Job(multiply, 4)
        job.addCallbacks(second)
        second.addCallbacks(Job(note, "second"))
        transaction.commit()
        job()
        self.assertEqual(CALLS, [("second", 60)])

    def test_a_completed_job_performs_them_at_once(self):
        job = self.stored(multiply, 5, 2)
        job()
        proxy = job.addCallbacks(Job(multiply, 3))
        self.assertEqual((proxy.result, proxy.status), (30, COMPLETED))
        self.assertEqual(job.addCallback(Job(multiply, 4)).result, 40)
        self.assertEqual(job.status, COMPLETED)
        self.assertEqual(len(self.fetch(job).callbacks), 2)
        self.assertEqual(self.fetch(job).callbacks[1].result, 40)

    def test_a_job_may_add_to_itself_while_it_is_performed(self):
        job = self.stored(Job.bind(add_to))
        job()
        self.assertEqual((CALLS, job.status), ([("added", None)], COMPLETED))

    def test_a_callback_may_add_to_its_job(self):
        job = self.stored(nothing)
        job.addCallback(Job(add_to, job))
        transaction.commit()
        job()
        self.assertEqual((CALLS, job.status), ([("added", None)], COMPLETED))

    def test_a_callback_cannot_call_its_job(self):
        job = self.stored(nothing)
        callback = job.addCallback(Job(note_call, job))
        transaction.commit()
        job()
        self.assertEqual(callback.result.type, BadStatusError)
        self.assertEqual((job.status, job.result), (COMPLETED, None))


def note_call(job, result):
    return job()


class MomentTests(JobsCase):
    """Adding at the moment in which the job is performed by somebody else."""

    def setUp(self):
        super().setUp()
        self.job = self.stored(nothing)
        self.there = self.fetch(self.job)
        self.there.status  # noqa: B018 - its transaction sees the job as it was
        self.manager = self.there._p_jar.transaction_manager

    def test_adding_before_the_end_does_not_disturb_the_worker(self):
        self.job._begin(1)
        transaction.commit()
        self.manager.begin()
        self.there.addCallback(Job(note, "added"))
        self.manager.commit()
        self.job._p_jar.root()["mine"] = Counter()
        self.job._settle(None)
        transaction.commit()  # no conflict

    def test_adding_to_a_job_that_has_just_ended_is_a_conflict(self):
        self.there.addCallback(Job(note, "added"))
        self.job()
        with self.assertRaises(ReadConflictError):
            self.manager.commit()
        self.manager.abort()
        self.there.addCallback(Job(note, "added"))
        self.assertEqual(CALLS, [("added", None)])

    def test_adding_during_callbacks_conflicts_with_the_completion_only(self):
        self.job._begin(1)
        self.job._settle(None, expect_callbacks=True)
        transaction.commit()
        self.manager.begin()
        self.there.addCallback(Job(note, "added"))
        self.job._complete()
        transaction.commit()
        with self.assertRaises(ConflictError):
            self.manager.commit()


class ResumeTests(JobsCase):
    def test_only_jobs_with_a_result_can_resume(self):
        for status in (NEW, PENDING, ASSIGNED, ACTIVE):
            job = Job(nothing)
            job._status = status
            with self.assertRaises(BadStatusError) as caught:
                job.resumeCallbacks()
            self.assertEqual(
                str(caught.exception),
                "can only resume callbacks on a job with CALLBACKS or COMPLETED status",
            )

    def test_each_callback_goes_on_where_it_was(self):
        job = Job(multiply, 5, 2)
        job._result, job._status = 10, CALLBACKS
        completed, halfway, active, new = (Job(multiply, n) for n in (3, 4, 5, 6))
        for callback in (completed, halfway, active, new):
            job.addCallback(callback)
        completed._status, completed._result = COMPLETED, "old"
        halfway._status, halfway._result = CALLBACKS, 40
        below = halfway.addCallbacks(Job(multiply, 2))
        active._begin(1)
        self.stored(job)
        job.resumeCallbacks()
        self.assertEqual(completed.result, "old")
        self.assertEqual((halfway.status, below.result), (COMPLETED, 80))
        self.assertEqual((active.result, active.interruptions), (50, 1))
        self.assertEqual((new.result, job.status), (60, COMPLETED))

    def test_it_may_be_called_again(self):
        job = self.stored(nothing)
        job.addCallback(Job(note, "once"))
        transaction.commit()
        job()
        job.resumeCallbacks()
        self.assertEqual((CALLS, job.status), ([("once", None)], COMPLETED))

    def test_callbacks_that_a_completed_job_left_are_performed(self):
        job = Job(nothing)
        callback = job.addCallback(Job(note, "left"))
        job._status = COMPLETED
        self.stored(job)
        job.resumeCallbacks()
        self.assertEqual((CALLS, callback.status), ([("left", None)], COMPLETED))

    def test_callbacks_that_a_completed_callback_left_are_performed(self):
        job = Job(nothing)
        callback = job.addCallback(Job(nothing))
        callback.addCallback(Job(note, "left"))
        job._status, callback._status = CALLBACKS, COMPLETED
        self.stored(job)
        job.resumeCallbacks()
        self.assertEqual((CALLS, job.status), ([("left", None)], COMPLETED))
