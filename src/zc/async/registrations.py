# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The registrations with `zope.component` that everything else relies on.

`configure` makes them from Python, `configure.zcml` from ZCML: this is what both
share.
"""

import functools
import types
import uuid
from typing import Any

import zope.component
from persistent.interfaces import IPersistent
from ZODB.interfaces import IConnection
from zope.interface import Interface

from . import instanceuuid
from .adapters import METHOD_WRAPPER_TYPE, connection, transactionManager
from .interfaces import IUUID, IJob
from .job import Job

#: What `queue.put` and `job.addCallback` take, besides persistent callables.
CALLABLES = (
    types.FunctionType,
    types.MethodType,
    types.BuiltinFunctionType,
    METHOD_WRAPPER_TYPE,
    functools.partial,
)


def callable_job(ob: Any) -> Job | None:
    """A job that calls the persistent object `ob`; None when it is not callable."""
    return Job(ob) if callable(ob) else None


def register(identity: uuid.UUID | None = None) -> None:
    """Make all registrations but that of `register_connection`.  May be repeated.

    `identity` is registered as this process's, by default the one from its file,
    unless an identity is registered already.
    """
    zope.component.provideAdapter(transactionManager)
    zope.component.provideAdapter(transactionManager, adapts=(IConnection,))
    for kind in CALLABLES:
        zope.component.provideAdapter(Job, adapts=(kind,), provides=IJob)
    zope.component.provideAdapter(callable_job, adapts=(IPersistent,), provides=IJob)
    if zope.component.queryUtility(IUUID) is None:
        zope.component.provideUtility(
            instanceuuid.UUID if identity is None else identity, IUUID
        )


def register_connection() -> None:
    """Register the adapter to `IConnection`, unless the application has its own."""
    registry = zope.component.getGlobalSiteManager()
    if registry.adapters.registered((IPersistent,), IConnection) is None:
        zope.component.provideAdapter(connection)


class IConnectionDirective(Interface):
    """Have persistent objects adapted to `IConnection`, unless they are already.

    Other packages (zope.keyreference) register such an adapter as well.  It does
    not matter which is used; this directive never conflicts with theirs.
    """


def connection_directive(context: Any) -> None:
    """ZCML: `register_connection`, after everything else."""
    context.action(discriminator=None, callable=register_connection, order=10_000)
