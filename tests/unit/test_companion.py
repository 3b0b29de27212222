# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Callbacks and annotations are added by several at once, beside the worker."""

import subprocess
import sys

import transaction
from ZODB.POSException import ConflictError

from tests.support.jobs import Counter, JobsCase, note, nothing
from zc.async_.companion import Companion
from zc.async_.frozen import Frozen
from zc.async_.job import Job


class Fragile:
    loaded = True

    def __setstate__(self, state):
        if not Fragile.loaded:
            raise ZeroDivisionError

    def __getstate__(self):
        return {"a": 1}


class CompanionTests(JobsCase):
    def setUp(self):
        super().setUp()
        self.job = self.stored(nothing)
        self.other = self.new_connection()
        self.same_job = self.other.get(self.job._p_oid)
        self.addCleanup(setattr, Fragile, "loaded", True)

    def commit_both(self):
        """The other one first; then this thread's."""
        self.other.transaction_manager.commit()
        transaction.commit()

    def assert_conflict(self):
        self.other.transaction_manager.commit()
        with self.assertRaises(ConflictError):
            transaction.commit()
        transaction.abort()

    def test_an_empty_companion_costs_nothing(self):
        companion = Companion()
        companion.callbacks, companion.annotations  # noqa: B018 - looked at
        self.assertEqual(companion.__getstate__(), (0,))

    def test_looking_does_not_write(self):
        self.assertEqual((self.job.callbacks, self.job.annotations), ([], {}))
        self.assertFalse(self.job._companion._p_changed)

    def test_adding_does_not_write_the_job(self):
        self.job.annotations["a"] = 1
        self.job.callbacks.put(Job(nothing))
        self.assertFalse(self.job._p_changed)
        transaction.commit()
        self.assertEqual(self.fetch(self.job).annotations, {"a": 1})
        self.assertEqual(len(self.fetch(self.job).callbacks), 1)

    def test_annotations_of_two_are_merged(self):
        self.job.annotations["kept"] = self.job.annotations["gone"] = 0
        self.commit_both()
        self.other.transaction_manager.begin()
        self.job.annotations["a"] = 1
        del self.job.annotations["gone"]
        self.same_job.annotations["b"] = [2]
        self.commit_both()
        self.assertEqual(
            self.fetch(self.job).annotations, {"kept": 0, "a": 1, "b": [2]}
        )

    def test_the_same_annotation_of_two_is_a_conflict(self):
        self.job.annotations["a"] = 1
        self.same_job.annotations["a"] = 2
        self.assert_conflict()

    def test_the_same_value_twice_is_none(self):
        self.job.annotations["a"] = "same"
        self.same_job.annotations["a"] = "same"
        self.commit_both()
        self.assertEqual(self.fetch(self.job).annotations, {"a": "same"})

    def test_removed_and_changed_is_a_conflict(self):
        self.job.annotations["a"] = 1
        self.commit_both()
        self.other.transaction_manager.begin()
        del self.job.annotations["a"]
        self.same_job.annotations["a"] = 2
        self.assert_conflict()

    def test_callbacks_of_two_are_merged_in_the_order_of_the_commits(self):
        self.job.callbacks.append(Job(note, 0))
        self.commit_both()
        self.other.transaction_manager.begin()
        self.job.callbacks.append(Job(note, 1))
        self.same_job.callbacks.append(Job(note, 2))
        self.commit_both()
        found = [one.args[0] for one in self.fetch(self.job).callbacks]
        self.assertEqual(found, [0, 2, 1])

    def test_a_removed_callback_and_an_added_one_are_a_conflict(self):
        self.job.callbacks.append(Job(note, 0))
        self.commit_both()
        self.other.transaction_manager.begin()
        self.job.callbacks.clear()
        self.same_job.callbacks.append(Job(note, 2))
        self.assert_conflict()

    def test_a_callback_and_an_annotation_are_merged(self):
        counter = self.root["counter"] = Counter()
        transaction.commit()
        self.other.transaction_manager.begin()
        self.job.annotations["counter"] = counter
        self.same_job.callbacks.append(Job(nothing))
        self.commit_both()
        found = self.fetch(self.job)
        self.assertEqual(found.annotations["counter"]._p_oid, counter._p_oid)
        self.assertEqual(len(found.callbacks), 1)

    def test_an_annotation_that_cannot_be_loaded_hides_no_other(self):
        self.job.annotations["bad"] = Fragile()
        self.job.annotations["good"] = 1
        transaction.commit()
        Fragile.loaded = False
        job = self.fetch(self.job)
        self.assertEqual(job.annotations["good"], 1)
        self.assertIsInstance(job.annotations["bad"], Frozen)
        job.annotations["more"] = 2
        job._p_jar.transaction_manager.commit()
        Fragile.loaded = True
        found = self.fetch(job).annotations
        self.assertIsInstance(found["bad"], Fragile)
        self.assertEqual(found["more"], 2)

    def test_a_job_is_performed_whatever_its_annotations_are(self):
        self.job.annotations["bad"] = Fragile()
        transaction.commit()
        Fragile.loaded = False
        job = self.fetch(self.job)
        job()
        self.assertIsNone(job.result)


def test_a_server_without_our_dependencies_can_resolve_conflicts():
    program = """
import importlib, sys
for name in ("twisted", "zope.component", "zope.configuration", "zope.schema"):
    sys.modules[name] = None  # importing it is an ImportError
importlib.import_module("zc.async.companion")
"""
    environment = {"PYTHONPATH": ":".join(filter(None, sys.path))}
    subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        check=True,
        timeout=60,
    )
