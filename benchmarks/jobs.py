# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The jobs that benchmarks put.

They tell this process what happened by plain queues; dispatchers of benchmarks run
in the process that measures.
"""

import queue
import threading
import time
from typing import Any

import transaction

#: `(number, perf_counter)` of each job that began, from `note_start`.
starts: queue.SimpleQueue = queue.SimpleQueue()

#: How late each scheduled job began, in seconds, from `note_lateness`.
lateness: queue.SimpleQueue = queue.SimpleQueue()


class Countdown:
    """Counts calls from any thread; `over` is set by the last one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.over = threading.Event()
        self.calls = 0
        self._expected = 0

    def start(self, expected: int) -> None:
        """Begin again, for this number of calls."""
        with self._lock:
            self.over.clear()
            self.calls = 0
            self._expected = expected

    def hit(self) -> None:
        """Count one call."""
        with self._lock:
            self.calls += 1
            if self.calls == self._expected:
                self.over.set()


countdown = Countdown()


def no_op() -> None:
    """The smallest job."""


def count_down() -> None:
    """Nearly the smallest job: the benchmark waits for the last one."""
    countdown.hit()


def note_start(number: int) -> None:
    """Tell that the job of this number began."""
    starts.put((number, time.perf_counter()))


def note_lateness(due: float) -> None:
    """Tell how long after `due`, in seconds since the epoch, the job began."""
    lateness.put(time.time() - due)


def fail() -> None:
    """Fail."""
    raise ValueError("this job fails")


def conflict_at_first(small: Any) -> None:
    """Have the first commit fail: another transaction changes the same object."""
    small.value += 1
    if small.value == 1:
        manager = transaction.TransactionManager()
        connection = small._p_jar.db().open(manager)
        connection.get(small._p_oid).value += 1
        manager.commit()
        connection.close()


def note_in_tree(tree: Any, number: int) -> None:
    """Change a BTree."""
    tree[number] = number


def take_long(seconds: float) -> None:
    """Take that long, and no processor."""
    time.sleep(seconds)
