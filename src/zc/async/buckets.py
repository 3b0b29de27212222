# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The buckets of the inbox: small mappings that merge, linked to a tree.

A ZEO server that resolves conflicts imports this module, so it imports no more
than persistent, BTrees and ZODB.
"""

from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Any

from persistent import Persistent
from ZODB.POSException import ConflictError

from .containers import MergingMapping, merge_dicts, same_reference

#: How many entries a bucket takes before a putter makes a successor.
SIZE = 16

#: Entries are (job, lane) or, to save bytes, only the job for the empty lane.
Entry = Any


class Bucket(MergingMapping):
    """Entries by key, successors, and whether it is closed.

    The state is the dict of entries and the place in its branch, or a tuple with
    the other two.
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
        successors = list(saved[2])
        for one in new[2]:
            if not any(same_reference(one, known) for known in successors):
                successors.append(one)
        closed = saved[3] or new[3]
        if closed and (merged or successors):
            # Nobody would look into it, or past it, again.
            raise ConflictError("the bucket was closed; there is a newer one")
        return merged, saved[1], tuple(successors), closed

    @property
    def full(self) -> bool:
        """Whether a putter should go on to a successor."""
        return len(self._data) >= SIZE or bool(self.successors) or self.closed

    def take_all(self) -> list[tuple[int, Entry]]:
        """Remove and return the entries."""
        items = self.items()
        if items:
            self._data = {}
        return items


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


def walk(roots: Iterable[Bucket]) -> Iterator[Bucket]:
    """The buckets that can be reached, those with the least keys first."""
    numbers = count()
    heap = [(_least(bucket, 0), next(numbers), bucket) for bucket in roots]
    heapify(heap)
    met = {id(bucket) for _, _, bucket in heap}
    while heap:
        least, _, bucket = heappop(heap)
        successors = bucket.successors
        yield bucket
        for one in successors:
            if id(one) not in met:
                met.add(id(one))
                heappush(heap, (_least(one, least), next(numbers), one))


def _least(bucket: Bucket, otherwise: int) -> int:
    return min(bucket._data, default=otherwise)
