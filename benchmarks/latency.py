# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""How soon an idle dispatcher starts a job, put for now or scheduled.

From the beginning of the commit of the put, or from the due time, to the first line
of the job.  With `load` a process keeps another processor busy.
"""

import argparse
import datetime
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from . import jobs as job_functions
from .application import Application, application
from .jobs import note_lateness, note_start
from .measure import PATIENCE, percentile, settle_memory
from .plan import AtMost, Case, Figure
from .storages import Maker

REPEAT = 3
JOBS = 300
WARM_UP = 30

#: Seconds between a job and the put of the next one.
PAUSE = (0.005, 0.03)

#: Mean seconds between the due times of scheduled jobs, and until the first one.
SPACING = 0.02
AHEAD = 0.5

#: Ends with the process that started it, whatever happens.
BUSY = """
import os
parent = os.getppid()
while os.getppid() == parent:
    for _ in range(100_000):
        pass
"""

AGENT = {"size": 4, "threads": 4}


def figures(title: str, p50: float | None, p99: float) -> tuple[Figure, ...]:
    """The figures of one kind of latency, with their bars in milliseconds."""
    middle = None if p50 is None else AtMost(p50)
    return (
        Figure("p50", f"{title}, p50", "ms", middle, seed="2,700"),
        Figure("p99", f"{title}, p99", "ms", AtMost(p99), seed="4,800"),
        Figure("max", f"{title}, longest", "ms"),
    )


def cases(options: argparse.Namespace) -> list[Case]:
    jobs = options.jobs or JOBS
    return [
        Case(figures("put -> start", 2, 10), {"jobs": jobs}),
        Case(figures("put -> start, load", None, 30), {"jobs": jobs, "load": True}),
        Case(figures("due -> start", None, 20), {"jobs": jobs, "scheduled": True}),
    ]


def trial(
    make_store: Maker, jobs: int, load: bool = False, scheduled: bool = False
) -> dict[str, float]:
    measure = _scheduled if scheduled else _immediate
    with make_store() as store, application(store) as app, _load(load):
        app.start(**AGENT)
        measure(app, WARM_UP)
        settle_memory()
        late = [1000 * seconds for seconds in measure(app, jobs)]
    return {
        "p50": percentile(late, 50),
        "p99": percentile(late, 99),
        "max": max(late),
    }


def _immediate(app: Application, jobs: int) -> list[float]:
    """Put one job after the other; how long each took to start, in seconds."""
    pauses = random.Random(jobs)
    idle = threading.Event()
    late = []
    for number in range(jobs):
        job = app.queue.put(note_start)
        job.args.append(number)
        start = time.perf_counter()
        app.manager.commit()
        found, began = job_functions.starts.get(timeout=PATIENCE)
        if found != number:
            raise AssertionError(f"job {found} began, expected {number}")
        late.append(began - start)
        app.wait_completed([job._p_oid])
        idle.wait(pauses.uniform(*PAUSE))
    return late


def _scheduled(app: Application, jobs: int) -> list[float]:
    """Schedule jobs at random times; how late each began, in seconds."""
    times = random.Random(jobs)
    first = time.time() + AHEAD
    for _ in range(jobs):
        due = first + times.uniform(0, SPACING * jobs)
        when = datetime.datetime.fromtimestamp(due, datetime.UTC)
        app.queue.put(note_lateness, begin_after=when).args.append(when.timestamp())
    app.manager.commit()
    patience = AHEAD + SPACING * jobs + PATIENCE
    return [job_functions.lateness.get(timeout=patience) for _ in range(jobs)]


@contextmanager
def _load(wanted: bool) -> Iterator[None]:
    """Keep one processor busy with another process, meanwhile."""
    if not wanted:
        yield
        return
    busy = subprocess.Popen([sys.executable, "-c", BUSY])
    try:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(busy.pid, {max(os.sched_getaffinity(0))})
        yield
    finally:
        busy.kill()
        busy.wait()
