# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Kinds of database errors, and every loop that repeats after one.

A *transient* error goes away when the transaction is repeated from its start.
A *lost connection* goes away when the server is back.  Everything else is an
error of whoever made the transaction.
"""

import random
import time
from collections.abc import Callable
from typing import Any

import transaction
from persistent import Persistent
from transaction.interfaces import TransientError
from ZODB.POSException import StorageError

from .failure import is_failure
from .tracebacks import dotted
from .utils import log

#: How often a transaction of the machinery itself is tried.
TRIES = 8

#: The longest pause after the first failure, in seconds; doubled each time.
PAUSE = 0.002

#: By name, since neither package need be installed.
_LOST = (
    "ZEO.Exceptions.ClientDisconnected",
    "relstorage.adapters.interfaces.StorageDisconnectedDuringCommit",
)


def is_transient(error: Any) -> bool:
    """Tell whether repeating the transaction is all that `error` asks for.

    `error` is an exception or a failure; of a failure the names count, since its
    exception is a copy, and a stand-in where that could not be pickled.
    """
    if is_failure(error):
        return bool(error.check(TransientError))
    return isinstance(error, TransientError)


def is_lost_connection(error: Any) -> bool:
    """Tell whether `error` says that the storage cannot be reached now.

    `error` is an exception or a failure.
    """
    if is_failure(error):
        return bool(error.check(*_LOST))
    return any(dotted(cls) in _LOST for cls in type(error).__mro__)


def raise_if_passing(error: Exception) -> None:
    """Raise `error` if it is of the storage: loading may succeed another time.

    For code that takes any other error for a broken object.
    """
    if is_transient(error) or isinstance(error, (StorageError, OSError)):
        raise error
    if is_lost_connection(error):
        raise error


def manager_of(obj: Any) -> Any:
    """The transaction manager of the connection of `obj`, or of the thread.

    That of its parents where it has none: a callback that was just added.
    """
    while obj is not None:
        jar = getattr(obj, "_p_jar", None)
        if jar is not None:
            return jar.transaction_manager
        obj = getattr(obj, "parent", None)
    return transaction.manager


def pause_before(attempt: int) -> None:
    """Let a competitor finish: a short random pause, longer with each attempt.

    Full jitter as in "Exponential Backoff And Jitter" (M. Brooker, 2015).
    Not for worker threads that perform a job: their retries are rescheduled.
    """
    time.sleep(random.uniform(0, PAUSE * 2 ** min(attempt, 8)))


def attempt(
    step: Callable[[], Any],
    what: str,
    manager: Any = None,
    tries: int = TRIES,
) -> Any:
    """Call `step` in a transaction of its own, commit, and return its value.

    Repeats after transient errors, up to `tries` times in all; any other error
    and the last transient one are raised, with the transaction aborted.
    `manager` is a transaction manager, by default the thread's.  `what` names
    the work in the log.
    """
    manager = transaction.manager if manager is None else manager
    for number in range(1, tries + 1):
        manager.begin()
        try:
            value = step()
            manager.commit()
            return value
        except BaseException as error:
            manager.abort()
            if number == tries or not is_transient(error):
                raise
            log.debug("repeating %s after attempt %d: %r", what, number, error)
        pause_before(number)
    raise AssertionError("unreachable")


def read_current(obj: Persistent) -> None:
    """Have the commit of this transaction fail if `obj` has been changed by then.

    Counts only in a transaction that changes something.
    """
    jar = obj._p_jar
    if jar is not None and obj._p_oid is not None:
        if obj._p_changed is None:
            obj._p_activate()
        jar.readCurrent(obj)


def until_settled(attempt_once: Callable[[], bool]) -> None:
    """Call `attempt_once` until it is true: one attempt at a job each time.

    What ends the loop is the job's retry policy, which the attempt asks.
    """
    while not attempt_once():
        pass


def elsewhere(obj: Persistent, step: Callable[[Any], Any], what: str) -> Any:
    """Return `step(the same object in a connection of its own)`; commits there.

    The caller's transaction is not touched and what it has changed is not
    seen.  From any thread that may use `obj`.
    """
    return with_object(obj._p_jar.db(), obj._p_oid, step, what)


def with_object(db: Any, oid: bytes, step: Callable[[Any], Any], what: str) -> Any:
    """Like `elsewhere`, for the object `oid` of `db`; from any thread."""
    manager = transaction.TransactionManager(explicit=True)
    connection = db.open(transaction_manager=manager)
    try:
        return attempt(lambda: step(connection.get(oid)), what, manager)
    finally:
        manager.abort() if manager._txn is not None else None
        connection.close()
