# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The one source of time.

The whole package asks here, and nowhere else, so that tests can move the time
without touching `datetime`.  Two times are told apart: the *wall clock*
(`utcnow`, `time`), which is stored and shown and may be set by an administrator,
and the *monotonic* clock, which only measures how long something took.

Any thread may call any function.
"""

import datetime
import math
import threading
import time as _time
from typing import Protocol

UTC = datetime.UTC
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = datetime.timedelta(microseconds=1)


class Source(Protocol):
    """What `install` takes."""

    def utcnow(self) -> datetime.datetime: ...

    def time(self) -> float: ...

    def monotonic(self) -> float: ...


class SystemClock:
    """The clocks of the machine."""

    time = staticmethod(_time.time)
    monotonic = staticmethod(_time.monotonic)

    def utcnow(self) -> datetime.datetime:
        return datetime.datetime.now(UTC)


class MovableClock:
    """A clock that stands still until it is moved.

    `start` is an aware datetime, by default the present.  The monotonic reading
    begins at a whole second that the machine's own has not reached yet, so that
    nothing goes backwards when this clock is installed under running code.
    """

    def __init__(self, start: datetime.datetime | None = None) -> None:
        self._lock = threading.Lock()
        self._wall = _utc(start) if start is not None else _system.utcnow()
        self._origin = math.ceil(_time.monotonic())
        self._elapsed = 0  # microseconds; an integer, since floats would drift

    def utcnow(self) -> datetime.datetime:
        with self._lock:
            return self._wall

    def time(self) -> float:
        return micros(self.utcnow()) / 1_000_000

    def monotonic(self) -> float:
        with self._lock:
            return self._origin + self._elapsed / 1_000_000

    def advance(self, seconds: float | datetime.timedelta) -> None:
        """Let time pass, on both clocks.  Not backwards: that is `step`."""
        delta = _delta(seconds)
        if delta < datetime.timedelta():
            raise ValueError(f"time cannot pass backwards: {seconds!r}; use step()")
        with self._lock:
            self._move(delta)

    def set(self, when: datetime.datetime) -> None:
        """Go to `when`, an aware datetime.

        Forward, both clocks move; backward, the monotonic clock stays.
        """
        when = _utc(when)
        with self._lock:
            self._move(when - self._wall)

    def step(self, delta: float | datetime.timedelta) -> None:
        """Set the wall clock by `delta`, either way, as an administrator does."""
        delta = _delta(delta)
        with self._lock:
            self._wall += delta

    def _move(self, delta: datetime.timedelta) -> None:
        self._wall += delta
        self._elapsed += max(delta // MICROSECOND, 0)


_system = SystemClock()
_source: Source = _system


def install(source: Source) -> None:
    """Take the time from `source`, in all threads, until `uninstall`."""
    global _source
    _source = source


def uninstall() -> None:
    """Take the time from the machine again.  May be called twice."""
    global _source
    _source = _system


def utcnow() -> datetime.datetime:
    """Return the present as an aware datetime whose zone is `timezone.utc`."""
    return _source.utcnow()


def time() -> float:
    """Return the present in seconds since the epoch, wall clock."""
    return _source.time()


def monotonic() -> float:
    """Return seconds since some moment; only differences mean something."""
    return _source.monotonic()


def micros(when: datetime.datetime) -> int:
    """Return the microseconds from the epoch to the aware `when`, exactly."""
    return (_aware(when) - EPOCH) // MICROSECOND


def from_micros(count: int) -> datetime.datetime:
    """Return the aware UTC datetime `count` microseconds after the epoch."""
    return EPOCH + datetime.timedelta(microseconds=count)


def _aware(when: datetime.datetime) -> datetime.datetime:
    if when.utcoffset() is None:
        raise ValueError(f"expected an aware datetime, found {when!r}")
    return when


def _utc(when: datetime.datetime) -> datetime.datetime:
    return _aware(when).astimezone(UTC)


def _delta(seconds: float | datetime.timedelta) -> datetime.timedelta:
    if isinstance(seconds, datetime.timedelta):
        return seconds
    return datetime.timedelta(seconds=seconds)
