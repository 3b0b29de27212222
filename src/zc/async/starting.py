# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Starting the dispatcher of this process, once.

Used by the installers of `subscribers`, whose docstrings say what is promised.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import zope.component

from . import dispatcher as dispatchers
from .errors import IdentityInUseError
from .interfaces import IUUID
from .shutdown import Guard
from .utils import log


def start_in_thread(
    db: Any, poll_interval: float, reactor_factory: Callable | None, uuid: Any
) -> Any:
    """Start a dispatcher with a reactor in a thread of its own; return it."""
    running = _running(db, uuid)
    if running is not None:
        return running
    reactor = None if reactor_factory is None else reactor_factory()
    dispatcher = dispatchers.Dispatcher(db, reactor, poll_interval, uuid)
    with _forgetting_on_error(dispatcher):
        dispatcher.start()
    guard = Guard(dispatcher)
    guard.start(signals=True)
    # It may be stopped without us.  After the dispatcher's own trigger.
    reactor = dispatcher.reactor
    reactor.callFromThread(
        reactor.addSystemEventTrigger, "before", "shutdown", guard.forget
    )
    return dispatcher


def start_in_reactor(db: Any, poll_interval: float, uuid: Any = None) -> Any:
    """Start a dispatcher with the reactor that the application runs; return it."""
    # Importing it is what installs it; who has chosen another has done so by now.
    from twisted.internet import reactor as installed

    reactor: Any = installed
    running = _running(db, uuid)
    if running is not None:
        return running
    dispatcher = dispatchers.Dispatcher(db, reactor, poll_interval, uuid)
    with _forgetting_on_error(dispatcher):
        dispatcher.activate()
    guard = Guard(dispatcher)
    guard.start(signals=False)
    reactor.addSystemEventTrigger("before", "shutdown", guard.forget)
    return dispatcher


def _running(db: Any, uuid: Any) -> Any:
    """The dispatcher that works for `db` already, or None."""
    identity = zope.component.queryUtility(IUUID) if uuid is None else uuid
    if identity is None:
        raise LookupError(
            "found no utility for IUUID, expected the registrations of zc.async: call "
            "zc.async_.configure.base(), or include configure.zcml of the package"
        )
    dispatcher = dispatchers.get(identity)
    if dispatcher is None or not dispatcher.activated:
        return None
    if dispatcher.db is not db:
        raise ValueError(
            f"found dispatcher {dispatcher.UUID} at work for database "
            f"{dispatcher.db.database_name!r} ({dispatcher.db!r}), expected none: "
            f"close that database before one is started for {db!r}, or give the new "
            "one another uuid"
        )
    log.info("dispatcher %s is started already", dispatcher.UUID)
    return dispatcher


@contextlib.contextmanager
def _forgetting_on_error(dispatcher: Any) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        dispatchers.pop(dispatcher.UUID)
        if isinstance(error, IdentityInUseError):
            log.critical("no dispatcher is started: %s", error)
        raise
