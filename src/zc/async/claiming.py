# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""One walk over the jobs that are due, from the heads of all places they wait in.

A ZEO server that resolves conflicts imports this module, so it imports no more
than persistent, BTrees and ZODB.
"""

from collections.abc import Callable, Iterable, Iterator
from heapq import heappop, heappush
from typing import Any

from BTrees.OOBTree import OOBTree

from .buckets import Bucket
from .containers import MergingMapping
from .keys import last_key

#: How many entries of the inbox are looked at to find the least key: putters
#: commit slightly out of the order of their keys.
WINDOW = 64

#: How many entries one claim files away at most.
FILE_AT_ONCE = 2000

Lane = tuple[str, ...]
NO_LANE: Lane = ()
Blocked = Callable[[Lane], bool]
Overdue = Callable[[Any], bool]


def pack(job: Any, lane: Lane) -> Any:
    """The form in which an entry is stored."""
    return (job, lane) if lane else job


class Due:
    """A due entry: its job, its key, its lane, and the mapping that holds it."""

    __slots__ = ("home", "job", "key", "lane")

    def __init__(self, key: int, entry: Any, home: Any):
        self.key = key
        self.job, self.lane = entry if isinstance(entry, tuple) else (entry, NO_LANE)
        self.home = home

    def __lt__(self, other: "Due") -> bool:
        return self.key < other.key

    @property
    def entry(self) -> Any:
        """The form in which it is stored."""
        return pack(self.job, self.lane)


class Place:
    """How far somebody has looked who leaves most entries where they are."""

    def __init__(self) -> None:
        #: The last keys seen, of lanes by their names, of `later` by None.
        self.keys: dict[Lane | None, int] = {}
        #: The bucket of the inbox to go on with, and what was seen from there on.
        self.bucket: Bucket | None = None
        self.seen: dict[int, Bucket] = {}


class Claim:
    """One walk; see `Pending.iter_due`."""

    def __init__(
        self,
        pending: Any,
        now: int,
        blocked: Blocked,
        overdue: Overdue,
        place: Place | None = None,
    ):
        self.pending = pending
        self.limit = last_key(now)
        self.blocked = blocked
        self.overdue = overdue
        self.place = Place() if place is None else place
        self.filed = 0
        self.heap: list[tuple[int, int, Due, Iterator[Due]]] = []
        self.window: list[Due] = []
        self.buckets: list[Bucket] = []

    def run(self) -> Iterator[Due]:
        """The due entries in the order of their keys."""
        self._file(self.pending.dated.buckets())
        for source in list(self._sources()):
            self._advance(source)
        try:
            yield from self._merged()
            self._advance(self._of_late())
            yield from self._merged()
        finally:
            self._note_bucket()

    def _merged(self) -> Iterator[Due]:
        while self.heap:
            _, _, due, source = heappop(self.heap)
            if self._has_room(due):
                self._note(due)
                yield due
            elif not self._pass_blocked(due):
                continue  # the rest of this lane waits as well
            self._advance(source)

    def _sources(self) -> Iterator[Iterator[Due]]:
        pending = self.pending
        if len(pending.front):
            yield iter(
                [Due(key, entry, pending.front) for key, entry in pending.front.items()]
            )
        if pending.later:
            yield self._of_tree(pending.later, None)
        for lane, tree in pending.lanes.items():
            yield self._of_tree(tree, lane)
        yield self._of_inbox()

    def _has_room(self, due: Due) -> bool:
        return not due.lane or not self.blocked(due.lane) or self.overdue(due.job)

    def _advance(self, source: Iterator[Due]) -> None:
        due = next(source, None)
        if due is not None:
            heappush(self.heap, (due.key, id(source), due, source))

    def _of_tree(self, tree: OOBTree, name: Lane | None) -> Iterator[Due]:
        """The due entries of a BTree that may lose them meanwhile."""
        key = self.place.keys.get(name)
        while True:
            try:
                key = tree.minKey(None if key is None else key + 1)
            except ValueError:
                return
            if key > self.limit:
                return
            yield Due(key, tree[key], tree)

    def _of_inbox(self) -> Iterator[Due]:
        """The due entries of the inbox, least keys first within a window."""
        for due in self._inbox_entries():
            heappush(self.window, due)
            if len(self.window) >= WINDOW:
                yield heappop(self.window)
        while self.window:
            yield heappop(self.window)

    def _inbox_entries(self) -> Iterator[Due]:
        for bucket in self.pending.inbox.buckets(self.place.bucket):
            self.buckets.append(bucket)
            for key, entry in bucket.items():
                if key in self.place.seen:
                    continue
                due = Due(key, entry, bucket)
                if key <= self.limit:
                    yield due
                elif self._may_file():  # the putter's clock is ahead of ours
                    self.pending.file(due, self.pending.later)
                else:
                    return

    def _of_late(self) -> Iterator[Due]:
        """The due entries that came late, for one who takes jobs by hand."""
        found = []
        for inbox in (self.pending.inbox, self.pending.dated):
            found += self._file(inbox.late_buckets())
        yield from sorted(due for due in found if due.key <= self.limit)

    # What a claim must pass.

    def _file(self, buckets: Iterable[Bucket]) -> list[Due]:
        """File what is in `buckets` by its due time; return what was filed."""
        filed: list[Due] = []
        for bucket in buckets:
            for key, entry in bucket.items():
                if not self._may_file():
                    return filed
                due = Due(key, entry, bucket)
                filed.append(self.pending.file(due, self.pending.later))
        return filed

    def _may_file(self) -> bool:
        self.filed += 1
        if self.filed > FILE_AT_ONCE:
            self.pending.stop_early()
            return False
        return True

    def _pass_blocked(self, due: Due) -> bool:
        """File an entry whose quotas are full; False if that ends its source."""
        pending = self.pending
        if not isinstance(due.home, MergingMapping) and due.home is not pending.later:
            return False  # it is in its lane
        if not self._may_file():
            return False
        pending.file(due, pending.lane(due.lane))
        return True

    # Where to go on.

    def _note(self, due: Due) -> None:
        if isinstance(due.home, Bucket):
            self.place.seen[due.key] = due.home
        elif not isinstance(due.home, MergingMapping):
            name = None if due.home is self.pending.later else due.lane
            self.place.keys[name] = due.key

    def _note_bucket(self) -> None:
        """Remember the first bucket that has an entry nobody has looked at."""
        if not self.buckets:
            return
        waiting = {id(due.home) for due in self.window}
        waiting.update(id(due.home) for _, _, due, _ in self.heap)
        first = len(self.buckets) - 1
        for number, bucket in enumerate(self.buckets):
            if id(bucket) in waiting:
                first = number
                break
        left = {id(bucket) for bucket in self.buckets[:first]}
        place = self.place
        place.bucket = self.buckets[first]
        place.seen = {
            key: bucket for key, bucket in place.seen.items() if id(bucket) not in left
        }
