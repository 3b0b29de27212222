# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The storages that benchmarks run on.

A *store* is one empty database in a folder of its own, and perhaps a server.  To add
a kind of storage, write a subclass of `Store` and name it in `KINDS`.
"""

import atexit
import functools
import importlib.util
import itertools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ZODB.DB import DB
from ZODB.FileStorage import FileStorage

from . import servers
from .journal import Count, count


class Store:
    """One empty database.  A context manager: removed at the end.

    `open` makes a new database object on it each time, as another process would;
    its caller closes it.
    """

    kind: str

    #: Whether dispatchers hear of commits; otherwise they must be told.
    hears = True

    @classmethod
    def missing(cls) -> str | None:
        """What this kind needs and is not installed, as text; None for nothing."""
        return None

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


class ZeoStore(Store):
    """A ZEO server of its own, on loopback, with a FileStorage."""

    kind = "zeo"

    @classmethod
    def missing(cls) -> str | None:
        """See `Store`."""
        return None if _importable("ZEO") else "the package ZEO is not installed"

    def __enter__(self) -> "ZeoStore":
        self._server, self._port = servers.zeo(self.folder)
        return self

    def __exit__(self, *error: object) -> None:
        self._server.stop()
        super().__exit__(*error)

    def open(self, **settings: object) -> DB:
        """See `Store`."""
        client = importlib.import_module("ZEO.ClientStorage").ClientStorage
        return DB(client(("127.0.0.1", self._port), wait_timeout=30), **settings)


class PostgresStore(Store):
    """A database of its own for RelStorage, in a PostgreSQL of this process."""

    kind = "postgresql"
    hears = False

    @classmethod
    def missing(cls) -> str | None:
        """See `Store`."""
        for package in ("relstorage", "psycopg2"):
            if not _importable(package):
                return f"the package {package} is not installed"
        if servers.postgres_programs() is None:
            return f"no PostgreSQL server was found, in {servers.POSTGRES} or the PATH"
        return None

    def __enter__(self) -> "PostgresStore":
        port = _postgres(str(self.folder.parent))
        name = f"zodb{next(_numbers)}"
        driver = importlib.import_module("psycopg2")
        connection = driver.connect(f"{_dsn(port)} dbname=postgres")
        connection.autocommit = True
        connection.cursor().execute(f"CREATE DATABASE {name}")
        connection.close()
        self._dsn = f"{_dsn(port)} dbname={name}"
        return self

    def open(self, **settings: object) -> DB:
        """See `Store`."""
        options = _relstorage("options").Options(driver="psycopg2")
        adapter = _relstorage("adapters.postgresql").PostgreSQLAdapter(
            dsn=self._dsn, options=options
        )
        storage = _relstorage("storage").RelStorage(adapter, options=options)
        return DB(storage, **settings)


_numbers = itertools.count()


@functools.cache
def _postgres(folder: str) -> int:
    """The port of the PostgreSQL of this process; its data is in a new folder there."""
    made = Path(tempfile.mkdtemp(prefix="zc.async-", dir=folder))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    server, port = servers.postgres(made)
    atexit.register(server.stop)
    return port


def _dsn(port: int) -> str:
    return f"host=127.0.0.1 port={port} user=zodb"


def _relstorage(name: str) -> Any:
    return importlib.import_module(f"relstorage.{name}")


def _importable(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


KINDS: dict[str, type[Store]] = {
    each.kind: each for each in (FileStore, ZeoStore, PostgresStore)
}

#: Makes a new store.
Maker = Callable[[], Store]


def maker(kind: str, folder: str | None = None) -> Maker:
    """What makes stores of this kind, in `folder` or where temporary files go."""
    return functools.partial(KINDS[kind], folder)
