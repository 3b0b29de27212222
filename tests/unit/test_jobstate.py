# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The stored form of a job: small, complete, and readable for ever."""

import datetime
import operator
import pickle

import zc.async_.job
from tests.support.jobs import Counter, JobsCase, Worker, nothing
from zc.async_.failure import is_failure
from zc.async_.interfaces import ACTIVE, COMPLETED, NEW, IJob
from zc.async_.job import Job


class Mine(Job):
    """With a method to call."""

    def __init__(self, *args, **kwargs):
        super().__init__(self.work, *args, **kwargs)

    def work(self, *args):
        return args


class Value:
    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return self.value == other.value

    __hash__ = None


class Unloadable:
    def __setstate__(self, state):
        raise ZeroDivisionError("cannot be loaded")

    def __getstate__(self):
        return {"a": 1}


def unloadable():
    return Unloadable()


def value():
    return [Value(1)]


class RecordTests(JobsCase):
    def test_a_small_job_is_a_small_record(self):
        pending = self.put(nothing)
        self.assertLessEqual(len(self.record(pending)), 200)
        self.perform_due()
        self.assertLessEqual(len(self.record(pending)), 260)

    def test_so_it_is_when_a_worker_completed_it(self):
        job = self.put(nothing)
        self.queue.pull()
        Worker().perform(job)
        self.assertLessEqual(len(self.record(job)), 260)

    def test_looking_at_a_job_writes_nothing(self):
        job = self.put(nothing)
        job = self.fetch(job)
        for name in IJob.names(all=True):
            getattr(job, name)
        self.assertFalse(job._p_changed)
        self.assertFalse(job._companion._p_changed)

    def test_everything_comes_back(self):
        job = Mine(1, key=[2])
        job.quota_names = ("a",)
        job.begin_after = datetime.datetime(2030, 1, 1, 0, 0, 0, 1, datetime.UTC)
        job.begin_by = datetime.timedelta(hours=1, microseconds=1)
        job.failure_log_level = 10
        job.retry_policy_factory = "name"
        job.retry_data = {"a": 1}
        job.interruptions, job.deaths, job.alone = 2, 1, True
        found = self.fetch(self.stored(job))
        for name in (
            "args kwargs quota_names begin_after begin_by failure_log_level alone "
            "retry_policy_factory retry_data interruptions deaths status"
        ).split():
            self.assertEqual(getattr(found, name), getattr(job, name), name)

    def test_results_of_all_kinds_come_back(self):
        for result in (None, 1, "a", [1, [2]], {"a": Value(1)}, Value(2), (1,)):
            job = Job(nothing)
            job._result = result
            self.assertEqual(self.fetch(self.stored(job)).result, result)

    def test_a_loaded_result_stays_the_same_object(self):
        job = self.stored(value)
        job()
        found = self.fetch(job)
        self.assertIs(found.result, found.result)

    def test_persistent_results_are_references(self):
        counter = self.root["counter"] = Counter()
        job = Job(nothing)
        job._result = {"a": counter}
        found = self.fetch(self.stored(job))
        self.assertEqual(found.result["a"]._p_oid, counter._p_oid)

    def test_a_result_that_cannot_be_loaded_appears_as_a_failure(self):
        job = self.stored(unloadable)
        job()
        found = self.fetch(job)
        self.assertEqual(found.status, COMPLETED)
        self.assertTrue(is_failure(found.result))
        self.assertIn("cannot be loaded", found.result.getErrorMessage())
        found._p_changed = True
        found._p_jar.transaction_manager.commit()

    def test_records_with_fewer_fields_load(self):
        """As an older release, which knew fewer of them, stored them."""
        job = Job(nothing)
        old = Job.__new__(Job)
        old.__setstate__((0b1001, 0, job._target))
        self.assertEqual((old.status, old.callable), (NEW, nothing))
        self.assertEqual((old.args, old.kwargs, old.result), ([], {}, None))
        self.assertEqual((old.attempts, old.interruptions, old.alone), (0, 0, False))
        self.assertIsNone(old.begin_after or old.active_start or old.first_active)

    def test_records_that_are_dictionaries_load(self):
        old = Job.__new__(Job)
        old.__setstate__({"_status": ACTIVE, "_target": "operator:mul", "extra": 1})
        self.assertEqual((old.status, old.callable), (ACTIVE, operator.mul))
        self.assertEqual(old.extra, 1)

    def test_attributes_of_applications_are_stored_by_name(self):
        job = Job(nothing)
        job.title = "mine"
        self.assertEqual(self.fetch(self.stored(job)).title, "mine")

    def test_the_positions_of_stored_attributes_never_change(self):
        self.assertEqual(
            Job._stored_[:24],
            (
                "_status", "_parent", "_companion", "_target", "_args", "_kwargs",
                "_result", "_begin_after", "_begin_by", "_quota_names", "_assigner",
                "_active_start", "_active_end", "_callbacks_end", "_first_active",
                "_attempts", "interruptions", "deaths", "_awaited", "_awaits",
                "_postponed", "failure_log_level", "_retry_policy_factory",
                "retry_data",
            ),
        )  # fmt: skip

    def test_the_pickled_class_has_its_published_name(self):
        self.assertIn(b"czc.async.job\nJob\n", self.record(self.stored(nothing)))
        self.assertNotIn(b"async_", self.record(self.stored(nothing)))
        self.assertEqual(pickle.loads(pickle.dumps(Job)), zc.async_.job.Job)
