# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""What has been built, in figures, and what failed."""

from collections.abc import Iterator, Sequence
from typing import Any

from .folder import relative

MOST_FAILURES = 20
MOST_BARS = 48
_BARS = " .:-=+*#%@"


def summary(build: Any, database_size: int) -> Iterator[str]:
    """The lines of the summary of a finished build."""
    index = build.index
    yield f"Indexed {count(index.indexed, 'file')} of {_and(build.folders)}"
    words = f"{index.all_words:,}, {build.different_words:,} different ones"
    yield _line("words", f"{words}, in {size(index.bytes)}")
    yield _line("failed", count(index.failed, "file"))
    yield _line("read again", count(build.read_again, "time"))
    yield _line("time", _time(build))
    yield _line("rate", f"|{sparkline(build.diary.rates())}|")
    yield _line("database", size(database_size))
    yield from _failures(build)


def _line(name: str, text: str) -> str:
    return f"  {name:<12}{text}"


def _time(build: Any) -> str:
    diary = build.diary
    text = f"{diary.seconds():.1f} s, {diary.rate():,.0f} files a second"
    if diary.sessions > 1:
        text += f"; started {diary.sessions} times, "
        text += f"{count(build.interrupted, 'job')} interrupted and performed again"
    return text


def _failures(build: Any) -> Iterator[str]:
    failures = list(build.index.failures.values())
    if failures:
        yield "Not indexed:"
    for path, reason in failures[:MOST_FAILURES]:
        yield f"  {relative(path, build.folders)}: {reason}"
    if len(failures) > MOST_FAILURES:
        yield f"  and {len(failures) - MOST_FAILURES:,} more"


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def size(number: int) -> str:
    """Bytes, in megabytes."""
    return f"{number / 1e6:,.1f} MB"


def _and(folders: Sequence[str]) -> str:
    return " and ".join(relative(folder, ()) for folder in folders)


def sparkline(values: Sequence[float]) -> str:
    """One character for each value: the denser, the higher; or for each few."""
    step = -(-len(values) // MOST_BARS) or 1
    groups = [values[start : start + step] for start in range(0, len(values), step)]
    means = [sum(group) / len(group) for group in groups]
    highest = max(means, default=0) or 1
    top = len(_BARS) - 1
    return "".join(_BARS[round(mean / highest * top)] for mean in means)
