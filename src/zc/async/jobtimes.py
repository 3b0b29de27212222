# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""When a job is due, began and ended, and how often it was begun.

Times are kept as microseconds since the epoch, since an aware datetime takes 90
bytes of each record and a job is written three times.
"""

import datetime

from . import clock
from .interfaces import ACTIVE, COMPLETED
from .utils import as_utc


def _moment(value: int | None) -> datetime.datetime | None:
    return None if value is None else clock.from_micros(value)


class Times:
    """The part of a job that knows its times and attempts."""

    _begin_after: int | None = None
    _begin_by: int | None = None
    _active_start: int | None = None
    _active_end: int | None = None
    _callbacks_end: int | None = None
    _first_active: int | None = None
    _attempts = 0

    @property
    def begin_after(self) -> datetime.datetime | None:
        """See `IJob`."""
        return _moment(self._begin_after)

    @begin_after.setter
    def begin_after(self, value: datetime.datetime | None) -> None:
        self._begin_after = None if value is None else clock.micros(as_utc(value))

    @property
    def begin_by(self) -> datetime.timedelta | None:
        """See `IJob`."""
        value = self._begin_by
        return None if value is None else value * clock.MICROSECOND

    @begin_by.setter
    def begin_by(self, value: datetime.timedelta | None) -> None:
        if not isinstance(value, (datetime.timedelta, type(None))):
            raise TypeError(f"found begin_by {value!r}, expected a timedelta or None")
        self._begin_by = None if value is None else value // clock.MICROSECOND

    @property
    def active_start(self) -> datetime.datetime | None:
        """See `IJob`."""
        return _moment(self._active_start)

    @property
    def active_end(self) -> datetime.datetime | None:
        """See `IJob`."""
        return _moment(self._active_end)

    @property
    def initial_callbacks_end(self) -> datetime.datetime | None:
        """See `IJob`."""
        end = self._callbacks_end
        if end is None and self._status == COMPLETED:
            end = self._active_end  # there were no callbacks
        return _moment(end)

    @property
    def first_active(self) -> datetime.datetime | None:
        """See `IJob`."""
        first = self._first_active
        return _moment(self._active_start if first is None else first)

    @property
    def attempts(self) -> int:
        """See `IJob`."""
        return self._attempts

    def _begin(self, now: int) -> int:
        """Become ACTIVE: the mark that an attempt began.

        Returns the microsecond of it, later than any before: by this an attempt
        is told from others.
        """
        self._step(ACTIVE)
        before = self._active_start
        if before is not None:
            now = max(now, before + 1)
            if self._first_active is None:
                self._first_active = before
        self._active_start = now
        self._attempts += 1
        self._forget_waiting()
        self._forget_postponement()
        return now

    def _unbegin(self) -> None:
        """Undo `_begin` for an attempt that no thread has taken up."""
        self._attempts -= 1
        self._active_start = self._first_active if self._attempts else None

    def _disown(self) -> int | None:
        """Have whoever performs this job now find that it is not theirs any more."""
        if self._active_start is not None:
            self._active_start += 1
        return self._active_start
