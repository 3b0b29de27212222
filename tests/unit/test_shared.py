# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Which jobs may share a round, and a job that is performed in pieces.

How they are performed together is tested in `test_rounds`.
"""

import datetime
import functools

import transaction
import zope.component
from zope.interface import implementer

from tests.support.jobs import JobsCase, answer, fail, note, nothing
from zc.async_ import clock, local
from zc.async_.interfaces import COMPLETED, IJob, IRetryPolicy
from zc.async_.job import Job
from zc.async_.retry import (
    NeverRetry,
    RetryCommonForever,
    RetryCommonFourTimes,
    RetryWithBackoff,
)
from zc.async_.shared import Shared, may_share


class WithSetUp(Job):
    def setUp(self):
        """Of its own."""


class WithTearDown(Job):
    def tearDown(self, info):
        """Of its own."""


class WithBoth(WithSetUp, WithTearDown):
    def surroundings(self):
        return "its own"


class WithMore(WithBoth):
    def setUp(self):
        """More than the class whose `surroundings` it inherits."""


class WithLess(WithBoth):
    """Nothing else."""


@implementer(IRetryPolicy)
class Plain:
    """A policy that says nothing about rounds."""

    def __init__(self, job):
        """Nothing to keep."""


class Willing(Plain):
    may_repeat = True


class Extended(RetryCommonFourTimes):
    """A policy that is like the default."""


class Careful(RetryCommonFourTimes):
    may_repeat = False


class MayShareTest(JobsCase):
    def assert_shares(self, job, expected=True):
        self.assertIs(may_share(job), expected)

    def with_policy(self, factory):
        job = Job(nothing)
        job.retry_policy_factory = factory
        return self.stored(job)

    def test_a_plain_job_may(self):
        self.assert_shares(self.stored(nothing))

    def test_a_job_that_must_never_be_repeated_may_not(self):
        self.assert_shares(self.with_policy(NeverRetry), False)

    def test_policies_of_ours_that_repeat_may(self):
        for factory in (RetryCommonFourTimes, RetryCommonForever, RetryWithBackoff):
            self.assert_shares(self.with_policy(factory))
        partial = functools.partial(RetryWithBackoff, max_tries=3)
        self.assert_shares(self.with_policy(partial))

    def test_a_policy_of_an_application_may_when_it_says_so(self):
        self.assert_shares(self.with_policy(Plain), False)
        self.assert_shares(self.with_policy(Willing))
        self.assert_shares(self.with_policy(Extended))
        self.assert_shares(self.with_policy(Careful), False)

    def test_a_policy_that_is_an_adapter_is_asked_too(self):
        zope.component.provideAdapter(Plain, (IJob,), IRetryPolicy, "plain")
        zope.component.provideAdapter(Willing, (IJob,), IRetryPolicy, "willing")
        self.assert_shares(self.with_policy("plain"), False)
        self.assert_shares(self.with_policy("willing"))
        self.assert_shares(self.with_policy("unknown"), False)

    def test_so_is_the_adapter_without_a_name(self):
        zope.component.provideAdapter(Plain, (IJob,), IRetryPolicy)
        self.assert_shares(self.stored(nothing), False)

    def test_one_that_is_marked_may_not(self):
        job = Job(nothing)
        job.alone = True
        job = self.stored(job)
        self.assert_shares(job, False)
        self.assertTrue(self.fetch(job).alone)

    def test_one_with_a_history_may_not(self):
        for name, value in {
            "_attempts": 1,
            "interruptions": 1,
            "retry_data": {"errors": 1},
        }.items():
            job = Job(nothing)
            setattr(job, name, value)
            self.assert_shares(self.stored(job), False)

    def test_one_that_was_handed_back_before_its_call_may(self):
        job = self.put(nothing)
        agent = job.parent.claim()
        self.assertIs(agent, job)
        job._begin(1)
        job._unbegin()
        self.assert_shares(job)

    def test_a_subclass_with_surroundings_that_it_does_not_name_may_not(self):
        self.assert_shares(self.stored(WithSetUp(nothing)), False)
        self.assert_shares(self.stored(WithTearDown(nothing)), False)

    def test_one_that_names_them_may(self):
        self.assert_shares(self.stored(WithBoth(nothing)))
        self.assert_shares(self.stored(WithLess(nothing)))

    def test_one_that_inherits_the_name_and_changes_the_surroundings_may_not(self):
        self.assert_shares(self.stored(WithMore(nothing)), False)

    def test_jobs_of_the_machinery_that_commit_may_not(self):
        later = self.queue.put_later(self.put(nothing).fail)
        self.assert_shares(later, False)

    def test_a_job_that_makes_an_expired_one_fail_may_not(self):
        self.addCleanup(clock.uninstall)
        moving = clock.MovableClock(clock.utcnow())
        clock.install(moving)
        self.put(nothing, begin_by=datetime.timedelta(seconds=1))
        moving.advance(datetime.timedelta(seconds=2))
        self.assert_shares(self.queue.claim(), False)


class SharedTest(JobsCase):
    """The pieces, for one job."""

    def shared(self, *args):
        job = self.stored(*args)
        job._begin(1)
        transaction.commit()
        return Shared(job, token=1, tell_agent=False)

    def test_a_call_is_measured(self):
        shared = self.shared(answer)
        self.assertIsNone(shared.seconds)
        self.assertEqual(shared.call(), 42)
        self.assertGreater(shared.seconds, 0)

    def test_a_call_that_fails_is_measured(self):
        shared = self.shared(fail)
        with self.assertRaisesRegex(RuntimeError, "on purpose"):
            shared.call()
        self.assertGreater(shared.seconds, 0)

    def test_a_performance_alone_is_measured(self):
        shared = self.shared(answer)
        shared.begun()
        self.assertGreater(shared.seconds, 0)

    def test_a_call_commits_nothing_and_settles_nothing(self):
        shared = self.shared(answer)
        before = self.db.lastTransaction()
        shared.call()
        self.assertEqual(self.db.lastTransaction(), before)
        self.assertFalse(shared.is_done())

    def test_an_accepted_value_is_stored_by_the_commit(self):
        shared = self.shared(answer)
        shared.accept(shared.call(), 7)
        self.assertEqual(shared.job.result, 42)
        self.assertEqual(shared.job.active_end, clock.from_micros(7))
        self.assertNotEqual(self.fetch(shared.job).status, COMPLETED)
        transaction.commit()
        self.assertEqual(self.fetch(shared.job).status, COMPLETED)

    def test_the_thread_forgets_the_job_after_the_call(self):
        job = self.stored(surrounding_job)
        job._begin(1)
        shared = Shared(job, token=1, tell_agent=False)
        self.assertEqual(shared.call(), repr(job))
        self.assertIsNone(local.getJob())

    def test_a_failed_commit_is_remembered(self):
        shared = self.shared(note, lambda_free)
        shared.begun()
        self.assertFalse(shared.commit_failed)
        shared = self.shared(unstorable)
        shared.begun()
        self.assertTrue(shared.commit_failed)


def surrounding_job():
    return repr(local.getJob())


def lambda_free():
    """Something that can be stored by its name."""


def unstorable():
    return lambda: None
