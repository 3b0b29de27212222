# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""How long the jobs of each callable take, as this process has measured it.

By this the dispatcher decides which jobs may share a round.  A callable is known
by its name; a first one is unknown, and so performed alone.  One that has made
trouble in a round is unknown for a while.
"""

import threading
import time
from typing import Any

#: How many callables are remembered.
MAX_NAMES = 2000

#: For how many seconds a callable that caused trouble is kept out of rounds.
KEPT_OUT = 60.0

#: What performing costs besides the call, in seconds: loading, settling.
OVERHEAD = 0.0002


class Durations:
    """Expected durations by callable.  From any thread; one lock for the writers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: dict[str, float] = {}
        self._kept_out: dict[str, float] = {}

    def note(self, name: str, seconds: float) -> None:
        """A call of `name` took so long.

        A longer one counts at once, shorter ones little by little: that one job
        of a round takes longer than expected is what its neighbours notice.
        """
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
            until = self._kept_out.get(name)
            if until is not None:
                if time.monotonic() < until:
                    return None
                self._kept_out.pop(name, None)
        known = self._seconds.get(name)
        return None if known is None else known + OVERHEAD

    def keep_out(self, name: str, seconds: float = KEPT_OUT) -> None:
        """Have jobs of `name` performed alone for a while."""
        with self._lock:
            if len(self._kept_out) >= MAX_NAMES:
                self._kept_out.clear()
            self._kept_out[name] = time.monotonic() + seconds


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
