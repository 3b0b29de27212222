# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Which callables of a round have changed which objects.

When the commit fails because of an object, its callables are to blame, and the
others are not.
"""

from typing import Any


class Culprits:
    """Belongs to one round; to be told after each call that is to be committed."""

    def __init__(self) -> None:
        self._names: dict[bytes, set[str]] = {}

    def note(self, name: str, job: Any) -> None:
        """Note what has been changed, or checked, since the last savepoint.

        By the connection's private account: without it nobody is blamed.
        """
        for connection in job._p_jar.connections.values():
            for obj in getattr(connection, "_registered_objects", ()):
                if obj._p_oid is not None:
                    self._names.setdefault(obj._p_oid, set()).add(name)
            for oid in getattr(connection, "_readCurrent", ()):
                self._names.setdefault(oid, {name})  # it keeps the earlier ones

    def of(self, oid: bytes | None) -> set[str]:
        """The callables that have changed the object; empty if that is not known."""
        return set() if oid is None else self._names.get(oid, set())
