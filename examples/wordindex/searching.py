# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Searching the finished index: for words of the command line, or at a prompt."""

from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

from .folder import relative
from .summary import count

MOST_HITS = 10
MOST_WORDS = 8


def found(build: Any, query: str) -> Iterator[str]:
    """The lines that answer `query`."""
    index = build.index
    hits = index.find(query)
    yield f"{query!r}: {count(len(hits), 'file')}"
    for hit in hits[:MOST_HITS]:
        yield f"  {hit.times:>6,}  {relative(hit.path, build.folders)}"
    if len(hits) > MOST_HITS:
        yield f"          and {len(hits) - MOST_HITS:,} more"
    if not hits:
        yield from _similar(index, query)


def _similar(index: Any, query: str) -> Iterator[str]:
    """Words that are there and begin like `query`."""
    words: list[str] = []
    prefix = query.strip().casefold()
    while prefix and not words:
        words = list(islice(index.words(prefix), MOST_WORDS))
        prefix = prefix[:-1] if len(prefix) > 3 else ""
    if words:
        yield f"  there are: {', '.join(words)}"


def ask(build: Any) -> None:
    """Answer what is asked at a prompt, until nothing is."""
    with suppress(ImportError):
        import readline  # noqa: F401 - gives `input` a history
    print("Words to search for; nothing, to end:")
    while query := _input("search> "):
        for line in found(build, query):
            print(line)


def _input(prompt: str) -> str:
    try:
        return input(prompt).strip()
    except (EOFError, KeyboardInterrupt):
        print()
        return ""
