# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The threads of one agent, with a stand-in for what they do."""

import queue
import threading
import time
import unittest
from types import SimpleNamespace
from unittest import mock

from tests.support.gates import gate, open_all
from tests.support.waking import wait_until
from zc.async_ import pool
from zc.async_.performer import AWAITS, DONE, UNBEGUN, WAITS, Batch, Performed


class StubConnection:
    """Knows when it was opened, and how often it was closed."""

    def __init__(self, number):
        self.opened = number
        self.closings = 0

    def close(self):
        self.closings += 1
        self.opened = None


class StubDatabase:
    """Hands out connections; raises `errors` first."""

    def __init__(self):
        self.connections = []
        self.errors = []

    def open(self):
        if self.errors:
            raise self.errors.pop()
        self.connections.append(StubConnection(len(self.connections) + 1))
        return self.connections[-1]


class StubPerformer:
    """A ticket is a function of the connection; its value is the outcome."""

    round = None

    def __init__(self, dispatcher, records):
        pass

    def perform_batch(self, batch, connection):
        return Performed([(each, each(connection)) for each in batch.tickets])


class PoolCase(unittest.TestCase):
    def setUp(self):
        self.db = StubDatabase()
        self.freed = queue.SimpleQueue()
        patches = mock.patch.multiple(pool, Performer=StubPerformer, PAUSE=0.001)
        patches.start()
        self.addCleanup(patches.stop)
        self.made = []
        self.addCleanup(self.end)

    def end(self):
        open_all()
        for each in self.made:
            each.stop()
            self.assertTrue(each.join(10))

    def pool(self, size):
        dispatcher = SimpleNamespace(db=self.db, records=None)
        made = pool.Pool(dispatcher, "name", self.freed.put)
        self.made.append(made)
        made.resize(size)
        return made

    def submit(self, made, *functions):
        made.submit([Batch([function]) for function in functions])

    def finished(self, made, count):
        found = []

        def look():
            found.extend(made.take_finished())
            return len(found) >= count

        wait_until(look, f"{count} outcomes")
        return [outcome for _, outcome in found]

    def threads(self, made):
        return [one for one in made._threads if one.is_alive()]

    def hold(self, connection):
        gate("pool").enter()
        return "held"


class PoolTests(PoolCase):
    def test_what_is_submitted_is_performed_and_can_be_fetched(self):
        made = self.pool(2)
        self.submit(made, *[lambda connection, n=n: n for n in range(10)])
        self.assertEqual(sorted(self.finished(made, 10)), list(range(10)))
        self.assertEqual(made.take_finished(), [])
        self.assertFalse(made.has_finished)

    def test_each_thread_keeps_its_connection(self):
        made = self.pool(1)
        self.submit(made, *[lambda connection: connection] * 5)
        self.assertEqual(self.finished(made, 5), self.db.connections * 5)
        made.stop()
        self.assertTrue(made.join(10))
        self.assertEqual([one.closings for one in self.db.connections], [1])

    def test_outstanding_counts_what_waits_and_what_is_worked_on(self):
        made = self.pool(2)
        self.submit(made, *[self.hold] * 3)
        gate("pool").wait_for(2)
        self.assertEqual(made.outstanding(), 3)
        self.assertFalse(made.starving())
        gate("pool").open()
        self.finished(made, 3)
        wait_until(lambda: made.outstanding() == 0, "nothing to be outstanding")
        self.assertTrue(made.starving())

    def test_a_thread_without_work_says_so(self):
        made = self.pool(1)
        self.submit(made, lambda connection: 1)
        self.assertIs(self.freed.get(timeout=10), False)
        self.assertEqual(self.finished(made, 1), [1])

    def test_a_large_batch_is_worth_coming_at_once(self):
        made = self.pool(1)
        made.submit([Batch([lambda connection: 1] * pool.ENOUGH)])
        self.assertIs(self.freed.get(timeout=10), True)

    def test_it_asks_for_more_when_it_takes_the_last_while_more_is_there(self):
        made = self.pool(1)
        made.hungry = True
        self.submit(made, self.hold)
        self.assertIs(self.freed.get(timeout=10), True)
        self.assertEqual(gate("pool").passed, 0)

    def test_it_grows_and_shrinks(self):
        made = self.pool(1)
        made.resize(4)
        self.submit(made, *[self.hold] * 4)
        gate("pool").wait_for(4)
        made.resize(2)
        self.assertEqual(made.size, 2)
        gate("pool").open()
        self.finished(made, 4)
        wait_until(lambda: len(self.threads(made)) == 2, "two threads")
        self.submit(made, *[lambda connection: 1] * 4)
        self.finished(made, 4)

    def test_threads_that_end_leave_nobody_waiting(self):
        # Who finishes while others are told to end does not find the queue empty.
        made = self.pool(3)
        self.submit(made, *[self.hold] * 3)
        gate("pool").wait_for(3)
        made.resize(1)
        while not self.freed.empty():
            self.freed.get()
        gate("pool").open()
        self.finished(made, 3)
        wait_until(lambda: len(self.threads(made)) == 1, "one thread")
        self.freed.get(timeout=10)

    def test_what_cannot_be_reaped_is_given_back(self):
        made = self.pool(1)
        self.submit(made, lambda connection: 1, lambda connection: 2)
        self.finished(made, 0)
        wait_until(lambda: made.outstanding() == 0, "the end of both")
        finished = made.take_finished()
        made.give_back(finished)
        self.assertTrue(made.has_finished)
        self.assertEqual(made.take_finished(), finished)

    def test_stopping_returns_what_was_not_begun(self):
        made = self.pool(1)
        other = self.hold
        self.submit(made, self.hold)
        gate("pool").wait_for()
        self.submit(made, other, other)
        self.assertEqual(made.stop(), [other, other])
        self.assertFalse(made.join(0.01))
        gate("pool").open()
        self.assertTrue(made.join(10))
        self.assertEqual(self.finished(made, 1), ["held"])

    def test_what_comes_after_the_stop_is_not_begun(self):
        made = self.pool(1)
        unbegun = made.stop()
        self.submit(made, self.hold)
        self.assertEqual(unbegun, [self.hold])
        self.assertEqual(made.outstanding(), 0)

    def test_it_can_be_stopped_twice(self):
        made = self.pool(2)
        made.stop()
        made.stop()
        self.assertTrue(made.join(10))

    def test_a_connection_that_a_job_has_closed_is_replaced(self):
        made = self.pool(1)
        self.submit(made, StubConnection.close, lambda connection: connection)
        self.assertEqual(self.finished(made, 2), [None, self.db.connections[1]])
        made.stop()
        made.join(10)
        self.assertEqual([one.closings for one in self.db.connections], [1, 1])

    def test_a_connection_that_is_somebody_elses_by_now_is_left_alone(self):
        def reopen(connection):
            connection.opened = 1000

        made = self.pool(1)
        self.submit(made, reopen, lambda connection: connection)
        self.assertEqual(self.finished(made, 2), [None, self.db.connections[1]])
        self.assertEqual(self.db.connections[0].closings, 0)

    def test_a_thread_that_gets_no_connection_tries_again(self):
        self.db.errors = [OSError("the storage is away")] * 3
        with self.assertLogs("zc.async.events", "ERROR") as logs:
            made = self.pool(1)
            self.submit(made, lambda connection: 1)
            self.assertEqual(self.finished(made, 1), [1])
        self.assertEqual(len(logs.output), 3)

    def test_the_threads_are_daemons_with_names(self):
        made = self.pool(2)
        for thread in self.threads(made):
            self.assertTrue(thread.daemon)
            self.assertEqual(thread.name, "zc.async name")
        self.assertNotIn(threading.current_thread(), self.threads(made))


class StuckRound:
    """A round that is in the hands of a thread."""

    def __init__(self, called=(), rest=()):
        self._called, self._rest = list(called), list(rest)
        self.left = frozenset()

    def called(self):
        return list(self._called)

    def take_over(self):
        taken, self._rest = self._rest, []
        return taken


class StuckTests(PoolCase):
    """Rounds that take too long."""

    def in_hand(self, made, seconds, chained=False, **options):
        round = StuckRound(**options)
        performer = StubPerformer(None, None)
        performer.round = round
        batch = Batch([], 0.02, chained)
        made._rounds[performer] = time.monotonic() - seconds, batch
        return round

    def test_what_was_not_begun_is_given_to_other_threads(self):
        made = self.pool(0)
        self.in_hand(made, 2 * pool.TAKE_OVER, rest=["x", "y"])
        self.assertTrue(made.relieve())
        self.assertEqual(made.outstanding(), 2)
        made.relieve()
        self.assertEqual(made.outstanding(), 2)

    def test_but_not_at_once_and_not_of_one_quota(self):
        made = self.pool(0)
        self.in_hand(made, pool.TAKE_OVER / 2, rest=["x"])
        self.in_hand(made, 2 * pool.TAKE_OVER, chained=True, rest=["y"])
        self.assertFalse(made.relieve())

    def test_what_was_called_is_told_later(self):
        made = self.pool(0)
        self.in_hand(made, pool.STUCK / 2, called=["x"])
        self.in_hand(made, 2 * pool.STUCK, called=["y", "z"])
        self.assertEqual(made.stuck(), ["y", "z"])

    def test_and_once(self):
        made = self.pool(0)
        round = self.in_hand(made, 2 * pool.STUCK, called=["y", "z"])
        made.leave(["y", "z"])
        self.assertEqual(made.stuck(), [])
        self.assertEqual(round.left, {"y", "z"})


class ChainPerformer(StubPerformer):
    """Each ticket is a list of outcomes, or "again"; one is performed at a time."""

    def perform_batch(self, batch, connection):
        ticket, *rest = batch.tickets
        if ticket.outcomes[0] == "again":
            again = [batch._replace(tickets=[one], noted=True) for one in batch.tickets]
            for one in batch.tickets:
                del one.outcomes[:1]
            return Performed([], again)
        ticket.log.append(ticket.name)
        return Performed([(ticket, ticket.outcomes.pop(0))], (), rest)


class ChainTests(PoolCase):
    """Jobs of one quota, which follow each other."""

    def setUp(self):
        super().setUp()
        patcher = mock.patch.object(pool, "Performer", ChainPerformer)
        patcher.start()
        self.addCleanup(patcher.stop)
        self.log = []

    def perform(self, **outcomes):
        """Perform a chain; return what became of each, by name."""
        made = self.pool(2)
        made.dispatcher.records = mock.Mock()
        tickets = [
            SimpleNamespace(name=name, outcomes=list(each), log=self.log, job_id=name)
            for name, each in outcomes.items()
        ]
        made.submit([Batch(tickets, 1.0, chained=True)])
        found = {}

        def look():
            found.update((one.name, what) for one, what in made.take_finished())
            return len(found) == len(tickets)

        wait_until(look, "all outcomes")
        return found

    def test_they_are_performed_one_after_the_other(self):
        found = self.perform(x=[DONE], y=[WAITS], z=[DONE])
        self.assertEqual(found, {"x": DONE, "y": WAITS, "z": DONE})
        self.assertEqual(self.log, ["x", "y", "z"])

    def test_what_follows_one_that_awaits_has_to_wait(self):
        found = self.perform(x=[DONE], y=[AWAITS], z=[DONE])
        self.assertEqual(found, {"x": DONE, "y": AWAITS, "z": UNBEGUN})
        self.assertEqual(self.log, ["x", "y"])

    def test_also_when_each_is_performed_alone(self):
        found = self.perform(
            x=["again", DONE], y=["again", AWAITS], z=["again", DONE]
        )
        self.assertEqual(found, {"x": DONE, "y": AWAITS, "z": UNBEGUN})
        self.assertEqual(self.log, ["x", "y"])

    def test_alone_they_still_follow_each_other(self):
        self.perform(x=["again", DONE], y=["again", DONE], z=["again", DONE])
        self.assertEqual(self.log, ["x", "y", "z"])
