# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Getting an object whose class is known without reading its record twice."""

from typing import Any


def ghost(connection: Any, oid: bytes, cls: Any) -> Any:
    """The object `oid` of class `cls`; its state is read when it is first used.

    `Connection.get` reads the record for the class, and the first use reads it
    again.  This takes the way on which references between objects are loaded.
    """
    cache = getattr(connection, "_cache", None)
    if cache is None or not hasattr(cache, "new_ghost"):
        return connection.get(oid)
    found = cache.get(oid)
    if found is None:
        found = cls.__new__(cls)  # without its __init__, as when it is loaded
        cache.new_ghost(oid, found)
    return found
