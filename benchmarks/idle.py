# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""A dispatcher that has nothing to do: what it computes, what it writes."""

import argparse
import threading
import time

from .application import application
from .jobs import no_op
from .measure import settle_memory
from .plan import AtMost, Case, Figure
from .storages import Maker

REPEAT = 1
SECONDS = 60
WARM_UP = 20

#: The class of the records that a ping writes.
PING = "zc.async.membership.Ping"

FIGURES = (
    Figure("cpu", "CPU of the idle process", "%", AtMost(0.5)),
    Figure("transactions", "transactions in that time", ""),
    Figure("others", "records that are no pings", "", AtMost(0)),
)


def add_arguments(parser: argparse._ArgumentGroup) -> None:
    parser.add_argument(
        "--seconds",
        type=float,
        metavar="N",
        default=SECONDS,
        help="how long it is idle (default: %(default)s)",
    )


def cases(options: argparse.Namespace) -> list[Case]:
    return [Case(FIGURES, {"seconds": options.seconds})]


def trial(make_store: Maker, seconds: float) -> dict:
    with make_store() as store, application(store) as app:
        app.start(size=4, threads=4)
        app.wait_completed(app.put([no_op] * WARM_UP))
        app.wait_settled()
        settle_memory()
        before = app.last_transaction()
        start, used = time.perf_counter(), time.process_time()
        threading.Event().wait(seconds)
        used = time.process_time() - used
        elapsed = time.perf_counter() - start
        written = store.count(app.db, before, app.last_transaction())
    return {
        "cpu": 100 * used / elapsed,
        "transactions": written.transactions,
        "others": written.records - written.records_of[PING],
        "details": {"written": written.per(1)},
    }
