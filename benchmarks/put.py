# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Putting no-op jobs: one thread, each put in a transaction of its own."""

import argparse
import time

from .application import application
from .jobs import no_op
from .journal import Count
from .measure import settle_memory
from .plan import AtLeast, Case, Figure
from .storages import Maker

REPEAT = 3
JOBS = 5000
WARM_UP = 200

FIGURES = (
    Figure(
        "rate",
        "put + commit",
        "jobs/s",
        AtLeast(0.45, aim=0.60, of_ceiling=True),
        ceiling=1,
        seed="2,520 jobs/s",
    ),
    Figure("bytes", "bytes a put", "bytes"),
    Figure("records", "records a put", "records"),
)


def cases(options: argparse.Namespace) -> list[Case]:
    return [Case(FIGURES, {"jobs": options.jobs or JOBS})]


def trial(make_store: Maker, jobs: int) -> dict:
    with make_store() as store, application(store) as app:
        app.put([no_op] * min(WARM_UP, jobs))
        settle_memory()
        before = app.last_transaction()
        start = time.perf_counter()
        app.put([no_op] * jobs)
        elapsed = time.perf_counter() - start
        written: Count = store.count(app.db, before, app.last_transaction())
    per_job = written.per(jobs)
    return {
        "rate": jobs / elapsed,
        "bytes": per_job["bytes"],
        "records": per_job["records"],
        "details": {"a put": per_job},
    }
