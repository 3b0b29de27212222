# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Setting up zc.async from Python: `start` is the one call that does it all.

`base` is what a process needs that only puts jobs.  None of this is undone by
anything here, except that a dispatcher is stopped by its `stop`.
"""

import uuid as uuids
from collections.abc import Callable, Iterable
from typing import Any

import zope.component
from ZODB.interfaces import IDatabase
from zope.processlifetime import DatabaseOpened

from .errors import MissingDatabaseError
from .queue import getDefaultQueue
from .registrations import register, register_connection
from .starting import start_in_reactor, start_in_thread
from .subscribers import AgentInstaller, QueueInstaller


def minimal(uuid: uuids.UUID | None = None) -> None:
    """Make the registrations of `base`, but the adapter to `IConnection`.

    For applications that register another one.  May be repeated.
    """
    register(uuid)


def base(uuid: uuids.UUID | None = None) -> None:
    """Make all registrations that putting and performing jobs need.

    Adapters from persistent objects to their connection and transaction manager,
    from callables to jobs, and the identity of this process: `uuid`, or the one in
    its UUID file.  What is registered already stays.  May be repeated.
    """
    minimal(uuid)
    register_connection()


_agent_installer: AgentInstaller | None = None


def start(
    db: Any,
    poll_interval: float = 5,
    db_name: str | None = None,
    agent_chooser: Callable | None = None,
    agent_size: int = 3,
    twisted: bool = False,
    queue_names: Iterable[str] = ("",),
    uuid: uuids.UUID | None = None,
) -> Any:
    """Set up everything for `db`, and start to perform jobs; return the dispatcher.

    Makes the registrations of `base`, and of the adapter from persistent objects to
    the queue named ''; creates the queues `queue_names`, in the database `db_name`
    if given; and starts a dispatcher which looks for jobs at least every
    `poll_interval` seconds.  In each queue where it has none, it gets an agent named
    'main' that holds `agent_size` jobs and chooses them by `agent_chooser`.

    The dispatcher works in daemon threads and is stopped when `db` is closed, when
    the process ends, or by its `stop()`.  With `twisted` it is driven by the Twisted
    reactor that the application runs, and stops with that.  `uuid` is its identity,
    by default that of the process.  Started twice for the same `db`, it is the same.

    Commits, in a connection of its own.  TypeError, ValueError or
    `MissingDatabaseError` for a bad argument, before anything is done;
    IdentityInUseError when another process has the same identity.
    """
    _check(db, poll_interval, db_name, uuid)
    queues = QueueInstaller(queue_names, db_name=db_name)
    agents = AgentInstaller("main", agent_chooser, agent_size)
    base(uuid)
    zope.component.provideAdapter(getDefaultQueue)
    _install_agents_by(agents)
    queues(DatabaseOpened(db))
    if twisted:
        return start_in_reactor(db, poll_interval, uuid)
    return start_in_thread(db, poll_interval, None, uuid)


def _install_agents_by(installer: AgentInstaller) -> None:
    """Register `installer`, instead of that of a former `start`."""
    global _agent_installer
    if _agent_installer is not None:
        registry = zope.component.getGlobalSiteManager()
        registry.unregisterHandler(_agent_installer)
    _agent_installer = installer
    zope.component.provideHandler(installer)


def _check(db: Any, poll_interval: Any, db_name: Any, uuid: Any) -> None:
    if not IDatabase.providedBy(db):
        raise TypeError(f"found {db!r}, expected an open database, a ZODB.DB")
    if isinstance(poll_interval, bool) or not isinstance(poll_interval, (int, float)):
        raise TypeError(f"found poll_interval {poll_interval!r}, expected seconds")
    if not poll_interval > 0:
        raise ValueError(
            f"found poll_interval {poll_interval!r}, expected more than 0 seconds"
        )
    if uuid is not None and not isinstance(uuid, uuids.UUID):
        raise TypeError(f"found uuid {uuid!r}, expected a uuid.UUID")
    if db_name is not None and db_name not in db.databases:
        raise MissingDatabaseError(db_name, tuple(db.databases))
