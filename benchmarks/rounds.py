# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Rounds: what several jobs in one commit gain, on each kind of storage.

Rounds of different sizes side by side: of no-op jobs; of jobs of which some fail and
some conflict; of jobs of one quota that change one BTree; of jobs that are too long
to share a round.  And that an idle queue does not wait for a round to be full.
"""

import argparse
import logging
import time
from collections.abc import Callable
from typing import TypeVar

from BTrees.IOBTree import IOBTree
from persistent.list import PersistentList

from zc.async_.job import Job

from . import jobs as job_functions
from .application import Application, application
from .ceiling import Small
from .drain import drain, drain_uncounted
from .jobs import conflict_at_first, fail, no_op, note_in_tree, take_long
from .measure import PATIENCE, median
from .plan import AtLeast, AtMost, Bar, Case, Figure
from .storages import Maker

REPEAT = 3
STORAGES = ("filestorage", "zeo", "postgresql")
WARM_UP = 200

#: How many jobs are drained, for each kind of storage.
JOBS = {"filestorage": 3000, "zeo": 2000, "postgresql": 2000}
SERIAL, IDLE, LONG = 1000, 150, 40

#: How often what is compared is measured, in turns.
TURNS = 3

T = TypeVar("T")

SIZES = (1, 4, 16, 64)
AGENT = {"size": 64, "threads": 4}

#: Of the ceiling with 4 threads: what rounds reach by default.
BARS: dict[str, Bar] = {
    "filestorage": AtLeast(0.75, aim=1.2, of_ceiling=True),
    "zeo": AtLeast(1.5, aim=3, of_ceiling=True),
    "postgresql": AtLeast(2.5, aim=6, of_ceiling=True),
}

#: How long a job takes that is too long for a round.
SECONDS = 0.05


def cases(options: argparse.Namespace) -> list[Case]:
    jobs = options.jobs or JOBS[options.storage]
    made = [
        Case(_rate(f"drain, rounds of {size}"), {"jobs": jobs, "round_size": size})
        for size in SIZES
    ]
    return [
        *made,
        Case(_by_default(options.storage), {"jobs": jobs}),
        Case(_TROUBLE, {"jobs": jobs, "what": "trouble"}),
        Case(_SERIAL, {"jobs": min(jobs, SERIAL), "what": "serial"}),
        Case(_IDLE, {"jobs": min(jobs, IDLE), "what": "idle"}),
        Case(_LONG, {"jobs": min(jobs, LONG), "what": "long"}),
    ]


def _rate(title: str) -> tuple[Figure, ...]:
    return (Figure("rate", title, "jobs/s", ceiling=4),)


def _by_default(storage: str) -> tuple[Figure, ...]:
    """The figures of rounds as they are by default."""
    rate = Figure("rate", "drain, default rounds", "jobs/s", BARS[storage], 4)
    if storage != "filestorage":
        return (rate,)
    return (
        rate,
        Figure("transactions", "transactions a job", "", AtMost(1.3)),
        Figure("bytes", "bytes a job", "bytes", AtMost(2000)),
    )


_TROUBLE = (
    Figure("rate", "1% fail, 1% conflict", "jobs/s", ceiling=4),
    Figure("kept", "of the rate without", "times", AtLeast(0.8)),
)
_SERIAL = (
    Figure("rate", "one quota, one BTree", "jobs/s", ceiling=4),
    Figure("single_rate", "the same, rounds of 1", "jobs/s", ceiling=4),
    Figure("gain", "that is", "times", AtLeast(3)),
)
_IDLE = (
    Figure("start_ms", "idle, put -> start", "ms"),
    Figure("result_ms", "idle, put -> result", "ms"),
    Figure("start", "start, to rounds of 1", "times", AtMost(1.05)),
    Figure("result", "result, to rounds of 1", "times", AtMost(1.05)),
)
_LONG = (
    Figure("rate", f"jobs of {1000 * SECONDS:.0f} ms", "jobs/s"),
    Figure("kept", "to rounds of 1", "times", AtLeast(0.97)),
    Figure("result_ms", "put -> result", "ms"),
    Figure("result", "to rounds of 1", "times", AtMost(1.05)),
)


def trial(
    make_store: Maker, jobs: int, round_size: int | None = None, what: str = "drain"
) -> dict:
    with make_store() as store, application(store) as app:
        app.start(**AGENT, round_size=round_size)
        drain(app, WARM_UP)
        return _TRIALS[what](app, jobs)


def _set_round_size(app: Application, size: int) -> None:
    app.manager.begin()
    app.agent.round_size = size
    app.commit()


def _drain(app: Application, jobs: int) -> dict:
    elapsed, before, _ = drain(app, jobs)
    whole = app.store.count(app.db, before, app.last_transaction()).per(jobs)
    return {
        "rate": jobs / elapsed,
        "transactions": whole["transactions"],
        "bytes": whole["bytes"],
    }


def _trouble(app: Application, jobs: int) -> dict:
    """Jobs of which some fail and some conflict; and as many without trouble."""
    logger = logging.getLogger("zc.async.trace")
    level = logger.level
    logger.setLevel(logging.ERROR)  # retries are warnings
    try:
        plain = drain_uncounted(app, [no_op] * jobs)
        troubled = drain_uncounted(app, _with_troubles(app, jobs))
    finally:
        logger.setLevel(level)
    return {"rate": jobs / troubled, "kept": plain / troubled}


def _with_troubles(app: Application, jobs: int) -> list:
    smalls = app.connection.root()["smalls"] = PersistentList()
    found: list = [no_op] * jobs
    for number in range(33, jobs, 100):
        found[number] = job = Job(fail)
        job.failure_log_level = logging.DEBUG
    for number in range(66, jobs, 100):
        smalls.append(Small())
        found[number] = Job(conflict_at_first, smalls[-1])
    app.manager.commit()
    return found


def _serial(app: Application, jobs: int) -> dict:
    """Jobs of one quota that change one BTree, with rounds of 1 and by default."""
    app.queue.quotas.create("one", size=1)
    app.manager.commit()
    default = app.agent.round_size
    rates = []
    for number, size in enumerate((1, default)):
        _set_round_size(app, size)
        tree = app.connection.root()[number] = IOBTree()
        app.manager.commit()
        drain_uncounted(app, _serialised(tree, 20))
        rates.append(jobs / drain_uncounted(app, _serialised(tree, jobs)))
        if len(tree) != jobs:
            raise AssertionError(f"{len(tree)} of {jobs} jobs had an effect")
    single, together = rates
    return {"rate": together, "single_rate": single, "gain": together / single}


def _serialised(tree: IOBTree, jobs: int) -> list[Job]:
    found = [Job(note_in_tree, tree, number) for number in range(jobs)]
    for job in found:
        job.quota_names = ("one",)
    return found


def _in_turns(app: Application, measure: Callable[[], T]) -> tuple[list[T], list[T]]:
    """What `measure` returns with rounds of 1 and with the default, in turns."""
    default = app.agent.round_size
    found: dict[int, list[T]] = {1: [], default: []}
    for _ in range(TURNS):
        for size, values in found.items():
            _set_round_size(app, size)
            values.append(measure())
    return found[1], found[default]


def _idle(app: Application, jobs: int) -> dict:
    """One job at a time."""

    def measure() -> list[tuple[float, float]]:
        return [_one_idle(app, number) for number in range(jobs // TURNS or 1)]

    single, default = _in_turns(app, measure)
    single_start, single_result = map(median, zip(*sum(single, []), strict=True))
    start, result = map(median, zip(*sum(default, []), strict=True))
    return {
        "start_ms": 1000 * start,
        "result_ms": 1000 * result,
        "start": start / single_start,
        "result": result / single_result,
    }


def _one_idle(app: Application, number: int) -> tuple[float, float]:
    """Put one job; seconds until its start, and until its result is committed."""
    job = Job(job_functions.note_start, number)
    began = time.perf_counter()
    [oid] = app.put([job])
    _, started = job_functions.starts.get(timeout=PATIENCE)
    app.wait_completed([oid], interval=0.0002)
    ended = time.perf_counter()
    app.wait_settled()
    return started - began, ended - began


def _long(app: Application, jobs: int) -> dict:
    """Jobs that are too long to share a round: many, and one at a time."""
    drain_uncounted(app, [Job(take_long, SECONDS)])

    def measure() -> tuple[float, float]:
        long = [Job(take_long, SECONDS) for _ in range(jobs)]
        rate = jobs / drain_uncounted(app, long)
        return rate, median([_one_long(app) for _ in range(5)])

    single, default = _in_turns(app, measure)
    single_rate, single_latency = map(median, zip(*single, strict=True))
    rate, latency = map(median, zip(*default, strict=True))
    return {
        "rate": rate,
        "kept": rate / single_rate,
        "result_ms": 1000 * latency,
        "result": latency / single_latency,
    }


def _one_long(app: Application) -> float:
    began = time.perf_counter()
    oids = app.put([Job(take_long, SECONDS)])
    app.wait_completed(oids)
    elapsed = time.perf_counter() - began
    app.wait_settled()
    return elapsed


_TRIALS: dict[str, Callable[[Application, int], dict]] = {
    "drain": _drain,
    "trouble": _trouble,
    "serial": _serial,
    "idle": _idle,
    "long": _long,
}
