# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""How callbacks are performed, resumed and ended, each once."""

import datetime
import gc
import logging
import unittest.mock
import warnings

import transaction
from twisted.internet.defer import Deferred
from ZODB.POSException import ConflictError, StorageError

from tests.support.jobs import (
    CALLS,
    AnswerLostError,
    Counter,
    JobsCase,
    Worker,
    answer,
    fail,
    note,
    nothing,
)
from zc.async_ import clock, transactions
from zc.async_.callingback import _Callbacks
from zc.async_.errors import QuarantinedError, ReassignedError
from zc.async_.failure import is_failure
from zc.async_.interfaces import ACTIVE, CALLBACKS, COMPLETED, NEW, PENDING
from zc.async_.job import Job
from zc.async_.performance import Performance
from zc.async_.retry import RetryCommonForever

SECOND = datetime.timedelta(seconds=1)
NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)

deferreds = []


def deferred(*ignored):
    deferreds.append(Deferred())
    return deferreds[-1]


def unpicklable(result):
    CALLS.append("unpicklable")
    return lambda: None


def exiting(result):
    CALLS.append("exiting")
    raise SystemExit


class Errors:
    """Raises the errors, one at each call, and then lets calls pass."""

    left = []

    @classmethod
    def call(cls, *args):
        CALLS.append("called")
        if cls.left:
            raise cls.left.pop(0)
        return "passed"


async def coroutine(result):
    return "from a coroutine"


class CallbacksCase(JobsCase):
    def setUp(self):
        super().setUp()
        self.addCleanup(deferreds.clear)
        Errors.left = []

    def with_callbacks(self, *callbacks, function=nothing):
        job = Job(function)
        for callback in callbacks:
            job.addCallback(callback)
        return self.stored(job)


class EndTests(CallbacksCase):
    """Whatever a callback does, it ends, and so does its job."""

    def test_a_failing_callback_is_a_failure_of_its_own(self):
        job = self.with_callbacks(Job(fail), Job(note, "next"))
        job()
        first, second = job.callbacks
        self.assertEqual((first.status, first.result.type), (COMPLETED, RuntimeError))
        self.assertEqual((job.status, job.result), (COMPLETED, None))
        self.assertEqual(CALLS[-1], ("next", None))

    def test_a_callback_aborts_only_its_own_changes(self):
        counter = self.root["counter"] = Counter()
        job = self.with_callbacks(
            Job(counter.increase_and_fail), function=counter.increase
        )
        job()
        self.assertEqual((counter.count, job.result), (1, 1))

    def test_a_result_that_cannot_be_pickled_ends_the_callback(self):
        job = self.with_callbacks(Job(unpicklable), Job(note, "next"))
        job()
        self.assertEqual(CALLS, ["unpicklable", ("next", None)])
        self.assertTrue(is_failure(job.callbacks[0].result))
        self.assertEqual(job.status, COMPLETED)

    def test_an_exit_by_hand_leaves_the_callback_to_be_resumed(self):
        job = self.with_callbacks(Job(exiting), Job(note, "next"))
        with self.assertRaises(SystemExit):
            job()
        self.assertEqual((job.status, job.callbacks[0].status), (CALLBACKS, ACTIVE))
        self.assertEqual(CALLS, ["exiting"])

    def test_an_exit_in_a_worker_is_the_failure_of_the_callback(self):
        job = self.with_callbacks(Job(exiting), Job(note, "next"))
        Worker().perform(job)
        self.assertEqual(job.callbacks[0].result.type, SystemExit)
        self.assertEqual((job.status, CALLS[-1]), (COMPLETED, ("next", None)))

    def test_a_callback_whose_code_has_gone_is_a_failure(self):
        job = self.with_callbacks(Job(note))
        job.callbacks[0]._target = "tests.support.jobs:vanished"
        transaction.commit()
        job()
        failure = job.callbacks[0].result
        self.assertIn("tests.support.jobs.vanished", failure.getErrorMessage())

    def test_transient_errors_are_repeated(self):
        Errors.left = [ConflictError() for _ in range(15)]
        job = self.with_callbacks(Job(Errors.call))
        job()
        callback = job.callbacks[0]
        self.assertEqual((callback.result, callback.attempts), ("passed", 16))

    def test_transient_errors_without_end_end(self):
        Errors.left = [ConflictError() for _ in range(1000)]
        job = self.with_callbacks(Job(Errors.call))
        job()
        self.assertEqual(job.callbacks[0].result.type, ConflictError)
        self.assertEqual((job.status, len(CALLS)), (COMPLETED, 20))

    def test_a_callback_that_returned_a_job_waits_and_its_caller_does_not(self):
        inner = self.stored(answer)
        job = self.with_callbacks(Job(Returning(inner)))
        job()
        callback = job.callbacks[0]
        self.assertEqual((job.status, callback.status), (COMPLETED, ACTIVE))
        inner()
        self.assertEqual((callback.status, callback.result), (COMPLETED, 42))

    def test_a_callback_of_a_callback_that_waited_is_performed(self):
        inner = self.stored(answer)
        job = self.with_callbacks(Job(Returning(inner)))
        job.callbacks[0].addCallback(Job(note, "below"))
        transaction.commit()
        job()
        inner()
        self.assertEqual(CALLS, ["answer", ("below", 42)])
        self.assertEqual(job.callbacks[0].status, COMPLETED)

    def test_a_coroutine_is_run(self):
        job = self.with_callbacks(Job(coroutine))
        job()
        self.assertEqual(job.callbacks[0].result, "from a coroutine")


class Returning:
    """Calling it returns what it was made with."""

    def __init__(self, value):
        self.value = value

    def __call__(self, *args):
        return self.value


class AwaitingTests(CallbacksCase):
    """Callbacks that return Deferreds hold their caller until these fire."""

    def awaiting(self, *others):
        job = self.with_callbacks(Job(deferred), *others)
        job.callbacks[0].addCallback(Job(note, "below"))
        transaction.commit()
        job()
        return job, job.callbacks[0]

    def test_the_caller_stays_in_callbacks_and_holds_its_slot(self):
        job, callback = self.awaiting(Job(note, "next"))
        self.assertEqual((job.status, callback.status), (CALLBACKS, ACTIVE))
        self.assertFalse(job.waiting)
        self.assertEqual(CALLS, [("next", None)])

    def test_the_value_completes_both(self):
        job, callback = self.awaiting()
        deferreds[0].callback(42)
        transaction.begin()
        self.assertEqual((callback.status, callback.result), (COMPLETED, 42))
        self.assertEqual((job.status, CALLS), (COMPLETED, [("below", 42)]))
        self.assertIsNotNone(job.initial_callbacks_end)

    def test_the_last_value_completes_the_caller(self):
        job, _ = self.awaiting(Job(deferred))
        for number, status in ((0, CALLBACKS), (1, COMPLETED)):
            deferreds[number].callback(None)
            transaction.begin()
            self.assertEqual(job.status, status)

    def test_callers_of_callers_are_completed(self):
        job = self.with_callbacks(Job(nothing))
        job.callbacks[0].addCallbacks(Job(deferred))
        transaction.commit()
        job()
        self.assertEqual((job.status, job.callbacks[0].status), (CALLBACKS, CALLBACKS))
        deferreds[0].callback(42)
        transaction.begin()
        self.assertEqual((job.status, job.callbacks[0].status), (COMPLETED, COMPLETED))

    def test_when_the_process_died_the_callback_is_performed_again(self):
        job, callback = self.awaiting()
        deferreds[0].addErrback(lambda failure: None)
        job.resumeCallbacks()
        self.assertEqual((len(deferreds), callback.interruptions), (2, 1))
        self.assertEqual((job.status, callback.status), (CALLBACKS, ACTIVE))
        with self.assertLogs("zc.async.trace", logging.WARNING):
            deferreds[0].callback("of a former life")
        deferreds[1].callback(42)
        transaction.begin()
        self.assertEqual((job.status, callback.result), (COMPLETED, 42))

    def test_a_callback_added_to_a_completed_job_holds_nobody(self):
        job = self.stored(nothing)
        job()
        callback = job.addCallback(Job(deferred))
        self.assertEqual((job.status, callback.status), (COMPLETED, ACTIVE))
        deferreds[0].callback(42)
        transaction.begin()
        self.assertEqual((job.status, callback.result), (COMPLETED, 42))

    def test_a_worker_is_told_which_job_awaits(self):
        job, worker = self.with_callbacks(Job(deferred)), Worker()
        worker.perform(job)
        self.assertEqual([one for one, _ in worker.awaited], [job.callbacks[0]])
        callback = job.callbacks[0]
        Performance(callback, worker, callback._active_start).with_value(42)
        self.assertEqual((job.status, callback.result), (COMPLETED, 42))

    def test_coroutines_of_a_worker_are_not_lost_silently(self):
        job, worker = self.with_callbacks(Job(coroutine)), Worker()
        worker.perform(job)
        self.assertEqual(job.status, CALLBACKS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            worker.awaited.clear()
            gc.collect()


class PostponedTests(CallbacksCase):
    """Callbacks whose policy asks for a later time."""

    def setUp(self):
        super().setUp()
        self.movable = clock.MovableClock(NOW)
        clock.install(self.movable)
        self.addCleanup(clock.uninstall)

    def postponed(self, *others, errors=1):
        Errors.left = [AnswerLostError() for _ in range(errors)]
        job = Job(nothing)
        for callback in (Job(Errors.call), *others):
            job.addCallback(callback)
        self.put(job)
        self.perform_due()
        return job, job.callbacks[0]

    def test_a_job_in_the_queue_performs_it_and_the_caller_waits(self):
        job, callback = self.postponed(Job(note, "next"))
        self.assertEqual((job.status, callback.status), (CALLBACKS, NEW))
        self.assertTrue(job.waiting)
        self.assertEqual(CALLS, ["called", ("next", None)])
        (substitute,) = self.queue
        self.assertEqual(substitute.begin_after, NOW + 5 * SECOND)
        self.assertIsNone(substitute.begin_by)
        self.movable.advance(5)
        self.perform_due()
        self.assertEqual((callback.result, callback.attempts), ("passed", 2))
        self.assertEqual((job.status, job.waiting), (COMPLETED, False))
        self.assertEqual(CALLS.count(("next", None)), 1)

    def test_each_waits_for_its_own_time(self):
        job, _ = self.postponed(Job(Errors.call), errors=3)
        self.assertEqual(len(self.queue), 2)
        self.movable.advance(5)
        self.perform_due(limit=1)
        self.assertEqual(job.status, CALLBACKS)
        self.movable.advance(60)
        self.perform_due()
        self.assertEqual((job.status, len(CALLS)), (COMPLETED, 5))
        self.assertEqual([one.result for one in job.callbacks], ["passed"] * 2)

    def test_resuming_does_not_perform_it_before_its_time(self):
        job, callback = self.postponed()
        job.resumeCallbacks()
        self.assertEqual((job.status, callback.status), (CALLBACKS, NEW))
        self.assertEqual(CALLS, ["called"])

    def test_one_that_awaits_a_value_is_not_taken_for_interrupted(self):
        job, callback = self.postponed(Job(deferred))
        self.assertFalse(job.waiting)
        self.movable.advance(5)
        self.perform_due()
        self.assertEqual((callback.result, job.status), ("passed", CALLBACKS))
        self.assertEqual((len(deferreds), job.callbacks[1].interruptions), (1, 0))
        deferreds[0].callback(None)
        transaction.begin()
        self.assertEqual(job.status, COMPLETED)

    def test_callbacks_added_meanwhile_are_performed_then(self):
        job, callback = self.postponed()
        job.addCallback(Job(note, "added"))
        transaction.commit()
        self.movable.advance(5)
        self.perform_due()
        self.assertEqual(CALLS, ["called", "called", ("added", None)])
        self.assertEqual(job.status, COMPLETED)

    def test_a_callback_added_to_a_completed_job_can_be_postponed(self):
        job = self.put(nothing)
        self.make_agent().claimJob()()
        Errors.left = [AnswerLostError()]
        callback = job.addCallback(Job(Errors.call))
        self.assertEqual((job.status, callback.status), (COMPLETED, NEW))
        self.movable.advance(5)
        self.perform_due()
        self.assertEqual((job.status, callback.result), (COMPLETED, "passed"))

    def test_a_callback_of_a_callback_can_be_postponed(self):
        Errors.left = [AnswerLostError()]
        job = Job(nothing)
        below = job.addCallbacks(Job(nothing)).addCallback(Job(Errors.call))
        self.put(job)
        self.perform_due()
        self.assertEqual((job.status, below.status), (COMPLETED, NEW))
        self.movable.advance(5)
        self.perform_due()
        self.assertEqual(below.result, "passed")
        self.assertEqual(below.caller.status, COMPLETED)

    def test_one_that_ends_before_its_caller_has_begun_to_wait_is_seen(self):
        job, callback = self.postponed(Job(nothing))
        job._postponed = False  # as if the first performer was still at it
        transaction.commit()
        there = self.fetch(job)
        performer = _Callbacks(there, False)
        self.assertIsNone(performer._begin_next())
        self.assertTrue(there.waiting)  # not yet committed
        self.movable.advance(5)
        self.perform_due()
        self.assertEqual((job.status, callback.status), (CALLBACKS, COMPLETED))
        with self.assertRaises(ConflictError):
            performer.manager.commit()
        performer.manager.abort()
        self.assertTrue(performer.step())
        transaction.begin()
        self.assertEqual((job.status, job.waiting), (COMPLETED, False))

    def test_a_process_that_dies_in_the_second_attempt_resumes_it(self):
        job, callback = self.postponed()
        self.movable.advance(5)
        (substitute,) = self.queue
        callback.callable = exiting_once
        transaction.commit()
        with self.assertRaises(SystemExit):
            self.perform_due()
        self.assertEqual((callback.status, substitute.status), (ACTIVE, PENDING))
        self.perform_due()
        self.assertEqual((callback.result, callback.interruptions), ("survived", 1))
        self.assertEqual(job.status, COMPLETED)

    def test_a_callback_that_kills_each_process_ends(self):
        job, callback = self.postponed()
        self.movable.advance(5)
        callback.callable = exiting
        transaction.commit()
        for _ in range(3):
            with self.assertRaises(SystemExit):
                self.perform_due()
        self.perform_due()
        self.assertEqual((callback.status, job.status), (COMPLETED, COMPLETED))
        self.assertEqual(callback.result.type, QuarantinedError)

    def test_a_result_that_cannot_be_pickled_ends_after_several_attempts(self):
        job = Job(nothing)
        callback = job.addCallback(Job(unpicklable))
        self.put(job)
        with self.assertLogs("zc.async.events", logging.CRITICAL):
            for _ in range(30):
                self.perform_due()
                self.movable.advance(60)
        self.assertEqual(len(CALLS), RetryCommonForever.max_commit_errors)
        self.assertEqual((callback.status, job.status), (COMPLETED, COMPLETED))
        self.assertEqual(len(self.queue), 0)


def exiting_once(result):
    CALLS.append("exiting")
    if CALLS.count("exiting") == 1:
        raise SystemExit
    return "survived"


class AloneTests(CallbacksCase):
    """Two threads never perform the callbacks of one job."""

    def begin_elsewhere(self, job, number):
        """As if another thread had begun a callback."""
        there = self.fetch(job)
        there.callbacks[number]._begin(clock.micros(clock.utcnow()))
        there._p_jar.transaction_manager.commit()

    def test_a_callback_begun_by_another_stops_us(self):
        job = self.with_callbacks(Job(nothing), Job(note, 1), Job(note, 2))
        job.callbacks[0].callable = BeginOther(self, job)
        transaction.commit()
        with self.assertRaisesRegex(ReassignedError, "performed elsewhere"):
            job()
        self.assertEqual((job.status, CALLS), (CALLBACKS, []))

    def test_one_taken_over_stops_us_without_a_trace(self):
        job = self.with_callbacks(Job(nothing), Job(note, "next"))
        job.callbacks[0].callable = TakeOver(self, job)
        transaction.commit()
        with self.assertRaises(ReassignedError):
            Worker().perform(job)
        self.assertEqual(CALLS, [])

    def test_conflicts_without_end_end(self):
        job = self.with_callbacks(Job(note))
        commits = []

        def refuse(*ignored):
            commits.append(1)
            raise ConflictError

        job._begin(1)
        job._settle(None)
        transaction.commit()
        manager = self.connection.transaction_manager
        with unittest.mock.patch.object(manager, "commit", refuse):
            with self.assertRaises(ConflictError):
                job._perform_callbacks()
        self.assertEqual(len(commits), transactions.TRIES)

    def test_other_errors_of_the_database_are_raised_at_once(self):
        job = self.with_callbacks(Job(note))
        job._begin(1)
        job._settle(None)
        transaction.commit()
        error = StorageError("no space left")
        manager = self.connection.transaction_manager
        with unittest.mock.patch.object(manager, "commit", side_effect=error):
            with self.assertRaises(StorageError):
                job._perform_callbacks()
        self.assertEqual((job.status, CALLS), (CALLBACKS, []))

    def test_jobs_without_a_result_have_no_callbacks_due(self):
        job = self.with_callbacks(Job(note))
        with self.assertRaisesRegex(ReassignedError, "are not due"):
            job._perform_callbacks()


class BeginOther:
    """Called as a callback; another thread begins the next one meanwhile."""

    case = {}

    def __init__(self, case, job):
        BeginOther.case["now"] = lambda: case.begin_elsewhere(job, 1)

    def __call__(self, result):
        self.case["now"]()


class TakeOver(BeginOther):
    """Another thread interrupts and begins the very callback."""

    def __init__(self, case, job):
        def take_over():
            there = case.fetch(job)
            there.callbacks[0]._take_back()
            there._p_jar.transaction_manager.commit()
            case.begin_elsewhere(job, 0)

        self.case["now"] = take_over
