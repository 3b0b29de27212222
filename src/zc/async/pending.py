# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The jobs that wait in a queue, as one sequence ordered by due time.

    front    jobs put back, ahead of all others
    inbox    where jobs are put; immediate ones are claimed from here
    later    jobs that a claim has passed because they were not due
    lanes    jobs that a claim has passed because their quotas were full,
             one list for each set of quota names

A put writes a bucket of the inbox and the length, which merge with everything.
A claim takes the least key among the heads of these, leaving out lanes without
room; whatever it must pass, it files away into `later` or a lane, so that
nothing is passed twice.  A job scheduled for later cannot be due before those
that stand ahead of it in the inbox, since these were due when they were put,
and that was earlier: so filing in passing is in time.

`later` and `lanes` are BTrees, written by dispatchers only.  If a process dies,
its transaction has happened or not: each job is in one place.

A ZEO server that resolves conflicts imports this module, so it imports no more
than persistent, BTrees and ZODB.
"""

from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from itertools import chain
from operator import itemgetter
from typing import Any

from BTrees.Length import Length
from BTrees.OOBTree import OOBTree
from persistent import Persistent

from .containers import MergingMapping
from .inbox import Bucket, Inbox
from .keys import first_key, key_micros, last_key

#: How many entries of the inbox are looked at to find the least key: putters
#: commit slightly out of the order of their keys.
WINDOW = 64

#: How many entries one claim files away at most.
FILE_AT_ONCE = 2000

Lane = tuple[str, ...]
_NO_LANE: Lane = ()


class Due:
    """A due entry, as `Pending.iter_due` yields it."""

    __slots__ = ("home", "job", "key", "lane")

    def __init__(self, key: int, entry: Any, home: Any):
        self.key = key
        self.job, self.lane = _unpack(entry)
        self.home = home

    def __lt__(self, other: "Due") -> bool:
        return self.key < other.key

    @property
    def entry(self) -> Any:
        """The form in which it is stored."""
        return _pack(self.job, self.lane)


def _pack(job: Any, lane: Lane) -> Any:
    return (job, lane) if lane else job


def _unpack(entry: Any) -> tuple[Any, Lane]:
    return entry if isinstance(entry, tuple) else (entry, _NO_LANE)


class Pending(Persistent):
    """See the module.  None of its methods commits."""

    def __init__(self):
        self.length = Length()
        self.inbox = Inbox()
        self.front = MergingMapping()
        self.aside = MergingMapping()
        self.later = OOBTree()
        self.lanes = OOBTree()

    # Putting.

    def put(self, key: int, job: Any, lane: Lane = _NO_LANE) -> None:
        """Add a job; a negative key goes to the front.  Never conflicts."""
        (self.front if key < 0 else self.inbox).add(key, _pack(job, lane))
        self.length.change(1)

    # Claiming.

    def iter_due(self, now: int, blocked: Callable[[Lane], bool]) -> Iterator[Due]:
        """The entries due at `now` (microseconds) whose lane has room, in order.

        `blocked` is asked again for each entry, since taking one may fill a
        quota.  Entries that are not taken stay where they are.
        """
        self._v_more_to_file = False
        return _Claim(self, now, blocked).run()

    @property
    def more_to_file(self) -> bool:
        """Whether the last claim stopped early, and more may be due behind."""
        return getattr(self, "_v_more_to_file", False)

    def take(self, due: Due) -> None:
        """Remove what `iter_due` yielded."""
        self._remove_from(due.home, due.key, due.lane)
        self.length.change(-1)

    def set_aside(self, due: Due) -> None:
        """Remove a job that cannot be loaded from the sequence, and keep it."""
        self.take(due)
        self.aside.add(due.key, due.job)

    def file(self, due: Due, home: OOBTree) -> None:
        """Move an entry into `later` or a lane."""
        self._remove_from(due.home, due.key, due.lane)
        home[due.key] = due.entry

    def lane(self, name: Lane) -> OOBTree:
        """The list of a lane, made when missing."""
        tree = self.lanes.get(name)
        if tree is None:
            tree = self.lanes[name] = OOBTree()
        return tree

    def _remove_from(self, home: Any, key: int, lane: Lane) -> None:
        if isinstance(home, MergingMapping):
            home.remove(key)
            return
        del home[key]
        if home is not self.later and not home:
            del self.lanes[lane]

    def next_due(self, now: int) -> int | None:
        """When the first job in `later` is due, in microseconds, or None."""
        if not self.later:
            return None
        return max(key_micros(self.later.minKey()), now)

    # The sequence.

    def __len__(self) -> int:
        return self.length()

    def __iter__(self) -> Iterator[Any]:
        return (due.job for due in self._sorted())

    def _sorted(self) -> list[Due]:
        return sorted(self._all())

    def _all(self) -> Iterator[Due]:
        homes = chain([self.front, self.later], self.lanes.values())
        for home in chain(homes, self.inbox.buckets()):
            for key, entry in home.items():
                yield Due(key, entry, home)

    def __getitem__(self, index: int) -> Any:
        return self._sorted()[index].job

    def pull(self, index: int = 0) -> Any:
        """Remove and return the job at `index`; IndexError when there is none."""
        due = self._sorted()[index]
        self.take(due)
        return due.job

    def remove(self, job: Any) -> None:
        """Remove `job`; LookupError when it is not here."""
        self.take(self._find(job))

    def relane(self, job: Any, lane: Lane) -> None:
        """Give `job` another lane; LookupError when it is not here."""
        due = self._find(job)
        if due.home is self.later:
            self.later[due.key] = _pack(job, lane)
        elif isinstance(due.home, MergingMapping):
            due.home.replace(due.key, _pack(job, lane))
        else:
            self._remove_from(due.home, due.key, due.lane)
            self.lane(lane)[due.key] = _pack(job, lane)

    def _find(self, job: Any) -> Due:
        """Where `job` is; first where one with its due time would have been filed."""
        for due in chain(self._filed_near(job), self._all()):
            if due.job is job:
                return due
        raise LookupError("the job is not pending")

    def _filed_near(self, job: Any) -> Iterator[Due]:
        micros = getattr(job, "_begin_after", None)
        if micros is None:
            return
        low, high = first_key(micros), last_key(micros)
        for tree in chain([self.later], self.lanes.values()):
            for key, entry in tree.items(low, high):
                yield Due(key, entry, tree)


class _Claim:
    """One walk over what is due; see `Pending.iter_due`."""

    def __init__(self, pending: Pending, now: int, blocked: Callable[[Lane], bool]):
        self.pending = pending
        self.now = now
        self.limit = last_key(now)
        self.blocked = blocked
        self.filed = 0
        self.heap: list[tuple[int, int, Due, Iterator[Due]]] = []

    def run(self) -> Iterator[Due]:
        for source in self._sources():
            self._advance(source)
        while self.heap:
            _, _, due, source = heappop(self.heap)
            if due.lane and self.blocked(due.lane):
                if not self._pass_blocked(due):
                    continue  # the rest of this lane waits as well
            else:
                yield due
            self._advance(source)

    def _sources(self) -> Iterator[Iterator[Due]]:
        pending = self.pending
        if len(pending.front):
            yield iter([Due(*item, pending.front) for item in pending.front.items()])
        if pending.later:
            yield self._of_tree(pending.later)
        for lane, tree in pending.lanes.items():
            if not (lane and self.blocked(lane)):
                yield self._of_tree(tree)
        yield self._of_inbox()

    def _advance(self, source: Iterator[Due]) -> None:
        due = next(source, None)
        if due is not None:
            heappush(self.heap, (due.key, id(source), due, source))

    def _of_tree(self, tree: OOBTree) -> Iterator[Due]:
        """The due entries of a BTree that may lose them meanwhile."""
        key = None
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
        window: list[Due] = []
        entries = self._inbox_entries()
        for due in entries:
            heappush(window, due)
            if len(window) >= WINDOW:
                yield heappop(window)
        while window:
            yield heappop(window)

    def _inbox_entries(self) -> Iterator[Due]:
        for bucket in self.pending.inbox.buckets():
            for key, entry in bucket.items():
                due = Due(key, entry, bucket)
                if key <= self.limit:
                    yield due
                elif self._may_file():
                    self.pending.file(due, self.pending.later)
                else:
                    return

    def _may_file(self) -> bool:
        self.filed += 1
        if self.filed > FILE_AT_ONCE:
            self.pending._v_more_to_file = True
            return False
        return True

    def _pass_blocked(self, due: Due) -> bool:
        """File an entry whose quotas are full; False if it was in its lane."""
        home = due.home
        if not isinstance(home, Bucket | MergingMapping) and home is not (
            self.pending.later
        ):
            return False
        if self._may_file():
            self.pending.file(due, self.pending.lane(due.lane))
        return self.filed <= FILE_AT_ONCE
