# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Results as a table for people and as one JSON document for programs."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

from .measure import median
from .plan import Figure

PACKAGES = ("zc.async", "ZODB", "BTrees", "persistent", "transaction", "Twisted")
HEADINGS = ("figure", "median", "unit", "of ceiling", "bar", "met", "1.5.4")


@dataclass(frozen=True)
class Row:
    """What was measured for one figure: a number for each trial."""

    figure: Figure
    values: tuple[float, ...]
    shares: tuple[float, ...]
    ceilings: tuple[dict[int, float], ...]

    @classmethod
    def of(cls, figure: Figure, trials: Sequence[dict]) -> "Row":
        """The row of a figure, from what `runner.trial` returned."""
        values = tuple(trial["figures"][figure.key] for trial in trials)
        ceilings = tuple(trial["ceilings"] for trial in trials)
        shares: tuple[float, ...] = ()
        if figure.ceiling is not None:
            shares = tuple(
                value / rates[figure.ceiling]
                for value, rates in zip(values, ceilings, strict=True)
            )
        return cls(figure, values, shares, ceilings)

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def share(self) -> float | None:
        """The median of the shares of the ceiling of each trial, or None."""
        return median(self.shares) if self.shares else None

    @property
    def met(self) -> bool | None:
        """Whether the bar is reached; None without one."""
        bar = self.figure.bar
        return None if bar is None else bar.met(self.median, self.share)

    @property
    def aim_met(self) -> bool | None:
        bar = self.figure.bar
        return None if bar is None else bar.aim_met(self.median, self.share)


@dataclass(frozen=True)
class Result:
    """The rows of one benchmark, and details that only the JSON has."""

    name: str
    storage: str
    rows: Sequence[Row]
    details: Sequence[dict] = field(default_factory=list)

    @property
    def met(self) -> bool:
        return all(row.met is not False for row in self.rows)

    @property
    def ceilings(self) -> dict[int, float]:
        """The median ceiling of all trials, by the number of threads."""
        trials = [rates for row in self.rows for rates in row.ceilings]
        return {
            threads: median([rates[threads] for rates in trials])
            for threads in trials[0]
        }


def table(result: Result) -> str:
    """The result as a table of text."""
    lines = [HEADINGS, *(_cells(row) for row in result.rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    ceilings = ", ".join(
        f"{rate:,.0f} with {threads} thread{'s' if threads > 1 else ''}"
        for threads, rate in result.ceilings.items()
    )
    title = f"{result.name} on {result.storage}; ceiling, commits/s: {ceilings}"
    rule = "  ".join("=" * width for width in widths)
    body = [_line(cells, widths) for cells in lines]
    return "\n".join([title, rule, body[0], rule, *body[1:], rule, ""])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        cell.rjust(width) if number in (1, 3) else cell.ljust(width)
        for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(padded).rstrip()


def _cells(row: Row) -> tuple[str, ...]:
    figure = row.figure
    return (
        figure.title,
        number(row.median),
        figure.unit,
        "" if row.share is None else f"{row.share:.1%}",
        "" if figure.bar is None else str(figure.bar),
        _verdict(row),
        figure.seed,
    )


def _verdict(row: Row) -> str:
    if row.met is None:
        return ""
    if not row.met:
        return "NO"
    return "yes, aim too" if row.aim_met else "yes"


def number(value: float) -> str:
    """A number with three significant digits or all before the point."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.3f}"


def as_json(results: Sequence[Result], skipped: Sequence[dict] = ()) -> str:
    """All results as one JSON document, and what was skipped, with reasons."""
    return json.dumps(document(results, skipped), indent=2)


def document(results: Sequence[Result], skipped: Sequence[dict] = ()) -> dict:
    """All results as plain data: see `as_json`."""
    return {
        "environment": environment(),
        "met": all(result.met for result in results),
        "skipped": list(skipped),
        "benchmarks": [
            {
                "name": result.name,
                "storage": result.storage,
                "ceilings": {
                    str(threads): rate for threads, rate in result.ceilings.items()
                },
                "figures": [_figure(row) for row in result.rows],
                "details": list(result.details),
            }
            for result in results
        ],
    }


def _figure(row: Row) -> dict:
    figure = row.figure
    bar = figure.bar
    return {
        "key": figure.key,
        "title": figure.title,
        "unit": figure.unit,
        "median": row.median,
        "values": list(row.values),
        "ceiling_threads": figure.ceiling,
        "share_of_ceiling": row.share,
        "shares_of_ceiling": list(row.shares),
        "bar": None if bar is None else str(bar),
        "bar_is_share_of_ceiling": bar is not None and bar.of_ceiling,
        "met": row.met,
        "aim_met": row.aim_met,
        "zc.async 1.5.4": figure.seed or None,
    }


def environment() -> dict:
    """What the figures were measured with."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
