# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The dispatcher: one object a process, which has jobs performed.

It owns the parts: the poller claims, a pool for each agent performs, the pinger
says that we live, records remember.  A reactor starts and stops it.

Threads.  `activate`, `deactivate` and the reports may be called from any thread.
Polls happen in a thread of their own; with a hand-driven reactor (a test's) in
the thread that lets time pass, and only then.
"""

import asyncio
import datetime
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import zope.component
from twisted.internet.asyncioreactor import AsyncioSelectorReactor

from . import clock, instanceuuid
from .durations import Durations
from .interfaces import IUUID
from .loops import Loops, end_loop
from .performer import Ticket
from .pinger import Pinger
from .poller import Poller
from .records import Records
from .utils import log

_dispatchers: dict[Any, "Dispatcher"] = {}
_lock = threading.Lock()


def get(UUID: Any = None, default: Any = None) -> Any:
    """The dispatcher of this process with that UUID, by default the process's."""
    return _dispatchers.get(_uuid(UUID), default)


def pop(UUID: Any = None) -> Any:
    """Forget and return the dispatcher with that UUID, or None."""
    with _lock:
        return _dispatchers.pop(_uuid(UUID), None)


def clear() -> None:
    """Forget all dispatchers; for tests.  They must have been stopped."""
    with _lock:
        _dispatchers.clear()


def _uuid(UUID: Any) -> Any:
    return zope.component.getUtility(IUUID) if UUID is None else UUID


def _plain(UUID: Any) -> Any:
    return uuid.UUID(bytes=UUID.bytes)


class Dispatcher:
    """Claims and performs jobs of all queues of `db` that hold agents for it.

    `poll_interval` is in seconds, `grace` too: how long running jobs may take to
    end when it stops.  `jobs_size` and `polls_size` bound the records kept in
    memory.  Without a `reactor` it makes one when it is started.
    """

    def __init__(
        self,
        db: Any,
        reactor: Any = None,
        poll_interval: float = 5,
        uuid: Any = None,
        jobs_size: int = 200,
        polls_size: int = 400,
        grace: float = 10,
    ):
        self.db = db
        self.reactor = reactor
        self.poll_interval = poll_interval
        self.grace = grace
        self.UUID = _uuid(uuid)
        self.records = Records(jobs_size, polls_size)
        self.durations = Durations()
        self.activated: datetime.datetime | None = None
        self.thread: threading.Thread | None = None
        self.loops: Any = None
        self._poller: Poller | None = None
        self._poll_thread: threading.Thread | None = None
        self._pinger: Pinger | None = None
        self._identity: Any = None
        self._reactor_known: Any = None
        self._extra_connections = 0
        self._last_poll: float | None = None
        self.last_poll: Any = None
        self._state = threading.RLock()
        self._register()

    def _register(self) -> None:
        with _lock:
            other = _dispatchers.get(self.UUID)
            if other is not None and other.activated:
                raise ValueError(
                    f"dispatcher {self.UUID} is active in this process already; "
                    "deactivate it first"
                )
            _dispatchers[self.UUID] = self

    @property
    def hand_driven(self) -> bool:
        """Whether time passes only when somebody says so: see `testing.Reactor`."""
        return getattr(self.reactor, "hand_driven", False)

    # Starting.

    def start(self) -> None:
        """Run, with a reactor of our own, in a daemon thread.

        For a process that has no reactor running.  Activation follows at once, in
        that thread.
        """
        if self.thread is not None and self.thread.is_alive():
            return
        if self.reactor is None or isinstance(self.reactor, AsyncioSelectorReactor):
            # A reactor that was stopped cannot be started again.
            self.reactor = AsyncioSelectorReactor(asyncio.new_event_loop())
        self.activate()
        self.thread = threading.Thread(
            target=self._run_reactor, name="zc.async reactor", daemon=True
        )
        self.thread.start()

    def _run_reactor(self) -> None:
        self.reactor.run(installSignalHandlers=False)
        loop = getattr(self.reactor, "_asyncioEventloop", None)
        if loop is not None and not loop.is_running():
            end_loop(loop)

    def activate(self) -> None:
        """Begin to poll as soon as the reactor runs.

        Takes the lock on the UUID file, if the identity is from there:
        IdentityInUseError when another process holds it.
        """
        with self._state:
            if self.activated:
                raise ValueError(f"dispatcher {self.UUID} is activated already")
            self._register()
            if self.UUID is instanceuuid.UUID:
                self._identity = instanceuuid.lock()
            log.info("attempting to activate dispatcher %s", self.UUID)
            self.activated = clock.utcnow()
            self._last_poll = None
            self.loops = Loops(self.reactor)
            self.adjust_pool(1)
            if self._reactor_known is not self.reactor:
                self._reactor_known = self.reactor
                self.reactor.addSystemEventTrigger(
                    "before", "shutdown", self.deactivate
                )
        self.reactor.callWhenRunning(self._begin)

    def _begin(self) -> None:
        """The reactor runs: open the database and poll."""
        with self._state:
            if not self.activated or self._poller is not None:
                return
            owns = self._identity is not None and self._identity.held
            self._poller = Poller(self, owns)
            if not self.hand_driven:
                self._start_threads()
                return
        self._poll_by_hand()

    def _start_threads(self) -> None:
        assert self._poller is not None
        self._poll_thread = threading.Thread(
            target=self._poller.run, name="zc.async polls", daemon=True
        )
        self._poll_thread.start()
        self._pinger = Pinger(self.db, self.UUID, self._revive)
        self._pinger.start()

    def _poll_by_hand(self) -> None:
        if self.activated:
            self.poll()
            self.reactor.callLater(self.poll_interval, self._poll_by_hand)

    def poll(self) -> Any:
        """Look into the database now, in this thread; return the poll record.

        Only with a hand-driven reactor: otherwise a thread does it.
        """
        assert self._poller is not None
        return self._poller.poll()

    def polled(self) -> None:
        """The poller has finished a poll: `last_poll`, the current one."""
        self._last_poll = clock.monotonic()
        self.last_poll = self.records.current

    def wake(self) -> None:
        """Have the poller look into the database now.  From any thread."""
        poller = self._poller
        if poller is not None:
            poller.wake()

    def _revive(self) -> None:
        self.wake()

    # Stopping.

    def stop(self) -> None:
        """Deactivate and end the thread that `start` made; may be called twice."""
        if self.thread is not None and self.thread.is_alive():
            if threading.current_thread() is self.thread:
                self.reactor.stop()
                return
            try:
                # While the reactor runs, since running jobs may need it to end.
                self.deactivate()
            finally:
                self.reactor.callFromThread(self._stop_reactor)
                self.thread.join()
        self.deactivate()

    def _stop_reactor(self) -> None:
        if self.reactor.running:
            self.reactor.stop()

    def join(self, timeout: float | None = None) -> None:
        """Wait for the thread that `start` made to end."""
        if self.thread is not None:
            self.thread.join(timeout)

    def deactivate(self) -> None:
        """Claim no more, let running jobs end within the grace, hand back the rest.

        Returns when all is committed and the threads have ended or the grace is
        over.  May be called twice; an error of the database is logged.
        """
        with self._state:
            if not self.activated:
                return
            log.info("deactivating dispatcher %s", self.UUID)
            try:
                self._end_parts()
            except Exception:
                # The database is closed, say.  Siblings, or our next life, will
                # take over what we hold.
                log.exception("dispatcher %s could not hand back its jobs", self.UUID)
            finally:
                self.activated = None
                self.adjust_pool(-self._extra_connections)
                if self._identity is not None:
                    self._identity.release()
                    self._identity = None
        log.info("deactivated dispatcher %s", self.UUID)

    def _end_parts(self) -> None:
        poller, self._poller = self._poller, None
        if self._pinger is not None:
            self._pinger.stop()
        if poller is not None:
            poller.stop()
            if self._poll_thread is not None:
                self._poll_thread.join()
        try:
            if poller is not None:
                poller.close(self.grace)
        finally:
            if self._pinger is not None:
                self._pinger.join(self.grace)
            self._pinger = self._poll_thread = None
            self.loops.stop()

    # For the parts.

    def adjust_pool(self, change: int) -> None:
        """Make room for `change` more connections in the pool of the database."""
        if change:
            self._extra_connections += change
            self.db.setPoolSize(max(self.db.getPoolSize() + change, 1))

    def resume(self, ticket: Ticket) -> None:
        """A value that a job awaited is there: have a thread give it to the job."""
        poller = self._poller
        if poller is not None:
            poller.resume(ticket)

    # Reports.  From any thread.

    @property
    def polls(self) -> Any:
        """The records of polls, the newest first."""
        return self.records.polls

    def getActiveJobIds(
        self, queue: str | None = None, agent: str | None = None
    ) -> list[tuple[int, str]]:
        """Which jobs the threads perform now: (oid, database name) each."""
        return self.records.active_ids(queue, agent)

    def getJobInfo(self, oid: int, database_name: str | None = None) -> dict:
        """What is remembered of a job; KeyError when nothing is."""
        return self.records.getJobInfo(oid, database_name)

    def getPollInfo(self, at: Any = None, before: Any = None) -> Any:
        """The record of the poll at, or before, a key or time."""
        return self.records.getPollInfo(at, before)

    def iterPolls(
        self, at: Any = None, before: Any = None, since: Any = None, count: Any = None
    ) -> Iterator[Any]:
        """The records of polls in that range, the newest first."""
        return self.records.iterPolls(at, before, since, count)

    def getStatistics(
        self,
        at: Any = None,
        before: Any = None,
        since: Any = None,
        queue: str | None = None,
        agent: str | None = None,
    ) -> dict:
        """Counts and extremes of the last minutes."""
        return self.records.getStatistics(at, before, since, queue, agent)

    def getStatusInfo(self) -> dict:
        """Whether it runs, since when, and when it polled last.

        The status is STOPPED, STARTING (it has not polled yet), STUCK (the last
        poll is more than two intervals ago) or RUNNING.
        """
        activated, last = self.activated, self._last_poll
        since = None if last is None else clock.monotonic() - last
        if activated is None:
            status, since = "STOPPED", None
        elif since is None:
            status = "STARTING"
        else:
            limit = max(2 * self.poll_interval, 1)
            status = "RUNNING" if since <= limit else "STUCK"
        return {
            "status": status,
            "poll interval": datetime.timedelta(seconds=self.poll_interval),
            "time since last poll": _seconds(since),
            "uptime": None if activated is None else clock.utcnow() - activated,
            "uuid": _plain(self.UUID),
        }


def _seconds(value: float | None) -> datetime.timedelta | None:
    return None if value is None else datetime.timedelta(seconds=value)
