# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""How the jobs of the last minutes went, in aggregates of any number of jobs.

Nothing here has a lock: `records.Records` calls it under its own.
"""

import datetime
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from .polls import Moment, Period, PollInfo, Polls, Span
from .totals import Counts, Totals

#: The integer oid, and the name of the database.
JobId = tuple[int, str]
Extreme = tuple[datetime.timedelta, JobId] | None

ZERO = datetime.timedelta()


class Tally:
    """The jobs of one agent that started in one period; `counts` are its queue's."""

    __slots__ = (
        "counts", "failed", "longest_failed", "longest_successful",
        "shortest_failed", "shortest_successful", "started", "successful", "unknown",
    )  # fmt: skip

    def __init__(self, counts: Counts) -> None:
        self.counts = counts
        self.started = self.successful = self.failed = self.unknown = 0
        self.longest_successful: Extreme = None
        self.shortest_successful: Extreme = None
        self.longest_failed: Extreme = None
        self.shortest_failed: Extreme = None

    def succeed(self, duration: datetime.timedelta, job_id: JobId) -> None:
        self.successful += 1
        longest, shortest = self.longest_successful, self.shortest_successful
        if longest is None or duration > longest[0]:
            self.longest_successful = (duration, job_id)
        if shortest is None or duration < shortest[0]:
            self.shortest_successful = (duration, job_id)

    def fail(self, duration: datetime.timedelta, job_id: JobId) -> None:
        self.failed += 1
        longest, shortest = self.longest_failed, self.shortest_failed
        if longest is None or duration > longest[0]:
            self.longest_failed = (duration, job_id)
        if shortest is None or duration < shortest[0]:
            self.shortest_failed = (duration, job_id)

    def add(self, other: "Tally") -> None:
        """Count what `other` counted."""
        for name in ("started", "successful", "failed", "unknown"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("successful", "failed"):
            self._take(max, f"longest_{name}", other)
            self._take(min, f"shortest_{name}", other)

    def _take(self, choose: Callable, name: str, other: "Tally") -> None:
        pairs = [getattr(self, name), getattr(other, name)]
        found = [pair for pair in pairs if pair is not None]
        setattr(self, name, choose(found, key=lambda pair: pair[0], default=None))


class KnownJob(Protocol):
    """What `Statistics` reads in the record of a job."""

    id: JobId
    queue: str
    agent: str
    started: datetime.datetime
    poll: PollInfo

    def count(self, tally: Tally) -> None: ...


class KnownJobs(Protocol):
    """The records of jobs that are kept."""

    def __iter__(self) -> Iterator[KnownJob]: ...

    def unsettled(self) -> Iterable[KnownJob]: ...


class Statistics:
    """Counts of the jobs that started in the periods that are kept.

    A job counts in the period of its poll, however late it ends.
    """

    def __init__(self, polls: Polls, jobs: KnownJobs, totals: Totals) -> None:
        self._polls = polls
        self._jobs = jobs
        self._totals = totals

    def tally(self, poll: PollInfo, queue: str, agent: str) -> Tally:
        """Return where the jobs are counted that this agent starts now."""
        tallies = poll.period.tallies
        tally = tallies.get((queue, agent))
        if tally is None:
            tally = tallies[queue, agent] = Tally(self._totals.of(queue))
        return tally

    def getStatistics(
        self,
        at: Moment | None = None,
        before: Moment | None = None,
        since: Moment | None = None,
        queue: str | None = None,
        agent: str | None = None,
    ) -> dict:
        """Return the figures of the jobs whose polls are in the span.

        'statistics start' is the newest moment and 'statistics end' the oldest, both
        naive UTC, or None without a poll.  Where the span begins or ends within a
        period, the period's jobs are counted one by one while all of them are
        remembered; later the whole period counts, and start and end say so.  Active
        are those that are so now, if they started in the span or before it.
        """
        span = Span(at, before, since)
        total = Tally(Counts())
        moments: list[datetime.datetime | None] = []
        for period in self._polls.periods():
            moments += self._count(period, span, total, queue, agent)
        if moments and since is None:
            moments.append(self._polls.horizon)
        active = [
            (job.started, job.id)
            for job in self._jobs.unsettled()
            if _of(job, queue, agent) and not span.too_new(job.poll)
        ]
        return _report(total, active, moments)

    def _count(
        self,
        period: Period,
        span: Span,
        total: Tally,
        queue: str | None,
        agent: str | None,
    ) -> list[datetime.datetime]:
        """Add the part of the period in the span; return its moments, newest first."""
        if span.too_new(period.oldest) or span.too_old(period.newest):
            return []
        whole = period.newest in span and period.oldest in span
        if not (whole or period.incomplete):
            return self._count_jobs(period, span, total, queue, agent)
        for (queue_name, agent_name), tally in period.tallies.items():
            if queue in (None, queue_name) and agent in (None, agent_name):
                total.add(tally)
        return [period.newest.utc_timestamp, period.oldest.utc_timestamp]

    def _count_jobs(
        self,
        period: Period,
        span: Span,
        total: Tally,
        queue: str | None,
        agent: str | None,
    ) -> list[datetime.datetime]:
        for job in self._jobs:
            counts = job.poll.period is period and job.poll in span
            if counts and _of(job, queue, agent):
                total.started += 1
                job.count(total)
        polls = self._polls.within(span)
        return [poll.utc_timestamp for poll in polls if poll.period is period]


def _of(job: KnownJob, queue: str | None, agent: str | None) -> bool:
    return queue in (None, job.queue) and agent in (None, job.agent)


def _report(total: Tally, active: list, moments: list) -> dict:
    def job_id(pair: Extreme) -> JobId | None:
        return None if pair is None else pair[1]

    def began(pair: tuple[datetime.datetime, JobId]) -> datetime.datetime:
        return pair[0]

    return {
        "failed": total.failed,
        "longest active": job_id(min(active, key=began, default=None)),
        "longest failed": job_id(total.longest_failed),
        "longest successful": job_id(total.longest_successful),
        "shortest active": job_id(max(active, key=began, default=None)),
        "shortest failed": job_id(total.shortest_failed),
        "shortest successful": job_id(total.shortest_successful),
        "started": total.started,
        "statistics end": moments[-1] if moments else None,
        "statistics start": moments[0] if moments else None,
        "successful": total.successful,
        "unknown": total.unknown,
    }
