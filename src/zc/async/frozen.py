# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Values kept as pickles inside of a record, and loaded when they are needed.

A job's arguments and result can hold anything: objects whose code has gone, or
whose loading fails.  Were they part of the job's own pickle, such a job could not
be loaded, and often not even be written again (the ZODB has a placeholder for a
function that has gone, and cannot store it); nobody could claim it or fail it.

Persistent objects are kept beside the pickle, as references of the record.
"""

import io
from typing import Any

from persistent import Persistent
from persistent.wref import WeakRef
from ZODB.POSException import POSError
from zodbpickle import pickle

from .errors import UnloadableCallableError

_PROTOCOL = 3

#: Kept as they are: their pickles never fail.
PLAIN = frozenset((str, int, float, bool, bytes, complex, type(None)))


class Frozen:
    """A value as the pickle `data`, and the persistent objects in it."""

    __slots__ = ("data", "references")

    def __init__(self, data: bytes, references: tuple):
        self.data = data
        self.references = references

    @property
    def state(self) -> list:
        """What is stored; told from all that is plain by being a list."""
        return [self.data, *self.references]

    def thaw(self) -> Any:
        """Load the value, each time a new one.

        UnloadableCallableError when that is not possible, since a class or function
        has gone or the loading of an object raises.  Errors of the database pass.
        """
        unpickler = _Unpickler(io.BytesIO(self.data))
        unpickler.references = self.references
        try:
            return unpickler.load()
        except (UnloadableCallableError, POSError):
            raise
        except Exception as error:
            raise UnloadableCallableError(
                f"what was stored cannot be loaded: {type(error).__name__}: {error}"
            ) from error


def freeze(value: Any) -> Frozen:
    """Raises what the pickling of `value` raises."""
    references: list = []
    positions: dict[int, int] = {}

    def persistent_id(found: Any) -> int | None:
        if not isinstance(found, (Persistent, WeakRef)):
            return None
        if id(found) not in positions:
            positions[id(found)] = len(references)
            references.append(found)
        return positions[id(found)]

    file = io.BytesIO()
    pickler = pickle.Pickler(file, _PROTOCOL)
    pickler.persistent_id = persistent_id
    pickler.dump(value)
    return Frozen(file.getvalue(), tuple(references))


class _Unpickler(pickle.Unpickler):
    references: tuple = ()

    def persistent_load(self, position: int) -> Any:
        return self.references[position]

    def find_class(self, module: str, name: str) -> Any:
        try:
            return super().find_class(module, name)
        except Exception as error:
            raise UnloadableCallableError(
                f"the code no longer has {module}.{name} ({error}); expected it where "
                "it was when the job was stored",
                name=f"{module}.{name}",
            ) from error


def to_state(value: Any) -> Any:
    """What a record holds for `value`: itself when it is plain or persistent."""
    if type(value) is Frozen:
        return value.state
    if type(value) in PLAIN or isinstance(value, Persistent):
        return value
    return freeze(value).state


def from_state(state: Any) -> Any:
    """The value, or a `Frozen` one, of what a record holds."""
    return Frozen(state[0], tuple(state[1:])) if type(state) is list else state
