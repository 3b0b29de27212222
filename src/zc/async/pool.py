# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The threads of one agent.

Each thread opens a connection when it starts and keeps it.  The poller puts
tickets into one queue and takes outcomes from another; both queues are safe by
themselves, and everything else here belongs to the poller's thread.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from .performer import Performer, Ticket
from .utils import log

Finished = tuple[Ticket, str]


class Pool:
    """Worker threads for one agent.

    `freed` is called, in a worker thread, when a thread has nothing to do, and
    when it takes the last ticket while `hungry` is set.
    """

    def __init__(self, dispatcher: Any, name: str, freed: Callable[[], None]):
        self.dispatcher = dispatcher
        self.name = name
        self.size = 0
        self.hungry = False
        self._freed = freed
        self._ready: SimpleQueue[Ticket | None] = SimpleQueue()
        self._finished: deque[Finished] = deque()
        self._submitted = 0
        self._fetched = 0
        self._threads: list[threading.Thread] = []

    # For the poller.

    def resize(self, size: int) -> None:
        """Have so many threads from now on; surplus ones end when they are free."""
        self._threads = [one for one in self._threads if one.is_alive()]
        for _ in range(self.size, size):
            self._start_thread()
        for _ in range(size, self.size):
            self._ready.put(None)
        self.size = size

    def _start_thread(self) -> None:
        thread = threading.Thread(
            target=self._work, name=f"zc.async {self.name}", daemon=True
        )
        self._threads.append(thread)
        thread.start()

    def submit(self, tickets: list[Ticket]) -> None:
        """Have these performed."""
        self._submitted += len(tickets)
        for ticket in tickets:
            self._ready.put(ticket)

    def outstanding(self) -> int:
        """How many tickets are waiting or being worked on."""
        return self._submitted - self._fetched - len(self._finished)

    def starving(self) -> bool:
        """Whether half of the threads have nothing to do."""
        return 2 * self.outstanding() <= self.size

    def take_finished(self) -> list[Finished]:
        """What was done since the last time, with outcomes."""
        finished: list[Finished] = []
        while self._finished:
            finished.append(self._finished.popleft())
        self._fetched += len(finished)
        return finished

    def give_back(self, finished: list[Finished]) -> None:
        """Return what could not be reaped, for the next time."""
        self._fetched -= len(finished)
        self._finished.extendleft(reversed(finished))

    @property
    def has_finished(self) -> bool:
        """Whether there is something to reap."""
        return bool(self._finished)

    # The end.

    def stop(self) -> list[Ticket]:
        """Begin no more tickets; return those that were not begun."""
        unbegun = []
        while True:
            try:
                ticket = self._ready.get_nowait()
            except Empty:
                break
            if ticket is not None:
                unbegun.append(ticket)
        self._submitted -= len(unbegun)
        for _ in self._threads:
            self._ready.put(None)
        return unbegun

    def join(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for the threads to end; whether they did."""
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0.0))
        return not any(thread.is_alive() for thread in self._threads)

    # In the worker threads.

    def _work(self) -> None:
        try:
            connection = self.dispatcher.db.open()
            try:
                self._perform_tickets(connection)
            finally:
                connection.close()
        except Exception:
            log.exception("a worker thread of %s ended", self.name)

    def _perform_tickets(self, connection: Any) -> None:
        performer = Performer(self.dispatcher, self.dispatcher.records)
        ready, finished = self._ready, self._finished
        while True:
            ticket = ready.get()
            if ticket is None:
                return
            if self.hungry and ready.empty():
                self._freed()
            finished.append((ticket, performer.perform(ticket, connection)))
            if ready.empty():
                self._freed()
