# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Which callables have changed which objects of a round."""

import transaction

from tests.support.jobs import Counter, JobsCase, nothing
from zc.async_.culprits import Culprits
from zc.async_.transactions import read_current


class CulpritsTest(JobsCase):
    def setUp(self):
        super().setUp()
        self.counters = [Counter() for _ in range(3)]
        self.root["counters"] = self.counters
        self.job = self.stored(nothing)
        self.oids = [counter._p_oid for counter in self.counters]
        self.culprits = Culprits()

    def note(self, name):
        self.culprits.note(name, self.job)
        transaction.savepoint(optimistic=True)

    def test_who_changed_an_object_is_known(self):
        self.counters[0].increase()
        self.note("x")
        self.counters[1].increase()
        self.note("y")
        self.assertEqual(
            [self.culprits.of(oid) for oid in self.oids], [{"x"}, {"y"}, set()]
        )

    def test_there_may_be_several(self):
        for name in ("x", "y"):
            self.counters[0].increase()
            self.note(name)
        self.assertEqual(self.culprits.of(self.oids[0]), {"x", "y"})

    def test_who_relied_on_an_object_is_known_too(self):
        read_current(self.counters[0])
        self.note("x")
        self.counters[1].increase()
        self.note("y")
        self.assertEqual(self.culprits.of(self.oids[0]), {"x"})

    def test_new_objects_are_nobodys(self):
        self.root["new"] = Counter()
        self.note("x")
        self.assertEqual(self.culprits.of(self.root._p_oid), {"x"})

    def test_an_error_without_an_object_has_no_culprit(self):
        self.assertEqual(self.culprits.of(None), set())

    def test_without_the_account_of_the_connection_there_is_none(self):
        class Jar:
            connections = {"": object()}

        class Anything:
            _p_jar = Jar

        self.culprits.note("x", Anything)
        self.assertEqual(self.culprits.of(b"x"), set())
