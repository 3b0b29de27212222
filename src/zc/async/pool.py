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

from .performer import Batch, Performer, Ticket
from .utils import log

Outcomes = list[tuple[Ticket, str]]

#: How many jobs in a batch are worth a step of the poller.
ENOUGH = 4

#: After how many seconds others take over what a round has not begun.
TAKE_OVER = 1.0


class Pool:
    """Worker threads for one agent.

    `freed` is called, in a worker thread, when a thread has nothing to do, and
    when it takes the last batch while `hungry` is set; with true when there is
    enough to do for the poller to come at once.
    """

    def __init__(self, dispatcher: Any, name: str, freed: Callable[[bool], None]):
        self.dispatcher = dispatcher
        self.name = name
        self.size = 0
        self.hungry = False
        self._freed = freed
        self._ready: SimpleQueue[Batch | None] = SimpleQueue()
        self._finished: deque[Outcomes] = deque()
        self._submitted = 0
        self._fetched = 0
        self._rounds: dict[Performer, tuple[float, Batch]] = {}
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

    def submit(self, batches: list[Batch]) -> None:
        """Have these performed, each by one thread."""
        self._submitted += len(batches)
        for batch in batches:
            self._ready.put(batch)

    def outstanding(self) -> int:
        """How many batches are waiting or being worked on."""
        return self._submitted - self._fetched - len(self._finished)

    def starving(self) -> bool:
        """Whether half of the threads have nothing to do."""
        return 2 * self.outstanding() <= self.size

    def take_finished(self) -> Outcomes:
        """What was done since the last time, with outcomes."""
        finished: Outcomes = []
        while self._finished:
            finished += self._finished.popleft()
            self._fetched += 1
        return finished

    def give_back(self, finished: Outcomes) -> None:
        """Return what could not be reaped, for the next time."""
        self._fetched -= 1
        self._finished.appendleft(finished)

    def relieve(self) -> bool:
        """Have others begin what a round that takes too long has not begun.

        Whether any round is in hand, so that it is worth asking again.
        """
        limit = time.monotonic() - TAKE_OVER
        for performer, (since, batch) in list(self._rounds.items()):
            round = performer.round
            if round is not None and since < limit and not batch.chained:
                taken = round.take_over()
                self.submit([batch._replace(tickets=[one]) for one in taken])
        return bool(self._rounds)

    @property
    def has_finished(self) -> bool:
        """Whether there is something to reap."""
        return bool(self._finished)

    # The end.

    def stop(self) -> list[Ticket]:
        """Begin no more batches; return the tickets that were not begun."""
        unbegun: list[Ticket] = []
        while True:
            try:
                batch = self._ready.get_nowait()
            except Empty:
                break
            if batch is not None:
                unbegun += batch.tickets
                self._submitted -= 1
        for performer in list(self._rounds):
            round = performer.round
            if round is not None:
                unbegun += round.take_over()
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
                self._perform_batches(connection)
            finally:
                connection.close()
        except Exception:
            log.exception("a worker thread of %s ended", self.name)

    def _perform_batches(self, connection: Any) -> None:
        performer = Performer(self.dispatcher, self.dispatcher.records)
        ready = self._ready
        while True:
            batch = ready.get()
            if batch is None:
                # Who finished while this was waiting has left it to us.
                self._freed(False)
                return
            if self.hungry and ready.empty():
                self._freed(True)
            self._perform(performer, batch, connection)
            if ready.empty():
                self._freed(len(batch.tickets) >= ENOUGH)

    def _perform(self, performer: Performer, batch: Batch, connection: Any) -> None:
        """Perform a batch to its end, in as many rounds as it takes."""
        outcomes: Outcomes = []
        rest = batch.tickets
        while rest:
            batch = batch._replace(tickets=rest)
            if len(rest) > 1:
                self._rounds[performer] = time.monotonic(), batch
            done, rest = performer.perform_batch(batch, connection)
            self._rounds.pop(performer, None)
            outcomes += done
        self._finished.append(outcomes)
