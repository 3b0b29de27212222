# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Whether a job can be stored, and loaded again: asked when it is put.

The ZODB would say so only at commit, far from the mistake, and of some things
never.
"""

import datetime
import io
import pickletools
import types
import uuid
from collections.abc import Iterator
from typing import Any

from persistent import Persistent
from persistent.wref import WeakRef
from zodbpickle import pickle

from .callables import describe
from .errors import UnpicklableError
from .frozen import Frozen

_PLAIN = frozenset(
    (
        str, int, float, bool, bytes, complex, type(None), uuid.UUID, Frozen,
        datetime.datetime, datetime.date, datetime.timedelta, datetime.time,
    )
)  # fmt: skip

_PROTOCOL = 3

#: What looks as if it had parts, but is never stored by them.
_WHOLE = (type, types.ModuleType, types.FunctionType, types.MethodType)


def check_storable(job: Any, jar: Any) -> None:
    """Raise UnpicklableError for the first thing in `job` that cannot be stored.

    `jar` is the connection of the queue, or None when it is not stored yet.
    Costs nothing for plain arguments; others are pickled on trial.
    """
    _Check(job, jar).run()


def _parts(job: Any, path: str) -> Iterator[tuple[str, Any]]:
    """What the application gave to a job, and where it is."""
    target = job._target
    if isinstance(target, tuple):
        yield f"{path}the object of the method", target[0]
    elif not isinstance(target, str):
        yield f"{path}the callable", target
    if job._args:
        for index, value in enumerate(job.args):
            yield f"{path}args[{index}]", value
    if job._kwargs:
        for name, value in job.kwargs.items():
            yield f"{path}kwargs[{name!r}]", value
    yield f"{path}retry_policy_factory", job.retry_policy_factory
    companion = job._companion
    for index, callback in enumerate(companion._callbacks):
        yield f"{path}callbacks[{index}]", callback
    if companion._annotations:
        for name, value in companion.annotations.items():
            yield f"{path}annotations[{name!r}]", value
    for name in job.__dict__.keys() - job._bits_.keys():
        if not name.startswith(("_p_", "_v_")):
            yield f"{path}{name}", job.__dict__[name]


class _Check:
    """One job that is about to be put."""

    def __init__(self, job: Any, jar: Any):
        self.job = job
        self.jar = jar
        self._met = {id(job)}
        self._new: list[tuple[str, Persistent]] = []

    def run(self) -> None:
        """See `check_storable`."""
        if self.job._p_jar is not None:
            self._reference(self.job, "the job")
        self._job(self.job, "")
        while self._new:
            path, found = self._new.pop()
            if hasattr(found, "_target") and hasattr(found, "_companion"):
                self._job(found, f"{path}.")
            else:
                self._value(found.__getstate__(), path)

    def _job(self, job: Any, path: str) -> None:
        for where, value in _parts(job, path):
            if type(value) not in _PLAIN:
                self._value(value, where)

    def _value(self, value: Any, path: str) -> None:
        try:
            data = _pickled(value, lambda found: self._reference(found, path))
        except UnpicklableError:
            raise
        except Exception as error:
            path, culprit = _culprit(value, path, _fails)
            self._refuse(
                culprit,
                path,
                f"which cannot be pickled ({type(error).__name__}: {error}); expected "
                "something that the database can store",
            )
        name = _main_name(data)
        if name is not None:
            path, culprit = _culprit(value, path, _names_main)
            self._refuse(
                culprit,
                path,
                f"of {name}, which is defined in __main__ and so differs "
                "in each process; expected a class or function of a module",
            )

    def _reference(self, found: Persistent, path: str) -> None:
        """See to a persistent object that the job refers to."""
        home, jar = found._p_jar, self.jar
        if home is None:
            if id(found) not in self._met:
                self._met.add(id(found))
                self._new.append((path, found))
            return
        if jar is None or home is jar:
            return
        name = home.db().database_name
        if jar.connections.get(name) is home:
            return
        databases = jar.db().databases
        if databases.get(name) is home.db():
            self._refuse(
                found,
                path,
                "of another connection than the queue's; expected an object loaded "
                "in the same one",
            )
        self._refuse(
            found,
            path,
            "of a database that is not one of the queue's; expected one of "
            f"{sorted(databases)}",
        )

    def _refuse(self, culprit: Any, path: str, reason: str) -> None:
        raise UnpicklableError(
            f"cannot put {self.job!r}: {path} is {describe(culprit)}, {reason}",
            culprit=culprit,
            path=path,
            job=self.job,
        ) from None


def _pickled(value: Any, on_persistent: Any) -> bytes:
    def persistent_id(found: Any) -> Any:
        if isinstance(found, WeakRef):
            return "reference"
        if isinstance(found, Persistent):
            on_persistent(found)
            return "reference"
        return None

    file = io.BytesIO()
    pickler = pickle.Pickler(file, _PROTOCOL)
    pickler.persistent_id = persistent_id
    pickler.dump(value)
    return file.getvalue()


def _ignored(found: Persistent) -> None:
    pass


def _fails(value: Any) -> bool:
    try:
        _pickled(value, _ignored)
    except Exception:
        return True
    return False


def _names_main(value: Any) -> bool:
    return not _fails(value) and _main_name(_pickled(value, _ignored)) is not None


def _main_name(data: bytes) -> str | None:
    """The first name in a pickle of something that the program itself defines."""
    if b"c__main__\n" in data:  # else save the time
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "GLOBAL":
                module, _, name = str(argument).partition(" ")
                if module == "__main__":
                    return name
    return None


def _culprit(value: Any, path: str, is_bad: Any) -> tuple[str, Any]:
    """The innermost part of `value` that is bad, and where it is."""
    for _ in range(100):  # deeper than anybody wants to read about
        for name, part in _members(value):
            if is_bad(part):
                path, value = f"{path}{name}", part
                break
        else:
            break
    return path, value


def _members(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, (list, tuple)):
        for index, part in enumerate(value):
            yield f"[{index}]", part
    elif isinstance(value, (set, frozenset)):
        for part in value:
            yield "{...}", part
    elif isinstance(value, dict):
        for key, part in value.items():
            yield f"[{key!r}]", part
            yield f" key {key!r}", key
    elif hasattr(value, "__dict__") and not isinstance(value, _WHOLE):
        for name, part in vars(value).items():
            yield f".{name}", part
