# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Whether a job can be stored, and loaded again: asked when it is put.

The ZODB would say so only at commit, far from the mistake, and of some things
never.
"""

import datetime
import io
import uuid
from collections.abc import Iterator
from typing import Any

from persistent import Persistent
from zodbpickle import pickle

from .callables import describe
from .errors import UnpicklableError

_PLAIN = frozenset(
    (
        str, int, float, bool, bytes, complex, type(None), uuid.UUID,
        datetime.datetime, datetime.date, datetime.timedelta, datetime.time,
    )
)  # fmt: skip

_PROTOCOL = 3


def check_storable(job: Any, jar: Any) -> None:
    """Raise UnpicklableError for the first thing in `job` that cannot be stored.

    `jar` is the connection of the queue, or None when it is not stored yet.
    Costs nothing for plain arguments; others are pickled on trial.
    """
    for path, value in _parts(job):
        if type(value) not in _PLAIN:
            _check(value, path, jar, job)


def _parts(job: Any) -> Iterator[tuple[str, Any]]:
    target = job._target
    if isinstance(target, tuple):
        yield "the object of the method", target[0]
    elif not isinstance(target, str):
        yield "the callable", target
    for index, value in enumerate(job.args):
        yield f"args[{index}]", value
    for name in job.kwargs:
        yield f"kwargs[{name!r}]", job.kwargs[name]


def _check(value: Any, path: str, jar: Any, job: Any) -> None:
    try:
        _pickle(value, lambda found: _check_reference(found, path, jar, job))
    except UnpicklableError:
        raise
    except Exception as error:
        path, culprit = _culprit(value, path)
        raise UnpicklableError(
            f"cannot put {job!r}: {path} is {describe(culprit)}, which cannot be "
            f"pickled ({type(error).__name__}: {error}); expected something that the "
            "database can store",
            culprit=culprit,
            path=path,
            job=job,
        ) from error


def _pickle(value: Any, on_persistent: Any) -> None:
    def persistent_id(found: Any) -> Any:
        if isinstance(found, Persistent):
            on_persistent(found)
            return "reference"
        return None

    pickler = pickle.Pickler(io.BytesIO(), _PROTOCOL)
    pickler.persistent_id = persistent_id
    pickler.dump(value)


def _check_reference(found: Persistent, path: str, jar: Any, job: Any) -> None:
    home = found._p_jar
    if home is None or jar is None or home is jar:
        return
    databases = jar.db().databases
    if databases.get(home.db().database_name) is home.db():
        return
    raise UnpicklableError(
        f"cannot put {job!r}: {path} is {describe(found)}, of a database that is not "
        f"one of the queue's; expected one of {sorted(databases)}",
        culprit=found,
        path=path,
        job=job,
    )


def _culprit(value: Any, path: str) -> tuple[str, Any]:
    """The innermost part of `value` that cannot be pickled, and where it is."""
    for name, part in _members(value):
        try:
            _pickle(part, lambda found: None)
        except Exception:
            return _culprit(part, f"{path}{name}")
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
    elif hasattr(value, "__dict__"):
        for name, part in vars(value).items():
            yield f".{name}", part
