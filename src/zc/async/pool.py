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
from collections.abc import Callable, Iterable, Sequence
from queue import Empty, SimpleQueue
from typing import Any

from . import clock
from .performer import AWAITS, UNBEGUN, Batch, Performer, Ticket
from .utils import log

Outcomes = list[tuple[Ticket, str]]

#: How many jobs in a batch are worth a step of the poller.
ENOUGH = 4

#: After how many seconds others take over what a round has not begun, and what it
#: has called and not committed.
TAKE_OVER = 1.0
STUCK = 10.0


#: Seconds until a thread whose connection was lost opens another.
PAUSE = 1.0


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
        self._lock = threading.Lock()
        self._outstanding = 0
        self._stopping = False
        self._unbegun: list[Ticket] = []
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

    def submit(self, batches: Sequence[Batch]) -> None:
        """Have these performed, each by one thread; not after `stop`.

        From any thread.
        """
        with self._lock:
            if self._stopping:
                self._leave(batches)
                return
            self._outstanding += len(batches)
            for batch in batches:
                self._ready.put(batch)

    def outstanding(self) -> int:
        """How many batches are waiting or being worked on."""
        return self._outstanding

    def _is_done_with(self, count: int = 1) -> None:
        with self._lock:
            self._outstanding -= count

    def starving(self) -> bool:
        """Whether half of the threads have nothing to do."""
        return 2 * self.outstanding() <= self.size

    def take_finished(self) -> Outcomes:
        """What was done since the last time, with outcomes."""
        finished: Outcomes = []
        while self._finished:
            finished += self._finished.popleft()
        return finished

    def give_back(self, finished: Outcomes) -> None:
        """Return what could not be reaped, for the next time."""
        self._finished.appendleft(finished)

    def relieve(self) -> bool:
        """Have others begin what a round that takes too long has not begun.

        Whether anything is in hand, so that it is worth asking again.
        """
        limit = time.monotonic() - TAKE_OVER
        for performer, (since, batch) in list(self._rounds.items()):
            round = performer.round
            if round is not None and since < limit and not batch.chained:
                taken = round.take_over()
                self.submit([batch._replace(tickets=[one]) for one in taken])
        return self._outstanding > 0

    def stuck(self) -> list[Ticket]:
        """Jobs that were called and wait for another one, that does not end.

        The round they are in cannot be committed from outside.  They can be taken
        away from it: then its commit fails, and that one is performed again.
        """
        limit = time.monotonic() - STUCK
        found: list[Ticket] = []
        for performer, (since, _) in list(self._rounds.items()):
            round = performer.round
            if round is not None and since < limit and not round.left:
                found += round.called()
        return found

    def leave(self, tickets: list[Ticket]) -> None:
        """These were taken away from the rounds that they were stuck in."""
        if tickets:
            taken = frozenset(tickets)
            for performer in list(self._rounds):
                round = performer.round
                if round is not None:
                    round.left |= taken.intersection(round.called())

    @property
    def has_finished(self) -> bool:
        """Whether there is something to reap."""
        return bool(self._finished)

    # The end.

    def stop(self) -> list[Ticket]:
        """Begin no more jobs.

        Returns the tickets that were not begun, to be looked at after `join`: a
        thread that finds that it has to stop adds what it has left.
        """
        with self._lock:
            self._stopping = True
        while True:
            try:
                batch = self._ready.get_nowait()
            except Empty:
                break
            if batch is not None:
                self._leave([batch])
                self._is_done_with()
        for performer, (_, batch) in list(self._rounds.items()):
            round = performer.round
            if round is not None:
                self._leave([batch._replace(tickets=round.take_over())])
        for _ in self._threads:
            self._ready.put(None)
        return self._unbegun

    def _leave(self, batches: Iterable[Batch]) -> None:
        """Stop before these have been begun."""
        for batch in batches:
            self._unbegun += batch.tickets
            self._note_unbegun(batch)

    def _note_unbegun(self, batch: Batch) -> None:
        for ticket in batch.tickets if batch.noted else ():
            self.dispatcher.records.job_rescheduled(ticket.job_id, clock.utcnow())

    def join(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for the threads to end; whether they did."""
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0.0))
        return not any(thread.is_alive() for thread in self._threads)

    # In the worker threads.

    def _work(self) -> None:
        ended = False
        while not (ended or self._stopping):
            try:
                line = _Line(self.dispatcher.db)
                try:
                    ended = self._perform_batches(line)
                finally:
                    line.close()
            except Exception:
                log.exception("a thread of %s lost its connection", self.name)
                time.sleep(PAUSE)  # the storage may be away for a while

    def _perform_batches(self, line: "_Line") -> bool:
        """Perform what comes.

        Returns whether the thread is to end, and not to go on with a new line.
        """
        performer = Performer(self.dispatcher, self.dispatcher.records)
        ready = self._ready
        while line.is_open:
            batch = ready.get()
            if batch is None:
                # Who finished while this was waiting has left it to us.
                self._freed(False)
                return True
            if self.hungry and ready.empty():
                self._freed(True)
            self._perform(performer, batch, line)
            self._is_done_with()
            if ready.empty():
                self._freed(len(batch.tickets) >= ENOUGH)
        return False

    def _perform(self, performer: Performer, batch: Batch, line: "_Line") -> bool:
        """Perform a batch to its end, in as many rounds as it takes.

        False if one of a chain awaits a value: those that follow have to wait.
        """
        goes_on = True
        while batch.tickets and goes_on and line.is_open and not self._stopping:
            if len(batch.tickets) > 1:
                self._rounds[performer] = time.monotonic(), batch
            done = performer.perform_batch(batch, line.connection)
            self._rounds.pop(performer, None)
            self._finished.append(done.outcomes)
            goes_on = not (batch.chained and _awaits(done.outcomes))
            goes_on = self._perform_again(performer, done.again, line, goes_on)
            batch = batch._replace(tickets=list(done.rest))
        if self._stopping:
            self._leave([batch])
        elif batch.chained:
            self._return(batch)
        elif batch.tickets:
            self.submit([batch])
        return goes_on

    def _perform_again(
        self,
        performer: Performer,
        batches: Sequence[Batch],
        line: "_Line",
        goes_on: bool,
    ) -> bool:
        """Have jobs of a round that was broken off performed, each alone."""
        if not (batches and batches[0].chained):
            self.submit(batches)
            return goes_on
        for batch in batches:
            if goes_on:
                goes_on = self._perform(performer, batch, line)
            else:
                self._return(batch)
        return goes_on

    def _return(self, batch: Batch) -> None:
        """Have the poller put back what cannot be begun now."""
        if not batch.tickets:
            return
        self._finished.append([(ticket, UNBEGUN) for ticket in batch.tickets])
        self._note_unbegun(batch)


def _awaits(outcomes: Outcomes) -> bool:
    return any(outcome == AWAITS for _, outcome in outcomes)


class _Line:
    """The connection of one thread.

    A job might close it; then it may be somebody else's at any moment.
    """

    def __init__(self, db: Any):
        self.connection = db.open()
        self._opened = self.connection.opened

    @property
    def is_open(self) -> bool:
        """Whether it is still open, and ours."""
        return self.connection.opened == self._opened

    def close(self) -> None:
        """Give it back, unless a job did."""
        if self.is_open:
            self.connection.close()
