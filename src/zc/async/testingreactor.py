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
    Does not make the calls of a `Reactor`: its own time passes by `time_flies`.
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
    """What `Reactor.callLater` returns: a call that can be cancelled until made."""

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
        """When it is due, in seconds of the reactor's own time."""
        return self.due / 1_000_000


@implementer(IReactor)
class Reactor:
    """A reactor whose time passes only when a test says so.

    `start` stops the clock of the whole package; from then on `time_flies` and
    `time_passes` make, in the thread that calls them, the calls that are due.  An
    error of a call reaches the caller.  Other threads may ask for calls at any time.

    A dispatcher polls under this reactor once in each of its poll intervals, and
    never because of a commit.
    """

    hand_driven = True

    def __init__(self) -> None:
        self.running = False
        self._lock = threading.Lock()
        self._time = 0  # microseconds; an integer, since floats would drift
        self._calls: list[tuple[int, int, Call]] = []
        self._order = itertools.count()
        self._waiting: list[Callable[[], Any]] = []
        self._triggers: dict[int, tuple[str, Callable[[], Any]]] = {}
        self._threads: list[threading.Thread] = []

    # What `IReactor` asks for.

    def callLater(
        self, seconds: float, callable: Callable, *args: Any, **kw: Any
    ) -> Call:
        """See `IReactor`.  The call can be cancelled.  From any thread."""
        if seconds < 0:
            raise ValueError(
                f"found a delay of {seconds!r}, expected 0 or more seconds"
            )
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
        """See `IReactor`."""
        with self._lock:
            if not self.running:
                self._waiting.append(lambda: callable(*args, **kw))
                return
        callable(*args, **kw)

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
        """How many seconds have passed for this reactor since it was made."""
        return self._time / 1_000_000

    # What a test does.

    def start(self, now: datetime.datetime = START) -> None:
        """Stop the clock at `now` and begin to run: see `callWhenRunning`."""
        with self._lock:
            if self.running:
                raise RuntimeError("this reactor runs already")
            setUpDatetime(now)
            self.running = True
            waiting, self._waiting = self._waiting, []
        for function in waiting:
            function()

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

        Each is made at its due time: the clock shows that time to it.  Those asked
        for meanwhile are made too, if they are due.
        """
        movable()  # or an error that says what is missing
        end = self._time + round(seconds * 1_000_000)
        count = 0
        while (call := self._pop(end)) is not None:
            self._pass_until(call.due)
            call.function()
            count += 1
        self._pass_until(end)
        return count

    def time_passes(self) -> bool:
        """Make one call that is due now, if there is one; whether there was."""
        call = self._pop(self._time)
        if call is None:
            return False
        call.function()
        return True

    def _schedule(self, delay: int, function: Callable[[], Any]) -> Call:
        with self._lock:
            call = Call(self._time + delay, function)
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

    def _pass_until(self, due: int) -> None:
        with self._lock:
            delta = due - self._time
            if delta <= 0:
                return
            self._time = due
        movable().advance(datetime.timedelta(microseconds=delta))
