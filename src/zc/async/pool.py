# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The threads of one agent.

Each thread opens a connection when it starts and keeps it.  Tickets wait in
`_ready`; what was done with them in `_finished`, until the poller fetches it.
The lock guards both and the counts.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from .performer import Performer, Ticket
from .utils import log


class Pool:
    """Worker threads for one agent.

    `freed` is called, in a worker thread, when a thread is about to have
    nothing to do.
    """

    def __init__(self, dispatcher: Any, name: str, freed: Callable[[], None]):
        self.dispatcher = dispatcher
        self.name = name
        self.size = 0
        self._freed = freed
        self._condition = threading.Condition()
        self._ready: deque[Ticket] = deque()
        self._finished: list[tuple[Ticket, str]] = []
        self._running = 0
        self._threads: list[threading.Thread] = []
        self._stopping = False

    # For the poller.

    def resize(self, size: int) -> None:
        """Have so many threads from now on; surplus ones end when they are free."""
        with self._condition:
            self.size = size
            self._threads = [one for one in self._threads if one.is_alive()]
            missing = size - len(self._threads)
            for _ in range(missing):
                self._start_thread()
            self._condition.notify_all()

    def _start_thread(self) -> None:
        thread = threading.Thread(
            target=self._work, name=f"zc.async {self.name}", daemon=True
        )
        self._threads.append(thread)
        thread.start()

    def submit(self, tickets: list[Ticket]) -> None:
        """Have these performed."""
        with self._condition:
            self._ready.extend(tickets)
            self._condition.notify(len(tickets))

    def outstanding(self) -> int:
        """How many tickets are waiting or being worked on."""
        return len(self._ready) + self._running

    def take_finished(self) -> list[tuple[Ticket, str]]:
        """What was done since the last time, with outcomes."""
        with self._condition:
            finished, self._finished = self._finished, []
            return finished

    def give_back(self, finished: list[tuple[Ticket, str]]) -> None:
        """Return what could not be reaped, for the next time."""
        with self._condition:
            self._finished[:0] = finished

    @property
    def has_finished(self) -> bool:
        """Whether there is something to reap."""
        return bool(self._finished)

    # The end.

    def stop(self) -> list[Ticket]:
        """Begin no more tickets; return those that were not begun."""
        with self._condition:
            self._stopping = True
            unbegun = list(self._ready)
            self._ready.clear()
            self._condition.notify_all()
            return unbegun

    def join(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for the threads to end; whether they did."""
        deadline = threading.TIMEOUT_MAX if timeout is None else timeout
        with self._condition:
            return self._condition.wait_for(self._all_ended, deadline)

    def _all_ended(self) -> bool:
        return not self._threads

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
        finally:
            with self._condition:
                me = threading.current_thread()
                self._threads = [one for one in self._threads if one is not me]
                self._condition.notify_all()

    def _perform_tickets(self, connection: Any) -> None:
        performer = Performer(self.dispatcher, self.dispatcher.records)
        while True:
            ticket = self._next()
            if ticket is None:
                return
            outcome = performer.perform(ticket, connection)
            self._done(ticket, outcome)

    def _next(self) -> Ticket | None:
        with self._condition:
            while not self._ready:
                if self._stopping or self._is_surplus():
                    return None
                self._condition.wait()
            ticket = self._ready.popleft()
            self._running += 1
            last = not self._ready
        if last:
            self._freed()
        return ticket

    def _is_surplus(self) -> bool:
        # The youngest go first.
        return threading.current_thread() in self._threads[self.size :]

    def _done(self, ticket: Ticket, outcome: str) -> None:
        with self._condition:
            self._running -= 1
            self._finished.append((ticket, outcome))
            idle = not self._ready
        if idle:
            self._freed()
