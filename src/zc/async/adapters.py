# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Adapters from a persistent object to its connection and transaction manager.

Register them with ``zope.component.provideAdapter``; the transaction manager once
more for `IConnection`; `configure` does so.
"""

import persistent.interfaces
import transaction.interfaces
import ZODB.interfaces
from zope.component import adapter
from zope.interface import implementer

#: The type of methods of builtin objects, for the adapter from them to a job.
METHOD_WRAPPER_TYPE = type(object().__str__)


@adapter(persistent.interfaces.IPersistent)
@implementer(ZODB.interfaces.IConnection)
def connection(ob: object) -> object | None:
    """Return the connection of `ob`, or of what contains it.

    A new object has none of its own until its first commit or savepoint, so its
    parents are asked.  None when they do not know either: it cannot be adapted.
    """
    seen = set()
    while ob is not None and id(ob) not in seen:
        jar = getattr(ob, "_p_jar", None)
        if jar is not None:
            return jar
        seen.add(id(ob))
        ob = _parent(ob)
    return None


@adapter(persistent.interfaces.IPersistent)
@implementer(transaction.interfaces.ITransactionManager)
def transactionManager(ob: object) -> object | None:
    """Return the transaction manager that `ob` (or a connection) takes part in.

    None when `ob` has no connection: it cannot be adapted.
    """
    conn = ZODB.interfaces.IConnection(ob, None)
    if conn is None:
        conn = connection(ob)
    return None if conn is None else conn.transaction_manager


def _parent(ob: object) -> object | None:
    parent = getattr(ob, "__parent__", None)
    return parent if parent is not None else getattr(ob, "parent", None)
