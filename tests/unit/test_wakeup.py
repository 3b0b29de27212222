# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Signals, and hearing of commits."""

import threading
import unittest
from types import SimpleNamespace

import transaction
from persistent.mapping import PersistentMapping
from ZODB.DB import DB
from ZODB.DemoStorage import DemoStorage

from zc.async_.wakeup import CommitListener, Signal


class SignalTests(unittest.TestCase):
    def setUp(self):
        self.signal = Signal()

    def test_waiting_ends_when_time_is_over(self):
        self.assertIsNone(self.signal.wait(0.001))

    def test_what_was_set_before_is_noticed_once(self):
        for _ in range(5):
            self.signal.set()
        self.assertIs(self.signal.wait(0.001), True)
        self.signal.wait(0.001)  # it may be noticed a second time
        self.assertIsNone(self.signal.wait(0.001))

    def test_hints_are_told_from_calls(self):
        self.signal.hint()
        self.signal.hint()
        self.assertIs(self.signal.wait(0.001), False)
        self.assertIsNone(self.signal.wait(0.001))

    def test_a_call_is_noticed_beside_hints(self):
        self.signal.hint()
        self.signal.set()
        self.signal.hint()
        self.assertIs(self.signal.wait(0.001), True)

    def test_a_waiter_is_woken_from_another_thread(self):
        found = []
        waiter = threading.Thread(target=lambda: found.append(self.signal.wait(20)))
        waiter.start()
        self.signal.set()
        waiter.join(10)
        self.assertEqual(found, [True])


class CommitListenerTests(unittest.TestCase):
    def setUp(self):
        self.db = DB(DemoStorage())
        self.addCleanup(self.db.close)
        self.connection = self.db.open()
        self.addCleanup(self.connection.close)
        self.heard = []
        self.listener = CommitListener(self.db, self.heard.append)
        self.assertTrue(self.listener.start())
        self.addCleanup(self.listener.stop)

    def commit(self):
        mapping = self.connection.root()["mapping"] = PersistentMapping()
        transaction.commit()
        return {self.connection.root()._p_oid, mapping._p_oid}

    def test_it_hears_what_a_commit_has_written(self):
        written = self.commit()
        self.assertEqual([set(oids) for oids in self.heard], [written])

    def test_an_abort_is_not_heard(self):
        self.connection.root()["mapping"] = PersistentMapping()
        transaction.abort()
        self.assertEqual(self.heard, [])

    def test_it_hears_that_everything_may_have_changed(self):
        self.db._mvcc_storage.invalidateCache()
        self.assertEqual(self.heard, [None])

    def test_it_hears_nothing_after_its_stop(self):
        self.listener.stop()
        self.listener.stop()
        self.assertFalse(self.listener.listening)
        self.commit()
        self.assertEqual(self.heard, [])

    def test_a_storage_that_tells_nobody_is_reported_and_does_no_harm(self):
        silent = SimpleNamespace(database_name="silent", _mvcc_storage=object())
        listener = CommitListener(silent, self.heard.append)
        with self.assertLogs("zc.async.events", "INFO") as logs:
            self.assertFalse(listener.start())
        self.assertIn("'silent' tells nobody of commits", logs.output[0])
        listener.stop()

    def test_the_database_may_be_closed_before_the_stop(self):
        db = DB(DemoStorage())
        listener = CommitListener(db, self.heard.append)
        listener.start()
        db.close()
        listener.stop()
        self.assertFalse(listener.listening)
