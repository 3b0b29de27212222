# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The toolkit for tests of applications that put jobs.

``environment``
    a database with a queue and all registrations, cleaned up afterwards, with a
    dispatcher or without

``perform_due``
    performs what a queue holds in the calling thread: no dispatcher, no waiting

``setUpDatetime``, ``set_now``, ``tearDownDatetime``
    a clock that stands still until it is set

``Reactor``
    drives a dispatcher by hand: nothing happens until time passes

``wait_for_result`` and its like
    wait for a dispatcher that works in other threads
"""

from .testingenvironment import (
    AsyncFixture,
    LeakedThreadError,
    assert_no_leaked_threads,
    environment,
    tear_down_dispatcher,
)
from .testinginline import perform_due
from .testinglogs import Logs, print_logs
from .testingreactor import (
    START,
    Reactor,
    at_time,
    set_now,
    setUpDatetime,
    tearDownDatetime,
)
from .testingwaits import (
    get_poll,
    wait_for_annotation,
    wait_for_deactivation,
    wait_for_death,
    wait_for_result,
    wait_for_start,
)

__all__ = [
    "START", "AsyncFixture", "LeakedThreadError", "Logs", "Reactor",
    "assert_no_leaked_threads", "at_time", "environment", "get_poll",
    "perform_due", "print_logs", "setUpDatetime", "set_now", "tearDownDatetime",
    "tear_down_dispatcher", "wait_for_annotation", "wait_for_deactivation",
    "wait_for_death", "wait_for_result", "wait_for_start",
]  # fmt: skip
