# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Persistent containers: a mapping that merges, one that knows parents, a history.

A ZEO server that resolves conflicts imports this module, so it imports no more
than persistent, BTrees and ZODB.
"""

import datetime
from collections.abc import Iterator
from typing import Any

from BTrees.LOBTree import LOBTree
from BTrees.OOBTree import OOBTree
from persistent import Persistent
from ZODB.POSException import ConflictError

from . import clock
from .keys import key_micros, last_key, new_key

_ABSENT = object()


def same_reference(one: Any, other: Any) -> bool:
    """Equality of values in states; references are equal if they lead to one object.

    In conflict resolution references are `PersistentReference` objects, whose
    own comparison raises when they differ.
    """
    if one is other:
        return True
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(same_reference, one, other))
    oids = getattr(one, "oid", None), getattr(other, "oid", None)
    if None not in oids:
        return oids[0] == oids[1] and one.database_name == other.database_name
    try:
        return bool(one == other)
    except ValueError:
        return False


def merge_dicts(old: dict, saved: dict, new: dict) -> dict:
    """Three-way merge of states; ConflictError when both changed the same key.

    Also when both did the same to it: the same job removed twice was claimed
    twice.
    """
    merged = dict(saved)
    for key in {*old, *new}:
        before, after = old.get(key, _ABSENT), new.get(key, _ABSENT)
        if same_reference(before, after):
            continue
        if not same_reference(before, saved.get(key, _ABSENT)):
            raise ConflictError(f"key {key!r} was changed twice")
        if after is _ABSENT:
            merged.pop(key, None)
        else:
            merged[key] = after
    return merged


class MergingMapping(Persistent):
    """A small mapping of integers to values, stored as one record.

    Any two changes of different keys merge, also when one of them empties it.
    """

    _data: dict

    def __init__(self):
        self._data = {}

    def __getstate__(self) -> Any:
        return self._data

    def __setstate__(self, state: Any) -> None:
        Persistent.__setstate__(self, {"_data": state})

    def _p_resolveConflict(self, old: dict, saved: dict, new: dict) -> dict:
        return merge_dicts(old, saved, new)

    def add(self, key: int, value: Any) -> None:
        """Add a new key; KeyError if it is there."""
        if key in self._data:
            raise KeyError(f"key {key} is there already")
        self._data[key] = value
        self._p_changed = True

    def remove(self, key: int) -> Any:
        """Remove a key and return its value."""
        value = self._data.pop(key)
        self._p_changed = True
        return value

    def replace(self, key: int, value: Any) -> None:
        """Give an existing key another value."""
        if key not in self._data:
            raise KeyError(key)
        self._data[key] = value
        self._p_changed = True

    def get(self, key: int, default: Any = None) -> Any:
        """The value at `key`, or `default`."""
        return self._data.get(key, default)

    def __getitem__(self, key: int) -> Any:
        return self._data[key]

    def __contains__(self, key: int) -> bool:
        return key in self._data

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._data))

    keys = __iter__

    def values(self) -> list:
        """The values in the order of their keys."""
        return [self._data[key] for key in sorted(self._data)]

    def items(self) -> list[tuple[int, Any]]:
        """The pairs in the order of their keys."""
        return sorted(self._data.items(), key=_first)


def _first(pair: tuple) -> Any:
    return pair[0]


class Mapping(Persistent):
    """A mapping that tells its values their name and parent.

    For few, rarely changed things: queues, dispatchers, agents, quotas.
    """

    name: Any = None
    parent: Any = None

    def __init__(self):
        self._items = OOBTree()

    def _check(self, key: Any, value: Any) -> None:
        """Raise ValueError if `value` does not belong here."""

    def _key(self, key: Any) -> Any:
        """The form in which `key` is stored."""
        return key

    def _parent_of_values(self) -> Any:
        return self

    def __setitem__(self, key: Any, value: Any) -> None:
        self._check(key, value)
        key = self._key(key)
        old = self._items.get(key)
        if old is value:
            return
        if value.parent is not None:
            raise ValueError(f"{value!r} has a parent already: {value.parent!r}")
        if old is not None:
            self._forget(old)
        self._items[key] = value
        value.parent = self._parent_of_values()
        value.name = key

    def __delitem__(self, key: Any) -> None:
        value = self[key]
        del self._items[self._key(key)]
        self._forget(value)

    def _forget(self, value: Any) -> None:
        value.parent = None
        value.name = None

    def __getitem__(self, key: Any) -> Any:
        value = self.get(key, _ABSENT)
        if value is _ABSENT:
            raise KeyError(key)
        return value

    def get(self, key: Any, default: Any = None) -> Any:
        """The value at `key`, or `default`."""
        try:
            return self._items.get(self._key(key), default)
        except TypeError:  # a key that does not compare with those here
            return default

    def __contains__(self, key: Any) -> bool:
        return self.get(key, _ABSENT) is not _ABSENT

    def __len__(self) -> int:
        return len(self._items)

    def __bool__(self) -> bool:
        return len(self) > 0

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._items))

    def keys(self) -> list:
        """The keys, in order."""
        return list(self._items.keys())

    def values(self) -> list:
        """The values, in the order of their keys."""
        return list(self._items.values())

    def items(self) -> list[tuple[Any, Any]]:
        """The pairs, in the order of the keys."""
        return list(self._items.items())

    def pop(self, key: Any, default: Any = _ABSENT) -> Any:
        """Remove and return the value at `key`."""
        value = self.get(key, default)
        if value is _ABSENT:
            raise KeyError(key)
        if key in self:
            del self[key]
        return value

    def update(self, other: Any) -> None:
        """Add the pairs of another mapping."""
        for key, value in dict(other).items():
            self[key] = value


class Chunk(MergingMapping):
    """Some of a history's entries."""


def _backwards(chunks: Any) -> Iterator[Any]:
    """The values of a BTree from its end, without loading all of it."""
    if chunks:
        key = chunks.maxKey()
        while True:
            yield chunks[key]
            try:
                key = chunks.maxKey(key - 1)
            except ValueError:
                return


class History(Persistent):
    """Values by the time at which they were added, the newest first.

    Kept in chunks, so that an addition rewrites little, and whole chunks are
    dropped when all in them are older than `max_age` seconds.  A chunk spans no
    more than a part of that, however little is added.
    """

    max_age = 7 * 24 * 3600
    chunk_size = 32
    chunks_in_age = 7

    def __init__(self):
        self._chunks = LOBTree()  # first microsecond -> Chunk
        self._newest: Chunk | None = None
        self._count = 0

    def add(self, value: Any, micros: int) -> None:
        """Add `value` as the newest, at the time `micros`.

        That is not before the last addition, even if the clock was set back.
        """
        chunk = self._newest
        if chunk:
            micros = max(micros, key_micros(max(chunk)))
        if chunk is None or self._is_full(chunk, micros):
            chunk = self._new_chunk(micros)
        chunk.add(new_key(micros), value)

    def _is_full(self, chunk: Chunk, micros: int) -> bool:
        if len(chunk) >= self.chunk_size:
            return True
        span = self.max_age * 1_000_000 // self.chunks_in_age
        return len(chunk) > 0 and micros - key_micros(min(chunk)) >= span

    def _new_chunk(self, micros: int) -> Chunk:
        if self._newest is not None:
            self._count += len(self._newest)
        self._drop_old(micros - self.max_age * 1_000_000)
        start = micros
        if self._chunks:
            start = max(start, self._chunks.maxKey() + 1)
        chunk = self._chunks[start] = self._newest = Chunk()
        return chunk

    def _drop_old(self, limit: int) -> None:
        # A chunk is old when the next one begins before the limit.  Of the last
        # of these only its content tells.
        starts = list(self._chunks.keys(max=limit))
        if starts and key_micros(max(self._chunks[starts[-1]])) >= limit:
            starts.pop()
        for start in starts:
            self._count -= len(self._chunks.pop(start))

    def __len__(self) -> int:
        return self._count + (0 if self._newest is None else len(self._newest))

    def __bool__(self) -> bool:
        return self._newest is not None and len(self) > 0

    def __iter__(self) -> Iterator[Any]:
        return self.iter()

    def iter(
        self,
        start: datetime.datetime | None = None,
        stop: datetime.datetime | None = None,
    ) -> Iterator[Any]:
        """The values added at or before `start` and after `stop`, newest first."""
        newest = None if start is None else last_key(clock.micros(start))
        oldest = None if stop is None else last_key(clock.micros(stop))
        for chunk in _backwards(self._chunks):
            for key, value in reversed(chunk.items()):
                if newest is not None and key > newest:
                    continue
                if oldest is not None and key <= oldest:
                    return
                yield value

    def first(self) -> Any:
        """The newest; ValueError when there is none."""
        for value in self.iter():
            return value
        raise ValueError("there is none")

    def last(self) -> Any:
        """The oldest; ValueError when there is none."""
        for start in self._chunks:
            for value in self._chunks[start].values():
                return value
        raise ValueError("there is none")
