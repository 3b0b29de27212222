# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Jobs that returned jobs wait for them."""

import itertools

import transaction
import zope.component
from ZODB.POSException import ReadConflictError

from tests.support.jobs import CALLS, JobsCase, Worker, answer, fail, multiply, note
from zc.async_.errors import BadStatusError
from zc.async_.interfaces import ACTIVE, CALLBACKS, COMPLETED, NEW, IJob, IRetryPolicy
from zc.async_.job import Job
from zc.async_.retry import NeverRetry


def several(*jobs):
    return list(jobs)


def as_tuple(*jobs):
    return jobs


def its_callback(job):
    """A callback of the job itself cannot begin before the job has ended."""
    return job.addCallback(Job(note))


def its_proxy(job):
    return job.addCallbacks(Job(note))


class WaitingCase(JobsCase):
    def assert_waits(self, *jobs):
        for job in jobs:
            self.assertEqual(
                (job.status, job.waiting, job.result), (ACTIVE, True, None)
            )

    def assert_result(self, job, result):
        found = self.fetch(job)
        self.assertEqual((found.status, found.result), (COMPLETED, result))
        self.assertFalse(found.waiting)

    def assert_circle(self, job):
        self.assertEqual(job.result.type, BadStatusError)
        self.assertIn("cannot wait for itself", job.result.getErrorMessage())
        self.assertEqual(job.status, COMPLETED)


class ResultTests(WaitingCase):
    def test_the_job_is_returned_and_its_result_is_taken(self):
        inner = self.stored(answer)
        job = self.stored(note, inner)
        self.assertIs(job(), inner)
        self.assert_waits(job)
        inner()
        self.assert_result(job, 42)

    def test_a_failure_is_taken_as_well(self):
        inner = self.stored(fail)
        job = self.stored(note, inner)
        job()
        inner()
        self.assertEqual(job.result.type, RuntimeError)

    def test_a_completed_job_gives_its_result_at_once(self):
        inner = self.stored(answer)
        inner()
        job = self.stored(note, inner)
        job()
        self.assert_result(job, 42)
        self.assertEqual(inner.callbacks, [])

    def test_a_job_among_its_callbacks_gives_its_result_at_once(self):
        inner = Job(answer)
        inner._result, inner._status = 42, CALLBACKS
        self.stored(inner)
        job = self.stored(note, inner)
        job()
        self.assert_result(job, 42)

    def test_a_list_of_jobs_gives_the_list_of_their_results(self):
        for function in (several, as_tuple):
            inner = [self.stored(multiply, 2, number) for number in range(3)]
            job = self.stored(function, *inner)
            job()
            for one in reversed(inner):
                self.assert_waits(job)
                one()
            self.assert_result(job, [0, 2, 4])

    def test_results_are_complete_in_whatever_order_the_jobs_end(self):
        for order in itertools.permutations(range(3)):
            inner = [self.stored(multiply, 2, number) for number in range(3)]
            job = self.stored(several, *inner)
            job()
            for position in order:
                inner[position]()
            self.assert_result(job, [0, 2, 4])

    def test_some_of_a_list_may_be_completed(self):
        done, other = self.stored(answer), self.stored(fail)
        done()
        job = self.stored(several, done, other)
        job()
        self.assert_waits(job)
        other()
        self.assertEqual((job.result[0], job.result[1].type), (42, RuntimeError))
        self.assertEqual(job.status, COMPLETED)

    def test_the_same_job_may_be_in_the_list_twice(self):
        inner = self.stored(answer)
        job = self.stored(several, inner, inner)
        job()
        inner()
        self.assert_result(job, [42, 42])

    def test_other_lists_are_results(self):
        for value in ([], [1], ()):
            job = self.stored(note, value)
            job()
            self.assert_result(job, value)

    def test_a_list_of_jobs_and_others_is_a_result(self):
        inner = self.stored(answer)
        job = self.stored(several, inner, 1)
        job()
        self.assertEqual((job.status, job.result), (COMPLETED, [inner, 1]))

    def test_a_proxy_gives_the_result_of_the_chosen_job(self):
        inner = self.stored(answer)
        proxy = inner.addCallbacks(Job(multiply, 2), Job(note))
        job = self.stored(note, proxy)
        job()
        self.assert_waits(job)
        inner()
        self.assert_result(job, 84)

    def test_a_proxy_that_passes_gives_the_result_that_passed(self):
        inner = self.stored(answer)
        proxy = inner.addCallbacks(failure=Job(note))
        job = self.stored(note, proxy)
        job()
        inner()
        self.assert_result(job, 42)

    def test_jobs_may_wait_for_jobs_that_wait(self):
        first = self.stored(answer)
        second = self.stored(note, first)
        third = self.stored(note, second)
        third()
        second()
        self.assert_waits(second, third)
        first()
        self.assert_result(second, 42)
        self.assert_result(third, 42)

    def test_two_may_wait_for_one(self):
        inner = self.stored(answer)
        jobs = [self.stored(note, inner) for _ in range(2)]
        for job in jobs:
            job()
        inner()
        for job in jobs:
            self.assert_result(job, 42)

    def test_callbacks_follow_the_result(self):
        inner = self.stored(answer)
        job = self.stored(note, inner)
        callback = job.addCallback(Job(note, "callback"))
        transaction.commit()
        job()
        self.assertEqual(callback.status, NEW)
        inner()
        self.assert_result(job, 42)
        self.assertEqual(CALLS[-1], ("callback", 42))
        self.assertEqual(callback.status, COMPLETED)

    def test_a_job_without_a_database_can_wait(self):
        inner = Job(answer)
        job = Job(note, inner)
        job()
        inner()
        self.assertEqual((job.status, job.result), (COMPLETED, 42))

    def test_the_agent_is_told_in_the_end(self):
        agent = self.make_agent()
        inner = self.stored(answer)
        self.put(Job(note, inner))
        job = agent.claimJob()
        transaction.commit()
        job()
        self.assertEqual(list(agent.completed), [])
        inner()
        self.assertEqual(list(agent.completed), [job])
        self.assertNotIn(job, list(agent))

    def test_the_outcome_is_told_when_it_is_committed(self):
        inner = self.stored(answer)
        job = self.stored(note, inner)
        worker = Worker()
        worker.perform(job)
        self.assertEqual(worker.told, [])
        worker.perform(inner)
        settled = [told[1] for told in worker.told]
        self.assertEqual(settled[0], inner)
        self.assertIn(job, settled)

    def test_an_outcome_that_is_not_committed_is_not_told(self):
        other = self.stored(answer)
        other._begin(1)
        job = self.stored(settle_and_fail, other)
        worker = Worker()
        worker.perform(job)
        self.assertEqual([told[1] for told in worker.told], [job])
        self.assertEqual(other.status, ACTIVE)

    def test_policies_of_applications_cannot_lose_the_result(self):
        zope.component.provideAdapter(NeverRetry, (IJob,), IRetryPolicy, "callback")
        zope.component.provideAdapter(FailingJob, (type(note),), IJob)
        inner = self.stored(answer)
        job = self.stored(note, inner)
        job()
        inner()
        self.assert_result(job, 42)


def settle_and_fail(other):
    other._settle_within(42)
    raise ValueError


class FailingJob(Job):
    """Cannot set up what it needs."""

    def setUp(self):
        raise ValueError


class CircleTests(WaitingCase):
    def test_a_job_cannot_wait_for_itself(self):
        for function in (note, several):
            job = self.stored(Job.bind(function))
            job()
            self.assert_circle(job)

    def test_nor_for_one_that_waits_for_it(self):
        first, second = Job(note), Job(note)
        first.args.append(second)
        second.args.append(first)
        self.stored(first)
        self.stored(second)
        first()
        second()
        self.assert_circle(second)
        self.assertEqual(first.result.type, BadStatusError)
        self.assertEqual(first.status, COMPLETED)

    def test_nor_through_several(self):
        jobs = [Job(several, self.stored(answer)) for _ in range(4)]
        for job, other in zip(jobs, [*jobs[1:], jobs[0]], strict=True):
            job.args.append(other)
            self.stored(job)
        for job in jobs:
            job()
        self.assert_circle(jobs[-1])
        self.assert_waits(*jobs[:-1])

    def test_nor_for_a_callback_of_its_own(self):
        for function in (its_callback, its_proxy):
            job = self.stored(Job.bind(function))
            job()
            self.assert_circle(job)

    def test_nor_for_a_callback_below_a_proxy_of_one_that_waits_for_it(self):
        job, other = Job(note), self.stored(Job(note))
        job.args.append(other)
        other.args.append(self.stored(job).addCallbacks(Job(note)))
        transaction.commit()
        job()
        other()
        self.assert_circle(other)

    def test_nor_for_one_that_begins_to_wait_for_it_at_the_same_moment(self):
        first, second, third = (Job(note) for _ in range(3))
        for job, other in ((first, second), (second, third), (third, first)):
            job.args.append(other)
        for job in (first, second, third):
            self.stored(job)
        first()
        there = self.fetch(third)
        there._begin(1)
        there._accept(there.args[0])  # it sees that the second one waits for nobody
        second()
        self.assert_waits(first, second)
        with self.assertRaises(ReadConflictError):
            there._p_jar.transaction_manager.commit()
        there._p_jar.transaction_manager.abort()
        third()
        self.assert_circle(third)

    def test_a_completed_callback_is_no_circle(self):
        other = self.stored(answer)
        callback = other.addCallback(Job(note))
        transaction.commit()
        other()
        job = self.stored(note, callback)
        job()
        self.assert_result(job, 42)


class InterruptionTests(WaitingCase):
    """The process dies at one of the moments at which it can."""

    def setUp(self):
        super().setUp()
        self.inner = self.stored(answer)
        self.job = self.stored(note, self.inner)
        self.callback = self.job.addCallback(Job(note, "callback"))
        transaction.commit()
        self.job()
        CALLS.clear()

    def settle_inner(self):
        """The inner job has its result, and nothing has happened since."""
        self.inner._begin(1)
        self.inner._settle(42)
        transaction.commit()

    def assert_ended(self):
        self.assert_result(self.job, 42)
        self.assertEqual(CALLS, [("callback", 42)])
        self.assertEqual(self.callback.status, COMPLETED)

    def test_after_the_result_of_the_inner_job(self):
        self.settle_inner()
        self.inner.resumeCallbacks()
        self.assert_ended()

    def test_while_the_result_is_passed_on(self):
        self.settle_inner()
        self.inner.callbacks[0]._begin(1)
        transaction.commit()
        self.inner.resumeCallbacks()
        self.assert_ended()

    def test_between_the_result_and_the_callbacks(self):
        self.settle_inner()
        (passing_on,) = self.inner.callbacks
        manager = self.connection.transaction_manager
        commits = []
        original = manager.commit

        def commit():
            original()
            commits.append(1)
            if len(commits) == 2:
                raise SystemExit  # its result is committed

        manager.commit = commit
        with self.assertRaises(SystemExit):
            self.inner.resumeCallbacks()
        del manager.commit
        transaction.abort()
        self.assertEqual((self.job.status, CALLS), (CALLBACKS, []))
        self.assertEqual(passing_on.status, CALLBACKS)
        self.inner.resumeCallbacks()
        self.assert_ended()

    def test_while_the_callback_is_performed(self):
        self.callback.callable = exit_once
        transaction.commit()
        with self.assertRaises(SystemExit):
            self.inner()
        self.assertEqual((self.job.status, self.callback.status), (CALLBACKS, ACTIVE))
        self.inner.resumeCallbacks()
        self.assertEqual(self.callback.result, "survived")
        self.assertEqual((self.job.status, self.inner.status), (COMPLETED, COMPLETED))
        self.assertEqual(CALLS.count("answer"), 1)


def exit_once(*args):
    CALLS.append("exit")
    if CALLS.count("exit") == 1:
        raise SystemExit
    return "survived"


class BothAtOnceTests(WaitingCase):
    """The last two end at the same time, each not seeing the other's result."""

    def settle(self, job, result):
        """The result is committed; nothing has happened since."""
        job._begin(1)
        job._settle(result)
        transaction.commit()

    def test_the_one_that_did_not_see_the_other_must_look_again(self):
        first, second = (self.stored(multiply, 2, number) for number in range(2))
        job = self.stored(several, first, second)
        callback = job.addCallback(Job(note, "callback"))
        transaction.commit()
        job()
        self.settle(first, 0)
        there = self.fetch(job)
        passing_on = there._p_jar.get(first.callbacks[0]._p_oid)
        passing_on._begin(1)  # in a transaction that sees the second one unsettled
        there._inner_done(0)
        self.settle(second, 2)
        self.assertEqual(there.status, ACTIVE)
        with self.assertRaises(ReadConflictError):
            there._p_jar.transaction_manager.commit()
        there._p_jar.transaction_manager.abort()
        passing_on._p_activate()
        there._p_jar.get(first._p_oid).resumeCallbacks()
        transaction.begin()
        second.resumeCallbacks()
        self.assert_result(job, [0, 2])
        self.assertEqual(CALLS, [("callback", [0, 2])])
        self.assertEqual(callback.status, COMPLETED)

    def test_both_seeing_it_settle_it_once(self):
        first, second = (self.stored(multiply, 2, number) for number in range(2))
        job = self.stored(several, first, second)
        job.addCallback(Job(note, "callback"))
        transaction.commit()
        job()
        self.settle(first, 0)
        self.settle(second, 2)
        for inner in (first, second):
            inner.resumeCallbacks()
        self.assert_result(job, [0, 2])
        self.assertEqual(CALLS, [("callback", [0, 2])])
