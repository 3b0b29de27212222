# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""How long callables take, and which are kept out of rounds for how long."""

import unittest
from unittest import mock

from tests.support.jobs import Counter, JobsCase, answer
from zc.async_.durations import (
    FOREVER,
    KEPT_OUT,
    LONGEST,
    MAX_NAMES,
    OVERHEAD,
    Durations,
    callable_name,
)
from zc.async_.job import Job


class MeasuredTest(unittest.TestCase):
    def setUp(self):
        self.durations = Durations()

    def expected(self, name="x"):
        expected = self.durations.expected(name)
        return None if expected is None else expected - OVERHEAD

    def test_an_unknown_callable_is_alone(self):
        self.assertIsNone(self.durations.expected("x"))

    def test_the_first_measurement_counts(self):
        self.durations.note("x", 0.5)
        self.assertAlmostEqual(self.expected(), 0.5)
        self.assertIsNone(self.durations.expected("y"))

    def test_a_longer_one_counts_at_once(self):
        self.durations.note("x", 0.001)
        self.durations.note("x", 0.5)
        self.assertAlmostEqual(self.expected(), 0.5)

    def test_shorter_ones_count_little_by_little(self):
        self.durations.note("x", 1.0)
        self.durations.note("x", 0.0)
        self.assertAlmostEqual(self.expected(), 0.8)
        for _ in range(30):
            self.durations.note("x", 0.0)
        self.assertLess(self.expected(), 0.01)

    def test_what_was_not_called_is_not_known(self):
        self.durations.note("x", None)
        self.assertIsNone(self.durations.expected("x"))

    def test_it_is_known_who_goes_on_after_a_call(self):
        self.assertFalse(self.durations.awaits("x"))
        self.durations.note_awaiting("x")
        self.assertTrue(self.durations.awaits("x"))
        self.assertFalse(self.durations.awaits("y"))

    def test_not_more_than_some_names_are_kept(self):
        for number in range(2 * MAX_NAMES):
            self.durations.note(str(number), 1.0)
            self.durations.keep_out(str(number))
            self.durations.blame(str(number))
            self.durations.note_awaiting(str(number))
        self.assertLessEqual(len(self.durations._awaiting), MAX_NAMES)
        self.assertLessEqual(len(self.durations._seconds), MAX_NAMES)
        self.assertLessEqual(len(self.durations._kept_out), MAX_NAMES)


class KeptOutTest(unittest.TestCase):
    def setUp(self):
        self.now = 1000.0
        patcher = mock.patch("zc.async.durations.time.monotonic", lambda: self.now)
        patcher.start()
        self.addCleanup(patcher.stop)
        self.durations = Durations()
        self.durations.note("x", 0.001)
        self.durations.note("y", 0.001)

    def is_out(self, name="x"):
        return self.durations.expected(name) is None

    def seconds_out(self):
        """How long it is kept out, from now."""
        seconds = 0
        while self.is_out():
            self.now += 0.5
            seconds += 0.5
        return seconds

    def test_one_that_is_kept_out_comes_back_after_a_while(self):
        self.durations.keep_out("x", 10)
        self.assertTrue(self.is_out())
        self.assertFalse(self.is_out("y"))
        self.assertEqual(self.seconds_out(), 10)

    def test_a_short_while_does_not_shorten_a_long_one(self):
        self.durations.keep_out("x", 10)
        self.durations.keep_out("x", 1)
        self.durations.blame("x")
        self.assertEqual(self.seconds_out(), 10)

    def test_one_may_be_kept_out_for_ever(self):
        self.durations.keep_out("x", FOREVER)
        self.now += 10**9
        self.durations.blame("x")
        self.assertTrue(self.is_out())

    def test_one_that_is_to_blame_is_kept_out_longer_each_time(self):
        times = []
        for _ in range(4):
            self.durations.blame("x")
            times.append(self.seconds_out())
        self.assertEqual(times, [KEPT_OUT * 2**number for number in range(4)])

    def test_but_not_longer_than_that(self):
        for _ in range(20):
            self.durations.blame("x")
        self.assertEqual(self.seconds_out(), LONGEST)

    def test_one_that_was_good_for_long_begins_anew(self):
        for _ in range(3):
            self.durations.blame("x")
        self.now += 12 * 4 * KEPT_OUT
        self.durations.blame("x")
        self.assertEqual(self.seconds_out(), KEPT_OUT)

    def test_being_kept_out_is_no_blame(self):
        for _ in range(5):
            self.durations.keep_out("x")
        self.now += KEPT_OUT
        self.durations.blame("x")
        self.assertEqual(self.seconds_out(), KEPT_OUT)


class Special(Job):
    def method(self):
        """A callable of the job itself."""


class NameTest(JobsCase):
    def name(self, *args):
        return callable_name(self.fetch(self.stored(*args)))

    def test_of_a_function(self):
        self.assertEqual(self.name(answer), "tests.support.jobs:answer")

    def test_of_a_builtin(self):
        self.assertEqual(self.name(len, ()), "builtins:len")

    def test_of_a_method_whatever_its_object(self):
        one = self.name(Counter().increase)
        self.assertEqual(one, "tests.support.jobs:Counter.increase")
        self.assertEqual(self.name(Counter().increase), one)

    def test_of_a_persistent_object_that_is_called(self):
        self.assertEqual(self.name(Counter()), "tests.support.jobs:Counter")

    def test_of_a_method_of_the_job(self):
        job = Special(answer)
        job.callable = job.method
        self.assertEqual(self.name(job), "tests.unit.test_durations:Special.method")

    def test_the_object_of_a_method_is_not_loaded(self):
        job = self.fetch(self.stored(Counter().increase))
        callable_name(job)
        owner, _ = job._target
        self.assertIsNone(owner._p_changed)
