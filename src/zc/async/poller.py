# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The part of a dispatcher that looks into the database and hands out jobs.

It runs in one thread, with one connection and a transaction manager of its own,
and sleeps until something calls for it: a commit that touched a queue, a thread
that came free, a job that falls due, or the poll interval.  Several calls that
come at once are answered by one look.
"""

import logging
import pprint
import threading
import time
from collections import deque
from typing import Any

import transaction
from ZODB.utils import u64

from . import clock
from .enrolment import Enrolment
from .holding import Holding
from .interfaces import KEY
from .performer import Batch, Ticket
from .pool import TAKE_OVER, Pool
from .utils import log, tracelog
from .wakeup import CommitListener, Signal

#: How long, in seconds, a free thread waits for others to be served with it.
COMPANY = 0.001

#: The longest pause after an error, in seconds; it begins with a tenth.
LONGEST_PAUSE = 30.0


class Poller:
    """See the module.  `dispatcher` gives database, UUID, records and interval."""

    def __init__(self, dispatcher: Any, owns_identity: bool):
        self.dispatcher = dispatcher
        self.records = dispatcher.records
        self.manager = transaction.TransactionManager()
        self.connection = dispatcher.db.open(transaction_manager=self.manager)
        self.enrolment = Enrolment(
            self.connection, self.manager, dispatcher.UUID, owns_identity
        )
        self.holdings: dict[bytes, Holding] = {}
        self.signal = Signal()
        self._listeners: dict[str, CommitListener] = {}
        self._watched: frozenset[bytes] = frozenset()
        self._watched_settings: frozenset[bytes] = frozenset()
        self._heard: deque[Any] = deque(maxlen=10_000)
        self._settings_changed = False
        self._late = False
        self._looked_at = clock.utcnow()
        self._queues: list[Any] = []
        self._stopping = False
        self._last_logged: Any = None
        self._thread_id: int | None = None

    # The thread.

    def run(self) -> None:
        """Poll until `stop`."""
        self._thread_id = threading.get_ident()
        next_poll, failures = time.monotonic(), 0
        while not self._stopping:
            try:
                if time.monotonic() >= next_poll:
                    next_poll = time.monotonic() + self.dispatcher.poll_interval
                    self.poll()
                else:
                    self.look()
                failures = 0
                delay = self._delay(next_poll)
            except Exception:
                log.exception("error while polling")
                failures += 1
                delay = min(0.1 * 2**failures, LONGEST_PAUSE)
                self._abort()
            if delay > 0 and not self._stopping:
                self._wait(delay)

    def _wait(self, delay: float) -> None:
        """Wait until something calls for a look, or `delay` seconds.

        A thread that came free waits up to `COMPANY` seconds for others, since
        one commit serves all that have come together; but not when half of the
        threads have nothing to do.
        """
        if self.signal.wait(delay) is False:
            deadline = time.monotonic() + COMPANY
            while not any(one.pool.starving() for one in self.holdings.values()):
                remaining = deadline - time.monotonic()
                if remaining <= 0 or self.signal.wait(remaining) is not False:
                    return

    def stop(self) -> None:
        """Have `run` return soon.  From any thread."""
        self._stopping = True
        self.signal.set()

    def wake(self) -> None:
        """Have `run` look at everything now.  From any thread."""
        self._settings_changed = True
        self.signal.set()

    def resume(self, ticket: Ticket) -> None:
        """Give a ticket whose value has come to its pool.  From any thread."""
        for holding in list(self.holdings.values()):
            if (holding.queue_name, holding.agent_name) == ticket.holder:
                holding.pool.submit([Batch([ticket])])

    def _abort(self) -> None:
        try:
            self.manager.abort()
        except Exception:
            log.exception("abort failed")

    def _delay(self, next_poll: float) -> float:
        if self._late or any(holding.more for holding in self.holdings.values()):
            return 0.0
        delay = next_poll - time.monotonic()
        if any([holding.pool.relieve() for holding in self.holdings.values()]):
            delay = min(delay, TAKE_OVER)
        for queue in self._queues:
            due = queue.next_due(self._looked_at)
            if due is not None:
                delay = min(delay, (due - clock.utcnow()).total_seconds())
        return max(delay, 0.0)

    # One look.

    def poll(self) -> Any:
        """Look at everything, and begin a new poll record; return it.  Commits."""
        poll = self.records.begin_poll(clock.utcnow().replace(tzinfo=None))
        heard = self._take_heard()
        self._enrol()
        self._describe(poll)
        self._step_all(poll)
        for queue in self._queues:
            self._housekeep(queue, heard)
        self._log(poll)
        self.dispatcher.polled()
        return poll

    def look(self) -> None:
        """See to what called for it.  Commits when there is something to do."""
        asked = self._settings_changed
        if asked:
            self._enrol()
        poll = self.records.current
        heard = self._take_heard()
        everywhere = asked or bool(heard) or self._late or self._is_due()
        self._late = False
        claimed = self._step_all(poll, everywhere)
        if claimed:
            self._log_claimed(claimed)
        if heard:
            self._fetch_late(heard)

    def _take_heard(self) -> set[bytes]:
        heard: set[bytes] = set()
        while self._heard:
            heard.update(self._heard.popleft() or ())
        return heard

    def _is_due(self) -> bool:
        dues = (queue.next_due(self._looked_at) for queue in self._queues)
        return any(due is not None and due <= clock.utcnow() for due in dues)

    def _step_all(self, poll: Any, everywhere: bool = True) -> dict:
        """Step all holdings, or those that call for it; return the claimed ids."""
        claimed: dict = {}
        if everywhere:
            # What is due by now calls for a look no more, whether it can be
            # claimed or not.
            self._looked_at = clock.utcnow()
        for holding in list(self.holdings.values()):
            if everywhere or holding.more or holding.wants_step():
                ids = holding.step()
                if ids:
                    agents = claimed.setdefault(holding.queue_name, {})
                    agents[holding.agent_name] = ids
                self._note(poll, holding, ids)
        return claimed

    def _describe(self, poll: Any) -> None:
        """Note what the database says of the agents before they claim."""
        for queue in self._queues:
            self.records.queue_polled(poll, queue.name)
        for holding in self.holdings.values():
            active = [_job_id(job) for job in holding.agent]
            self.records.agent_polled(
                poll, holding.queue_name, holding.agent_name,
                active, len(active), holding.agent.size,
            )  # fmt: skip

    def _note(self, poll: Any, holding: Holding, ids: list) -> None:
        names = holding.queue_name, holding.agent_name
        if ids:
            self.records.jobs_claimed(poll, *names, ids)
        if holding.error is not None:
            self.records.agent_failed(poll, *names, holding.error)

    # Queues, agents and pools.

    def _enrol(self) -> None:
        self._settings_changed = False
        self.manager.begin()
        self._queues = []
        holdings: dict[bytes, Holding] = {}
        for queue in self.enrolment.queues():
            agents = self.enrolment.agents_of(queue, self.dispatcher.hand_driven)
            if agents is None:
                continue
            self._queues.append(queue)
            for agent in agents.values():
                holdings[agent._p_oid] = self._holding(queue, agent)
        for oid, holding in self.holdings.items():
            if oid not in holdings:
                self._give_up(holding)
        self.holdings = holdings
        self._watch()

    def _holding(self, queue: Any, agent: Any) -> Holding:
        holding = self.holdings.get(agent._p_oid)
        if holding is None:
            pool = Pool(self.dispatcher, f"{queue.name}/{agent.name}", self._freed)
            holding = Holding(
                queue, agent, pool, self.manager, self.dispatcher.durations
            )
        # Each thread opens a connection as soon as it starts.
        self.dispatcher.adjust_pool(holding.threads - holding.pool.size)
        holding.resize()
        return holding

    def _freed(self, enough: bool) -> None:
        """A thread has nothing to do.  In that thread."""
        if enough:
            self.signal.set()
        else:
            self.signal.hint()

    def _give_up(self, holding: Holding) -> None:
        """An agent was removed: its threads finish what they have begun, and end."""
        self.dispatcher.adjust_pool(-holding.pool.size)
        holding.pool.stop()

    def _housekeep(self, queue: Any, heard: set) -> None:
        pending = getattr(queue, "_pending", None)
        if pending is not None:
            pending.touched(heard)
            self._attempt_housekeeping(pending)

    def _attempt_housekeeping(self, pending: Any) -> None:
        self.manager.begin()
        try:
            filed = pending.housekeep(clock.micros(clock.utcnow()))
            self.manager.commit()
            self._late = self._late or filed
        except Exception:
            # Another dispatcher does the same work.
            log.debug("housekeeping is left to the next poll", exc_info=True)
            self.manager.abort()

    def _fetch_late(self, heard: set) -> None:
        for queue in self._queues:
            pending = getattr(queue, "_pending", None)
            if pending is not None and pending.touched(heard):
                self._attempt_housekeeping(pending)

    # Hearing.

    def _watch(self) -> None:
        """Listen for commits that touch what we hold."""
        if self.dispatcher.hand_driven:
            return
        watched, settings = set(), set()
        root = self.connection.root()
        settings |= {root._p_oid, *_oids_of_mapping(root.get(KEY))}
        for queue in self._queues:
            watched |= _oids_of_work(queue)
            settings |= _oids_of_settings(queue, self.dispatcher.UUID)
            self._listen(queue._p_jar.db())
        self._listen(self.dispatcher.db)
        self._watched_settings = frozenset(settings - {None})
        self._watched = frozenset(watched) | self._watched_settings

    def _listen(self, db: Any) -> None:
        if db.database_name not in self._listeners:
            listener = CommitListener(db, self._hear)
            listener.start()
            self._listeners[db.database_name] = listener

    def _hear(self, oids: Any) -> None:
        """A commit wrote `oids`.  In the committer's thread: be quick."""
        if threading.get_ident() == self._thread_id:
            return
        if oids is None:
            self._settings_changed = True
        elif self._watched.isdisjoint(oids):
            return
        elif not self._watched_settings.isdisjoint(oids):
            self._settings_changed = True
        self._heard.append(oids)
        self.signal.set()

    # The end.

    def close(self, grace: float) -> None:
        """Stop the pools within `grace` seconds, hand back, close the connection.

        Commits.  Not before `run` has returned.
        """
        for listener in self._listeners.values():
            listener.stop()
        holdings = list(self.holdings.values())
        unbegun = [(holding, holding.pool.stop()) for holding in holdings]
        deadline = time.monotonic() + grace
        for holding in holdings:
            if not holding.pool.join(max(deadline - time.monotonic(), 0.0)):
                log.warning(
                    "agent %r stops with jobs running; they are handed back",
                    holding.agent_name,
                )
            self.dispatcher.adjust_pool(-holding.pool.size)
        try:
            for holding, tickets in unbegun:
                holding.hand_back_unbegun(tickets)
            self.enrolment.leave()
        finally:
            self._abort()
            self.connection.close()

    # The log.

    def _log(self, poll: Any) -> None:
        """Log a poll that differs from the one before."""
        if tracelog.isEnabledFor(logging.DEBUG):
            entries = self.records.copied(poll)
            if entries != self._last_logged:
                self._last_logged = entries
                tracelog.debug("poll %s:\n  %s", poll.key, pprint.pformat(entries))

    def _log_claimed(self, claimed: dict) -> None:
        """Log what was claimed between polls, as an entry of the current one."""
        if tracelog.isEnabledFor(logging.DEBUG):
            poll = self.records.current
            entries = self.records.copied(poll)
            shown = {
                queue: {
                    agent: {**entries[queue][agent], "new jobs": ids}
                    for agent, ids in agents.items()
                }
                for queue, agents in claimed.items()
            }
            tracelog.debug("poll %s:\n  %s", poll.key, pprint.pformat(shown))


def _job_id(job: Any) -> tuple[int, str]:
    return u64(job._p_oid), job._p_jar.db().database_name


def _oids_of_work(queue: Any) -> set:
    """What a commit writes when there may be a job to claim."""
    oids = {queue._p_oid, *(quota._p_oid for quota in queue.quotas.values())}
    pending = getattr(queue, "_pending", None)
    if pending is not None:
        oids.add(pending.length._p_oid)
    return oids


def _oids_of_settings(queue: Any, UUID: Any) -> set:
    """What a commit writes when queues, quotas or agents were changed."""
    oids = _oids_of_mapping(queue.quotas)
    agents = queue.dispatchers.get(UUID)
    if agents is not None:
        oids |= _oids_of_mapping(agents)
        oids.update(agent._p_oid for agent in agents.values())
    return oids


def _oids_of_mapping(mapping: Any) -> set:
    """What a commit writes when something was added to one of our mappings."""
    items = getattr(mapping, "_items", None)
    return {getattr(one, "_p_oid", None) for one in (mapping, items)}
