# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""How far the build is, shown while it goes on.

Looking writes nothing: a connection reads, and the dispatcher tells what its
threads do from memory.
"""

import os
import shutil
import time
from collections.abc import Iterable
from typing import Any, NamedTuple, TextIO

import transaction

from zc.async_.interfaces import IQueue

from .summary import count

WIDTH = 24  # of the bar
PLAIN_INTERVAL = 2.0  # seconds between two lines, where there is no terminal


class Figures(NamedTuple):
    """What the database says at one moment."""

    planned: int | None = None
    indexed: int = 0
    failed: int = 0
    read_again: int = 0
    waiting: int = 0
    finished: bool = False
    trouble: str | None = None
    folders: tuple[str, ...] = ()

    @property
    def done(self) -> int:
        return self.indexed + self.failed


class View:
    """Reads figures, in a connection of its own.  Belongs to one thread."""

    def __init__(self, db: Any):
        self._manager = transaction.TransactionManager()
        self._connection = db.open(transaction_manager=self._manager)

    def look(self) -> Figures:
        self._manager.begin()  # the present, not the past
        root = self._connection.root()
        build = root["wordindex"]
        return Figures(
            planned=build.planned,
            indexed=build.index.indexed,
            failed=build.index.failed,
            read_again=build.read_again,
            waiting=len(IQueue(root)),
            finished=build.finished is not None,
            trouble=build.trouble,
            folders=build.folders,
        )

    def close(self) -> None:
        self._manager.abort()
        self._connection.close()


class Display:
    """Shows figures: one line that changes on a terminal, else a line now and then."""

    def __init__(self, stream: TextIO, quiet: bool = False):
        self._stream = stream
        self._quiet = quiet
        self._live = stream.isatty()
        self._began = time.monotonic()
        self._shown = float("-inf")
        self._width = 0

    def show(self, figures: Figures, doing: str = "") -> None:
        if self._quiet:
            return
        seconds = time.monotonic() - self._began
        if self._live:
            self._overwrite(live_line(figures, seconds, doing))
        elif seconds - self._shown >= PLAIN_INTERVAL:
            self._shown = seconds
            print(plain_line(figures, seconds), file=self._stream, flush=True)

    def say(self, text: str = "") -> None:
        """Print a line that stays."""
        if not self._quiet:
            self.clear()
            print(text, file=self._stream, flush=True)

    def clear(self) -> None:
        """Remove the line that changes."""
        if self._live and self._width:
            self._overwrite("")

    def _overwrite(self, line: str) -> None:
        columns = shutil.get_terminal_size().columns - 1
        line = line[:columns]
        padding = " " * (min(self._width, columns) - len(line))
        self._stream.write(f"\r{line}{padding}" + ("" if line else "\r"))
        self._stream.flush()
        self._width = len(line)


def live_line(figures: Figures, seconds: float, doing: str) -> str:
    """All on one line, what matters least at the end, which may be cut off."""
    if figures.planned is None:
        return f"looking for files ... {seconds:.0f} s"
    share = figures.done / figures.planned if figures.planned else 1.0
    bar = ("#" * round(share * WIDTH)).ljust(WIDTH)
    return f"[{bar}] {share:4.0%}  {_counts(figures)}  {seconds:.0f} s  {doing}"


def plain_line(figures: Figures, seconds: float) -> str:
    if figures.planned is None:
        return f"{seconds:5.0f} s  looking for files"
    return f"{seconds:5.0f} s  {_counts(figures)}"


def _counts(figures: Figures) -> str:
    text = f"{figures.done:,} of {figures.planned:,} files"
    if figures.failed:
        text += f", {figures.failed} failed"
    if figures.read_again:
        text += f", {figures.read_again} read again"
    return f"{text}, {count(figures.waiting, 'job')} waiting"


def what_it_does(dispatcher: Any, folders: Iterable[str]) -> str:
    """The call that one of the threads performs at this moment."""
    for oid, database_name in dispatcher.getActiveJobIds():
        try:
            call = dispatcher.getJobInfo(oid, database_name)["call"]
        except KeyError:
            continue  # ended meanwhile
        return short_call(call, folders)
    return ""


def short_call(call: str, folders: Iterable[str]) -> str:
    """The function and its arguments in the repr of a job, without well-known paths."""
    call = call.partition("``")[2].rpartition("``")[0] or call
    for known in ["examples.wordindex.", *(folder + os.sep for folder in folders)]:
        call = call.replace(known, "")
    return call
