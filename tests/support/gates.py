# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Gates: where a job stops until the test lets it go on.

A job runs in the same process as the test, in another thread, and finds its gate
by name, since what it is given has to be stored.
"""

import threading
from typing import Any

PATIENCE = 20.0


class Gate:
    """Counts who arrived, and holds them until it is opened."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.opened = threading.Event()
        self._condition = threading.Condition()
        self.arrived = 0
        self.passed = 0

    def enter(self) -> None:
        """Arrive, wait until it is open, pass.  For jobs."""
        with self._condition:
            self.arrived += 1
            self._condition.notify_all()
        if not self.opened.wait(PATIENCE):
            raise AssertionError(f"nobody opened gate {self.name!r}")
        with self._condition:
            self.passed += 1
            self._condition.notify_all()

    def open(self) -> None:
        """Let all go on, also those that come later."""
        self.opened.set()

    def wait_for(self, count: int = 1, seconds: float = PATIENCE) -> None:
        """Wait until `count` have arrived."""
        self._wait(lambda: self.arrived >= count, count, seconds)

    def wait_for_passed(self, count: int = 1, seconds: float = PATIENCE) -> None:
        """Wait until `count` have passed."""
        self._wait(lambda: self.passed >= count, count, seconds)

    def _wait(self, test, count: int, seconds: float) -> None:
        with self._condition:
            if not self._condition.wait_for(test, seconds):
                raise AssertionError(
                    f"waited {seconds} s for {count} at gate {self.name!r}; "
                    f"{self.arrived} arrived, {self.passed} passed"
                )


_gates: dict[str, Gate] = {}
_lock = threading.Lock()


def gate(name: str) -> Gate:
    """The gate of that name, made when first asked for."""
    with _lock:
        return _gates.setdefault(name, Gate(name))


def pass_gate(name: str, value: Any = None) -> Any:
    """A job that arrives at a gate, waits there, and returns `value`."""
    gate(name).enter()
    return value


def open_all() -> None:
    """Let everybody go, and forget all gates."""
    with _lock:
        gates = list(_gates.values())
        _gates.clear()
    for each in gates:
        each.open()
