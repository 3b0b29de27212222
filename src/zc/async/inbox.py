# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The inbox: where putters write, a tree of small buckets that all merge.

A putter writes the bucket that the tail names.  When that is full it makes a
successor, which two may do at once: both stay successors, so the chain is in
fact a tree, nearly always without branches.  The tail follows the longest one.

    frontier                                       tail
       |                                            |
    [passed] -> [passed] -> [ emptied ] -> [ ..x. ] -> [ xx.. ]
       re-checked for                \\-> [ x ]   made by a putter that
       late arrivals                             saw the same full bucket

Who writes what: putters add to buckets, link successors, move the tail; claimers
remove from buckets; housekeeping (one dispatcher at a time) moves the frontier.
All but the last merge, so putters never see a conflict.

Late arrivals.  A transaction that stays open for long still sees an old tail.  What it adds to
a bucket that was emptied meanwhile is merged into it, so emptied buckets stay in
place for `KEEP` seconds after the frontier has passed them, and are looked at
again, ever more rarely.  Then they are closed: adding to one conflicts, the
putter's transaction is repeated and sees the new tail.  Nothing is lost at any
point, whoever dies.

A ZEO server that resolves conflicts imports this module, so it imports no more
than persistent, BTrees and ZODB.
"""

import time
from collections.abc import Iterable, Iterator
from typing import Any

from BTrees.LOBTree import LOBTree
from persistent import Persistent
from ZODB.POSException import ConflictError

from .containers import MergingMapping, merge_dicts, same_reference

#: How many entries a bucket takes before a putter makes a successor.
BUCKET_SIZE = 16

#: Seconds for which a passed bucket is kept for late arrivals.
KEEP = 600

#: Seconds that an emptied bucket stays in the frontier before it is passed.
LINGER = 10

#: Entries are (job, lane) or, to save bytes, only the job for the empty lane.
Entry = Any


class Bucket(MergingMapping):
    """Entries by key, successors, and whether it is closed.

    The state is the dict of entries, or a tuple with the other two.
    """

    successors: tuple = ()
    closed = False
    seq = 0

    def __init__(self, seq: int = 0):
        super().__init__()
        self.seq = seq

    def __getstate__(self) -> tuple:
        if self.successors or self.closed:
            return self._data, self.seq, self.successors, self.closed
        return self._data, self.seq

    def __setstate__(self, state: tuple) -> None:
        data, seq, successors, closed = _full(state)
        Persistent.__setstate__(
            self,
            {"_data": data, "seq": seq, "successors": successors, "closed": closed},
        )

    def _p_resolveConflict(self, old: tuple, saved: tuple, new: tuple) -> tuple:
        old, saved, new = _full(old), _full(saved), _full(new)
        merged = merge_dicts(old[0], saved[0], new[0])
        closed = saved[3] or new[3]
        if closed and merged:
            raise ConflictError("the bucket was closed; there is a newer one")
        successors = list(saved[2])
        for one in new[2]:
            if not any(same_reference(one, known) for known in successors):
                successors.append(one)
        return merged, saved[1], tuple(successors), closed

    @property
    def full(self) -> bool:
        """Whether a putter should go on to a successor."""
        return len(self._data) >= BUCKET_SIZE or bool(self.successors) or self.closed


def _full(state: tuple) -> tuple:
    return state if len(state) == 4 else (*state, (), False)


class Tail(Persistent):
    """Which bucket putters write: the state is the pair (its seq, the bucket)."""

    def __init__(self, bucket: Bucket):
        self.bucket = bucket

    def __getstate__(self) -> tuple:
        return self.bucket.seq, self.bucket

    def __setstate__(self, state: tuple) -> None:
        Persistent.__setstate__(self, {"bucket": state[1]})

    def _p_resolveConflict(self, old: tuple, saved: tuple, new: tuple) -> tuple:
        return new if new[0] > saved[0] else saved


class Inbox(Persistent):
    """See the module.  Its own record is written by housekeeping only."""

    def __init__(self):
        first = Bucket()
        self.tail = Tail(first)
        self._frontier: tuple = (first,)
        self._passed = LOBTree()  # when passed, in microseconds -> buckets

    # For putters.

    def add(self, key: int, entry: Entry) -> None:
        """Add an entry."""
        bucket = self.tail.bucket
        while bucket.full:
            bucket = self._successor(bucket)
        bucket.add(key, entry)

    def _successor(self, full: Bucket) -> Bucket:
        if full.successors:
            return full.successors[0]
        bucket = Bucket(full.seq + 1)
        full.successors += (bucket,)
        self.tail.bucket = bucket
        self.tail._p_changed = True
        return bucket

    # For claimers.

    def buckets(self) -> Iterator[Bucket]:
        """The buckets that may hold something, in the order of their making.

        Leaves out the first ones that this connection has seen emptied: see
        `housekeep`.
        """
        self._prune()
        pending, seen = list(self._live), set()
        while pending:
            bucket = pending.pop(0)
            if id(bucket) not in seen:
                seen.add(id(bucket))
                yield bucket
                pending[:0] = bucket.successors

    def _prune(self) -> None:
        """Remember how far the emptied buckets go, in this connection only."""
        live = self._live
        while live and _is_done(live[0]):
            done = live.pop(0)
            self._v_done[done._p_oid] = (time.monotonic(), done)
            live[:0] = [one for one in done.successors if one not in live]

    @property
    def _live(self) -> list:
        try:
            return self._v_live
        except AttributeError:
            self._v_done: dict = {}
            self._v_touched: set = set()
            self._v_live = list(self._frontier)
            return self._v_live

    def touched(self, oids: Iterable[bytes]) -> bool:
        """Note what another transaction wrote; whether `housekeep` is called for."""
        if self._live is not None and self._v_done:
            self._v_touched.update(oid for oid in oids if oid in self._v_done)
        return bool(getattr(self, "_v_touched", None))

    # For dispatchers.

    def housekeep(self, now: int) -> None:
        """Move the frontier past emptied buckets, fetch late arrivals.

        `now` is in microseconds since the epoch.  Does not commit.  To be called
        every few seconds, and when `touched` says so.
        """
        self._prune()
        for oid in self._v_touched & set(self._v_done):
            self._fetch(self._v_done[oid][1])
        self._v_touched.clear()
        self._pass(now)
        self._revisit(now)

    def _fetch(self, bucket: Bucket) -> None:
        """Move what came late to the tail, where claimers find it."""
        for key in list(bucket):
            self.add(key, bucket.remove(key))

    def _pass(self, now: int) -> None:
        limit = time.monotonic() - LINGER
        passed = [one for at, one in self._v_done.values() if at <= limit]
        if not passed:
            return
        frontier = list(self._frontier)
        for bucket in passed:
            del self._v_done[bucket._p_oid]
            self._fetch(bucket)
            if bucket in frontier:
                at = frontier.index(bucket)
                frontier[at : at + 1] = [
                    one for one in bucket.successors if one not in frontier
                ]
        self._frontier = tuple(frontier)
        while now in self._passed:
            now += 1
        self._passed[now] = tuple((len(one.successors), one) for one in passed)

    def _revisit(self, now: int) -> None:
        """Look at passed buckets when their age doubles; close the old ones."""
        for at in list(self._passed.keys(max=now - 2 * LINGER * 1_000_000)):
            age = (now - at) // 1_000_000
            if age >= KEEP:
                self._look(self._passed.pop(at), close=True)
                return  # one lot at a time: each of its buckets is written
            if self._checks.get(at, 0) * 2 <= age:
                self._checks[at] = age
                self._look(self._passed[at])

    @property
    def _checks(self) -> dict:
        try:
            return self._v_checks
        except AttributeError:
            self._v_checks: dict = {}
            return self._v_checks

    def _look(self, passed: tuple, close: bool = False) -> None:
        for count, bucket in passed:
            self._fetch(bucket)
            new = bucket.successors[count:]
            if new:  # made by a late putter that saw this bucket full
                self._frontier += new
                self._live.extend(new)
            if close:
                bucket.closed = True
                bucket.successors = ()


def _is_done(bucket: Bucket) -> bool:
    """Emptied, by a committed transaction, and not where putters write now."""
    return (
        not len(bucket)
        and bool(bucket.successors)
        and not bucket._p_changed
        and bucket._p_oid is not None
    )
