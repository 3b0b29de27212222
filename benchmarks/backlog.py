# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""What a claim costs behind many waiting jobs, and behind many that are blocked.

Three queues side by side, claimed from in turns: one with few jobs, one with a
million, one with ten thousand whose quota is full ahead of few that can be claimed.
A claim is a transaction of its own; the queue gets a new job for each one it gives.
"""

import argparse
import datetime
import statistics
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack

from zc.async_.agent import Agent
from zc.async_.job import Job

from .application import AGENT, Application, application
from .jobs import no_op
from .measure import percentile, settle_memory
from .plan import AtMost, Case, Figure
from .storages import Maker

REPEAT = 1
WAITING = 1_000_000
BLOCKED = 10_000
FEW = 100
CLAIMS = 300
WARM_UP = 20

#: Jobs put in one transaction while the backlog is made.
AT_ONCE = 5_000

QUOTA = "full"

FIGURES = (
    Figure("few_ms", "claim behind 100", "ms", seed="0.4"),
    Figure("few_bytes", "", "bytes", seed="1,700"),
    Figure("waiting_ms", "behind many waiting", "ms", seed="107 behind 50,000"),
    Figure("waiting_bytes", "", "bytes", seed="67,000 behind 50,000"),
    Figure("waiting_p99_ms", "", "ms, p99"),
    Figure("waiting_first_ms", "the first claim", "ms"),
    Figure("blocked_ms", "behind many blocked", "ms", seed="107 behind 5,000"),
    Figure("blocked_bytes", "", "bytes"),
    Figure("blocked_p99_ms", "", "ms, p99"),
    Figure("blocked_first_ms", "the first claim", "ms"),
    Figure("waiting_time", "time, waiting / 100", "times", AtMost(1.5), seed="270"),
    Figure("waiting_written", "bytes, waiting / 100", "times", AtMost(1.5), seed="39"),
    Figure("blocked_time", "time, blocked / 100", "times", AtMost(1.5), seed="270"),
    Figure("blocked_written", "bytes, blocked / 100", "times", AtMost(1.5)),
    Figure("put_time", "a put: time, waiting / 100", "times"),
)


def add_arguments(parser: argparse._ArgumentGroup) -> None:
    parser.add_argument(
        "--blocked",
        type=int,
        metavar="N",
        default=BLOCKED,
        help="jobs of a full quota (default: %(default)s); --jobs are those that wait",
    )


def cases(options: argparse.Namespace) -> list[Case]:
    waiting = options.jobs or WAITING
    return [Case(FIGURES, {"waiting": waiting, "blocked": options.blocked})]


class Backlog:
    """One queue, and what its claims and puts took."""

    def __init__(self, app: Application, fill: Callable[[Application], None]):
        self.app = app
        fill(app)
        self.claims: list[float] = []
        self.puts: list[float] = []
        self.bytes: list[int] = []

    def claim(self) -> None:
        """Claim one job and put another, each in a transaction of its own."""
        app = self.app
        size = app.store.size(app.db)
        start = time.perf_counter()
        job = app.queue.claim()
        app.manager.commit()
        self.claims.append(time.perf_counter() - start)
        if job is None:
            raise AssertionError("found nothing to claim")
        self.bytes.append(app.store.size(app.db) - size)
        start = time.perf_counter()
        app.put([no_op])
        self.puts.append(time.perf_counter() - start)

    def figures(self, name: str) -> dict[str, float]:
        """What is reported, without the claims that warmed up."""
        claims = self.claims[WARM_UP:]
        return {
            f"{name}_ms": 1000 * statistics.median(claims),
            f"{name}_bytes": statistics.mean(self.bytes[WARM_UP:]),
            f"{name}_p99_ms": 1000 * percentile(claims, 99),
            f"{name}_first_ms": 1000 * self.claims[0],
        }


def trial(make_store: Maker, waiting: int, blocked: int) -> dict:
    fills = {
        "few": lambda app: fill(app, FEW),
        "waiting": lambda app: fill(app, waiting),
        "blocked": lambda app: fill_blocked(app, blocked),
    }
    with ExitStack() as stack:
        backlogs = {}
        for name, make in fills.items():
            store = stack.enter_context(make_store())
            app = stack.enter_context(application(store))
            backlogs[name] = Backlog(app, make)
        settle_memory()
        for _ in range(WARM_UP + CLAIMS):
            for backlog in backlogs.values():
                backlog.claim()
    found: dict[str, float] = {}
    for name, backlog in backlogs.items():
        found |= backlog.figures(name)
    for name in ("waiting", "blocked"):
        found[f"{name}_time"] = found[f"{name}_ms"] / found["few_ms"]
        found[f"{name}_written"] = found[f"{name}_bytes"] / found["few_bytes"]
    puts = {name: statistics.median(each.puts) for name, each in backlogs.items()}
    return found | {"put_time": puts["waiting"] / puts["few"]}


def fill(app: Application, count: int, quota_names: tuple[str, ...] = ()) -> None:
    """Put that many jobs, many in one transaction."""
    for start in range(0, count, AT_ONCE):
        for _ in range(min(AT_ONCE, count - start)):
            job = Job(no_op)
            job.quota_names = quota_names
            app.queue.put(job, begin_by=datetime.timedelta(days=1))
        app.manager.commit()
        app.connection.cacheMinimize()


def fill_blocked(app: Application, count: int) -> None:
    """Put jobs of a quota that is full, and few jobs without a quota behind them."""
    app.queue.quotas.create(QUOTA, size=1)
    fill(app, 1, (QUOTA,))
    hold_one(app)
    fill(app, count, (QUOTA,))
    fill(app, FEW)


def hold_one(app: Application) -> None:
    """Have an agent hold the first job, as if it were performed."""
    dispatchers = app.queue.dispatchers
    name = uuid.uuid4()
    dispatchers.register(name)
    agents = dispatchers[name]
    agents[AGENT] = Agent(size=1)
    agents.activate()
    if agents[AGENT].claimJob() is None:
        raise AssertionError("found nothing to hold")
    app.manager.commit()
