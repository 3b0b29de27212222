# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Kinds of database errors, and the loops that repeat after them."""

import pytest
import transaction
from transaction.interfaces import TransientError
from ZODB.POSException import (
    ConflictError,
    POSKeyError,
    ReadConflictError,
    StorageError,
)

from tests.support.jobs import Counter, JobsCase
from zc.async_ import transactions
from zc.async_.failure import Failure


class Unpicklable(ConflictError):
    def __reduce__(self):
        raise TypeError


class ClientDisconnected(StorageError, TransientError):
    __module__ = "ZEO.Exceptions"


class Lost(ClientDisconnected):
    """Inherits from it."""


class Other(TransientError):
    pass


TRANSIENT = [ConflictError(), ReadConflictError(), Other(), Unpicklable(), Lost()]
FINAL = [POSKeyError(b"\0" * 8), StorageError(), ValueError(), SystemExit()]


@pytest.mark.parametrize("error", TRANSIENT)
def test_transient_errors_are_known_also_as_failures(error):
    assert transactions.is_transient(error)
    assert transactions.is_transient(Failure(error))


@pytest.mark.parametrize("error", FINAL)
def test_other_errors_are_not_transient(error):
    assert not transactions.is_transient(error)
    assert not transactions.is_transient(Failure(error))


@pytest.mark.parametrize("error", [ClientDisconnected(), Lost()])
def test_lost_connections_are_known_also_as_failures(error):
    assert transactions.is_lost_connection(error)
    assert transactions.is_lost_connection(Failure(error))


@pytest.mark.parametrize("error", [ConflictError(), *FINAL])
def test_other_errors_are_no_lost_connections(error):
    assert not transactions.is_lost_connection(error)
    assert not transactions.is_lost_connection(Failure(error))


class Steps:
    """A step that raises some errors before it succeeds."""

    def __init__(self, *errors):
        self.errors = list(errors)
        self.calls = 0

    def __call__(self):
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


class AttemptTests(JobsCase):
    def setUp(self):
        super().setUp()
        self.counter = self.root["counter"] = Counter()
        transaction.commit()

    def test_the_value_is_returned_after_a_commit(self):
        self.assertEqual(transactions.attempt(self.counter.increase, "work"), 1)
        self.assertEqual(self.fetch(self.counter).count, 1)

    def test_what_the_caller_has_not_committed_is_aborted_first(self):
        self.counter.count = 99
        transactions.attempt(self.counter.increase, "work")
        self.assertEqual(self.counter.count, 1)

    def test_transient_errors_are_repeated_in_new_transactions(self):
        steps = Steps(ConflictError(), ReadConflictError())

        def step():
            self.counter.increase()
            return steps()

        self.assertEqual(transactions.attempt(step, "work"), "done")
        self.assertEqual((steps.calls, self.counter.count), (3, 1))

    def test_the_last_transient_error_is_raised(self):
        steps = Steps(*[ConflictError() for _ in range(10)])
        with self.assertRaises(ConflictError):
            transactions.attempt(steps, "work", tries=3)
        self.assertEqual(steps.calls, 3)

    def test_other_errors_are_raised_at_once_after_an_abort(self):
        def step():
            self.counter.count = 99
            raise KeyboardInterrupt

        with self.assertRaises(KeyboardInterrupt):
            transactions.attempt(step, "work")
        self.assertEqual(self.counter.count, 0)

    def test_a_real_conflict_is_repeated(self):
        others = self.fetch(self.counter)
        calls = []

        def step():
            calls.append(self.counter.increase())
            if len(calls) == 1:
                others.increase(10)
                others._p_jar.transaction_manager.commit()

        transactions.attempt(step, "work")
        self.assertEqual((calls, self.counter.count), ([1, 11], 11))

    def test_another_transaction_manager_can_be_used(self):
        other = self.fetch(self.counter)
        manager = other._p_jar.transaction_manager
        transactions.attempt(other.increase, "work", manager)
        self.assertEqual(other.count, 1)
        self.assertEqual(self.counter.count, 0)  # until its own begin
        transaction.begin()
        self.assertEqual(self.counter.count, 1)


class ElsewhereTests(JobsCase):
    def setUp(self):
        super().setUp()
        self.counter = self.root["counter"] = Counter()
        transaction.commit()

    def test_it_commits_in_a_connection_of_its_own(self):
        self.counter.mine = True
        value = transactions.elsewhere(self.counter, Counter.increase, "work")
        self.assertEqual(value, 1)
        self.assertTrue(self.counter.mine)  # not touched
        self.assertFalse(hasattr(self.fetch(self.counter), "mine"))
        transaction.abort()
        self.assertEqual(self.counter.count, 1)

    def test_the_connection_is_closed_whatever_happens(self):
        connections = []

        def step(counter):
            connections.append(counter._p_jar)
            if len(connections) == 2:
                raise ValueError

        transactions.elsewhere(self.counter, step, "work")
        with self.assertRaises(ValueError):
            transactions.elsewhere(self.counter, step, "work")
        self.assertEqual([one.opened for one in connections], [None, None])

    def test_conflicts_are_repeated(self):
        others = self.fetch(self.counter)
        calls = []

        def step(counter):
            calls.append(counter.increase())
            if len(calls) == 1:
                others.increase(10)
                others._p_jar.transaction_manager.commit()

        transactions.elsewhere(self.counter, step, "work")
        self.assertEqual(calls, [1, 11])


class ManagerTests(JobsCase):
    def test_the_manager_is_that_of_the_connection(self):
        counter = self.root["counter"] = Counter()
        transaction.commit()
        there = self.fetch(counter)
        self.assertIs(transactions.manager_of(there), there._p_jar.transaction_manager)

    def test_new_objects_have_that_of_their_parents(self):
        new, parent = Counter(), Counter()
        self.assertIs(transactions.manager_of(new), transaction.manager)
        new.parent = parent
        parent.parent = self.fetch(self.root)
        manager = parent.parent._p_jar.transaction_manager
        self.assertIs(transactions.manager_of(new), manager)


class ReadCurrentTests(JobsCase):
    def test_a_commit_fails_when_the_object_was_changed_meanwhile(self):
        watched = self.root["watched"] = Counter()
        written = self.root["written"] = Counter()
        transaction.commit()
        there = self.fetch(written)
        ghost = there._p_jar.get(watched._p_oid)
        self.assertIsNone(ghost._p_changed)
        transactions.read_current(ghost)
        there.increase()
        watched.increase()
        transaction.commit()
        with self.assertRaises(ReadConflictError):
            there._p_jar.transaction_manager.commit()

    def test_new_objects_are_current(self):
        transactions.read_current(Counter())
        counter = self.root["new"] = Counter()
        transaction.savepoint()
        transactions.read_current(counter)
        transaction.commit()
