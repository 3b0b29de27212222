# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Helpers without a theme of their own: the loggers, and dates.

`dt_to_long` and `long_to_dt` turn dates into the integer keys of histories, in
which the newest comes first.
"""

import datetime
import logging

from .clock import UTC

#: Errors of jobs and dispatchers, starts and stops.
log = logging.getLogger("zc.async.events")
#: Successes, polls, retries.
tracelog = logging.getLogger("zc.async.trace")

# A key is the time left until datetime.max: days, then 17 bits of seconds, then
# 20 bits of microseconds, then 4 bits that tell simultaneous keys apart.
_DAYS = 41
_SECONDS = 24
_MICROSECONDS = 4


def as_utc(dt: datetime.datetime) -> datetime.datetime:
    """Return the aware `dt` in `datetime.timezone.utc`.

    Whatever made it (pytz, zoneinfo, a subclass of datetime), the value is a
    plain one that pickles without the maker's code.  ValueError for a naive
    one, TypeError for anything else.
    """
    if not isinstance(dt, datetime.datetime):
        raise TypeError(f"expected a datetime, found {dt!r}")
    if dt.utcoffset() is None:
        raise ValueError("cannot use timezone-naive values")
    dt = dt.astimezone(UTC)
    if type(dt) is not datetime.datetime:
        dt = datetime.datetime.combine(dt.date(), dt.time(), UTC)
    return dt


def dt_to_long(dt: datetime.datetime) -> int:
    """Return a 64 bit key for the aware `dt`; later dates have smaller keys.

    The lowest 4 bits are 0, for the caller to use.
    """
    left = datetime.datetime.max - as_utc(dt).replace(tzinfo=None)
    return (
        left.days << _DAYS
        | left.seconds << _SECONDS
        | left.microseconds << _MICROSECONDS
    )


def long_to_dt(key: int) -> datetime.datetime:
    """Return the aware UTC datetime of a `key` from `dt_to_long`."""
    left = datetime.timedelta(
        days=key >> _DAYS,
        seconds=key >> _SECONDS & 0x1FFFF,
        microseconds=key >> _MICROSECONDS & 0xFFFFF,
    )
    return (datetime.datetime.max - left).replace(tzinfo=UTC)
