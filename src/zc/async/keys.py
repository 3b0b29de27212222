# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Keys that order jobs by time and never collide.

A key is an integer: microseconds, then a number that counts the keys of this
process from a random start, then a random tag of the process.  The number goes on
over all moments, since the same moment comes again: jobs are scheduled for it,
clocks are set back.  Two processes collide only when they draw the same tag and
make a key for the same microsecond with the same number: whoever moves a key to
where it is taken makes it a little larger.
"""

import itertools
import os
import random
import threading

_TAG_BITS, _NUMBER_BITS = 16, 28
_SHIFT = _TAG_BITS + _NUMBER_BITS

#: After how many keys the numbers of a process begin anew: hours at full speed.
NUMBERS = 1 << _NUMBER_BITS

_lock = threading.Lock()
_tag = 0
_numbers = itertools.count(random.SystemRandom().getrandbits(_NUMBER_BITS))
_front_micros = 0


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
    number = next(_numbers) % NUMBERS  # next() of a count is atomic
    return (micros << _SHIFT) | (number << _TAG_BITS) | _tag


def front_key(micros: int) -> int:
    """A key ahead of all others: of every `new_key`, and of earlier front keys.

    From any thread.
    """
    global _front_micros
    with _lock:
        _front_micros = max(micros, _front_micros)
        return -new_key(_front_micros)


def first_key(micros: int) -> int:
    """The least key that `new_key` can make for the moment `micros`."""
    return micros << _SHIFT


def last_key(micros: int) -> int:
    """The greatest key that `new_key` can make for the moment `micros`."""
    return (micros << _SHIFT) | ((1 << _SHIFT) - 1)


def key_micros(key: int) -> int:
    """The moment of a key; negative for a front key."""
    return key >> _SHIFT


def share(key: int, shares: int) -> int:
    """To which of so many equal shares a key belongs, counted from 0."""
    return (abs(key) >> _TAG_BITS) % shares
