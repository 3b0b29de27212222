# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Hearing of commits that touch a queue, milliseconds after they happen.

The storages of ZODB tell each open connection which objects a commit has
written.  A listener stands among the connections for that.  This is a private
interface of ZODB, so it is guarded: where it is missing, or where a storage
says nothing of other processes' commits, the poll is the safety net.
"""

from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from .utils import log


class Signal:
    """Something for one thread to wait for; from any thread to set.

    Setting it many times before the waiter comes costs little.  What is set with
    `hint` may wait a moment for more of its kind.
    """

    def __init__(self) -> None:
        self._calls: SimpleQueue[bool] = SimpleQueue()

    def set(self) -> None:
        """Wake the waiter, now or when it comes next."""
        # More than one is as good as one; a race only adds a look for nothing.
        if self._calls.qsize() < 2:
            self._calls.put(True)

    def hint(self) -> None:
        """Wake the waiter for something that it may choose to wait with."""
        if self._calls.empty():
            self._calls.put(False)

    def wait(self, timeout: float) -> bool | None:
        """Wait for up to `timeout` seconds; clear.

        True if it was set, False if there were only hints, None if neither.
        """
        try:
            urgent = self._calls.get(timeout=timeout)
        except Empty:
            return None
        while not urgent:
            try:
                urgent = self._calls.get_nowait()
            except Empty:
                break
        return urgent


class CommitListener:
    """Calls `heard(oids)` for each commit to a database.

    In the committer's thread, or the network's, while others wait: `heard`
    takes a note and sets a signal, nothing more.
    """

    def __init__(self, db: Any, heard: Callable[[Any], None]):
        self._db = db
        self._heard = heard
        self.listening = False

    # What the storage calls.

    def _invalidate(self, tid: bytes, oids: Any) -> None:
        self._heard(oids)

    def _invalidateCache(self) -> None:
        self._heard(None)

    # For the dispatcher.

    def start(self) -> bool:
        """Begin to listen; False where this storage offers no way to."""
        try:
            storage = self._db._mvcc_storage
            with storage._lock:
                storage._instances.add(self)
        except AttributeError:
            log.info(
                "database %r tells nobody of commits; jobs wait for the next poll",
                self._db.database_name,
            )
            return False
        self.listening = True
        return True

    def stop(self) -> None:
        """Listen no more.  May be called twice, also when the database is closed."""
        if self.listening:
            self.listening = False
            # Both are gone when the database is closed.
            storage: Any = getattr(self._db, "_mvcc_storage", None)
            if hasattr(storage, "_instances"):
                with storage._lock:
                    storage._instances.discard(self)
