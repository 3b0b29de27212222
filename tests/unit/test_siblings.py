# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Judging siblings by silences that one has measured oneself."""

import datetime
import unittest
from types import SimpleNamespace

from zc.async_ import clock
from zc.async_.siblings import Watch

MINUTE = datetime.timedelta(minutes=1)


class WatchTests(unittest.TestCase):
    def setUp(self):
        self.clock = clock.MovableClock()
        clock.install(self.clock)
        self.addCleanup(clock.uninstall)
        self.watch = Watch()

    def sibling(self, oid=b"1"):
        now = clock.utcnow()
        return SimpleNamespace(
            _p_oid=oid, activated=now, last_ping=now, ping_death_interval=MINUTE
        )

    def test_one_that_is_seen_for_the_first_time_lives(self):
        sibling = self.sibling()
        self.clock.advance(1000)
        self.assertFalse(self.watch.is_dead(sibling))

    def test_one_that_is_silent_for_longer_than_its_interval_is_dead(self):
        sibling = self.sibling()
        self.assertFalse(self.watch.is_dead(sibling))
        self.clock.advance(60)
        self.assertFalse(self.watch.is_dead(sibling))
        self.clock.advance(1)
        self.assertTrue(self.watch.is_dead(sibling))

    def test_each_sign_of_life_begins_the_silence_anew(self):
        sibling = self.sibling()
        for _ in range(5):
            self.assertFalse(self.watch.is_dead(sibling))
            self.clock.advance(50)
            sibling.last_ping = clock.utcnow()

    def test_a_new_activation_is_a_sign_of_life(self):
        sibling = self.sibling()
        self.watch.is_dead(sibling)
        self.clock.advance(61)
        sibling.activated = clock.utcnow()
        self.assertFalse(self.watch.is_dead(sibling))

    def test_a_ping_of_a_clock_that_is_wrong_is_a_sign_of_life_too(self):
        sibling = self.sibling()
        self.watch.is_dead(sibling)
        self.clock.advance(61)
        sibling.last_ping -= datetime.timedelta(days=3)
        self.assertFalse(self.watch.is_dead(sibling))

    def test_the_wall_clock_may_jump(self):
        sibling = self.sibling()
        self.watch.is_dead(sibling)
        self.clock.step(datetime.timedelta(days=3))
        self.assertFalse(self.watch.is_dead(sibling))

    def test_siblings_are_told_apart(self):
        silent, living = self.sibling(b"1"), self.sibling(b"2")
        self.watch.is_dead(silent), self.watch.is_dead(living)
        self.clock.advance(61)
        living.last_ping = clock.utcnow()
        self.assertFalse(self.watch.is_dead(living))
        self.assertTrue(self.watch.is_dead(silent))
