# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Poll records, newest first, bounded by number and by age.

A poll record stands for one interval of the dispatcher and gathers all that was
claimed in it.  Its key gets smaller with time and is unique within one `Polls`.

Records are forgotten by whole *periods* of 2.5 minutes: the first begins with the
first poll, and five of them are kept, the current one included.  So there are 10 to
12.5 minutes to look back on, or fewer when the number of records is reached first.
"""

import datetime
import itertools
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

from . import clock
from .utils import dt_to_long

PERIOD = datetime.timedelta(seconds=150)
PERIODS_KEPT = 5

#: A poll key, a datetime (UTC when naive), or how long ago.
Moment = int | datetime.datetime | datetime.timedelta


class PollInfo(dict):
    """What one poll found: {queue name: {agent name: record}}.

    A record has the keys 'active jobs' and 'new jobs' (lists of job ids), 'error'
    (None or a `Failure`), 'len' and 'size' of the agent.  While the poll is the
    current one, the poller's thread changes it under the lock of `Records`.
    """

    __slots__ = ("key", "utc_timestamp", "period")

    key: int
    utc_timestamp: datetime.datetime  # naive
    period: "Period"  # given by `Polls.add`

    def __init__(self, utc_timestamp: datetime.datetime) -> None:
        super().__init__()
        self.utc_timestamp = naive(utc_timestamp)
        self.key = dt_to_long(self.utc_timestamp.replace(tzinfo=clock.UTC)) + 15


class Period:
    """Some minutes that are forgotten together, and what was counted in them.

    `oldest` and `newest` are polls; `tallies` belongs to `stats`.  `incomplete`
    tells that single records of polls or jobs went before their period did.
    """

    __slots__ = ("begin", "incomplete", "newest", "oldest", "tallies")

    def __init__(self, begin: datetime.datetime, poll: PollInfo) -> None:
        self.begin = begin
        self.oldest = self.newest = poll
        self.incomplete = False
        self.tallies: dict[tuple[str, str], Any] = {}


class Span:
    """The polls at or before one moment and since another, that one included.

    All arguments are optional `Moment`s; TypeError for anything else, ValueError for
    both `at` and `before`.  A job belongs to the span that its poll belongs to.
    """

    def __init__(
        self,
        at: Moment | None = None,
        before: Moment | None = None,
        since: Moment | None = None,
    ) -> None:
        if at is not None and before is not None:
            raise ValueError(
                f"expected one of `at` and `before`, found both: {at!r}, {before!r}"
            )
        self._at = _fixed(at)
        self._before = _fixed(before)
        self._since = _fixed(since)

    def too_new(self, poll: PollInfo) -> bool:
        if self._before is not None:
            return not _older(poll, self._before)
        return self._at is not None and _newer(poll, self._at)

    def too_old(self, poll: PollInfo) -> bool:
        return self._since is not None and _older(poll, self._since)

    def __contains__(self, poll: PollInfo) -> bool:
        return not (self.too_new(poll) or self.too_old(poll))


class Polls:
    """The records that are kept, `size` at most.  Any thread may call.

    The lock is the one that was given, or its own; no call waits for anything else.
    Iteration goes over a copy, so that polls may come meanwhile.
    """

    def __init__(
        self, size: int = 400, lock: AbstractContextManager | None = None
    ) -> None:
        if size < 1:
            raise ValueError(f"expected room for at least one poll, found {size!r}")
        self.size = size
        self._lock = threading.RLock() if lock is None else lock
        self._polls: deque[PollInfo] = deque()
        self._periods: deque[Period] = deque()
        self._horizon: datetime.datetime | None = None

    @property
    def horizon(self) -> datetime.datetime | None:
        """Since when no period is missing: naive, None before the first poll."""
        return self._horizon

    def add(self, poll: PollInfo) -> PollInfo:
        """Make `poll` the newest, and return it.

        Its key is counted down when the key is not below that of the poll before,
        because two polls began in one microsecond or the clock was set back.
        """
        with self._lock:
            if self._polls:
                poll.key = min(poll.key, self._polls[0].key - 1)
            poll.period = self._period(poll)
            self._polls.appendleft(poll)
            self._forget_periods()
            self._forget_polls()
        return poll

    def first(self) -> PollInfo:
        """Return the newest; ValueError when there is none."""
        return self._end(0)

    def last(self) -> PollInfo:
        """Return the oldest; ValueError when there is none."""
        return self._end(-1)

    def at(self, moment: Moment) -> PollInfo | None:
        """Return the newest that began at or before `moment`, or None."""
        return next(self._within(Span(at=moment)), None)

    def before(self, moment: Moment) -> PollInfo | None:
        """Return the newest that began before `moment`, or None."""
        return next(self._within(Span(before=moment)), None)

    def iter(
        self, start: Moment | None = None, stop: Moment | None = None
    ) -> Iterator[PollInfo]:
        """Iterate from the one at or before `start` to the last not before `stop`."""
        return self._within(Span(at=start, since=stop))

    def within(self, span: Span) -> Iterator[PollInfo]:
        """Iterate over those in the span, newest first."""
        return self._within(span)

    def periods(self) -> list[Period]:
        """Return what is kept, newest first."""
        with self._lock:
            return list(self._periods)

    def __len__(self) -> int:
        return len(self._polls)

    def __iter__(self) -> Iterator[PollInfo]:
        with self._lock:
            return iter(list(self._polls))

    def _end(self, index: int) -> PollInfo:
        with self._lock:
            if not self._polls:
                raise ValueError("there is no poll yet")
            return self._polls[index]

    def _within(self, span: Span) -> Iterator[PollInfo]:
        reached = itertools.dropwhile(span.too_new, self)
        return itertools.takewhile(lambda poll: not span.too_old(poll), reached)

    def _period(self, poll: PollInfo) -> Period:
        begin = self._begin(poll.utc_timestamp)
        if begin is None:
            self._periods[0].newest = poll
        else:
            self._periods.appendleft(Period(begin, poll))
        return self._periods[0]

    def _begin(self, now: datetime.datetime) -> datetime.datetime | None:
        """When the new period of a poll begins; None when it needs no new one."""
        if not self._periods:
            return now
        begin = self._periods[0].begin
        if now < begin - PERIOD:
            return now  # The clock was set back, and more than a little.
        passed = (now - begin) // PERIOD
        return begin + passed * PERIOD if passed > 0 else None

    def _forget_periods(self) -> None:
        periods = self._periods
        limit = periods[0].begin - (PERIODS_KEPT - 1) * PERIOD
        if self._horizon is None:
            self._horizon = periods[0].begin
        while len(periods) > PERIODS_KEPT or periods[-1].begin < limit:
            periods.pop()
            self._horizon = limit
        # Later than the newest when the clock was set back.
        self._horizon = min(self._horizon, periods[0].begin)

    def _forget_polls(self) -> None:
        while self._polls[-1].period not in self._periods:
            self._polls.pop()
        while len(self._polls) > self.size:
            self._polls.pop().period.incomplete = True


def naive(when: datetime.datetime) -> datetime.datetime:
    """Return `when` as a naive datetime in UTC, which records show."""
    if when.tzinfo is None:
        return when
    return when.astimezone(clock.UTC).replace(tzinfo=None)


def _fixed(moment: Moment | None) -> int | datetime.datetime | None:
    if isinstance(moment, datetime.timedelta):
        moment = clock.utcnow() - moment
    if isinstance(moment, datetime.datetime):
        return naive(moment)
    if moment is None or isinstance(moment, int):
        return moment
    raise TypeError(f"expected a poll key, a datetime or a timedelta, found {moment!r}")


def _older(poll: PollInfo, moment: int | datetime.datetime) -> bool:
    if isinstance(moment, int):
        return poll.key > moment
    return poll.utc_timestamp < moment


def _newer(poll: PollInfo, moment: int | datetime.datetime) -> bool:
    if isinstance(moment, int):
        return poll.key < moment
    return poll.utc_timestamp > moment
