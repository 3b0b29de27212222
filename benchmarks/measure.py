# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Arithmetic of measurements, and waiting for what has to be over first."""

import gc
import statistics
import threading
import time
from collections.abc import Callable, Sequence

#: Seconds that anything a benchmark waits for may take.
PATIENCE = 120


def median(values: Sequence[float]) -> float:
    """The middle of the values, or the mean of the two in the middle."""
    return statistics.median(values)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of the values that `percent` of them do not exceed."""
    if not values:
        raise ValueError("found no values, expected at least one")
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)  # rounded up
    return ordered[max(int(rank), 1) - 1]


def settle_memory() -> None:
    """Collect garbage, and spare what is left from later collections.

    Before measuring.  The collector stays on, as it does in applications.
    """
    gc.collect()
    gc.freeze()


def seconds(function: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def wait_until(
    condition: Callable[[], object],
    what: str,
    timeout: float = PATIENCE,
    interval: float = 0.001,
) -> None:
    """Return when `condition()` is true; TimeoutError, naming `what`, if never.

    For what gives no event.  Asks every `interval` seconds.
    """
    pause = threading.Event()
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {timeout} s for {what}")
        pause.wait(interval)


def in_threads(functions: Sequence[Callable[[], object]]) -> float:
    """Start the functions together, each in a thread; seconds until all are done.

    The first error of any is raised again here.
    """
    errors: list[BaseException] = []
    gate = threading.Barrier(len(functions) + 1)

    def guarded(function: Callable[[], object]) -> None:
        gate.wait()
        try:
            function()
        except BaseException as error:  # raised again below
            errors.append(error)

    threads = [
        threading.Thread(target=guarded, args=(each,), daemon=True)
        for each in functions
    ]
    for thread in threads:
        thread.start()
    gate.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - start
    if errors:
        raise errors[0]
    return elapsed
