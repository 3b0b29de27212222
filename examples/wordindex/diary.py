# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""How the build went, noted by a scheduled job.

`Diary.snapshot` notes how far things are and puts itself into the queue again, for
two seconds later.  It begins again by itself after a crash, like any other job.

An object of its own, apart from the index: two jobs that write the same object at
once conflict, and one of them has to be performed again.
"""

import datetime
from typing import Any, NamedTuple

from BTrees.IOBTree import IOBTree
from persistent import Persistent

from zc.async_ import local

INTERVAL = datetime.timedelta(seconds=2)


class Entry(NamedTuple):
    """How many files were done at `time` (seconds since 1970), in which session."""

    session: int
    time: float
    done: int


class Diary(Persistent):
    """What happened when.  A session is what one process did."""

    def __init__(self, index: Any):
        self._index = index
        self.entries = IOBTree()
        self.sessions = 0
        self._next: Any = None
        self._closed = False

    def note(self) -> None:
        """Add an entry."""
        now = datetime.datetime.now(datetime.UTC).timestamp()
        done = self._index.indexed + self._index.failed
        number = self.entries.maxKey() + 1 if self.entries else 0
        self.entries[number] = Entry(self.sessions, now, done)

    def begin_session(self) -> None:
        """A process begins to work.  Nobody else does yet."""
        self.sessions += 1
        self.note()

    def schedule(self, queue: Any) -> None:
        """Have the next snapshot taken."""
        when = datetime.datetime.now(datetime.UTC) + INTERVAL
        self._next = queue.put(self.snapshot, begin_after=when)

    def snapshot(self) -> None:
        """The job."""
        if not self._closed:
            self.note()
            self.schedule(local.getQueue())

    def close(self, queue: Any) -> None:
        """Note the end, and call the next snapshot off.

        When that is being performed at this moment, both write this object: one
        commits, the other conflicts and is performed again, and sees the result.
        """
        self.note()
        self._closed = True
        try:
            queue.remove(self._next)
        except LookupError:
            pass  # begun already
        self._next = None

    # What it tells.

    def seconds(self) -> float:
        """How long all sessions worked; up to `INTERVAL` of a killed one is lost."""
        return sum(later.time - earlier.time for earlier, later in self._steps())

    def rate(self) -> float:
        """Files a second, in the time that was noted."""
        files = sum(later.done - earlier.done for earlier, later in self._steps())
        return files / max(self.seconds(), 0.001)

    def rates(self) -> list[float]:
        """The same, between one entry and the next."""
        return [
            (later.done - earlier.done) / max(later.time - earlier.time, 0.001)
            for earlier, later in self._steps()
        ]

    def _steps(self) -> list[tuple[Entry, Entry]]:
        entries = list(self.entries.values())
        return [
            (earlier, later)
            for earlier, later in zip(entries, entries[1:], strict=False)
            if earlier.session == later.session
        ]
