# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Looking into the database: what calls for it, and what comes of it."""

import datetime
import threading
import uuid
from types import SimpleNamespace
from unittest import mock

import transaction
import zope.component
from persistent.mapping import PersistentMapping

from tests.support.jobs import JobsCase, answer, nothing
from tests.support.waking import wait_until
from zc.async_ import clock
from zc.async_.agent import Agent
from zc.async_.durations import Durations
from zc.async_.interfaces import COMPLETED, PENDING
from zc.async_.job import Job
from zc.async_.poller import Poller
from zc.async_.queue import Queue
from zc.async_.records import Records
from zc.async_.subscribers import AgentInstaller

SECOND = datetime.timedelta(seconds=1)


class StubDispatcher:
    """What a poller needs of a dispatcher."""

    poll_interval = 60
    hand_driven = False

    def __init__(self, db):
        self.db = db
        self.UUID = uuid.uuid4()
        self.records = Records()
        self.durations = Durations()
        self.loops = SimpleNamespace(watch=None)
        self.extra = 0
        self.polls = 0

    def adjust_pool(self, change):
        self.extra += change

    def polled(self):
        self.polls += 1

    def resume(self, ticket):
        """Nothing is awaited here."""


class PollerTests(JobsCase):
    def setUp(self):
        super().setUp()
        zope.component.provideHandler(AgentInstaller("main", size=2))
        self.make_queue()
        self.dispatcher = StubDispatcher(self.db)
        self.poller = Poller(self.dispatcher, False)
        self.addCleanup(self.close)
        self.closed = False

    def close(self):
        if not self.closed:
            self.closed = True
            self.poller.close(10)

    def sync(self):
        transaction.abort()
        transaction.begin()

    @property
    def agents(self):
        return self.queue.dispatchers[self.dispatcher.UUID]

    def wait_for(self, job):
        def look():
            self.sync()
            return job.status == COMPLETED

        wait_until(look, "completion")

    def test_a_poll_enrols_claims_and_is_on_record(self):
        job = self.put(Job(answer))
        poll = self.poller.poll()
        self.sync()
        self.assertIsNotNone(self.agents.activated)
        self.assertEqual(self.dispatcher.polls, 1)
        self.assertIs(self.dispatcher.records.current, poll)
        record = poll[""]["main"]
        self.assertEqual(record["new jobs"], [(int.from_bytes(job._p_oid), "unnamed")])
        self.assertEqual((record["len"], record["size"]), (0, 2))
        self.wait_for(job)

    def test_it_counts_the_connections_of_its_threads(self):
        self.poller.poll()
        self.assertEqual(self.dispatcher.extra, 2)
        self.sync()
        self.agents["main"].threads = 1
        transaction.commit()
        self.poller.poll()
        self.assertEqual(self.dispatcher.extra, 1)
        self.close()
        self.assertEqual(self.dispatcher.extra, 0)

    def test_a_look_does_nothing_when_nothing_calls_for_it(self):
        self.poller.poll()
        before = self.db.lastTransaction()
        self.poller.look()
        self.assertEqual(self.db.lastTransaction(), before)

    def test_a_put_calls_for_a_look_that_claims(self):
        self.poller.poll()
        self.poller.signal.wait(0)
        job = self.put(Job(answer))
        self.assertIs(self.poller.signal.wait(0), True)
        self.poller.look()
        self.wait_for(job)
        self.assertEqual(len(list(self.dispatcher.records.polls)), 1)

    def test_what_concerns_it_not_is_not_heard(self):
        other = self.root["other"] = PersistentMapping()
        transaction.commit()
        self.poller.poll()
        while self.poller.signal.wait(0):
            pass
        other["something"] = 1
        transaction.commit()
        self.assertIsNone(self.poller.signal.wait(0))

    def test_it_does_not_wake_itself(self):
        self.poller._thread_id = threading.get_ident()
        self.poller.poll()
        self.poller._hear([self.queue._p_oid])
        self.assertIsNone(self.poller.signal.wait(0))

    def test_an_agent_that_is_added_calls_for_a_look(self):
        self.poller.poll()
        self.sync()
        self.agents["another"] = Agent(size=1)
        transaction.commit()
        self.poller.look()
        names = [holding.agent_name for holding in self.poller.holdings.values()]
        self.assertEqual(sorted(names), ["another", "main"])

    def test_a_queue_that_is_added_calls_for_a_look(self):
        self.poller.poll()
        self.root["zc.async"]["later"] = Queue()
        transaction.commit()
        self.poller.look()
        names = [holding.queue_name for holding in self.poller.holdings.values()]
        self.assertEqual(sorted(names), ["", "later"])

    def test_it_waits_no_longer_than_until_the_next_job_is_due(self):
        clock.install(clock.MovableClock())
        self.addCleanup(clock.uninstall)
        self.put(Job(nothing), begin_after=clock.utcnow() + 20 * SECOND)
        self.poller.poll()
        with mock.patch("time.monotonic", return_value=0.0):
            self.assertEqual(self.poller._delay(60.0), 20.0)
            self.assertEqual(self.poller._delay(5.0), 5.0)

    def test_a_job_that_falls_due_is_claimed_by_a_look(self):
        clock.install(movable := clock.MovableClock())
        self.addCleanup(clock.uninstall)
        job = self.put(Job(nothing), begin_after=clock.utcnow() + 20 * SECOND)
        self.poller.poll()
        self.poller.look()
        self.sync()
        self.assertEqual(job.status, PENDING)
        movable.advance(20)
        self.poller.look()
        self.wait_for(job)

    def test_errors_are_logged_and_followed_by_growing_pauses(self):
        pauses = []

        def note(delay):
            pauses.append(delay)
            if len(pauses) == 4:
                self.poller.stop()

        with (
            mock.patch.object(self.poller, "poll", side_effect=OSError),
            mock.patch.object(self.poller, "look", side_effect=OSError),
            mock.patch.object(self.poller, "_wait", side_effect=note),
            self.assertLogs("zc.async.events", "ERROR") as logs,
        ):
            self.poller.run()
        self.assertEqual(len(logs.output), 4)
        self.assertEqual(pauses, [0.2, 0.4, 0.8, 1.6])

    def test_it_polls_again_after_an_error(self):
        calls = []

        def fail_first():
            calls.append("poll")
            if len(calls) == 1:
                raise OSError("the storage is away")
            self.poller.stop()

        self.dispatcher.poll_interval = 0
        with (
            mock.patch.object(self.poller, "poll", side_effect=fail_first),
            mock.patch.object(self.poller, "_wait"),
            self.assertLogs("zc.async.events", "ERROR"),
        ):
            self.poller.run()
        self.assertEqual(len(calls), 2)

    def test_a_free_thread_waits_for_company_unless_many_are_idle(self):
        holding = SimpleNamespace(pool=SimpleNamespace(starving=lambda: True))
        self.poller.holdings = {b"": holding}
        self.poller.signal.hint()
        waits = []
        original = self.poller.signal.wait
        with mock.patch.object(
            self.poller.signal,
            "wait",
            side_effect=lambda delay: waits.append(delay) or original(delay),
        ):
            self.poller._wait(60)
            self.assertEqual(waits, [60])
            holding.pool.starving = lambda: False
            self.poller.signal.hint()
            self.poller._wait(60)
        self.assertEqual(len(waits), 3)
        self.assertLess(waits[2], 0.01)
        self.poller.holdings = {}

    def test_a_wake_looks_at_everything(self):
        self.poller.poll()
        self.poller.wake()
        self.assertIs(self.poller.signal.wait(0), True)
        with mock.patch.object(self.poller, "_enrol") as enrol:
            self.poller.look()
        enrol.assert_called_once_with()

    def test_closing_hands_back_and_leaves(self):
        self.poller.poll()
        due = clock.utcnow() + 3600 * SECOND
        job = self.put(Job(nothing), begin_after=due)
        self.close()
        self.sync()
        self.assertIsNone(self.agents.activated)
        self.assertEqual(job.status, PENDING)
        self.assertIsNone(self.poller.connection.opened)
