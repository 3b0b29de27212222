# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The storages that benchmarks run on.

A *store* is one empty database in a folder of its own, and perhaps a server.  To add
a kind of storage, write a subclass of `Store` and name it in `KINDS`.
"""

import functools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from ZODB.DB import DB
from ZODB.FileStorage import FileStorage

from .journal import Count, count


class Store:
    """One empty database.  A context manager: removed at the end.

    `open` makes a new database object on it each time, as another process would;
    its caller closes it.
    """

    kind: str

    def __init__(self, folder: str | None = None):
        self.folder = Path(tempfile.mkdtemp(prefix="zc.async-", dir=folder))

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *error: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def open(self, **settings: object) -> DB:
        """Open the database; `settings` are those of `ZODB.DB`."""
        raise NotImplementedError

    def count(self, db: DB, after: bytes, until: bytes) -> Count:
        """What was written after the transaction `after`, and not after `until`."""
        return count(db.storage.iterator(), after, until)

    def size(self, db: DB) -> int:
        """Bytes that the database takes now."""
        return db.storage.getSize()


class FileStore(Store):
    """A FileStorage in this process, with fsync at each commit."""

    kind = "filestorage"

    def open(self, **settings: object) -> DB:
        """See `Store`."""
        return DB(FileStorage(str(self.folder / "data.fs")), **settings)

    def count(self, db: DB, after: bytes, until: bytes) -> Count:
        """See `Store`.  Reads from the transaction `after` on, not all before."""
        return count(db.storage.iterator(start=after), after, until)


KINDS: dict[str, type[Store]] = {FileStore.kind: FileStore}

#: Makes a new store.
Maker = Callable[[], Store]


def maker(kind: str, folder: str | None = None) -> Maker:
    """What makes stores of this kind, in `folder` or where temporary files go."""
    return functools.partial(KINDS[kind], folder)
