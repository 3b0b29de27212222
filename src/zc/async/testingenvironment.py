# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Surroundings for a test, made and cleaned up.  Published by `testing`."""

import contextlib
import datetime
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import transaction
import zope.component
from ZODB.DB import DB
from ZODB.DemoStorage import DemoStorage
from zope.processlifetime import DatabaseOpened

from . import configure
from . import dispatcher as dispatchers
from .interfaces import IUUID, KEY
from .queue import getDefaultQueue
from .shutdown import stop_reactor
from .subscribers import AgentInstaller, QueueInstaller
from .testingreactor import START, Reactor, setUpDatetime, tearDownDatetime


class LeakedThreadError(AssertionError):
    """Threads are left over: `threads`, a list."""

    def __init__(self, threads: list[threading.Thread]) -> None:
        listed = "\n".join(map(_describe_thread, threads))
        super().__init__(
            f"found threads that did not end, expected none of these:\n{listed}"
        )
        self.threads = threads


def _describe_thread(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)
    stack = "" if frame is None else "".join(traceback.format_stack(frame)[-3:])
    return f"{thread.name}\n{stack}"


def assert_no_leaked_threads(
    before: Collection[threading.Thread], seconds: float = 6
) -> None:
    """Raise `LeakedThreadError` for threads that are there and were not `before`.

    `before` is what ``threading.enumerate()`` returned then.  Threads that are about
    to end are given `seconds` to do so, all together.
    """
    deadline = time.monotonic() + seconds
    mine = threading.current_thread()
    known = {mine, *before}
    added = [thread for thread in threading.enumerate() if thread not in known]
    for thread in added:
        thread.join(max(deadline - time.monotonic(), 0))
    left = [thread for thread in added if thread.is_alive()]
    if left:
        raise LeakedThreadError(left)


def tear_down_dispatcher(dispatcher: Any, seconds: float = 6) -> None:
    """Stop `dispatcher`, and its reactor if that is its own, and forget it.

    Running jobs get the dispatcher's grace.  AssertionError when its thread has not
    ended `seconds` after that.
    """
    thread = dispatcher.thread
    if thread is not None and thread.is_alive():
        dispatcher.reactor.callFromThread(stop_reactor, dispatcher.reactor)
        thread.join(dispatcher.grace + seconds)
        assert not thread.is_alive(), f"dispatcher {dispatcher.UUID} did not end"
    dispatcher.deactivate()
    if dispatcher.hand_driven:
        dispatcher.reactor.stop()
    if dispatchers.get(dispatcher.UUID) is dispatcher:
        dispatchers.pop(dispatcher.UUID)


class AsyncFixture:
    """Everything that a test of jobs needs, from `setUp` to `tearDown`.

    Also a context manager.  `setUp` makes all registrations and the queues
    `queue_names` in `db`, by default a new database in memory; then

    * with `dispatcher` true, a dispatcher works in other threads;
    * with `hand_driven` true, one works when a `Reactor` lets time pass, and the
      clock stands at `now`, or at `START`;
    * otherwise jobs are performed by `perform_due`; with `now` the clock stands.

    The dispatcher has an agent named 'main' of size `agent_size` in each queue, and
    `grace` seconds for running jobs when it is torn down.  Its identity is made up:
    no UUID file is read or written.

    `tearDown` undoes all that, aborts the thread's transaction, and raises
    `LeakedThreadError` when threads are left over.  Of the thread that calls it.
    """

    db: Any = None
    connection: Any = None
    dispatcher: Any = None
    reactor: Any = None

    def __init__(
        self,
        db: Any = None,
        dispatcher: bool = False,
        hand_driven: bool = False,
        now: datetime.datetime | None = None,
        queue_names: Iterable[str] = ("",),
        agent_size: int = 3,
        poll_interval: float = 5,
        grace: float = 3,
    ) -> None:
        self._given_db = db
        self._wants_dispatcher = dispatcher
        self._hand_driven = hand_driven
        self._now = now
        self._queue_names = queue_names
        self._agent_size = agent_size
        self._poll_interval = poll_interval
        self._grace = grace
        self._clean_up = contextlib.ExitStack()

    @property
    def root(self) -> Any:
        """The root of the database, in `connection`."""
        return self.connection.root()

    @property
    def queues(self) -> Any:
        """The mapping of queues."""
        return self.root[KEY]

    @property
    def queue(self) -> Any:
        """The queue named ''."""
        return self.queues[""]

    def setUp(self) -> "AsyncFixture":
        """Make everything; returns itself."""
        with self._clean_up as stack:
            stack.callback(assert_no_leaked_threads, threading.enumerate())
            stack.enter_context(registrations_kept())
            self._register()
            self._set_up_database(stack)
            if self._hand_driven:
                self._start_by_hand(stack)
            elif self._now is not None:
                setUpDatetime(self._now)
                stack.callback(tearDownDatetime)
            if self._wants_dispatcher and not self._hand_driven:
                self._start(stack)
            self._connect(stack)
            self._clean_up = stack.pop_all()
        return self

    def tearDown(self) -> None:
        """Undo what `setUp` did.  May be called twice."""
        self._clean_up.close()

    def __enter__(self) -> "AsyncFixture":
        return self.setUp()

    def __exit__(self, *exc_info: Any) -> None:
        self._clean_up.__exit__(*exc_info)

    def _register(self) -> None:
        self.UUID = uuid.uuid4()
        zope.component.provideUtility(self.UUID, IUUID)
        configure.base()
        zope.component.provideAdapter(getDefaultQueue)

    def _set_up_database(self, stack: contextlib.ExitStack) -> None:
        self.db = self._given_db
        if self.db is None:
            self.db = DB(DemoStorage())
            stack.callback(self.db.close)
        QueueInstaller(self._queue_names)(DatabaseOpened(self.db))

    def _start(self, stack: contextlib.ExitStack) -> None:
        self.dispatcher = configure.start(
            self.db,
            self._poll_interval,
            agent_size=self._agent_size,
            queue_names=self._queue_names,
            uuid=self.UUID,
        )
        self._adopt(stack)

    def _start_by_hand(self, stack: contextlib.ExitStack) -> None:
        self.reactor = Reactor()
        self.reactor.start(self._now or START)
        stack.callback(self.reactor.stop)
        zope.component.provideHandler(AgentInstaller("main", size=self._agent_size))
        self.dispatcher = dispatchers.Dispatcher(
            self.db, self.reactor, self._poll_interval, self.UUID
        )
        self._adopt(stack)
        self.dispatcher.activate()
        self.reactor.time_passes()  # the first poll

    def _adopt(self, stack: contextlib.ExitStack) -> None:
        self.dispatcher.grace = self._grace
        self.reactor = self.dispatcher.reactor
        stack.callback(tear_down_dispatcher, self.dispatcher)

    def _connect(self, stack: contextlib.ExitStack) -> None:
        transaction.abort()
        self.connection = self.db.open()
        stack.callback(self.connection.close)
        stack.callback(transaction.abort)


def environment(db: Any = None, **options: Any) -> AsyncFixture:
    """A context manager that gives an `AsyncFixture`, which names the `options`."""
    return AsyncFixture(db, **options)


@contextlib.contextmanager
def registrations_kept() -> Iterator[None]:
    """The global registry of components is afterwards what it was before."""
    registry = zope.component.getGlobalSiteManager()
    before = _registered(registry)
    try:
        yield
    finally:
        after = _registered(registry)
        for key in after.keys() - before.keys():
            _unregister(registry, key, after[key])
        for key, value in before.items():
            if key not in after or after[key] is not value:
                _register(registry, key, value)


def _registered(registry: Any) -> dict[tuple, Any]:
    found: dict[tuple, Any] = {}
    for each in registry.registeredUtilities():
        found["utility", each.provided, each.name] = each.component
    for each in registry.registeredAdapters():
        found["adapter", each.required, each.provided, each.name] = each.factory
    for each in registry.registeredHandlers():
        found["handler", each.required, id(each.factory)] = each.factory
    return found


def _register(registry: Any, key: tuple, value: Any) -> None:
    if key[0] == "utility":
        registry.registerUtility(value, key[1], key[2])
    elif key[0] == "adapter":
        registry.registerAdapter(value, key[1], key[2], key[3])
    else:
        registry.registerHandler(value, key[1])


def _unregister(registry: Any, key: tuple, value: Any) -> None:
    if key[0] == "utility":
        registry.unregisterUtility(value, key[1], key[2])
    elif key[0] == "adapter":
        registry.unregisterAdapter(value, key[1], key[2], key[3])
    else:
        registry.unregisterHandler(value, key[1])
