# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The thread that says "I live", apart from polls and jobs.

A poll may wait for a long commit; a ping has a connection of its own, writes an
object that nobody else writes, and so is late only when the whole process is.
"""

import threading
from typing import Any

import transaction

from . import transactions
from .interfaces import KEY
from .utils import log


class Pinger:
    """Pings all queues in which `UUID` is activated.

    `revive` is called when one says that the dispatcher is dead.
    """

    def __init__(self, db: Any, UUID: Any, revive: Any):
        self._db = db
        self._UUID = UUID
        self._revive = revive
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="zc.async pings", daemon=True
        )

    def start(self) -> None:
        """Begin to ping."""
        self._thread.start()

    def stop(self) -> None:
        """End soon.  From any thread; may be called twice."""
        self._stopping.set()

    def join(self, timeout: float | None = None) -> None:
        """Wait for the end, up to `timeout` seconds."""
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        manager = transaction.TransactionManager()
        connection = self._db.open(transaction_manager=manager)
        try:
            pause = 1.0
            while not self._stopping.wait(pause):
                pause = self._ping_safely(connection, manager)
        finally:
            manager.abort()
            connection.close()

    def _ping_safely(self, connection: Any, manager: Any) -> float:
        try:
            return transactions.attempt(
                lambda: self._ping(connection), "ping", manager
            )
        except Exception:
            # The storage is away, say; saying so once a second is enough.
            log.exception("cannot ping")
            return 1.0

    def _ping(self, connection: Any) -> float:
        """Ping where it is time; how many seconds until it may be again."""
        pause = 30.0
        for queue in (connection.root().get(KEY) or {}).values():
            agents = queue.dispatchers.get(self._UUID)
            if agents is None:
                continue
            if agents.activated:
                agents.ping()
                pause = min(pause, agents.ping_interval.total_seconds())
            else:
                self._revive()
        # Wake up more often than needed, so that no ping is late by much.
        return max(min(pause / 4, 7.5), 0.05)
