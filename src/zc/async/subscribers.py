# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Subscribers that set up queues, dispatchers and agents when a database opens.

The installers of queues and dispatchers take an `IDatabaseOpened` event, or the
`IDatabaseOpenedWithRoot` that some applications announce instead or as well: any
object whose `database` is the database.  The second time they find their work done.
The installer of agents takes the event of a dispatcher that begins with a queue.

Each class has an instance for the usual case; make others for other cases.
"""

from collections.abc import Callable, Iterable
from typing import Any

import transaction
import zope.event
from zope.component import adapter

from . import transactions
from .agent import Agent
from .errors import MissingDatabaseError
from .events import IDatabaseOpenedEvent, IDispatcherActivated, ObjectAdded
from .interfaces import KEY
from .queue import Queue, Queues
from .starting import start_in_reactor, start_in_thread
from .utils import log


class QueueInstaller:
    """Creates the mapping of queues, and the queues with these names in it.

    `factory(connection, name)` makes a queue.  With `db_name` the mapping is stored
    in the database of that name; the main one refers to it.  Raises
    `MissingDatabaseError` where there is none.

    Commits, in a connection of its own.  `ObjectAdded` is notified before that, for
    the mapping and for each queue that was created.
    """

    def __init__(
        self,
        queues: Iterable[str] = ("",),
        factory: Callable[..., Any] = lambda *args: Queue(),
        db_name: str | None = None,
    ) -> None:
        self.queues = _names("queues", queues)
        self.factory = factory
        self.db_name = db_name
        adapter(IDatabaseOpenedEvent)(self)

    def __call__(self, event: Any) -> None:
        db = event.database
        if self.db_name is not None and self.db_name not in db.databases:
            raise MissingDatabaseError(self.db_name, tuple(db.databases))
        manager = transaction.TransactionManager(explicit=True)
        connection = db.open(transaction_manager=manager)
        try:
            # Another process may do the same now: then we conflict, and look again.
            added = transactions.attempt(
                lambda: self._install(connection), "installing queues", manager
            )
        finally:
            connection.close()
        for message, name in added:
            log.info(message, name)

    def _install(self, connection: Any) -> list[tuple[str, Any]]:
        """Add what is missing; return what to log about it."""
        root = connection.root()
        added = []
        if KEY not in root:
            root[KEY] = self._mapping(connection)
            zope.event.notify(ObjectAdded(root[KEY], root, KEY))
            added.append(("mapping of queues added to database %r", _home(root[KEY])))
        mapping = root[KEY]
        if self.db_name not in (None, _home(mapping)):
            log.warning(
                "found the queues in database %r, expected them in %r; they stay",
                _home(mapping),
                self.db_name,
            )
        for name in self.queues:
            if name not in mapping:
                queue = self.factory(connection, name)
                if queue._p_jar is None:
                    mapping._p_jar.add(queue)
                mapping[name] = queue
                zope.event.notify(ObjectAdded(mapping[name], mapping, name))
                added.append(("queue %r added", name))
        return added

    def _mapping(self, connection: Any) -> Queues:
        if self.db_name is not None:
            other = connection.get_connection(self.db_name)
            # A database renamed after it was opened has connections that do not
            # know; without this they are never found again.
            connection.connections.setdefault(self.db_name, other)
            connection = other
            present = connection.root().get(KEY)
            if present is not None:  # the main database is new, this one is not
                return present
        queues = Queues()
        # Here, so that it is stored here and not where it is referred to first.
        connection.add(queues)
        if self.db_name is not None:
            connection.root()[KEY] = queues
        return queues


def _home(stored: Any) -> str:
    return stored._p_jar.db().database_name


def _names(what: str, names: Iterable[str]) -> tuple[str, ...]:
    if isinstance(names, str):
        raise TypeError(
            f"found {what} {names!r}, expected an iterable of names, as in ({names!r},)"
        )
    names = tuple(names)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"found {name!r} among {what}, expected strings")
    return names


queue_installer = QueueInstaller()
multidb_queue_installer = QueueInstaller(db_name="async")


class ThreadedDispatcherInstaller:
    """Starts a dispatcher in threads of its own, and sees to it that it is stopped.

    `reactor_factory` makes the reactor that drives it, one with a `run` method;
    without it the dispatcher has a private one.  `uuid` is the dispatcher's
    identity, by default that of this process.

    It stops when the database is closed, before the process ends and, if this was
    called in the main thread, at SIGINT and SIGTERM: see `shutdown`.

    IdentityInUseError, and a CRITICAL log entry, when another process has the same
    identity.  ValueError when this process has a dispatcher for another database
    under it.
    """

    def __init__(
        self,
        poll_interval: float = 5,
        reactor_factory: Callable[[], Any] | None = None,
        uuid: Any = None,
    ) -> None:
        self.poll_interval = poll_interval
        self.reactor_factory = reactor_factory
        self.uuid = uuid
        adapter(IDatabaseOpenedEvent)(self)

    def __call__(self, event: Any) -> None:
        start_in_thread(
            event.database, self.poll_interval, self.reactor_factory, self.uuid
        )


threaded_dispatcher_installer = ThreadedDispatcherInstaller()


class TwistedDispatcherInstaller:
    """Has a dispatcher driven by the Twisted reactor that the application runs.

    It begins when that reactor runs, and stops when it stops or the database is
    closed.  Signals are left to Twisted.  Errors as `ThreadedDispatcherInstaller`.
    """

    def __init__(self, poll_interval: float = 5) -> None:
        self.poll_interval = poll_interval
        adapter(IDatabaseOpenedEvent)(self)

    def __call__(self, event: Any) -> None:
        start_in_reactor(event.database, self.poll_interval)


twisted_dispatcher_installer = TwistedDispatcherInstaller()


class AgentInstaller:
    """Gives a dispatcher an agent of this name in each queue that has none yet.

    `chooser` or `filter`, `size` and `threads` are the agent's.  With `queue_names`
    only in the queues of these names.  Does not commit: its event is notified in
    the transaction in which the dispatcher is activated.
    """

    def __init__(
        self,
        agent_name: str,
        chooser: Callable | None = None,
        size: int = 3,
        queue_names: Iterable[str] | None = None,
        filter: Callable | None = None,
        threads: int | None = None,
    ) -> None:
        self.agent_name = agent_name
        self.chooser = chooser
        self.size = size
        self.queue_names = (
            None if queue_names is None else _names("queue_names", queue_names)
        )
        self.filter = filter
        self.threads = threads
        self._agent()  # its errors now, and not when a dispatcher starts
        adapter(IDispatcherActivated)(self)

    def _agent(self) -> Agent:
        return Agent(self.chooser, self.filter, self.size, self.threads)

    def __call__(self, event: Any) -> None:
        agents = event.object
        queue_name = agents.parent.name
        if self.queue_names is not None and queue_name not in self.queue_names:
            return
        if self.agent_name in agents:
            log.info("agent %r already in queue %r", self.agent_name, queue_name)
            return
        agents[self.agent_name] = self._agent()
        log.info("agent %r added to queue %r", self.agent_name, queue_name)


agent_installer = AgentInstaller("main")
