# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Small records: persistent objects whose stored form is a tuple.

A job is written three or four times in its life, so each byte of its record
counts.  A class lists its attributes once, in `_stored_`; the record holds a
bit mask and the values that differ from the class's default.  The list may only
grow at its end: that is what lets records of older releases load.
"""

from collections.abc import Callable, Iterable
from typing import Any

from persistent import Persistent


class Compact(Persistent):
    """A persistent object that stores the attributes of `_stored_` compactly.

    Other attributes (of subclasses, of applications) are stored as well, by
    name.  Each name in `_stored_` needs a default on the class; mutable values
    must be `OwnedList` or `OwnedDict`, or be replaced rather than changed.
    `_to_state_` and `_from_state_` have a function for each attribute that is
    stored in another form.
    """

    _stored_: tuple[str, ...] = ()
    _to_state_: dict[str, Callable[[Any], Any]] = {}  # noqa: RUF012
    _from_state_: dict[str, Callable[[Any], Any]] = {}  # noqa: RUF012
    _bits_: dict[str, int] = {}  # noqa: RUF012 - made for each class
    _names_: dict[int, tuple[str, ...]] = {}  # noqa: RUF012 - by mask, as met

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._bits_ = {name: 1 << at for at, name in enumerate(cls._stored_)}
        cls._names_ = {}

    def __getstate__(self) -> tuple:
        bits = self._bits_
        mask, extras = 0, {}
        attributes = Persistent.__getstate__(self) or {}
        for name in attributes:
            bit = bits.get(name)
            if bit is None:
                extras[name] = attributes[name]
            else:
                mask |= bit
        to_state = self._to_state_
        state: list[Any] = [mask]
        state += [
            to_state[name](attributes[name]) if name in to_state else attributes[name]
            for name in self._names(mask)
        ]
        if extras:
            state.append(extras)
        return tuple(state)

    def __setstate__(self, state: tuple | dict) -> None:
        if isinstance(state, tuple):
            state = self._named(state)
        Persistent.__setstate__(self, state)

    def _named(self, state: tuple) -> dict[str, Any]:
        names = self._names(state[0])
        named = dict(zip(names, state[1:], strict=False))
        for name, from_state in self._from_state_.items():
            if name in named:
                named[name] = from_state(named[name])
        if len(state) > len(names) + 1:
            named.update(state[-1])
        return named

    @classmethod
    def _names(cls, mask: int) -> tuple[str, ...]:
        """The attributes that a mask stands for, in the order of their values."""
        names = cls._names_.get(mask)
        if names is None:
            names = tuple(name for name in cls._stored_ if cls._bits_[name] & mask)
            cls._names_[mask] = names
        return names


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
