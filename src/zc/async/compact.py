# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Small records: persistent objects whose stored form is a tuple.

A job is written three or four times in its life, so each byte of its record
counts.  A class lists its attributes once, in `_stored_`; the record holds a
bit mask and the values that differ from the class's default.  The list may only
grow at its end: that is what lets records of older releases load.
"""

from collections.abc import Iterable
from typing import Any

from persistent import Persistent


class Compact(Persistent):
    """A persistent object that stores the attributes of `_stored_` compactly.

    Other attributes (of subclasses, of applications) are stored as well, by
    name.  Each name in `_stored_` needs a default on the class; mutable values
    must be `OwnedList` or `OwnedDict`, or be replaced rather than changed.
    """

    _stored_: tuple[str, ...] = ()

    def __getstate__(self) -> tuple:
        mask = 0
        values: list[Any] = []
        extras = dict(Persistent.__getstate__(self) or ())
        for position, name in enumerate(self._stored_):
            if name in extras:
                mask |= 1 << position
                values.append(self._encode(name, extras.pop(name)))
        if extras:
            values.append(extras)
        return (mask, *values)

    def __setstate__(self, state: tuple | dict) -> None:
        if isinstance(state, tuple):
            state = self._named(state)
        Persistent.__setstate__(self, state)

    def _named(self, state: tuple) -> dict[str, Any]:
        mask = state[0]
        named = {}
        index = 1
        for position, name in enumerate(self._stored_):
            if mask >> position & 1:
                named[name] = self._decode(name, state[index])
                index += 1
        if index < len(state):
            named.update(state[index])
        return named

    def _encode(self, name: str, value: Any) -> Any:
        """What is stored for `value`; subclasses shorten it."""
        return value

    def _decode(self, name: str, value: Any) -> Any:
        """The inverse of `_encode`."""
        return value


class OwnedList(list):
    """A list that tells a persistent owner when it changes.

    Pickles as a plain list; the owner wraps it again.  `frozen` is what it was
    loaded from, until it changes.
    """

    frozen: Any = None

    def __init__(self, owner: Persistent, items: Iterable = ()):
        super().__init__(items)
        self._owner = owner

    def __reduce_ex__(self, protocol):
        return (list, (), None, iter(list(self)))

    def put(self, item):
        """Append `item`: the name that queues have for it."""
        self.append(item)


class OwnedDict(dict):
    """A dict that tells a persistent owner when it changes.

    Pickles as a plain dict; the owner wraps it again.  `frozen` is what it was
    loaded from, until it changes.
    """

    frozen: Any = None

    def __init__(self, owner: Persistent, items: Any = ()):
        super().__init__(items)
        self._owner = owner

    def __reduce_ex__(self, protocol):
        return (dict, (), None, None, iter(list(self.items())))


def _reporting(cls: type, name: str):
    plain = getattr(cls.__mro__[1], name)

    def method(self, *args, **kwargs):
        result = plain(self, *args, **kwargs)
        self._owner._p_changed = True
        self.frozen = None
        return self if result is not None and name.startswith("__i") else result

    method.__name__ = name
    method.__doc__ = plain.__doc__
    return method


for _cls, _names in (
    (
        OwnedList,
        "append extend insert pop remove clear sort reverse __setitem__ "
        "__delitem__ __iadd__ __imul__",
    ),
    (OwnedDict, "__setitem__ __delitem__ pop popitem clear update setdefault __ior__"),
):
    for _name in _names.split():
        setattr(_cls, _name, _reporting(_cls, _name))
