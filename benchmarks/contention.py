# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Conflicts of many putters with each other and with a dispatcher that drains.

Each putter's transaction has seen the queue, puts, and stays open for a while.
"""

import argparse
import functools
import random
import threading
from typing import Any

import transaction
from ZODB.DB import DB
from ZODB.POSException import ConflictError

from zc.async_.interfaces import IQueue

from .application import application
from .jobs import count_down, countdown
from .measure import PATIENCE, in_threads, settle_memory
from .plan import AtMost, Case, Figure
from .storages import Maker

REPEAT = 3
JOBS = 3200
PUTTERS = 8

#: Seconds that a transaction is open, at most.
OPEN = 0.05

FIGURES = (
    Figure(
        "conflicts",
        f"conflict errors at {PUTTERS} putters",
        "errors",
        AtMost(0),
        seed="707-913 (BTree)",
    ),
    Figure("rate", "puts meanwhile", "jobs/s"),
)


def cases(options: argparse.Namespace) -> list[Case]:
    return [Case(FIGURES, {"jobs": options.jobs or JOBS})]


def trial(make_store: Maker, jobs: int) -> dict[str, float]:
    share = max(jobs // PUTTERS, 1)
    putters = [Putter(share, OPEN, number) for number in range(PUTTERS)]
    with make_store() as store, application(store, pool_size=PUTTERS + 8) as app:
        app.start(size=32, threads=4)
        countdown.start(share * PUTTERS)
        settle_memory()
        elapsed = in_threads([functools.partial(each.run, app.db) for each in putters])
        if not countdown.over.wait(PATIENCE):
            raise TimeoutError(f"{countdown.calls} of {share * PUTTERS} jobs began")
        app.wait_settled()
        if countdown.calls != share * PUTTERS:
            raise AssertionError(f"{countdown.calls} calls of {share * PUTTERS} jobs")
    return {
        "conflicts": sum(each.conflicts for each in putters),
        "rate": share * PUTTERS / elapsed,
    }


class Putter:
    """Puts jobs, each in a transaction that stays open for a random time."""

    def __init__(self, jobs: int, longest: float, seed: int):
        self.jobs = jobs
        self.conflicts = 0
        self._longest = longest
        self._times = random.Random(seed)
        self._open = threading.Event()

    def run(self, db: DB) -> None:
        """Put all; called in a thread of its own."""
        manager = transaction.TransactionManager()
        connection = db.open(manager)
        try:
            for _ in range(self.jobs):
                while not self._put(manager, connection):
                    self.conflicts += 1
        finally:
            manager.abort()
            connection.close()

    def _put(self, manager: transaction.TransactionManager, connection: Any) -> bool:
        """Put one job; whether that went without a conflict."""
        before, after = (self._times.uniform(0, self._longest / 2) for _ in range(2))
        manager.begin()
        try:
            queue = IQueue(connection.root())
            self._open.wait(before)
            queue.put(count_down)
            self._open.wait(after)
            manager.commit()
        except ConflictError:
            manager.abort()
            return False
        return True
