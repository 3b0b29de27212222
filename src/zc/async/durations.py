# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""How long the jobs of each callable take, as this process has measured it.

By this the dispatcher decides which jobs may share a round.  A callable is known
by its name; a first one is unknown, and so performed alone.  One that has made
trouble in a round is unknown for a while.
"""

import math
import threading
import time
from typing import Any

#: How many callables are remembered.
MAX_NAMES = 2000

#: For how many seconds a callable that has made a round fail is kept out of rounds:
#: at first, and at most when it does so again and again.
KEPT_OUT, LONGEST = 1.0, 64.0
FOREVER = math.inf

#: What performing costs besides the call, in seconds: loading, settling.
OVERHEAD = 0.0002


class Durations:
    """Expected durations by callable.  From any thread; one lock for the writers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: dict[str, float] = {}
        self._awaiting: set[str] = set()
        #: Until when (monotonic) a name is kept out, and how long it was last blamed.
        self._kept_out: dict[str, tuple[float, float]] = {}

    def note(self, name: str, seconds: float | None) -> None:
        """A call of `name` took so long; None if it was not called.

        A longer one counts at once, shorter ones little by little: that one job
        of a round takes longer than expected is what its neighbours notice.
        """
        if seconds is None:
            return
        known = self._seconds.get(name)
        if known is None:
            with self._lock:
                if len(self._seconds) >= MAX_NAMES:
                    self._seconds.clear()
                self._seconds[name] = seconds
        elif seconds > known:
            self._seconds[name] = seconds
        else:
            self._seconds[name] = 0.8 * known + 0.2 * seconds

    def expected(self, name: str) -> float | None:
        """How long a job of `name` takes, in seconds; None if it must be alone."""
        if self._kept_out:
            until, _ = self._kept_out.get(name, (0.0, 0.0))
            if time.monotonic() < until:
                return None
        known = self._seconds.get(name)
        return None if known is None else known + OVERHEAD

    def note_awaiting(self, name: str) -> None:
        """Jobs of `name` return something to await: they go on after their call."""
        with self._lock:
            if len(self._awaiting) >= MAX_NAMES:
                self._awaiting.clear()
            self._awaiting.add(name)

    def awaits(self, name: str) -> bool:
        """Whether jobs of `name` may go on after their call."""
        return name in self._awaiting

    def keep_out(self, name: str, seconds: float = KEPT_OUT) -> None:
        """Have jobs of `name` performed alone for a while."""
        with self._lock:
            until, blamed = self._kept_out.get(name, (0.0, 0.0))
            self._keep(name, max(until, time.monotonic() + seconds), blamed)

    def blame(self, name: str) -> None:
        """Jobs of `name` made a round fail: alone for a while, longer each time.

        Unless it has been good for long.
        """
        now = time.monotonic()
        with self._lock:
            until, blamed = self._kept_out.get(name, (0.0, 0.0))
            if now < until + 8 * blamed:
                blamed = min(2 * blamed, LONGEST)
            else:
                blamed = KEPT_OUT
            self._keep(name, max(until, now + blamed), blamed)

    def _keep(self, name: str, until: float, blamed: float) -> None:
        if len(self._kept_out) >= MAX_NAMES:
            self._kept_out.clear()
        self._kept_out[name] = until, blamed


def callable_name(job: Any) -> str:
    """The name by which the callable of `job` is known; loads nothing else."""
    target = job._target
    if isinstance(target, str):
        return target
    if isinstance(target, tuple):
        owner, method = target
        return f"{_class_name(owner)}.{method}"
    return _class_name(target)


def _class_name(value: Any) -> str:
    cls = type(value)
    return f"{cls.__module__}:{cls.__qualname__}"
