# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The job itself: what it shows, where it is, how it ends and is stored."""

import functools
import operator

import transaction
from zope.interface import implementer
from zope.interface.verify import verifyClass, verifyObject

from tests.support.jobs import CALLS, Counter, JobsCase, multiply, note, nothing
from zc.async_.errors import AbortedError, BadStatusError, UnpicklableError
from zc.async_.failure import Failure
from zc.async_.interfaces import (
    ACTIVE,
    ASSIGNED,
    CALLBACKS,
    COMPLETED,
    NEW,
    PENDING,
    IAgent,
    IJob,
    IQueue,
)
from zc.async_.job import Job


@implementer(IQueue)
class StubQueue:
    pass


class StubDispatcher:
    def __init__(self, parent):
        self.parent = parent


@implementer(IAgent)
class StubAgent:
    def __init__(self, parent):
        self.parent = parent
        self.completed = []

    def jobCompleted(self, job):
        self.completed.append(job)


class Mine(Job):
    """With a method to call, and an attribute of its own."""

    colour = "none"

    def __init__(self, *args, **kwargs):
        super().__init__(self.work, *args, **kwargs)

    def work(self, *args):
        return (self.colour, *args)

    def describe(self):
        return f"a job that is {self.status}"


class Rude:
    def __repr__(self):
        raise ZeroDivisionError


def exit_once(result):
    CALLS.append("exit")
    if CALLS.count("exit") == 1:
        raise SystemExit
    return "survived"


def must_not_be_called():
    raise AssertionError


class ReprTests(JobsCase):
    def assert_repr(self, job, *parts):
        text = repr(job)
        for part in parts:
            self.assertIn(part, text)

    def test_a_job_that_is_not_stored(self):
        counter = Counter()
        self.assertEqual(
            repr(Job(counter.increase, 1, key="value")),
            "<zc.async.job.Job (oid ?, db ?) ``tests.support.jobs.Counter "
            "(oid ?, db ?) :increase(1, key='value')``>",
        )

    def test_a_stored_job(self):
        counter = self.root["counter"] = Counter()
        job = self.stored(nothing, counter)
        oid, other = (int.from_bytes(one._p_oid, "big") for one in (job, counter))
        self.assertEqual(
            repr(job),
            f"<zc.async.job.Job (oid {oid}, db 'unnamed') ``tests.support.jobs.nothing"
            f"(tests.support.jobs.Counter (oid {other}, db 'unnamed'))``>",
        )

    def test_all_kinds_of_callables(self):
        self.assert_repr(Job(operator.mul, 14, 3), "``<built-in function mul>(14, 3)``")
        self.assert_repr(Job(Mine), "tests.unit.test_job.Mine()``")
        self.assert_repr(
            Mine(1), "<tests.unit.test_job.Mine (oid ?, db ?) ``tests.unit"
        )
        self.assert_repr(Mine(1), ":work(1)``>")
        self.assert_repr(Job(functools.partial(nothing, 1)), "functools.partial(<fun")
        self.assert_repr(Job(Job(nothing)), "``zc.async.job.Job (oid ?, db ?)()``")

    def test_arguments_whose_repr_raises(self):
        self.assert_repr(Job(nothing, Rude()), "whose repr raises ZeroDivisionError")

    def test_a_job_that_is_gone(self):
        job = self.stored(nothing)
        job._p_invalidate()
        del self.root["jobs"]
        transaction.commit()
        self.db.pack()
        self.connection.cacheMinimize()
        self.assert_repr(
            job, "<zc.async.job.Job (oid ", "``not readable: POSKeyError``"
        )


class StatusTests(JobsCase):
    def test_it_provides_its_interface(self):
        self.assertTrue(verifyClass(IJob, Job))
        self.assertTrue(verifyObject(IJob, Job(nothing)))

    def test_status_and_result_are_read_only(self):
        job = Job(nothing)
        for name in ("status", "result", "queue", "agent", "active_start", "attempts"):
            with self.assertRaises(AttributeError):
                setattr(job, name, None)

    def test_a_callable_is_required(self):
        with self.assertRaisesRegex(TypeError, "needs a callable"):
            Job()
        with self.assertRaisesRegex(UnpicklableError, "'text' is not callable"):
            Job("text")

    def test_the_parent_decides_between_new_pending_and_assigned(self):
        queue = StubQueue()
        agent = StubAgent(StubDispatcher(queue))
        job = Job(nothing)
        self.assertEqual((job.status, job.queue, job.agent), (NEW, None, None))
        job.parent = queue
        self.assertEqual((job.status, job.queue, job.agent), (PENDING, queue, None))
        job.parent = agent
        self.assertEqual((job.status, job.queue, job.agent), (ASSIGNED, queue, agent))
        job.parent = None
        self.assertEqual((job.status, job.queue, job.agent), (NEW, None, None))

    def test_the_parent_of_a_job_that_has_begun_does_not(self):
        for status in (ACTIVE, CALLBACKS, COMPLETED):
            job = Job(nothing)
            job._status = status
            job.parent = StubQueue()
            self.assertEqual(job.status, status)

    def test_the_agent_is_told_when_a_job_is_done(self):
        agent = StubAgent(StubDispatcher(StubQueue()))
        job = Job(nothing)
        job.parent = agent
        job()
        self.assertEqual(agent.completed, [job])

    def test_the_agent_is_not_told_of_callbacks(self):
        agent = StubAgent(StubDispatcher(StubQueue()))
        job = Job(nothing)
        callback = job.addCallback(Job(nothing))
        callback.addCallback(Job(nothing))
        job.parent = agent
        job()
        self.assertEqual(agent.completed, [job])
        self.assertIs(callback.parent, job)

    def test_callbacks_find_queue_and_agent_through_their_job(self):
        agent = StubAgent(StubDispatcher(StubQueue()))
        job = Job(nothing)
        proxy = job.addCallbacks(Job(nothing))
        job.parent = agent
        for one in (proxy, proxy.success):
            self.assertIs(one.agent, agent)
            self.assertIs(one.queue, agent.parent.parent)
        self.assertIs(proxy.success.caller, job)

    def test_illegal_steps_are_refused(self):
        job = Job(nothing)
        job._status = COMPLETED
        with self.assertRaises(BadStatusError):
            job._begin(1)
        self.assertEqual((job.status, job.attempts), (COMPLETED, 0))


class FailTests(JobsCase):
    def test_it_ends_the_job_with_an_aborted_error_without_a_message(self):
        job = self.stored(must_not_be_called)
        self.assertIsNone(job.fail())
        found = self.fetch(job)
        self.assertEqual((found.status, found.result.type), (COMPLETED, AbortedError))
        self.assertEqual(found.result.getErrorMessage(), "")

    def test_errors_of_all_kinds_can_be_given(self):
        for error in (
            ValueError("told"),
            ValueError,
            Failure(ValueError("told")),
        ):
            job = self.stored(nothing)
            job.fail(error)
            self.assertEqual(job.result.type, ValueError)

    def test_what_is_no_error_is_refused_and_changes_nothing(self):
        job = self.stored(nothing)
        with self.assertRaisesRegex(UnpicklableError, "'no error', expected an exc"):
            job.fail("no error")
        self.assertEqual(job.status, NEW)

    def test_jobs_without_a_result_can_be_failed(self):
        for status in (NEW, PENDING, ASSIGNED, ACTIVE):
            job = Job(nothing)
            job._status = status
            self.stored(job).fail()
            self.assertEqual(job.status, COMPLETED)

    def test_jobs_with_a_result_cannot_be_failed(self):
        for status in (CALLBACKS, COMPLETED):
            job = Job(nothing)
            job._status = status
            with self.assertRaises(BadStatusError) as caught:
                self.stored(job).fail()
            self.assertEqual(
                str(caught.exception),
                "can only call fail on a job with NEW, PENDING, ASSIGNED, or ACTIVE "
                "status",
            )

    def test_failure_callbacks_are_performed(self):
        job = self.stored(nothing)
        job.addCallbacks(Job(note, "success"), Job(note, "failure"))
        transaction.commit()
        job.fail()
        self.assertEqual(CALLS, [("failure", job.result)])

    def test_the_agent_is_told(self):
        agent = StubAgent(StubDispatcher(StubQueue()))
        job = Job(nothing)
        job.parent = agent
        job.fail()
        self.assertEqual(agent.completed, [job])

    def test_a_waiting_job_leaves_its_queue(self):
        job = self.put(nothing)
        job.fail()
        self.assertEqual((list(self.queue), job.status), ([], COMPLETED))
        self.assertEqual(self.perform_due(), [])

    def test_a_job_that_fails_another_goes_on_after_an_interruption(self):
        job = self.put(nothing)
        callback = job.addCallback(Job(exit_once))
        failing = self.put(job.substitute(job.fail))
        with self.assertRaises(SystemExit):
            self.queue.pull(1)()
        self.assertEqual((job.status, callback.status), (CALLBACKS, ACTIVE))
        failing._take_back()
        failing()
        self.assertEqual((failing.status, failing.result), (COMPLETED, None))
        self.assertEqual((job.status, callback.result), (COMPLETED, "survived"))

    def test_a_job_that_waits_for_another_takes_no_other_result(self):
        inner = self.stored(multiply, 6, 7)
        job = self.stored(note, inner)
        job()
        job.fail()
        inner()
        self.assertEqual(job.result.type, AbortedError)
        self.assertEqual((inner.result, inner.status), (42, COMPLETED))


class BindTests(JobsCase):
    def test_the_job_is_its_first_argument(self):
        job = self.stored(Job.bind(note, 1, 2))
        self.assertEqual(job.args, [job, 1, 2])
        job(3)
        self.assertEqual(CALLS, [(job, 1, 2, 3)])
        found = self.fetch(job)
        self.assertIs(found.args[0], found)

    def test_a_subclass_binds_its_own(self):
        self.assertIs(type(Mine.bind(1)), Mine)

    def test_methods_of_a_subclass_can_be_called(self):
        job = Mine(1)
        job.colour = "blue"
        job = self.fetch(self.stored(job))
        self.assertEqual(job(2), ("blue", 1, 2))
        self.assertEqual(self.fetch(job).colour, "blue")

    def test_functions_of_a_subclass_can_be_bound(self):
        job = self.stored(Job.bind(Mine.describe))
        self.assertEqual(job(), "a job that is active-status")
