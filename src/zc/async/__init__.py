# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Durable asynchronous jobs for ZODB applications.

Applications write `zc.async_`, since `async` is a keyword.  Submodules are imported
when they are first asked for: a server that resolves conflicts imports `pending`
alone and must not need Twisted or the component architecture for it.
"""

import importlib


def __getattr__(name: str):
    """Return the submodule `name`, or the object `local` of `threadlocal`.

    AttributeError when there is no such submodule; the ImportError of a submodule
    that exists but cannot be imported passes through.
    """
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "local":
        return importlib.import_module(".threadlocal", __name__).local
    try:
        return importlib.import_module("." + name, __name__)
    except ModuleNotFoundError as error:
        if error.name != f"{__name__}.{name}":
            raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
