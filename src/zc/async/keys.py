# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Keys that order jobs by time and never collide.

A key is an integer: microseconds, then a counter that keeps the order of keys
made in one process at one moment, then a random tag of the process.  Two
processes that draw the same tag still collide only when they make a key at the
same microsecond with the same counter; the mapping that gets both reports a
conflict, and the second is made anew.
"""

import os
import random
import threading

_TAG_BITS, _COUNTER_BITS = 24, 20
_SHIFT = _TAG_BITS + _COUNTER_BITS
_COUNTERS = 1 << _COUNTER_BITS

_lock = threading.Lock()
_tag = 0
_last = (0, 0)
_last_front = 0


def _new_process() -> None:
    global _lock, _tag
    _lock = threading.Lock()  # a fork may have happened while it was held
    _tag = random.SystemRandom().getrandbits(_TAG_BITS)


_new_process()
os.register_at_fork(after_in_child=_new_process)


def new_key(micros: int) -> int:
    """A key for the moment `micros`, after all others made here for it.

    From any thread.
    """
    global _last
    with _lock:
        last_micros, counter = _last
        if micros == last_micros:
            micros, counter = _following(micros, counter)
        else:
            counter = 0
        _last = (micros, counter)
        return (micros << _SHIFT) | (counter << _TAG_BITS) | _tag


def _following(micros: int, counter: int) -> tuple[int, int]:
    if counter + 1 < _COUNTERS:
        return micros, counter + 1
    return micros + 1, 0


def front_key(micros: int) -> int:
    """A key ahead of all others: of every `new_key`, and of earlier front keys."""
    global _last_front
    with _lock:
        key = min(-((micros << _SHIFT) | _tag), _last_front - _COUNTERS)
        _last_front = key
        return key


def first_key(micros: int) -> int:
    """The least key that `new_key` can make for the moment `micros`."""
    return micros << _SHIFT


def last_key(micros: int) -> int:
    """The greatest key that `new_key` can make for the moment `micros`."""
    return (micros << _SHIFT) | ((1 << _SHIFT) - 1)


def key_micros(key: int) -> int:
    """The moment of a key; negative for a front key."""
    return key >> _SHIFT
