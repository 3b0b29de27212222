# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Draining waiting no-op jobs, and what a job writes from its put to completed.

Each job is put in a transaction of its own while the queue is paused; the clock runs
from the end of the pause until the last job is COMPLETED in the database.
"""

import argparse
import time
from collections.abc import Iterable
from typing import Any

from .application import Application, application
from .jobs import count_down, countdown
from .measure import PATIENCE, settle_memory
from .plan import AtLeast, AtMost, Bar, Case, Figure
from .storages import Maker

REPEAT = 3
JOBS = 5000
WARM_UP = 200

#: (size, threads) of the agent: the bars of the rate and of transactions a job.
BARS: dict[tuple[int, int], tuple[Bar, Bar]] = {
    (4, 4): (AtLeast(0.20, aim=0.30, of_ceiling=True), AtMost(2.7)),
    (32, 4): (AtLeast(0.35, aim=0.50, of_ceiling=True), AtMost(2.2)),
}


def add_arguments(parser: argparse._ArgumentGroup) -> None:
    parser.add_argument("--size", type=int, metavar="N", help="jobs the agent holds")
    parser.add_argument("--threads", type=int, metavar="N", help="jobs it works on")


def cases(options: argparse.Namespace) -> list[Case]:
    agents = list(BARS)
    if options.size or options.threads:
        size = options.size or options.threads
        agents = [(size, options.threads or size)]
    jobs = options.jobs or JOBS
    return [
        Case(figures(size, threads), {"jobs": jobs, "size": size, "threads": threads})
        for size, threads in agents
    ]


def figures(size: int, threads: int) -> tuple[Figure, ...]:
    """The figures of an agent of this size."""
    rate, transactions = BARS.get((size, threads), (None, None))
    which = f"agent {size}/{threads}"
    seed = "1, 308 (poll 0.01 s)"
    return (
        Figure("rate", f"drain, {which}", "jobs/s", rate, 4, seed),
        Figure("transactions", "transactions a job", "", transactions, seed="5"),
        Figure("records", "records a job", "", AtMost(8), seed="17"),
        Figure("bytes", "bytes a job", "bytes", AtMost(3000), seed="6,900"),
    )


def trial(make_store: Maker, jobs: int, size: int, threads: int) -> dict:
    with make_store() as store, application(store) as app:
        app.start(size, threads)
        drain(app, WARM_UP)
        elapsed, before, middle = drain(app, jobs)
        puts = store.count(app.db, before, middle)
        rest = store.count(app.db, middle, app.last_transaction())
    both = (puts + rest).per(jobs)
    return {
        "rate": jobs / elapsed,
        **{key: both[key] for key in ("transactions", "records", "bytes")},
        "details": {"put": puts.per(jobs), "drain": rest.per(jobs)},
    }


def drain(app: Application, jobs: int) -> tuple[float, bytes, bytes]:
    """Put and drain; seconds of the drain, last transactions before put and drain."""
    app.pause()
    before = app.last_transaction()
    oids = app.put([count_down] * jobs)
    countdown.start(jobs)
    settle_memory()
    middle = app.last_transaction()
    start = time.perf_counter()
    app.resume()
    if not countdown.over.wait(PATIENCE):
        raise TimeoutError(f"{countdown.calls} of {jobs} jobs began")
    app.wait_completed(oids[-100:])
    elapsed = time.perf_counter() - start
    app.wait_completed(oids)
    app.wait_settled()
    if countdown.calls != jobs:
        raise AssertionError(f"{countdown.calls} calls of {jobs} jobs")
    return elapsed, before, middle


def drain_uncounted(app: Application, jobs: Iterable[Any]) -> float:
    """Drain jobs that may be called more than once; seconds that it takes."""
    app.pause()
    oids = app.put(jobs, at_once=50)
    settle_memory()
    start = time.perf_counter()
    app.resume()
    app.wait_completed(oids)
    elapsed = time.perf_counter() - start
    app.wait_settled()
    return elapsed
