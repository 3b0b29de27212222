# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Commits a second of one small object, with 1 thread and with 4.

The ceiling: no queue that commits each job by itself is faster.  Every other
benchmark measures it, too, before and after itself, and compares itself with it.
"""

import argparse
import functools

import transaction
from persistent import Persistent
from ZODB.DB import DB

from .measure import in_threads, settle_memory
from .plan import Case, Figure
from .storages import Maker

REPEAT = 3

#: How many commits are measured, by this benchmark and beside each other one.
COMMITS = 3000
BESIDE = 1000
WARM_UP = 100
THREADS = (1, 4)

FIGURES = tuple(
    Figure(f"commits_{threads}", f"{threads} thread(s)", "commits/s", ceiling=threads)
    for threads in THREADS
)


class Small(Persistent):
    """A small object."""

    value = 0


def cases(options: argparse.Namespace) -> list[Case]:
    return [Case(FIGURES, {"commits": options.jobs or COMMITS})]


def trial(make_store: Maker, commits: int) -> dict[str, float]:
    rates = ceilings(make_store, commits)
    return {f"commits_{threads}": rates[threads] for threads in THREADS}


def ceilings(make_store: Maker, commits: int) -> dict[int, float]:
    """Commits a second, by the number of threads; each thread has its own object."""
    return {threads: commit_rate(make_store, threads, commits) for threads in THREADS}


def commit_rate(make_store: Maker, threads: int, commits: int) -> float:
    """Commits a second of `threads` threads, `commits` in all, in a new store."""
    with make_store() as store:
        db = store.open()
        try:
            with db.transaction() as connection:
                for number in range(threads):
                    connection.root()[number] = Small()
            share = commits // threads
            change = [
                functools.partial(_change, db, number, WARM_UP // threads)
                for number in range(threads)
            ]
            in_threads(change)
            settle_memory()
            measured = [
                functools.partial(_change, db, number, share)
                for number in range(threads)
            ]
            return share * threads / in_threads(measured)
        finally:
            db.close()


def _change(db: DB, number: int, times: int) -> None:
    manager = transaction.TransactionManager()
    connection = db.open(manager)
    try:
        small = connection.root()[number]
        for _ in range(times):
            small.value += 1
            manager.commit()
    finally:
        manager.abort()
        connection.close()
