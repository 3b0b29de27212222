# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The exception of a stored failure, or the nearest thing to it.

`dump` tries three ways, from the most faithful to the plainest: as the exception
wants to be pickled; without calling its constructor, since many do not take what
they have left in `args`; and with its arguments and attributes as plain data.
Each is loaded once to see that it can be.  Persistent objects are replaced by
their repr, so that no exception drags them (or their whole state) along.

When nothing works, or the class is gone at `load`, a stand-in has the dotted name
and the message.

Foreign code (constructors, `__reduce__`) may raise anything, so it is called
behind ``except BaseException``.
"""

import builtins
import copyreg
import io
import pickle
import pkgutil
from collections.abc import Callable, Sequence
from typing import Any

from persistent import Persistent

from .tracebacks import clean, dotted, message_of, repr_of

SIZE = 65_536  # bytes of a pickled exception
_ARGUMENT = 8_192  # characters of an argument that is made plain
_PROTOCOL = 3  # the highest that the ZODB likes

_PLAIN = (bytes, int, float, complex, bool, type(None))

Override = Callable[[object], Any]


def dump(value: BaseException, message: str, override: Override) -> bytes | None:
    """Return `value` pickled, if that can be loaded again, or None.

    `message` is its message as `message_of` gives it.  `override` takes an
    object inside of the exception and returns how to reduce it, or NotImplemented.
    """
    ways = _NotAtAll(override), _WithoutConstructor(override)
    for reduce in *ways, _AsPlainData(value, override):
        stored, loaded = _try(value, reduce)
        if loaded is not None and _alike(message_of(loaded), message):
            return stored
    return None


def load(
    stored: bytes | None, name: str, message: str, parents: Sequence[str]
) -> BaseException:
    """Return the exception from `dump`, or a `stand_in`."""
    if stored is not None:
        try:
            return pickle.loads(stored)
        except BaseException:  # its class is gone or has changed
            pass
    return stand_in(name, message, parents)


def class_of(value: BaseException) -> type[BaseException]:
    """Return the class of `value`; of a stand-in, the real one if there is one."""
    if isinstance(value, StandIn):
        return _class_named(dotted(type(value))) or type(value)
    return type(value)


class Shown(str):
    """The repr of an object, in its place: looks the same in messages."""

    def __repr__(self) -> str:
        return str(self)

    def __reduce__(self) -> tuple:
        return Shown, (str(self),)


class StandIn(Exception):
    """Base of the exceptions made by `stand_in`."""

    parents: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.args[0]

    def __reduce__(self) -> tuple:
        return stand_in, (dotted(type(self)), self.args[0], self.parents)


def stand_in(name: str, message: str, parents: Sequence[str]) -> BaseException:
    """Return an exception whose class has the dotted `name`, with that message.

    ``except`` clauses for the nearest builtin of its `parents` catch it.
    """
    module, _, qualname = name.rpartition(".")
    namespace = {
        "__module__": module or None,
        "__qualname__": qualname,
        "parents": tuple(parents),
    }
    try:
        cls: Any = type(qualname, (StandIn, _builtin_base(parents)), namespace)
        error = cls.__new__(cls)
    except TypeError:  # a builtin that insists on arguments, as ExceptionGroup
        cls = type(qualname, (StandIn,), namespace)
        error = cls.__new__(cls)
    error.args = (message,)
    return error


def _builtin_base(parents: Sequence[str]) -> type[Exception]:
    for parent in parents:
        module, _, name = parent.rpartition(".")
        cls = getattr(builtins, name, None) if module == "builtins" else None
        # Not SystemExit and its like, which end the thread that raises them.
        if isinstance(cls, type) and issubclass(cls, Exception):
            return cls
    return Exception


def _class_named(name: str) -> type[BaseException] | None:
    try:
        found = pkgutil.resolve_name(name)
    except BaseException:  # gone, local to a function, or its import fails
        return None
    is_error = isinstance(found, type) and issubclass(found, BaseException)
    return found if is_error else None


def _alike(one: str, other: str) -> bool:
    """Compare messages as far as plain data keeps them.

    One that differs shows that the class needs its constructor, or the very
    objects, for it.
    """
    length = _ARGUMENT // 2
    return one[:length].partition("\n")[0] == other[:length].partition("\n")[0]


def _try(value: BaseException, reduce: Override) -> tuple[bytes, BaseException | None]:
    """Return the pickle and the exception loaded from it; None if it failed."""
    try:
        stored = _pickled(value, reduce)
        loaded = pickle.loads(stored) if len(stored) <= SIZE else None
    except BaseException:
        return b"", None
    return stored, loaded if type(loaded) is type(value) else None


def _pickled(value: BaseException, reduce: Override) -> bytes:
    file = io.BytesIO()
    pickler = _Pickler(file, _PROTOCOL)
    pickler.reduce = reduce
    pickler.dump(value)
    return file.getvalue()


class _Pickler(pickle.Pickler):
    reduce: Override

    def reducer_override(self, obj: object) -> Any:
        return NotImplemented if isinstance(obj, type) else self.reduce(obj)


class _NotAtAll:
    """Reduces exceptions as they want, only persistent objects to their repr."""

    def __init__(self, override: Override) -> None:
        self.override = override

    def __call__(self, obj: object) -> Any:
        if isinstance(obj, Persistent):
            return Shown, (repr_of(obj),)
        return self.override(obj)


class _WithoutConstructor(_NotAtAll):
    """Reduces exceptions, but for those with a way of their own, to their state."""

    def __call__(self, obj: object) -> Any:
        if (
            isinstance(obj, BaseException)
            and type(obj).__reduce__ is BaseException.__reduce__
        ):
            return _new(obj, obj.args, obj.__dict__)
        return super().__call__(obj)


class _AsPlainData(_NotAtAll):
    """Reduces one exception to plain data."""

    def __init__(self, value: BaseException, override: Override) -> None:
        super().__init__(override)
        self.value = value

    def __call__(self, obj: object) -> Any:
        if obj is not self.value:
            return super().__call__(obj)
        state = {name: _plain(attr) for name, attr in self.value.__dict__.items()}
        return _new(self.value, [_plain(arg) for arg in self.value.args], state)


def _new(value: BaseException, args: Sequence, state: dict) -> tuple:
    new = copyreg.__newobj__  # type: ignore[attr-defined]
    return new, (type(value), *args), state or None


def _plain(value: object) -> object:
    if type(value) is str:
        return clean(value, _ARGUMENT)
    return value if type(value) in _PLAIN else Shown(repr_of(value, _ARGUMENT))
