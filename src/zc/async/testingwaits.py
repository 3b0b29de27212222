# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Waiting in tests for what other threads and processes do.

Published by `testing`.  Each function waits up to `seconds` of real time, wherever
the package's clock stands, and raises an AssertionError that tells what was found
instead.  It is woken by commits, in this process or announced by a ZEO server, and
looks a few times a second for those of which no storage tells.

Those that take a job or an agent *begin a new transaction* to see the present, so
what the caller has changed and not committed is lost.

Where the process's dispatcher has a `Reactor` that is driven by hand, waiting for a
job drives it: time flies by one poll interval whenever nothing is being performed,
but not more than `POLLS` times.
"""

import time
from collections.abc import Callable
from typing import Any

import zope.component
from transaction.interfaces import NoTransaction

from . import clock
from .dispatcher import get as process_dispatcher
from .interfaces import ACTIVE, CALLBACKS, COMPLETED, IUUID, KEY, PENDING
from .wakeup import CommitListener, Signal

#: How often time flies by a poll interval during one wait.
POLLS = 12

#: Between two looks, in seconds, unless a commit comes first.
PAUSE = 0.05

_NOT_STORED = b"\0" * 8
_BEGUN = (ACTIVE, CALLBACKS, COMPLETED)
_MISSING = object()


def get_poll(dispatcher: Any, count: int | None = None, seconds: float = 6) -> Any:
    """Return the newest poll of `dispatcher`, as soon as there are over `count`.

    Without `count`: as soon as there is a newer one than now.  It is finished.
    """
    before = dispatcher.last_poll

    def is_there() -> bool:
        if count is not None:
            newest = dispatcher.last_poll
            return newest is not None and _number(dispatcher, newest) > count
        return dispatcher.last_poll is not before

    if not is_there():
        Driver(dispatcher).fly()
    _wait(is_there, lambda: _about_polls(dispatcher), seconds)
    return dispatcher.last_poll


def _number(dispatcher: Any, poll: Any) -> int:
    """How many of the polls that are remembered began up to `poll`."""
    return sum(1 for each in dispatcher.polls if each.key >= poll.key)


def wait_for_start(job: Any, seconds: float = 6) -> None:
    """Wait until `job` has been begun."""
    _wait_for(job, lambda: job.status in _BEGUN, "to be begun", seconds)


def wait_for_result(job: Any, seconds: float = 6) -> Any:
    """Wait until `job` and its callbacks are completed; return its result.

    That is a `Failure` when the job failed.
    """
    _wait_for(job, lambda: job.status == COMPLETED, "to be completed", seconds)
    return job.result


def wait_for_annotation(job: Any, name: str, seconds: float = 6) -> Any:
    """Wait until `job` has the annotation `name`; return its value."""

    def is_there() -> bool:
        return name in job.annotations

    _wait_for(job, is_there, f"to have the annotation {name!r}", seconds)
    return job.annotations[name]


def wait_for_deactivation(dispatcher: Any, seconds: float = 6) -> None:
    """Wait until `dispatcher` has stopped to claim."""
    _wait(
        lambda: not dispatcher.activated,
        lambda: f"dispatcher {dispatcher.UUID} to be deactivated; it is activated",
        seconds,
    )


def wait_for_death(agents: Any, seconds: float = 6) -> None:
    """Wait until a dispatcher is dead, or has been buried by a sibling.

    `agents` is what a queue knows of it: an `IDispatcherAgents`.
    """

    def about() -> str:
        return (
            f"dispatcher {agents.UUID} to be dead; it last pinged at "
            f"{agents.last_ping}, is dead {agents.ping_death_interval} later, and "
            f"the clock says {clock.utcnow()}"
        )

    _wait_in_transactions(
        agents, lambda: agents.dead or not agents.activated, about, seconds
    )


class Driver:
    """Lets time pass for a dispatcher whose reactor is driven by hand.

    `obj` is a stored object of its database, in the connection of the caller.
    """

    def __init__(self, dispatcher: Any, obj: Any = None) -> None:
        reactor: Any = getattr(dispatcher, "reactor", None)
        by_hand = getattr(reactor, "hand_driven", False) and reactor.running
        self.dispatcher: Any = dispatcher if by_hand else None
        self.obj = obj
        self.polls_left = POLLS

    def drive(self) -> bool:
        """Make what is due, or let time fly; whether there was something to do."""
        if self.dispatcher is None:
            return False
        if self.dispatcher.reactor.time_passes():
            return True
        if self.polls_left and not self._busy():
            self.fly()
            return True
        return False

    def fly(self) -> None:
        """Let one poll interval pass."""
        if self.dispatcher is not None:
            self.polls_left -= 1
            self.dispatcher.reactor.time_flies(self.dispatcher.poll_interval)

    def _busy(self) -> bool:
        """Whether threads perform jobs, as the database says."""
        name = self.dispatcher.db.database_name
        root = self.obj._p_jar.get_connection(name).root()
        for queue in root[KEY].values():
            agents = queue.dispatchers.get(self.dispatcher.UUID, {})
            for agent in agents.values():
                if any(map(_is_performed, agent)):
                    return True
        return False


def _is_performed(job: Any) -> bool:
    if getattr(job, "waiting", False):  # for a job that it returned
        return False
    return getattr(job, "status", None) in (ACTIVE, CALLBACKS)


def _wait_for(job: Any, test: Callable[[], bool], what: str, seconds: float) -> None:
    def about() -> str:
        return f"{job!r} {what}; it is {job.status}{_reasons(job)}"

    driver = Driver(_dispatcher_here(), job)
    _wait_in_transactions(job, test, about, seconds, driver)


def _dispatcher_here() -> Any:
    """The dispatcher of this process; None when it is in another one."""
    if zope.component.queryUtility(IUUID) is None:
        return None
    return process_dispatcher()


def _wait_in_transactions(
    obj: Any,
    test: Callable[[], bool],
    about: Callable[[], str],
    seconds: float,
    driver: Driver | None = None,
) -> None:
    """Wait until `test` of the stored `obj` is true in a new transaction."""
    _check_stored(obj)
    manager = obj._p_jar.transaction_manager
    signal = Signal()
    listener = CommitListener(obj._p_jar.db(), lambda oids: signal.set())

    def look() -> bool:
        _begin(manager)
        return test()

    listener.start()
    try:
        _wait(look, about, seconds, driver, signal)
    finally:
        listener.stop()


def _wait(
    test: Callable[[], bool],
    about: Callable[[], str],
    seconds: float,
    driver: Driver | None = None,
    signal: Signal | None = None,
) -> None:
    driver = driver or Driver(None)
    signal = signal or Signal()
    deadline = time.monotonic() + seconds
    while not test():
        if driver.drive():
            continue
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise AssertionError(f"waited {seconds} seconds for {about()}")
        signal.wait(min(PAUSE, remaining))


def _begin(manager: Any) -> None:
    try:
        manager.abort()
    except NoTransaction:  # of a manager that is explicit
        pass
    manager.begin()


def _check_stored(obj: Any) -> None:
    """Raise when `obj` is new in this transaction: nobody else will ever see it."""
    if obj._p_jar is not None:
        obj._p_activate()
    if obj._p_jar is None or obj._p_serial == _NOT_STORED:
        raise AssertionError(
            f"found {obj!r} not yet committed, expected that transaction.commit() was "
            "called before waiting for what others do with it"
        )


def _about_polls(dispatcher: Any) -> str:
    state = "activated" if dispatcher.activated else "not activated"
    return (
        f"a poll of dispatcher {dispatcher.UUID}; it is {state} and has "
        f"{len(dispatcher.polls)} polls, with an interval of "
        f"{dispatcher.poll_interval} seconds"
    )


def _reasons(job: Any) -> str:
    """What keeps a waiting job from being performed, as far as that can be told."""
    if job.status != PENDING or job.queue is None:
        return f" in {job.agent.name!r}" if job.agent is not None else ""
    found = list(_obstacles(job, job.queue))
    return f" in queue {job.queue.name!r}" + "".join(f"; {each}" for each in found)


def _obstacles(job: Any, queue: Any) -> Any:
    now = clock.utcnow()
    if job.begin_after > now:
        yield f"it is due at {job.begin_after}, and the clock says {now}"
    if queue.paused:
        yield "the queue is paused"
    active = [each for each in queue.dispatchers.values() if each.activated]
    if not active:
        yield "no dispatcher is activated in this queue"
    elif not any(len(each) for each in active):
        yield "no activated dispatcher has an agent in this queue"
    for name in job.quota_names:
        quota = queue.quotas.get(name, _MISSING)
        if quota is not _MISSING and quota.filled:
            yield f"quota {name!r} is filled"
