# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Counts and histograms of a dispatcher's whole life, for metrics.

Nothing here has a lock: `records.Records` calls it under its own.
"""

from bisect import bisect_left

#: Upper bounds of the histograms' buckets, in seconds; one more takes the rest.
BOUNDS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0,
)  # fmt: skip


class Counts:
    """What happened in a queue since the dispatcher was made."""

    __slots__ = ("failed", "interrupted", "retried", "started", "succeeded")

    def __init__(self) -> None:
        self.started = self.succeeded = self.failed = 0
        self.retried = self.interrupted = 0

    def as_dict(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in self.__slots__}


class Totals:
    """Counts and histograms of the dispatcher's whole life; they only grow."""

    def __init__(self) -> None:
        self._counts: dict[str, Counts] = {}
        self._histograms: dict[tuple[str, str, bool], tuple[Histogram, Histogram]] = {}

    def of(self, queue: str) -> Counts:
        counts = self._counts.get(queue)
        if counts is None:
            counts = self._counts[queue] = Counts()
        return counts

    def observe(
        self,
        queue: str,
        agent: str,
        latency_seconds: float | None,
        duration_seconds: float,
        failed: bool,
    ) -> None:
        """Count one performance: due -> start (None: not known), and start -> end."""
        key = (queue, agent, failed)
        pair = self._histograms.get(key)
        if pair is None:
            pair = self._histograms[key] = (Histogram(), Histogram())
        if latency_seconds is not None:
            pair[0].add(latency_seconds)
        pair[1].add(duration_seconds)

    def as_dict(self) -> dict[str, dict]:
        """Return a copy of it all in plain data.

        'counts' by queue, 'latency' and 'duration' by (queue, agent, failed).
        """
        latency = {key: pair[0].as_dict() for key, pair in self._histograms.items()}
        duration = {key: pair[1].as_dict() for key, pair in self._histograms.items()}
        counts = {queue: counts.as_dict() for queue, counts in self._counts.items()}
        return {"counts": counts, "latency": latency, "duration": duration}


class Histogram:
    """How many values were in each bucket of `BOUNDS`, the bound included."""

    __slots__ = ("buckets", "sum")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        """Count a value; one below zero, after the clock was set, counts as zero."""
        seconds = max(seconds, 0.0)
        self.buckets[bisect_left(BOUNDS, seconds)] += 1
        self.sum += seconds

    def as_dict(self) -> dict:
        return {
            "bounds": BOUNDS,
            "buckets": list(self.buckets),
            "count": sum(self.buckets),
            "sum": self.sum,
        }
