# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Quotas, retry policies and other conditions of a job."""

import functools
import uuid

import transaction
import zope.component

from tests.support.jobs import JobsCase, nothing
from zc.async_.errors import UnloadableCallableError
from zc.async_.interfaces import IUUID, IJob, IRetryPolicy
from zc.async_.job import Job
from zc.async_.retry import (
    NeverRetry,
    RetryCommonForever,
    RetryCommonFourTimes,
    RetryWithBackoff,
)


class Own:
    def __init__(self, job):
        self.job = job


class FactoryTests(JobsCase):
    def test_the_default_of_jobs_and_of_callbacks(self):
        job = Job(nothing)
        callback = job.addCallback(Job(nothing))
        self.assertIs(type(job.getRetryPolicy()), RetryCommonFourTimes)
        self.assertIs(type(callback.getRetryPolicy()), RetryCommonForever)
        self.assertIs(job.getRetryPolicy().parent, job)

    def test_registered_adapters_replace_the_defaults(self):
        zope.component.provideAdapter(NeverRetry, (IJob,), IRetryPolicy)
        zope.component.provideAdapter(Own, (IJob,), IRetryPolicy, name="callback")
        job = Job(nothing)
        callback = job.addCallback(Job(nothing))
        self.assertIs(type(job.getRetryPolicy()), NeverRetry)
        self.assertIs(type(callback.getRetryPolicy()), Own)

    def test_a_factory_wins(self):
        zope.component.provideAdapter(NeverRetry, (IJob,), IRetryPolicy)
        job = Job(nothing)
        job.retry_policy_factory = Own
        self.assertIs(job.getRetryPolicy().job, job)

    def test_a_name_is_that_of_an_adapter(self):
        zope.component.provideAdapter(Own, (IJob,), IRetryPolicy, name="own")
        job = Job(nothing)
        job.retry_policy_factory = "own"
        self.assertIs(type(job.getRetryPolicy()), Own)

    def test_a_name_without_an_adapter_is_an_error_that_says_so(self):
        job = Job(nothing)
        job.retry_policy_factory = "missing"
        with self.assertRaisesRegex(LookupError, "no adapter .* named 'missing'"):
            job.getRetryPolicy()

    def test_one_that_has_vanished_raises_when_it_is_called(self):
        cls = type("Vanishing", (NeverRetry,), {"__module__": __name__})
        globals()["Vanishing"] = cls
        job = Job(nothing)
        job.retry_policy_factory = cls
        self.stored(job)
        del globals()["Vanishing"]
        job = self.fetch(job)
        factory = job.retry_policy_factory
        with self.assertRaisesRegex(UnloadableCallableError, "Vanishing"):
            factory(job)
        job._p_changed = True
        job._p_jar.transaction_manager.commit()  # it can still be claimed

    def test_factories_of_all_kinds_are_stored(self):
        for factory in (
            None,
            "a name",
            NeverRetry,
            functools.partial(RetryWithBackoff, max_tries=3, errors=(ValueError,)),
        ):
            with self.subTest(factory=factory):
                job = Job(nothing)
                job.retry_policy_factory = factory
                found = self.fetch(self.stored(job)).retry_policy_factory
                if isinstance(factory, functools.partial):
                    self.assertEqual(found(job).max_tries, 3)
                else:
                    self.assertEqual(found, factory)


class IdentityTests(JobsCase):
    def test_the_assigner_is_stored_as_a_plain_uuid(self):
        identity = uuid.uuid4()
        job = Job(nothing)
        job.assignerUUID = identity
        self.assertEqual(self.fetch(self.stored(job)).assignerUUID, identity)
        job.assignerUUID = None
        self.assertIsNone(job.assignerUUID)

    def test_our_own_uuid_can_be_the_assigner(self):
        job = Job(nothing)
        zope.component.provideUtility(uuid.uuid4(), IUUID)
        job.assignerUUID = zope.component.getUtility(IUUID)
        self.assertIs(type(job.assignerUUID), uuid.UUID)

    def test_annotations_are_a_mapping_that_is_stored(self):
        job = self.stored(nothing)
        job.annotations["a"] = [1]
        transaction.commit()
        self.assertEqual(self.fetch(job).annotations, {"a": [1]})


class QuotaNamesTests(JobsCase):
    def test_a_tuple_of_names(self):
        job = Job(nothing)
        job.quota_names = ["a", "b"]
        self.assertEqual(self.fetch(self.stored(job)).quota_names, ("a", "b"))

    def test_a_single_text_is_refused(self):
        with self.assertRaisesRegex(TypeError, "provide an iterable of names"):
            Job(nothing).quota_names = "name"

    def test_unknown_names_are_refused_in_a_queue(self):
        job = self.put(nothing)
        with self.assertRaises(ValueError) as caught:
            job.quota_names = ["unknown"]
        self.assertEqual(caught.exception.args, ("unknown quota name", "unknown"))
        self.assertEqual(job.quota_names, ())

    def test_known_names_count_at_once_in_a_queue(self):
        self.queue.quotas.create("one")
        jobs = [self.put(nothing), self.put(nothing)]
        for job in jobs:
            job.quota_names = ["one"]
        transaction.commit()
        self.assertIs(self.queue.claim(), jobs[0])
        self.assertIsNone(self.queue.claim())
