# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""How one job is performed: its commits, its retries, its results."""

import asyncio
import contextlib
import datetime
import functools
import gc
import logging
import threading
import warnings

import transaction
import zope.component
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure as TwistedFailure
from ZODB.DB import DB
from ZODB.POSException import ConflictError, POSKeyError

from tests.support.jobs import (
    CALLS,
    AnswerLostError,
    Counter,
    JobsCase,
    LossyStorage,
    Worker,
    answer,
    fail,
    multiply,
    note,
    nothing,
)
from zc.async_ import clock
from zc.async_.errors import (
    BadStatusError,
    ReassignedError,
)
from zc.async_.failure import Failure, is_failure
from zc.async_.interfaces import (
    ACTIVE,
    ASSIGNED,
    CALLBACKS,
    COMPLETED,
    NEW,
    PENDING,
    IJob,
    IRetryPolicy,
)
from zc.async_.job import Job
from zc.async_.performance import Performance
from zc.async_.retry import RetryWithBackoff
from zc.async_.threadlocal import local

SECOND = datetime.timedelta(seconds=1)
NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)


# Callables


class Once:
    """Raises the errors, one at each call, and then lets calls pass."""

    errors = []

    @classmethod
    def call(cls, counter=None, *ignored):
        if counter is not None:
            counter.increase()
        CALLS.append("called")
        if cls.errors:
            raise cls.errors.pop(0)
        return "passed"


def conflicting(counter):
    """Conflict with somebody else, the first time."""
    counter.increase()
    CALLS.append("called")
    if len(CALLS) == 1:
        db = counter._p_jar.db()
        manager = transaction.TransactionManager()
        connection = db.open(manager)
        connection.get(counter._p_oid).increase(10)
        manager.commit()
        connection.close()
    return counter.count


def lose_answer(counter):
    """Have the answer of the commit to come lost."""
    counter.increase()
    CALLS.append("called")
    counter._p_jar.db().storage.to_lose = (True,)
    return "settled"


def unpicklable(counter):
    counter.increase()
    return lambda: None


def raise_unpicklable(counter):
    counter.increase()
    error = ValueError("told")
    error.extra = lambda: None
    raise error


def raise_system_exit(counter, *ignored):
    counter.increase()
    raise SystemExit("asked for")


def raise_keyboard_interrupt(counter, *ignored):
    counter.increase()
    raise KeyboardInterrupt


def recurse(depth=0):
    # Not with *args: Python 3.13.0 then forgets its limit.
    return recurse(depth + 1)


def returned_failure(counter):
    counter.increase()
    try:
        raise RuntimeError("returned")
    except RuntimeError:
        return TwistedFailure()


def returned_own_failure(counter):
    counter.increase()
    return Failure(RuntimeError("returned"))


def seen_status(job):
    return job.status, local.getJob() is job


def taken_away(counter, job_oid):
    """Somebody takes the job away while it is performed."""
    counter.increase()
    CALLS.append("called")
    manager = transaction.TransactionManager()
    connection = counter._p_jar.db().open(manager)
    job = connection.get(job_oid)
    job.parent = connection.root()["somebody else"]
    manager.commit()
    connection.close()


def failed_by_another(counter, job_oid):
    """Somebody fails the job while it is performed."""
    counter.increase()

    def fail_it():
        with another_connection(counter._p_jar.db(), job_oid) as job:
            job.fail(ValueError("decided elsewhere"))

    thread = threading.Thread(target=fail_it)
    thread.start()
    thread.join(10)


@contextlib.contextmanager
def another_connection(db, oid):
    """The object of this oid, in a connection with its own transaction manager."""
    manager = transaction.TransactionManager()
    connection = db.open(manager)
    yield connection.get(oid)
    manager.abort()
    connection.close()


def mutate_arguments(counter, items):
    items.append(len(items))
    local.getJob().args.append("more")
    raise ConflictError if len(CALLS) < 2 and not CALLS.append(1) else ValueError


def commit_inside(counter):
    counter.increase()
    transaction.commit()
    CALLS.append("called")
    if len(CALLS) == 1:
        raise ConflictError
    return counter.count


class SetUpJob(Job):
    """Tells what it does."""

    problem = None

    def setUp(self):
        CALLS.append(("setUp", local.getJob() is self))
        if self.problem == "setUp":
            raise ValueError("in setUp")
        return "info"

    def tearDown(self, info):
        manager = self._p_jar.transaction_manager
        dirty = bool(manager.get()._resources)
        CALLS.append(("tearDown", info, local.getJob() is self, dirty))
        if self.problem == "tearDown":
            raise ValueError("in tearDown")
        if self.problem == "exit":
            raise SystemExit


class Policy:
    """Answers as the class is told, and remembers the questions."""

    answers = []
    asked = []

    def __init__(self, job):
        self.job = job

    def _answer(self, *question):
        self.asked.append(question)
        found = self.answers.pop(0) if self.answers else False
        if isinstance(found, BaseException):
            raise found
        return found

    def jobError(self, failure, data_cache):
        data_cache["count"] = data_cache.get("count", 0) + 1
        return self._answer("jobError", failure, dict(data_cache))

    def commitError(self, failure, data_cache):
        return self._answer("commitError", failure, dict(data_cache))

    def interrupted(self):
        return self._answer("interrupted")

    def updateData(self, data_cache):
        self.asked.append(("updateData", dict(data_cache)))
        self.job.retry_data = dict(data_cache)


class RaisingUpdate(Policy):
    def updateData(self, data_cache):
        raise ValueError("in updateData")


class PerformanceCase(JobsCase):
    def setUp(self):
        super().setUp()
        self.counter = self.root["counter"] = Counter()
        self.addCleanup(setattr, Once, "errors", [])
        Policy.answers, Policy.asked = [], []
        transaction.commit()

    def policy(self, *answers):
        Policy.answers, Policy.asked = list(answers), []
        return Policy

    def questions(self):
        return [asked[0] for asked in Policy.asked]


class ByHandTests(PerformanceCase):
    def test_the_result_is_returned_and_stored(self):
        job = self.stored(multiply, 6, 7)
        self.assertEqual(job(), 42)
        found = self.fetch(job)
        self.assertEqual((found.status, found.result), (COMPLETED, 42))

    def test_what_the_callable_changes_commits_with_the_result(self):
        job = self.stored(self.counter.increase)
        job()
        self.assertEqual(self.fetch(self.counter).count, 1)

    def test_active_is_committed_before_the_call(self):
        job = self.stored(see_from_elsewhere, self.counter)
        job.args.append(job)
        transaction.commit()
        self.assertEqual(job(), ACTIVE)

    def test_only_new_and_assigned_jobs_can_be_called(self):
        job = Job(nothing)
        for status in (PENDING, ACTIVE, CALLBACKS, COMPLETED):
            job._status = status
            with self.assertRaises(BadStatusError) as caught:
                job()
            self.assertEqual(
                str(caught.exception), "can only call a job with NEW or ASSIGNED status"
            )
            self.assertEqual(caught.exception.found, status)
        job._status = ASSIGNED
        job()
        self.assertEqual(job.status, COMPLETED)

    def test_a_job_cannot_call_itself(self):
        job = self.stored(Job.bind(call_it))
        job()
        self.assertEqual(job.result.type, BadStatusError)

    def test_a_job_without_a_database_is_performed_as_well(self):
        job = Job(multiply, 2, 3)
        callback = job.addCallback(Job(multiply, 10))
        self.assertEqual(job(), 6)
        self.assertEqual((job.status, callback.result), (COMPLETED, 60))

    def test_the_job_knows_its_status_and_is_the_local_one(self):
        job = self.stored(Job.bind(seen_status))
        self.assertEqual(job(), (ACTIVE, True))
        self.assertIsNone(local.getJob())

    def test_times_are_noted(self):
        movable = clock.MovableClock(NOW)
        clock.install(movable)
        self.addCleanup(clock.uninstall)
        job = self.stored(advance, movable_clock.append(movable) or 5)
        self.addCleanup(movable_clock.clear)
        job.addCallback(Job(advance, 7))
        transaction.commit()
        job()
        self.assertEqual(job.active_start, NOW)
        self.assertEqual(job.first_active, NOW)
        self.assertEqual(job.active_end, NOW + 5 * SECOND)
        self.assertEqual(job.initial_callbacks_end, NOW + 12 * SECOND)
        self.assertEqual(job.attempts, 1)

    def test_without_callbacks_they_end_with_the_call(self):
        job = self.stored(nothing)
        job()
        self.assertIsNotNone(job.initial_callbacks_end)
        worker = self.stored(nothing)
        Worker().perform(worker)
        self.assertEqual(worker.initial_callbacks_end, worker.active_end)


movable_clock = []


def advance(seconds, *ignored):
    movable_clock[0].advance(seconds)


def call_it(job, *ignored):
    return job()


def see_from_elsewhere(counter, job):
    with another_connection(counter._p_jar.db(), job._p_oid) as there:
        return there.status


class ErrorTests(PerformanceCase):
    def assert_failed(self, job, error, message=""):
        self.assertEqual(job.status, COMPLETED)
        self.assertEqual(job.result.type, error)
        self.assertIn(message, job.result.getErrorMessage())
        self.assertTrue(is_failure(self.fetch(job).result))

    def test_an_exception_is_a_failure_and_aborts(self):
        job = self.stored(self.counter.increase_and_fail)
        returned = job()
        self.assertIs(returned, job.result)
        self.assert_failed(job, RuntimeError, "after a change")
        self.assertEqual(self.counter.count, 0)
        self.assertIn("increase_and_fail", job.result.getTraceback())

    def test_a_returned_failure_is_the_result_and_does_not_abort(self):
        for function in (returned_failure, returned_own_failure):
            with self.subTest(function=function):
                before = self.counter.count
                job = self.stored(function, self.counter)
                returned = job()
                self.assert_failed(job, RuntimeError, "returned")
                self.assertIs(type(job.result), Failure)
                self.assertIs(returned, job.result)
                self.assertEqual(self.counter.count, before + 1)

    def test_a_result_that_cannot_be_pickled_is_a_failure_that_says_so(self):
        job = self.stored(unpicklable, self.counter)
        job()
        self.assertTrue(is_failure(job.result))
        self.assertIn("pickle", job.result.getErrorMessage())
        self.assertEqual((job.status, self.counter.count), (COMPLETED, 0))

    def test_an_exception_that_cannot_be_pickled_is_a_failure(self):
        job = self.stored(raise_unpicklable, self.counter)
        job()
        self.assert_failed(job, ValueError, "told")

    def test_endless_recursion_is_a_failure(self):
        job = self.stored(recurse)
        job()
        self.assert_failed(job, RecursionError)

    def test_a_result_of_another_database_is_a_failure(self):
        other = Counter()
        db = DB(None)
        self.addCleanup(db.close)
        connection = db.open()
        self.addCleanup(connection.close)
        connection.root()["other"] = other
        transaction.commit()
        foreign.append(other)
        self.addCleanup(foreign.clear)
        job = self.stored(return_foreign)
        job()
        self.assertTrue(is_failure(job.result))
        self.assertEqual(job.status, COMPLETED)

    def test_a_missing_object_is_a_failure(self):
        job = self.stored(Once.call)
        Once.errors = [POSKeyError(b"\0" * 8)]
        job()
        self.assert_failed(job, POSKeyError)
        self.assertEqual(CALLS, ["called"])

    def test_exits_leave_a_job_called_by_hand_active(self):
        for function, error in (
            (raise_system_exit, SystemExit),
            (raise_keyboard_interrupt, KeyboardInterrupt),
        ):
            with self.subTest(error=error):
                job = self.stored(function, self.counter)
                with self.assertRaises(error):
                    job()
                self.assertEqual(job.status, ACTIVE)
                self.assertEqual(self.counter.count, 0)

    def test_exits_are_failures_in_a_worker(self):
        for function, error in (
            (raise_system_exit, SystemExit),
            (raise_keyboard_interrupt, KeyboardInterrupt),
        ):
            with self.subTest(error=error):
                job = self.stored(function, self.counter)
                Worker().perform(job)
                self.assert_failed(job, error)
                self.assertEqual(self.counter.count, 0)

    def test_jobs_called_by_a_job_in_a_worker_are_guarded_as_well(self):
        inner = self.stored(raise_system_exit, self.counter)
        job = self.stored(inner)
        Worker().perform(job)
        self.assert_failed(job, SystemExit)


foreign = []


def return_foreign():
    return foreign[0]


class LogTests(PerformanceCase):
    def logged(self, job, **options):
        with self.assertLogs("zc.async", logging.DEBUG) as logs:
            job()
        return [
            (one.name.split(".")[-1], one.levelno, one.getMessage())
            for one in logs.records
        ]

    def test_a_success_is_in_the_trace(self):
        ((name, level, message),) = self.logged(self.stored(multiply, 6, 7))
        self.assertEqual((name, level), ("trace", logging.INFO))
        self.assertIn("multiply(6, 7)``> succeeded in thread", message)
        self.assertTrue(message.endswith("with result:\n42"))

    def test_a_failure_is_among_the_events(self):
        found = self.logged(self.stored(fail))
        self.assertIn(("events", logging.ERROR), [one[:2] for one in found])
        self.assertIn("RuntimeError: on purpose", found[0][2])

    def test_the_level_of_a_failure_can_be_set(self):
        job = Job(fail)
        job.failure_log_level = logging.WARNING
        found = self.logged(self.stored(job))
        self.assertEqual({one[1] for one in found}, {logging.WARNING})

    def test_a_failing_callback_is_critical(self):
        job = self.stored(nothing)
        job.addCallback(Job(fail))
        transaction.commit()
        found = self.logged(job)
        self.assertIn(("events", logging.CRITICAL), [one[:2] for one in found])

    def test_the_outcome_is_logged_before_the_callbacks_are_performed(self):
        job = self.stored(nothing)
        job.addCallback(Job(fail))
        transaction.commit()
        self.assertIn("nothing()``> succeeded", self.logged(job)[0][2])

    def test_a_retry_is_a_warning_in_the_trace(self):
        Once.errors = [ConflictError("just so")]
        name, level, message = self.logged(self.stored(Once.call))[0]
        self.assertEqual((name, level), ("trace", logging.WARNING))
        self.assertIn("is retried (now) after: ", message)


class RetryTests(PerformanceCase):
    def test_transient_errors_are_repeated_and_counted(self):
        Once.errors = [ConflictError() for _ in range(4)]
        job = self.stored(Once.call, self.counter)
        self.assertEqual(job(), "passed")
        self.assertEqual((job.attempts, len(CALLS), self.counter.count), (5, 5, 1))
        self.assertEqual(job.first_active, job.active_start)

    def test_the_fifth_transient_error_is_the_result(self):
        Once.errors = [ConflictError() for _ in range(9)]
        job = self.stored(Once.call)
        job()
        self.assertEqual((job.result.type, len(CALLS)), (ConflictError, 5))
        self.assertEqual(job.attempts, 5)

    def test_a_conflict_of_the_commit_is_repeated(self):
        job = self.stored(conflicting, self.counter)
        self.assertEqual(job(), 11)
        self.assertEqual(len(CALLS), 2)

    def test_each_attempt_begins_with_the_original_arguments(self):
        job = self.stored(mutate_arguments, self.counter, [1])
        job()
        self.assertEqual(job.result.type, ValueError)
        self.assertEqual(job.args[1:], [[1]])

    def test_a_commit_inside_of_the_callable_stands(self):
        job = self.stored(commit_inside, self.counter)
        self.assertEqual(job(), 2)

    def test_a_policy_is_asked_about_errors_of_job_and_commit(self):
        job = self.stored(fail)
        job.retry_policy_factory = self.policy(True, True, False)
        transaction.commit()
        job()
        self.assertEqual(job.result.type, RuntimeError)
        self.assertEqual(self.questions(), ["jobError"] * 3 + ["updateData"])
        question, failure, cache = Policy.asked[2]
        self.assertEqual(cache, {"count": 3})
        self.assertTrue(failure.check(RuntimeError))
        self.assertEqual(self.fetch(job).retry_data, {"count": 3})
        self.assertEqual(job.attempts, 3)

        job = self.stored(unpicklable, self.counter)
        job.retry_policy_factory = self.policy(True, False)
        transaction.commit()
        job()
        self.assertIn("commitError", self.questions())
        self.assertTrue(is_failure(job.result))

    def test_the_failure_shown_to_a_policy_holds_no_database_objects(self):
        job = self.stored(raise_with, self.counter)
        job.retry_policy_factory = self.policy(False)
        transaction.commit()
        job()
        self.assertNotIsInstance(Policy.asked[0][1].value.args[0], Counter)

    def test_each_performance_has_one_policy(self):
        made = []

        class Counting(Policy):
            def __init__(self, job):
                made.append(job)
                super().__init__(job)

        zope.component.provideAdapter(Counting, (IJob,), IRetryPolicy)
        self.policy(True, True)
        job = self.stored(fail)
        job()
        self.assertEqual(made, [job])

    def test_a_policy_that_raises_gives_up(self):
        job = self.stored(fail)
        for error in (ValueError("in policy"), SystemExit()):
            job = self.stored(fail)
            job.retry_policy_factory = self.policy(error)
            transaction.commit()
            job()
            self.assertEqual(job.result.type, RuntimeError)

    def test_a_policy_that_raises_in_update_is_the_failure_of_the_job(self):
        job = self.stored(self.counter.increase)
        job.retry_policy_factory = RaisingUpdate
        transaction.commit()
        job()
        self.assertIn("in updateData", job.result.getErrorMessage())
        self.assertEqual((job.status, self.counter.count), (COMPLETED, 0))

    def test_without_a_queue_later_means_never(self):
        job = self.stored(fail)
        job.retry_policy_factory = self.policy(SECOND)
        transaction.commit()
        job()
        self.assertEqual(job.result.type, RuntimeError)

    def test_a_name_without_a_policy_fails_the_job_before_the_call(self):
        job = self.stored(answer)
        job.retry_policy_factory = "missing"
        transaction.commit()
        job()
        self.assertEqual((job.result.type, CALLS), (LookupError, []))
        self.assertIn("named 'missing'", job.result.getErrorMessage())

    def test_a_named_policy_is_used(self):
        zope.component.provideAdapter(Policy, (IJob,), IRetryPolicy, name="mine")
        self.policy(True, False)
        job = self.stored(fail)
        job.retry_policy_factory = "mine"
        transaction.commit()
        job()
        self.assertEqual(self.questions()[:2], ["jobError"] * 2)

    def test_a_policy_that_has_vanished_fails_the_job(self):
        cls = type("Vanishing", (Policy,), {"__module__": __name__})
        globals()["Vanishing"] = cls
        job = Job(answer)
        job.retry_policy_factory = cls
        oid = self.stored(job)._p_oid
        del globals()["Vanishing"]
        job = self.new_connection().get(oid)
        job()
        self.assertIn("Vanishing", job.result.getErrorMessage())
        self.assertEqual((job.status, CALLS), (COMPLETED, []))


def raise_with(counter):
    raise ValueError(counter)


class LaterTests(PerformanceCase):
    """Policies that ask for another time."""

    def setUp(self):
        super().setUp()
        self.movable = clock.MovableClock(NOW)
        clock.install(self.movable)
        self.addCleanup(clock.uninstall)

    def put_with(self, function, *answers):
        job = Job(function, self.counter)
        job.retry_policy_factory = self.policy(*answers)
        return self.put(job)

    def test_the_job_waits_in_its_queue_and_nothing_is_committed(self):
        job = self.put_with(Counter.increase_and_fail, 60 * SECOND)
        self.perform_due()
        self.assertEqual(job.status, PENDING)
        self.assertEqual(list(self.queue), [job])
        self.assertEqual(job.begin_after, NOW + 60 * SECOND)
        self.assertEqual((job.attempts, self.counter.count), (1, 0))
        self.assertEqual(job.retry_data, {"count": 1})
        self.movable.advance(59)
        self.assertEqual(self.perform_due(), [])
        self.movable.advance(1)
        self.assertEqual(self.perform_due(), [job])
        self.assertEqual((job.status, job.attempts), (COMPLETED, 2))
        self.assertEqual(job.first_active, NOW)
        self.assertEqual(job.active_start, NOW + 60 * SECOND)

    def test_a_datetime_is_when(self):
        job = self.put_with(Counter.increase_and_fail, NOW + 60 * SECOND)
        self.perform_due()
        self.assertEqual(job.begin_after, NOW + 60 * SECOND)

    def test_no_time_at_all_means_ahead_of_all_others(self):
        job = self.put_with(Counter.increase_and_fail, datetime.timedelta())
        other = self.put(nothing)
        performed = self.perform_due(limit=1)
        self.assertEqual(list(self.queue), [job, other])
        self.assertEqual(performed, [job])

    def test_the_slot_is_free_meanwhile(self):
        job = self.put_with(Counter.increase_and_fail, 60 * SECOND)
        self.perform_due()
        self.assertIsNone(job.agent)
        self.assertEqual(dict(self.queue.dispatchers), {})

    def test_the_quota_is_free_meanwhile(self):
        self.queue.quotas.create("one")
        job = Job(Counter.increase_and_fail, self.counter)
        job.quota_names = ["one"]
        job.retry_policy_factory = self.policy(60 * SECOND)
        other = Job(answer)
        other.quota_names = ["one"]
        self.put(job)
        self.put(other)
        self.perform_due()
        self.assertEqual((job.status, other.status), (PENDING, COMPLETED))

    def test_nonsense_gives_up(self):
        for nonsense in (
            "soon",
            datetime.datetime(2030, 1, 1),  # naive
            datetime.timedelta.max,
        ):
            with self.subTest(answer=nonsense):
                job = self.put_with(Counter.increase_and_fail, nonsense)
                self.perform_due()
                self.assertEqual(job.status, COMPLETED)
                self.assertEqual(job.result.type, RuntimeError)

    def test_a_lost_connection_is_waited_for(self):
        Once.errors = [AnswerLostError(), AnswerLostError()]
        job = self.put(Job(Once.call))
        self.perform_due()
        self.assertEqual(job.begin_after, NOW + 5 * SECOND)
        self.movable.advance(5)
        self.perform_due()
        self.assertEqual(job.begin_after, NOW + 15 * SECOND)
        self.movable.advance(10)
        self.perform_due()
        self.assertEqual((job.result, job.attempts), ("passed", 3))

    def test_a_back_off_with_settings_of_its_own(self):
        job = Job(Once.call, self.counter)
        Once.errors = [ValueError(), ValueError(), ValueError()]
        job.retry_policy_factory = functools.partial(
            RetryWithBackoff, max_tries=3, first_wait=10 * SECOND, errors=(ValueError,)
        )
        self.put(job)
        for _ in range(2):
            self.perform_due()
            self.assertEqual(job.status, PENDING)
            self.assertLessEqual(job.begin_after, self.movable.utcnow() + 20 * SECOND)
            self.assertGreater(job.begin_after, self.movable.utcnow())
            self.movable.advance(20)
        self.perform_due()
        self.assertEqual((job.status, job.result.type), (COMPLETED, ValueError))
        self.assertEqual((job.attempts, self.counter.count), (3, 0))

    def test_a_retry_is_not_limited_by_begin_by(self):
        job = Job(fail)
        job.retry_policy_factory = self.policy(7200 * SECOND)
        job = self.put(job, begin_by=SECOND)
        self.perform_due()
        self.movable.advance(7200)
        self.perform_due()
        self.assertEqual(job.result.type, RuntimeError)


class SetUpTests(PerformanceCase):
    def performed(self, function, *args, problem=None, worker=None):
        job = SetUpJob(function, *args)
        if problem:
            job.problem = problem
        self.stored(job)
        if worker:
            worker.perform(job)
        else:
            job()
        return job

    def test_they_surround_the_call_and_the_commit(self):
        job = self.performed(note, "called")
        self.assertEqual(
            CALLS,
            [("setUp", True), ("called",), ("tearDown", "info", True, False)],
        )
        self.assertEqual(job.result, "called")

    def test_they_surround_each_attempt(self):
        Once.errors = [ConflictError()]
        self.performed(Once.call, self.counter)
        one = [("setUp", True), "called", ("tearDown", "info", True, False)]
        self.assertEqual(CALLS, one * 2)

    def test_tear_down_comes_before_the_callbacks(self):
        job = SetUpJob(nothing)
        job.addCallback(Job(note, "callback"))
        self.stored(job)
        job()
        self.assertEqual([one[0] for one in CALLS], ["setUp", "tearDown", "callback"])

    def test_a_failing_set_up_is_the_error_of_the_job(self):
        job = self.performed(note, "called", problem="setUp")
        self.assertEqual(CALLS, [("setUp", True), ("tearDown", None, True, False)])
        self.assertIn("in setUp", job.result.getErrorMessage())

    def test_a_failing_tear_down_is_only_logged(self):
        for worker in (None, Worker()):
            with self.assertLogs("zc.async.events", logging.CRITICAL) as logs:
                job = self.performed(note, "called", problem="tearDown", worker=worker)
            self.assertEqual((job.status, job.result), (COMPLETED, "called"))
            self.assertIn("tearDown of <tests.unit", logs.output[0])

    def test_no_tear_down_ends_a_worker(self):
        with self.assertLogs("zc.async.events", logging.CRITICAL):
            job = self.performed(note, "called", problem="exit", worker=Worker())
        self.assertEqual(job.result, "called")

    def test_tear_down_follows_an_exit(self):
        job = self.stored(SetUpJob(raise_system_exit, self.counter))
        with self.assertRaises(SystemExit):
            job()
        self.assertEqual(CALLS[-1][0], "tearDown")


class FenceTests(PerformanceCase):
    def setUp(self):
        super().setUp()
        self.root["somebody else"] = Counter()
        transaction.commit()

    def job_for(self, function):
        job = self.stored(function, self.counter)
        job.args.append(job._p_oid)
        transaction.commit()
        return job

    def test_nothing_of_a_job_that_was_taken_away_is_committed(self):
        job = self.job_for(taken_away)
        with self.assertRaisesRegex(ReassignedError, "belongs to somebody else"):
            Worker().perform(job)
        self.assertEqual(CALLS, ["called"])
        found = self.fetch(job)
        self.assertEqual((found.status, found.result), (ACTIVE, None))
        self.assertEqual(self.fetch(self.counter).count, 0)

    def test_a_job_that_was_taken_away_before_is_not_called(self):
        job = self.stored(answer)
        token = job._begin(1)
        transaction.commit()
        for change in (
            lambda: job._disown(),
            lambda: setattr(job, "parent", self.root["somebody else"]),
            lambda: job._step(NEW),
        ):
            with self.subTest():
                change()
                transaction.commit()
                with self.assertRaises(ReassignedError):
                    Worker().begun(job, token)
        self.assertEqual(CALLS, [])

    def test_a_job_that_another_fails_is_left_to_that_one(self):
        job = self.job_for(failed_by_another)
        callback = job.addCallback(Job(note, "callback"))
        transaction.commit()
        worker = Worker()
        with self.assertRaises(ReassignedError):
            worker.perform(job)
        self.assertEqual(worker.told, [])
        self.assertEqual(len(CALLS), 1)
        found = self.fetch(job)
        self.assertEqual((found.status, found.result.type), (COMPLETED, ValueError))
        self.assertEqual(self.fetch(callback).status, COMPLETED)

    def test_a_settled_job_is_only_told_of(self):
        """Its commit arrived, and its worker did not live to say so."""
        job = self.stored(answer)
        worker = Worker()
        worker.perform(job)
        worker.begun(job, job._active_start)
        self.assertEqual(CALLS, ["answer"])
        self.assertEqual(worker.told, [("settled", job)] * 2)


class LostAnswerTests(PerformanceCase):
    """Commits that arrive although the server never says so."""

    def make_storage(self):
        return LossyStorage()

    def test_the_callable_is_not_called_again(self):
        for perform in (Job.__call__, Worker().perform):
            with self.subTest(perform=perform):
                CALLS.clear()
                job = self.stored(lose_answer, self.counter)
                before = self.counter.count
                perform(job)
                self.assertEqual(CALLS, ["called"])
                self.assertEqual(
                    (job.status, job.result, self.counter.count),
                    (COMPLETED, "settled", before + 1),
                )

    def test_callbacks_are_performed_once(self):
        job = self.stored(lose_answer, self.counter)
        callback = job.addCallback(Job(note))
        transaction.commit()
        job()
        self.assertEqual(CALLS, ["called", ("settled",)])
        self.assertEqual((job.status, callback.status), (COMPLETED, COMPLETED))

    def test_a_callback_is_not_called_again(self):
        job = self.stored(nothing)
        callback = job.addCallback(Job(lose_answer_of_callback, self.counter))
        transaction.commit()
        job()
        self.assertEqual(CALLS, ["called"])
        self.assertEqual((callback.result, self.counter.count), ("settled", 1))
        self.assertEqual(job.status, COMPLETED)

    def test_a_job_that_waits_for_another_waits(self):
        inner = self.stored(answer)
        job = self.stored(lose_answer_and_wait, self.counter, inner)
        worker = Worker()
        worker.perform(job)
        self.assertEqual((CALLS, job.status, job.waiting), (["called"], ACTIVE, True))
        inner()
        self.assertEqual(job.result, 42)

    def test_a_job_that_awaits_a_value_awaits_it(self):
        job = self.stored(lose_answer_and_await, self.counter)
        worker = Worker()
        worker.perform(job)
        self.assertEqual(CALLS, ["called"])
        self.assertEqual(len(worker.awaited), 1)

    def test_a_failure_whose_answer_was_lost_stands(self):
        job, worker = self.stored(fail_and_lose_answer, self.counter), Worker()
        worker.perform(job)
        self.assertEqual((job.status, job.result.type), (COMPLETED, RuntimeError))
        self.assertEqual((CALLS, worker.told), (["called"], [("settled", job)]))


def lose_answer_of_callback(counter, result):
    return lose_answer(counter)


def lose_answer_and_wait(counter, inner):
    lose_answer(counter)
    return inner


def lose_answer_and_await(counter):
    lose_answer(counter)
    return Deferred()


def fail_and_lose_answer(counter):
    lose_answer(counter)
    raise RuntimeError


# Values that come later

deferreds = []


def deferred():
    deferreds.append(Deferred())
    return deferreds[-1]


def fired():
    return succeed(42)


async def coroutine(value):
    CALLS.append(local.getJob() is not None)
    await asyncio.sleep(0)
    return value


async def failing_coroutine():
    raise ValueError("from a coroutine")


def future():
    deferreds.append(asyncio.new_event_loop().create_future())
    return deferreds[-1]


class Awaitable:
    def __await__(self):
        return (yield from Deferred.__await__(deferreds[-1]))


def awaitable():
    deferreds.append(Deferred())
    return Awaitable()


class DeferredTests(PerformanceCase):
    def setUp(self):
        super().setUp()
        self.addCleanup(deferreds.clear)

    def awaiting(self, *args, store=True):
        job = self.stored(*args) if store else Job(*args)
        job()
        self.assertEqual((job.status, job.result), (ACTIVE, None))
        self.assertFalse(job.waiting)
        return job, deferreds[-1]

    def test_the_deferred_is_returned(self):
        job = self.stored(deferred)
        self.assertIs(job(), deferreds[-1])

    def test_its_value_is_the_result_after_a_new_transaction(self):
        job, value = self.awaiting(deferred)
        value.callback(42)
        self.assertEqual(job.status, ACTIVE)
        transaction.begin()
        self.assertEqual((job.status, job.result), (COMPLETED, 42))

    def test_its_failure_is_the_result(self):
        job, value = self.awaiting(deferred)
        value.errback(ValueError("late"))
        transaction.begin()
        self.assertEqual((job.status, job.result.type), (COMPLETED, ValueError))
        self.assertIs(type(job.result), Failure)

    def test_it_may_have_fired_before(self):
        job = self.stored(fired)
        job()
        transaction.begin()
        self.assertEqual((job.status, job.result), (COMPLETED, 42))

    def test_it_may_be_fired_in_another_thread(self):
        job, value = self.awaiting(deferred)
        thread = threading.Thread(target=value.callback, args=("from a thread",))
        thread.start()
        thread.join(10)
        transaction.begin()
        self.assertEqual(job.result, "from a thread")

    def test_callbacks_are_performed_when_the_value_is_there(self):
        job = self.stored(deferred)
        callback = job.addCallback(Job(note))
        transaction.commit()
        job()
        self.assertEqual(callback.status, NEW)
        deferreds[-1].callback(42)
        transaction.begin()
        self.assertEqual((job.status, callback.result), (COMPLETED, 42))

    def test_a_value_that_cannot_be_pickled_is_a_failure(self):
        job, value = self.awaiting(deferred)
        value.callback(lambda: None)
        transaction.begin()
        self.assertEqual(job.status, COMPLETED)
        self.assertTrue(is_failure(job.result))

    def test_a_value_that_comes_after_the_job_was_failed_is_dropped(self):
        job, value = self.awaiting(deferred)
        job.fail(ValueError("too late"))
        with self.assertLogs("zc.async.trace", logging.WARNING) as logs:
            value.callback(42)
        transaction.begin()
        self.assertEqual(job.result.type, ValueError)
        self.assertIn("a late result is discarded", logs.output[0])

    def test_errors_of_the_database_are_logged_and_not_raised(self):
        db = DB(None)
        connection = db.open()
        connection.root()["job"] = job = Job(deferred)
        transaction.commit()
        job()
        connection.close()
        db.close()
        with self.assertLogs("zc.async.events", logging.ERROR) as logs:
            deferreds[-1].callback(42)
        self.assertIn("got lost", logs.output[0])

    def test_a_job_without_a_database_takes_the_value_too(self):
        job, value = self.awaiting(deferred, store=False)
        value.callback(42)
        self.assertEqual((job.status, job.result), (COMPLETED, 42))

    def test_other_awaitables_are_waited_for(self):
        job, value = self.awaiting(awaitable)
        value.callback(42)
        transaction.begin()
        self.assertEqual(job.result, 42)

    def test_asyncio_futures_are_waited_for(self):
        job, value = self.awaiting(future)
        loop = value.get_loop()
        loop.call_soon(value.set_result, 42)
        loop.run_until_complete(value)
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        transaction.begin()
        self.assertEqual(job.result, 42)

    def test_a_coroutine_is_run_at_once(self):
        job = self.stored(coroutine, 42)
        self.assertEqual(job(), 42)
        self.assertEqual((job.status, CALLS), (COMPLETED, [True]))

    def test_a_failing_coroutine_is_a_failure(self):
        job = self.stored(failing_coroutine)
        job()
        self.assertEqual(job.result.type, ValueError)

    def test_a_worker_leaves_coroutines_to_its_observer(self):
        job, worker = self.stored(coroutine, 42), Worker()
        worker.perform(job)
        ((of, awaited),) = worker.awaited
        self.assertIs(of, job)
        self.assertEqual(self.fetch(job).status, ACTIVE)
        awaited.close()

    def test_a_coroutine_that_is_given_up_is_closed(self):
        job = self.stored(coroutine, 42)
        job.retry_policy_factory = RaisingUpdate
        transaction.commit()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            Worker().perform(job)
            gc.collect()
        self.assertIn("in updateData", job.result.getErrorMessage())

    def test_the_value_settles_what_a_worker_left(self):
        job, worker = self.stored(deferred), Worker()
        worker.perform(job)
        Performance(job, worker, job._active_start).with_value(42)
        self.assertEqual((job.status, job.result), (COMPLETED, 42))
