# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Memory of a process after it performed many jobs."""

import argparse
import gc
from pathlib import Path

from .application import Application, application
from .jobs import count_down, countdown
from .measure import PATIENCE
from .plan import AtMost, Case, Figure
from .storages import Maker

REPEAT = 1
JOBS = 100_000

#: Jobs that wait at a time, put in one transaction.
AT_ONCE = 1_000

FIGURES = (
    Figure("early", "RSS after a tenth of the jobs", "MB"),
    Figure("late", "RSS after all jobs", "MB"),
    Figure("growth", "all / a tenth", "times", AtMost(1.1)),
)


def cases(options: argparse.Namespace) -> list[Case]:
    return [Case(FIGURES, {"jobs": options.jobs or JOBS})]


def trial(make_store: Maker, jobs: int) -> dict[str, float]:
    tenth = max(jobs // 10, 1)
    with make_store() as store, application(store) as app:
        app.start(size=32, threads=4)
        perform(app, tenth)
        early = resident_megabytes()
        perform(app, jobs - tenth)
        late = resident_megabytes()
    return {"early": early, "late": late, "growth": late / early}


def perform(app: Application, jobs: int) -> None:
    """Put jobs and wait until they are done, some at a time."""
    for start in range(0, jobs, AT_ONCE):
        count = min(AT_ONCE, jobs - start)
        countdown.start(count)
        for _ in range(count):
            app.queue.put(count_down)
        app.manager.commit()
        if not countdown.over.wait(PATIENCE):
            raise TimeoutError(f"{countdown.calls} of {count} jobs began")
        app.wait_settled()


def resident_megabytes() -> float:
    """Memory that this process has resident now, without garbage."""
    gc.collect()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("found no VmRSS in /proc/self/status")
