# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Hearing of commits that touch a queue, milliseconds after they happen.

The storages of ZODB tell each open connection which objects a commit has
written.  A listener stands among the connections for that.  This is a private
interface of ZODB, so it is guarded: where it is missing, or where a storage
says nothing of other processes' commits, the poll is the safety net.
"""

import threading
from collections.abc import Callable
from typing import Any

from .utils import log


class Signal:
    """Something for one thread to wait for; from any thread to set.

    Setting it many times before the waiter comes costs little.
    """

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Wake the waiter, now or when it comes next."""
        if not self._event.is_set():
            self._event.set()

    def wait(self, timeout: float) -> bool:
        """Wait until set or for `timeout` seconds; clear; whether it was set."""
        was_set = self._event.wait(timeout)
        self._event.clear()
        return was_set


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
            storage = self._db._mvcc_storage
            with storage._lock:
                storage._instances.discard(self)
