# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""An application with a queue: what benchmarks put into and drain."""

import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import transaction
import zope.component
from ZODB.DB import DB

from zc.async_ import configure, subscribers
from zc.async_.interfaces import COMPLETED, DatabaseOpened, IQueue
from zc.async_.queue import getDefaultQueue

from .measure import wait_until
from .storages import Store

AGENT = "main"


class Application:
    """One database with a queue, seen from the thread that measures."""

    def __init__(self, store: Store, db: DB):
        self.store = store
        self.db = db
        self.manager = transaction.TransactionManager()
        self.connection = db.open(self.manager)
        self.dispatcher: Any = None

    @property
    def queue(self) -> Any:
        return IQueue(self.connection.root())

    @property
    def agent(self) -> Any:
        """The agent of the dispatcher that was started."""
        return self.queue.dispatchers[self.dispatcher.UUID][AGENT]

    def put(self, jobs: Iterable[Callable], at_once: int = 1) -> list[bytes]:
        """Put so many in a transaction; their object ids.

        The dispatcher is told of the last one.
        """
        oids = []
        for number, each in enumerate(jobs, 1):
            job = self.queue.put(each)
            if number % at_once == 0:
                self.manager.commit()
            oids.append(job._p_oid)
        self.commit()
        return oids

    def start(self, size: int, threads: int, round_size: int | None = None) -> None:
        """Start a dispatcher, return when its agent claims.

        `round_size` is how many jobs a round has at most, None for the default.
        """
        self.dispatcher = configure.start(
            self.db, agent_size=threads, uuid=uuid.uuid4()
        )
        wait_until(self._has_agent, "the agent of the dispatcher")
        agent = self.agent
        agent.threads, agent.size = threads, size
        if round_size is not None:
            agent.round_size = round_size
        self.commit()

    def commit(self) -> None:
        """Commit, and see to it that the dispatcher hears of it."""
        self.manager.commit()
        if self.dispatcher is not None and not self.store.hears:
            self.dispatcher.wake()

    def _has_agent(self) -> bool:
        self.manager.begin()
        agents = self.queue.dispatchers.get(self.dispatcher.UUID, {})
        return AGENT in agents and agents.activated is not None

    def pause(self) -> None:
        """Have nothing claimed until `resume`."""
        self.queue.pause()
        self.commit()

    def resume(self) -> None:
        """End the pause of the queue."""
        self.queue.resume()
        self.commit()

    def stop(self) -> None:
        """Stop the dispatcher, if one runs."""
        if self.dispatcher is not None:
            dispatcher, self.dispatcher = self.dispatcher, None
            dispatcher.stop()

    def wait_completed(self, oids: Iterable[bytes], interval: float = 0.001) -> None:
        """Return when all these jobs are completed; looks every `interval` seconds."""
        waiting = list(oids)

        def completed() -> bool:
            self.manager.begin()
            while waiting:
                if self.connection.get(waiting[-1]).status != COMPLETED:
                    return False
                waiting.pop()
            return True

        wait_until(completed, "jobs to be completed", interval=interval)

    def wait_settled(self) -> None:
        """Return when the agent holds nothing and nothing is due."""

        def settled() -> bool:
            self.manager.begin()
            return not len(self.queue) and not len(self.agent)

        wait_until(settled, "the agent to be rid of its jobs")

    def last_transaction(self) -> bytes:
        return self.db.lastTransaction()

    def close(self) -> None:
        self.stop()
        self.manager.abort()
        self.connection.close()
        self.db.close()


@contextmanager
def application(store: Store, **settings: object) -> Iterator[Application]:
    """An application on an empty store, without a dispatcher; closed at the end.

    `settings` are those of `ZODB.DB`.  Registers components globally.
    """
    configure.base(uuid.uuid4())
    zope.component.provideAdapter(getDefaultQueue)
    db = store.open(**settings)
    subscribers.queue_installer(DatabaseOpened(db))
    made = Application(store, db)
    try:
        yield made
    finally:
        made.close()
