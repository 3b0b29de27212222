# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Keeping an inbox tidy: done by dispatchers every few seconds.

Buckets that were emptied stay where they are for `LINGER` seconds; then the
frontier passes them.  A transaction that stays open for long still sees an old
tail, and what it adds to an emptied bucket is merged into it.  So passed buckets
are kept for `KEEP` seconds.  A dispatcher hears of the late commit
(`Inbox.touched`) and fetches what came; without hearing it looks again, ever more
rarely, so that a job is found after at most the time that its putter took.  Then
the bucket is closed: adding to it conflicts, the putter's transaction is repeated
and sees the new tail.  Nothing is lost at any point, whoever dies.

Two dispatchers that do this at once conflict, and one does it again later.
"""

from collections.abc import Iterable

from persistent import Persistent

from . import clock
from .buckets import Bucket, Entry, walk
from .inbox import Done, Inbox

#: Seconds that an emptied bucket stays in the frontier before it is passed.
LINGER = 10

#: Seconds for which a passed bucket is kept for late arrivals.
KEEP = 600

#: How many buckets are passed, or looked through for stragglers, in one go.
AT_ONCE = 2000

#: How many buckets with few entries may precede the others.
SPARSE = 32

_SECOND = 1_000_000


class Lot(Persistent):
    """Buckets that were passed together: pairs with the successors they had."""

    def __init__(self, buckets: Iterable[Bucket]):
        self.items = tuple((bucket, len(bucket.successors)) for bucket in buckets)


class Housekeeping:
    """Once around the house, in one transaction.

    `now` is in microseconds since the epoch.
    """

    def __init__(self, inbox: Inbox, now: int):
        self.inbox = inbox
        self.now = now
        self.found: list[tuple[int, Entry]] = []

    def run(self) -> list[tuple[int, Entry]]:
        """Do it; return what is to be filed elsewhere.  Does not commit.

        That is what came late, and what was left behind among emptied buckets; it
        is removed from the inbox here.
        """
        self.seen = self.inbox.prune()
        self.seen.recall_lots(self.inbox.passed)
        self.seen.kept_at = clock.monotonic()
        self._see_to_touched()
        self._pass()
        self._revisit()
        self._gather_stragglers()
        return self.found

    def _see_to_touched(self) -> None:
        """Fetch what was added; what was fetched is looked at once more.

        For this transaction may fail, and nobody would tell us again.
        """
        seen = self.seen
        for oid in list(seen.touched):
            if oid in seen.done:
                found = self._fetch(seen.done[oid])
            elif oid in seen.passed:
                found = self._look(seen.passed[oid], oid)
            else:
                found = False
            if not found:
                seen.touched.discard(oid)

    def _fetch(self, done: Done) -> bool:
        """Take what came late to an emptied bucket; whether something did."""
        bucket = done.bucket
        items, late = bucket.take_all(), bucket.successors[done.known :]
        self.found.extend(items)
        self.seen.live.extend(late)
        done.known += len(late)
        return bool(items or late)

    def _pass(self) -> None:
        """Move the frontier past what was emptied a while ago."""
        limit = clock.monotonic() - LINGER
        done = self.seen.done
        ready = [one for one in done.values() if one.since <= limit][:AT_ONCE]
        if not ready:
            return
        frontier = list(self.inbox.frontier)
        for one in ready:
            del done[one.bucket._p_oid]
            self._fetch(one)
            _replace(frontier, one.bucket)
        self._move_frontier(frontier)
        passed, at = self.inbox.passed, self.now
        while at in passed:
            at += 1
        passed[at] = Lot(one.bucket for one in ready)
        self.seen.recall_lots(passed)

    def _move_frontier(self, frontier: Iterable[Bucket]) -> None:
        self.inbox.frontier = self.seen.frontier = tuple(frontier)

    def _revisit(self) -> None:
        """Look at what was passed when its age has doubled; close the oldest."""
        ages, closed = self.seen.ages, False
        for at in list(self.inbox.passed.keys(max=self.now - 2 * LINGER * _SECOND)):
            age = (self.now - at) // _SECOND
            if age >= KEEP and not closed:
                closed = True  # one at a time: each of its buckets is written
                self._close(at)
            elif ages.get(at, 0) * 2 <= age and not self._look(at):
                ages[at] = age

    def _look(self, at: int, only: bytes | None = None) -> bool:
        """Fetch what came late to passed buckets; whether something did."""
        lot, before, late = self.inbox.passed[at], len(self.found), []
        items = list(lot.items)
        for number, (bucket, known) in enumerate(items):
            if only is None or bucket._p_oid == only:
                self.found.extend(bucket.take_all())
                late.extend(bucket.successors[known:])
                items[number] = bucket, len(bucket.successors)
        if late:  # made by putters that saw a bucket full
            lot.items = tuple(items)
            self._move_frontier((*self.inbox.frontier, *late))
            self.seen.live.extend(late)
        return bool(late) or len(self.found) > before

    def _close(self, at: int) -> None:
        self._look(at)
        for bucket, _ in self.inbox.passed.pop(at).items:
            bucket.closed = True
            bucket.successors = ()
        self.seen.recall_lots(self.inbox.passed)

    def _gather_stragglers(self) -> None:
        """Take what filters left behind, so that claimers do not step over holes."""
        buckets: list[Bucket] = []
        entries = 0
        for bucket in walk(self.seen.live):
            entries += len(bucket)
            if entries > 2 * (len(buckets) + 1) or len(buckets) == AT_ONCE:
                break
            buckets.append(bucket)
        if len(buckets) > SPARSE:
            for bucket in buckets:
                self.found.extend(bucket.take_all())


def _replace(frontier: list, bucket: Bucket) -> None:
    """Put the successors of `bucket` where it is in the frontier."""
    at = frontier.index(bucket)
    frontier[at : at + 1] = [one for one in bucket.successors if one not in frontier]
