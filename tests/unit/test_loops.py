# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Waiting for Deferreds and coroutines."""

import asyncio
import concurrent.futures
import queue
import threading
import unittest

from twisted.internet.defer import Deferred

from zc.async_.failure import Failure
from zc.async_.loops import Loops, end_loop


class StubReactor:
    """Notes what it is asked for; has no loop."""

    def __init__(self):
        self.calls = []

    def callFromThread(self, function, *args):
        self.calls.append((function, args))


async def give(value):
    await asyncio.sleep(0)
    return value, threading.current_thread().name


async def fail():
    raise LookupError("no")


class Awaitable:
    """Neither a coroutine nor a Deferred."""

    def __await__(self):
        return give("awaited").__await__()


class LoopsTests(unittest.TestCase):
    def setUp(self):
        self.reactor = StubReactor()
        self.loops = Loops(self.reactor)
        self.addCleanup(self.loops.stop)
        self.values = queue.SimpleQueue()

    def watch(self, awaited):
        self.loops.watch(awaited, self.values.put)

    def value(self):
        return self.values.get(timeout=10)

    def test_a_deferred_is_touched_in_the_reactors_thread_only(self):
        deferred = Deferred()
        self.watch(deferred)
        deferred.callback(42)
        self.assertTrue(self.values.empty())
        [(function, args)] = self.reactor.calls
        function(*args)
        self.assertEqual(self.value(), 42)

    def test_a_deferred_may_fail(self):
        deferred = Deferred()
        self.watch(deferred)
        [(function, args)] = self.reactor.calls
        function(*args)
        deferred.errback(LookupError("no"))
        self.assertTrue(self.value().check(LookupError))

    def test_a_coroutine_runs_on_a_loop_of_our_own_where_the_reactor_has_none(self):
        self.watch(give(42))
        self.assertEqual(self.value(), (42, "zc.async loop"))

    def test_anything_that_can_be_awaited_will_do(self):
        self.watch(Awaitable())
        self.assertEqual(self.value()[0], "awaited")

    def test_an_error_of_a_coroutine_comes_as_a_failure(self):
        self.watch(fail())
        value = self.value()
        self.assertIsInstance(value, Failure)
        self.assertTrue(value.check(LookupError))

    def test_the_loop_is_made_once(self):
        self.watch(give(1))
        self.value()
        before = threading.active_count()
        self.watch(give(2))
        self.value()
        self.assertEqual(threading.active_count(), before)

    def test_stopping_cancels_what_is_not_done_and_ends_the_thread(self):
        begun = threading.Event()

        async def wait_for_ever():
            begun.set()
            await asyncio.Event().wait()

        self.watch(wait_for_ever())
        self.assertTrue(begun.wait(10))
        self.loops.stop()
        self.loops.stop()
        self.assertTrue(self.value().check(concurrent.futures.CancelledError))
        names = [thread.name for thread in threading.enumerate()]
        self.assertNotIn("zc.async loop", names)

    def test_it_can_be_used_again_after_a_stop(self):
        self.watch(give(1))
        self.value()
        self.loops.stop()
        self.watch(give(2))
        self.assertEqual(self.value()[0], 2)

    def test_the_loop_of_the_reactor_is_used_where_there_is_one(self):
        loop = self.reactor._asyncioEventloop = asyncio.new_event_loop()
        self.watch(give(42))
        loop.run_until_complete(asyncio.sleep(0.001))
        self.assertEqual(self.value(), (42, threading.current_thread().name))
        end_loop(loop)


class EndLoopTests(unittest.TestCase):
    def test_it_waits_for_the_cancelled_and_closes(self):
        loop = asyncio.new_event_loop()
        told = []

        async def clean_up():
            try:
                await asyncio.Event().wait()
            finally:
                told.append("cleaned up")

        loop.create_task(clean_up())
        end_loop(loop)
        self.assertEqual(told, ["cleaned up"])
        self.assertTrue(loop.is_closed())
