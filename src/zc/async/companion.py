# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""What others may add to a job while it is performed: callbacks, annotations.

They live in a *companion*, a record of its own that is made together with the
job.  So adding never conflicts with the worker, whose commit writes the job,
and two who add at once are merged.

Imports no more than a server that resolves conflicts has.
"""

from typing import Any

from ZODB.POSException import ConflictError

from .compact import Compact, OwnedDict, OwnedList
from .errors import UnloadableCallableError
from .frozen import Frozen, from_state, to_state

_ABSENT = object()


def _annotations_to_state(value: Any) -> Any:
    if not isinstance(value, OwnedDict):
        return value  # as it was loaded
    return {key: to_state(one) for key, one in value.items()}


class Companion(Compact):
    """The callbacks and annotations of one job.

    Written by anybody, never by the worker that performs the job's callable.
    """

    _stored_ = ("_callbacks", "_annotations")
    _to_state_ = {  # noqa: RUF012
        "_callbacks": tuple,
        "_annotations": _annotations_to_state,
    }
    _callbacks: Any = ()
    _annotations: Any = ()

    @property
    def callbacks(self) -> OwnedList:
        """The callbacks, a list that stores its changes."""
        if not isinstance(self._callbacks, OwnedList):
            self.__dict__["_callbacks"] = OwnedList(self, self._callbacks)
        return self._callbacks

    @property
    def has_callbacks(self) -> bool:
        """Whether there are any: the same as `bool(callbacks)`, at less cost."""
        return bool(self._callbacks)

    @property
    def annotations(self) -> OwnedDict:
        """The annotations, a dict that stores its changes.

        A value that cannot be loaded is `Frozen`.
        """
        if not isinstance(self._annotations, OwnedDict):
            annotations = {
                name: _thawed(state) for name, state in dict(self._annotations).items()
            }
            self.__dict__["_annotations"] = OwnedDict(self, annotations)
        return self._annotations

    def __getstate__(self) -> tuple:
        # An empty list or dict that was only looked at is not worth a byte.
        for name in self._stored_:
            if not getattr(self, name):
                self.__dict__.pop(name, None)
        return super().__getstate__()

    def _p_resolveConflict(self, old: tuple, saved: tuple, new: tuple) -> tuple:
        states = [self._named(state) for state in (old, saved, new)]
        merged = {
            "_callbacks": _merge_callbacks(
                *(state.get("_callbacks", ()) for state in states)
            ),
            "_annotations": _merge_annotations(
                *(state.get("_annotations", {}) for state in states)
            ),
        }
        other = self.__class__.__new__(self.__class__)
        other.__dict__.update({name: value for name, value in merged.items() if value})
        return other.__getstate__()


def _thawed(state: Any) -> Any:
    value = from_state(state)
    try:
        return value.thaw() if isinstance(value, Frozen) else value
    except UnloadableCallableError:
        return value  # the others can still be read, and the job be performed


def _merge_callbacks(old: tuple, saved: tuple, new: tuple) -> tuple:
    count = len(old)
    if not (_same(old, saved[:count]) and _same(old, new[:count])):
        raise ConflictError("callbacks were removed or replaced")
    return (*saved, *new[count:])


def _merge_annotations(old: dict, saved: dict, new: dict) -> dict:
    merged = dict(saved)
    for name in {*old, *new}:
        before, after = old.get(name, _ABSENT), new.get(name, _ABSENT)
        other = saved.get(name, _ABSENT)
        if _same_value(before, after) or _same_value(after, other):
            continue
        if not _same_value(before, other):
            raise ConflictError(f"annotation {name!r} was changed twice")
        if after is _ABSENT:
            merged.pop(name, None)
        else:
            merged[name] = after
    return merged


def _same(some: tuple, others: tuple) -> bool:
    return len(some) == len(others) and all(map(_same_value, some, others))


def _same_value(one: Any, other: Any) -> bool:
    """Equality; references to persistent objects are compared by their oid."""
    if one is other:
        return True
    oids = getattr(one, "oid", None), getattr(other, "oid", None)
    if None not in oids:
        return oids[0] == oids[1] and one.database_name == other.database_name
    try:
        return bool(one == other)
    except ValueError:
        return False
