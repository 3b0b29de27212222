# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
r"""The inbox: where putters write, a tree of small buckets that all merge.

A putter writes the bucket that the tail names.  When that is full it makes a
successor, which two may do at once: both stay successors, so the chain is in
fact a tree, nearly always without branches.  The tail follows the longest one.

    frontier                                       tail
       |                                            |
    [passed] -> [passed] -> [ emptied ] -> [ ..x. ] -> [ xx.. ]
       looked at again           \-> [ x ]   made by a putter that
       for late arrivals                     saw the same full bucket

Who writes what: putters add to buckets, link successors, move the tail; claimers
remove from buckets; housekeeping (one dispatcher at a time) moves the frontier.
All but the last merge, so putters never see a conflict.

A ZEO server that resolves conflicts imports this module, so it imports no more
than persistent, BTrees and ZODB.
"""

from collections.abc import Iterable, Iterator

from BTrees.LOBTree import LOBTree
from persistent import Persistent

from . import clock
from .buckets import Bucket, Entry, Tail, walk

#: For how many seconds a connection counts as one that keeps house.
COUNTS = 60

#: For how many seconds one that does not looks into a bucket it has seen emptied.
LOOKS = 600


class Done:
    """A bucket that was seen emptied, since when, and how many successors it had."""

    __slots__ = ("bucket", "known", "since")

    def __init__(self, bucket: Bucket):
        self.bucket = bucket
        self.known = len(bucket.successors)
        self.since = clock.monotonic()


class Seen:
    """What one connection has seen of an inbox."""

    def __init__(self) -> None:
        self.frontier: tuple = ()
        #: The first buckets that may hold something.
        self.live: list[Bucket] = []
        #: The emptied ones between the frontier and those, in order, by oid.
        self.done: dict[bytes, Done] = {}
        #: When each bucket that is kept was passed, by whomever; and the reverse.
        self.passed: dict[bytes, int] = {}
        self.lots: dict[int, list[bytes]] = {}
        #: How old each lot was when this connection found nothing late in it.
        self.ages: dict[int, int] = {}
        #: Emptied buckets that somebody wrote meanwhile.
        self.touched: set[bytes] = set()
        self.kept_at: float | None = None

    def recall(self, frontier: tuple) -> None:
        """Begin anew if others, or an abort, moved the frontier."""
        if frontier != self.frontier:
            self.frontier = frontier
            self.live = list(frontier)
            self.done = {}

    def recall_lots(self, passed: LOBTree) -> None:
        """Know all that was passed, by whomever."""
        lots = set(passed.keys())
        for at in self.lots.keys() - lots:
            for oid in self.lots.pop(at):
                self.passed.pop(oid, None)
            self.ages.pop(at, None)
        for at in lots - self.lots.keys():
            self.lots[at] = [bucket._p_oid for bucket, _ in passed[at].items]
            self.passed.update(dict.fromkeys(self.lots[at], at))

    def is_kept(self) -> bool:
        """Whether this connection keeps house: then it hears of late arrivals."""
        return self.kept_at is not None and clock.monotonic() - self.kept_at < COUNTS


class Memory(Persistent):
    """Holds a `Seen`, in the memory of one connection.

    Never written, and never dropped from the connection's cache: so neither a
    change of the inbox nor a long walk makes the connection forget.
    """

    def _p_deactivate(self) -> None:
        """Stay."""

    _v_seen: Seen

    @property
    def seen(self) -> Seen:
        """What this connection has seen."""
        try:
            return self._v_seen
        except AttributeError:
            self._v_seen = Seen()
            return self._v_seen


class Inbox(Persistent):
    """See the module.  Its own record is written by housekeeping only."""

    def __init__(self):
        first = Bucket()
        self.tail = Tail(first)
        self.frontier: tuple = (first,)
        self.passed = LOBTree()  # when, in microseconds -> Lot
        self.memory = Memory()

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

    def buckets(self, start: Bucket | None = None) -> Iterator[Bucket]:
        """The buckets that may hold something, about in the order of their keys.

        Leaves out the first ones that this connection has seen emptied.  `start`
        is where to begin instead.
        """
        seen = self.prune()
        if start is not None and not start.closed:
            return walk([start])
        return walk(seen.live)

    def late_buckets(self) -> Iterator[Bucket]:
        """Emptied buckets to which something came late, and what follows them.

        Only for connections that do not keep house: those that do hear of it.
        """
        seen = self.prune()
        if seen.is_kept():
            return
        limit = clock.monotonic() - LOOKS
        for done in list(seen.done.values()):
            if done.since >= limit:
                bucket = done.bucket
                if len(bucket):
                    yield bucket
                yield from walk(bucket.successors[done.known :])

    def all_buckets(self) -> Iterator[Bucket]:
        """All that hold something, wherever.  The cost grows with those passed."""
        met: set[int] = set()
        for bucket in walk(self.frontier):
            met.add(id(bucket))
            yield bucket
        for lot in self.passed.values():
            for bucket, known in lot.items:
                for one in (bucket, *walk(bucket.successors[known:])):
                    if id(one) not in met:
                        met.add(id(one))
                        yield one

    def prune(self) -> Seen:
        """Remember how far the emptied buckets go."""
        seen = self.memory.seen
        seen.recall(self.frontier)
        if not self._is_certain():
            return seen
        live, index = seen.live, 0
        while index < len(live):
            bucket = live[index]
            if not self._is_done(bucket):
                index += 1
                continue
            del live[index]
            seen.done[bucket._p_oid] = Done(bucket)
            live.extend(one for one in bucket.successors if one not in live)
        return seen

    def _is_certain(self) -> bool:
        # What a savepoint has written looks as if it were committed.
        return getattr(self._p_jar, "_savepoint_storage", None) is None

    def _is_done(self, bucket: Bucket) -> bool:
        """Emptied, by a committed transaction, and not where putters write now."""
        return (
            not len(bucket)
            and bucket is not self.tail.bucket
            and not bucket._p_changed
            and bucket._p_oid is not None
        )

    # For dispatchers: see `housekeeping`.

    def touched(self, oids: Iterable[bytes]) -> bool:
        """Note what another transaction wrote; whether housekeeping is called for."""
        seen = self.memory.seen
        seen.recall_lots(self.passed)
        seen.touched.update(
            oid for oid in oids if oid in seen.done or oid in seen.passed
        )
        return bool(seen.touched)
