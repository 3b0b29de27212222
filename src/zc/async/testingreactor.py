# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Time in tests: a clock that is set, and a reactor that is driven by hand.

Published by `testing`.  Nothing here touches `datetime`: what moves is the clock
of `clock`, which the whole package asks.
"""

import contextlib
import datetime
import heapq
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import transaction
from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from zope.interface import implementer

from . import clock
from .interfaces import IReactor

#: Where the clock of a test begins.
START = datetime.datetime(2006, 8, 10, 15, 44, 22, 211, tzinfo=clock.UTC)

_SHUTDOWN_PHASES = ("before", "during", "after")
_movable: clock.MovableClock | None = None


def setUpDatetime(now: datetime.datetime = START) -> None:
    """Stop the clock at `now`, in all threads, until `tearDownDatetime`."""
    global _movable
    _movable = clock.MovableClock(now)
    clock.install(_movable)


def tearDownDatetime() -> None:
    """Have the time of the machine again.  May be called twice."""
    global _movable
    _movable = None
    clock.uninstall()


def set_now(dt: datetime.datetime) -> None:
    """Set the clock to `dt`, an aware datetime, forwards or backwards.

    ValueError for a naive one, RuntimeError when the clock is the machine's.
    The calls of a `Reactor` that are due by then are made when time passes next.
    """
    movable().set(dt)


def movable() -> clock.MovableClock:
    """The clock that `setUpDatetime` stopped; RuntimeError when it has not."""
    if _movable is None:
        raise RuntimeError(
            "found the clock of the machine, expected one that can be set: call "
            "setUpDatetime() first, or start() of the testing Reactor"
        )
    return _movable


@contextlib.contextmanager
def at_time(now: datetime.datetime) -> Iterator[None]:
    """The clock stands at `now`; afterwards it is what it was before."""
    global _movable
    before = _movable
    setUpDatetime(now)
    try:
        yield
    finally:
        tearDownDatetime()
        if before is not None:
            _movable = before
            clock.install(before)


class Call:
    """What `Reactor.callLater` returns: a call that can be cancelled until made.

    `due` is in microseconds since the epoch; before the start of the reactor, after
    that start.
    """

    def __init__(self, due: int, function: Callable[[], Any]) -> None:
        self.due = due
        self.function = function
        self.called = self.cancelled = False

    def active(self) -> bool:
        """Whether it is still to be made."""
        return not (self.called or self.cancelled)

    def cancel(self) -> None:
        """Have it not made; AlreadyCalled or AlreadyCancelled when it is too late."""
        if self.called:
            raise AlreadyCalled
        if self.cancelled:
            raise AlreadyCancelled
        self.cancelled = True

    def getTime(self) -> float:
        """When it is due, as `Reactor.seconds` counts."""
        return self.due / 1_000_000


@implementer(IReactor)
class Reactor:
    """A reactor whose time passes only when a test says so.

    `start` stops the clock of the whole package; from then on `time_flies` and
    `time_passes` make, in the thread that calls them, the calls that are due.  An
    error of a call reaches the caller.  Other threads may ask for calls at any time.

    Each call is made at its due time, to the microsecond: that is what the clock
    says during the call.  This holds as well for calls that are overdue because
    `set_now` went past them.  Afterwards the clock is where it was, or where time
    flew to.

    A dispatcher polls under this reactor once in each of its poll intervals, and
    never because of a commit.
    """

    hand_driven = True

    def __init__(self) -> None:
        self.running = False
        self._lock = threading.Lock()
        self._calls: list[tuple[int, int, Call]] = []
        self._order = itertools.count()
        self._triggers: dict[int, tuple[str, Callable[[], Any]]] = {}
        self._threads: list[threading.Thread] = []

    # What `IReactor` asks for.

    def callLater(
        self, seconds: float, callable: Callable, *args: Any, **kw: Any
    ) -> Call:
        """See `IReactor`.  The call can be cancelled.  From any thread."""
        if seconds < 0:
            raise ValueError(f"found a delay of {seconds!r}, expected 0 or more")
        delay = round(seconds * 1_000_000)
        return self._schedule(delay, lambda: callable(*args, **kw))

    def callFromThread(self, callable: Callable, *args: Any, **kw: Any) -> None:
        """See `IReactor`: due now, made when time passes."""
        self._schedule(0, lambda: callable(*args, **kw))

    def callInThread(self, callable: Callable, *args: Any, **kw: Any) -> None:
        """See `IReactor`: a daemon thread for each call; `stop` waits for them."""
        thread = threading.Thread(
            target=callable, args=args, kwargs=kw, daemon=True, name="testing reactor"
        )
        with self._lock:
            self._threads = [each for each in self._threads if each.is_alive()]
            self._threads.append(thread)
            thread.start()

    def callWhenRunning(self, callable: Callable, *args: Any, **kw: Any) -> None:
        """See `IReactor`: due now, or at the start, made when time passes."""
        self.callFromThread(callable, *args, **kw)

    def addSystemEventTrigger(
        self, phase: str, event: str, callable: Callable, *args: Any, **kw: Any
    ) -> int:
        """See `IReactor`.  Returns what `removeSystemEventTrigger` takes."""
        if event != "shutdown" or phase not in _SHUTDOWN_PHASES:
            raise ValueError(
                f"found phase {phase!r} of event {event!r}, expected one of "
                f"{_SHUTDOWN_PHASES} of 'shutdown'"
            )
        with self._lock:
            number = next(self._order)
            self._triggers[number] = phase, lambda: callable(*args, **kw)
            return number

    def removeSystemEventTrigger(self, number: int) -> None:
        """Forget a trigger; KeyError when there is none of that number."""
        with self._lock:
            del self._triggers[number]

    # Also of Twisted's reactors.

    def seconds(self) -> float:
        """The time of the clock in seconds since the epoch."""
        return clock.time()

    # What a test does.

    def start(self, now: datetime.datetime = START) -> None:
        """Stop the clock at `now` and begin to run."""
        with self._lock:
            if self.running:
                raise RuntimeError("this reactor runs already")
            setUpDatetime(now)
            self.running = True
            for _, _, call in self._calls:
                call.due += _now()
            self._calls = [(call.due, order, call) for _, order, call in self._calls]

    def stop(self, seconds: float = 6) -> None:
        """Run the triggers of 'shutdown', then have the machine's time again.

        Calls that are still due are forgotten.  Waits up to `seconds` for the
        threads of `callInThread`.  May be called twice.
        """
        with self._lock:
            if not self.running:
                return
            self.running = False
            triggers, self._triggers = self._triggers, {}
            self._calls.clear()
            threads, self._threads = self._threads, []
        try:
            for phase in _SHUTDOWN_PHASES:
                for wanted, function in triggers.values():
                    if wanted == phase:
                        function()
        finally:
            tearDownDatetime()
        for thread in threads:
            thread.join(seconds)

    def time_flies(self, seconds: float) -> int:
        """Let `seconds` pass; return how many calls were made meanwhile.

        Those asked for meanwhile are made too, if they are due.  Afterwards the
        caller's connections show what was done, unless they have uncommitted
        changes.
        """
        movable()  # or an error that says what is missing
        begin = _now()
        end = begin + round(seconds * 1_000_000)
        count = 0
        while (call := self._pop(end)) is not None:
            self._make(call, begin)
            begin = max(begin, _now())
            count += 1
        if end > begin:
            _go(end, begin)
        if count:
            _synchronize()
        return count

    def time_passes(self) -> bool:
        """Make one call that is due now, if there is one; whether there was.

        Afterwards the connections are as after `time_flies`.
        """
        movable()
        now = _now()
        call = self._pop(now)
        if call is None:
            return False
        self._make(call, now)
        _synchronize()
        return True

    def _schedule(self, delay: int, function: Callable[[], Any]) -> Call:
        with self._lock:
            call = Call(delay + (_now() if self.running else 0), function)
            heapq.heappush(self._calls, (call.due, next(self._order), call))
            return call

    def _pop(self, end: int) -> Call | None:
        with self._lock:
            while self._calls and self._calls[0][0] <= end:
                call = heapq.heappop(self._calls)[-1]
                if call.active():
                    call.called = True
                    return call
            return None

    def _make(self, call: Call, reached: int) -> None:
        _go(call.due, reached)
        try:
            call.function()
        finally:
            # Unless the call itself has set the clock.
            if _now() == call.due < reached:
                _go(reached, reached)


def _now() -> int:
    return clock.micros(clock.utcnow())


def _go(due: int, reached: int) -> None:
    """Set the clock to `due`; on the monotonic one time passes beyond `reached`."""
    movable().step((min(due, reached) - _now()) * clock.MICROSECOND)
    if due > reached:
        movable().advance((due - reached) * clock.MICROSECOND)


def _synchronize() -> None:
    """Begin a new transaction in this thread, unless that would lose something."""
    if not transaction.get()._resources:
        transaction.begin()
