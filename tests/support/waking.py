# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Waiting for something, woken by commits."""

import contextlib
import time

from zc.async_.wakeup import CommitListener, Signal

PATIENCE = 20.0


def wait_until(test, what, seconds=PATIENCE, signal=None):
    """Return the first true value of `test()`, looking at each signal and often.

    `what` tells what is waited for: text, or a function that returns it.
    """
    signal = signal or Signal()
    deadline = time.monotonic() + seconds
    while not (found := test()):
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            told = what() if callable(what) else what
            raise AssertionError(f"waited {seconds} s for {told}")
        signal.wait(min(remaining, 0.01))
    return found


@contextlib.contextmanager
def woken_by(db):
    """A `Signal` that each commit to `db` sets."""
    signal = Signal()
    listener = CommitListener(db, lambda oids: signal.set())
    listener.start()
    try:
        yield signal
    finally:
        listener.stop()
