# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The thread that says "I live"."""

import datetime
import threading

import transaction

from tests.support.jobs import JobsCase
from tests.support.waking import wait_until
from zc.async_ import clock
from zc.async_.pinger import Pinger

SECOND = datetime.timedelta(seconds=1)


class PingerTests(JobsCase):
    def setUp(self):
        super().setUp()
        self.agents = self.make_agent().parent
        self.revived = threading.Event()

    def pinger(self):
        made = Pinger(self.db, self.agents.UUID, self.revived.set)
        self.addCleanup(made.join, 10)
        self.addCleanup(made.stop)
        return made

    def sync(self):
        transaction.abort()
        transaction.begin()

    def ping(self):
        """One ping, in this thread; return the pause until the next."""
        pause = self.pinger()._ping(self.connection)
        transaction.commit()
        return pause

    def test_it_notes_the_time_in_each_queue_where_we_are_activated(self):
        clock.install(movable := clock.MovableClock())
        self.addCleanup(clock.uninstall)
        self.ping()
        self.assertEqual(self.agents.last_ping, clock.utcnow())
        movable.advance(31)
        self.ping()
        self.assertEqual(self.agents.last_ping, clock.utcnow())
        self.assertFalse(self.revived.is_set())

    def test_it_writes_nothing_before_it_is_time(self):
        self.ping()
        before = self.db.lastTransaction()
        self.ping()
        self.assertEqual(self.db.lastTransaction(), before)

    def test_it_looks_more_often_than_it_has_to_ping(self):
        self.assertLessEqual(self.ping(), 7.5)
        self.agents.ping_interval = 2 * SECOND
        self.assertLessEqual(self.ping(), 0.5)
        self.agents.ping_interval = datetime.timedelta()
        self.assertGreater(self.ping(), 0)

    def test_it_calls_for_help_when_it_is_said_to_be_dead(self):
        self.agents.deactivate()
        self.ping()
        self.assertTrue(self.revived.is_set())
        self.assertIsNone(self.agents.last_ping)

    def test_queues_that_do_not_know_us_are_left_alone(self):
        self.agents.deactivate()
        self.queue.dispatchers.unregister(self.agents.UUID)
        self.ping()
        self.assertFalse(self.revived.is_set())

    def test_it_pings_in_a_thread_with_a_connection_of_its_own(self):
        self.agents.ping_interval = SECOND / 100
        transaction.commit()
        made = self.pinger()
        made.start()

        def seen():
            self.sync()
            return self.agents.last_ping

        first = wait_until(seen, "a ping")
        wait_until(lambda: seen() > first, "another ping")
        made.stop()
        made.stop()
        made.join(10)
        self.assertFalse(made._thread.is_alive())

    def test_an_error_is_logged_and_not_the_end(self):
        made = self.pinger()
        manager = transaction.TransactionManager()
        with self.assertLogs("zc.async.events", "ERROR") as logs:
            pause = made._ping_safely(None, manager)
        self.assertIn("cannot ping", logs.output[0])
        self.assertEqual(pause, 1.0)
