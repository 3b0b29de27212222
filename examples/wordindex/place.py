# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The data folder: the database, the identity of who works on it, and the log."""

import hashlib
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import zc.lockfile
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage

#: Objects kept in memory by each thread's connection.
CACHE_SIZE = 20_000

_SUFFIXES = """
    fs fs.index fs.index.index_tmp fs.lock fs.old fs.tmp uuid uuid.lock log
""".split()


class InUseError(Exception):
    """Another process works with this data folder."""


class Place:
    """A data folder of ours.  All of its files begin with "wordindex."."""

    def __init__(self, folder: str):
        self.folder = folder

    def path(self, suffix: str) -> str:
        return os.path.join(self.folder, "wordindex." + suffix)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Have it for us alone; InUseError when another process does.

        The lock ends with the process, whatever ends that.
        """
        os.makedirs(self.folder, exist_ok=True)
        try:
            lock = zc.lockfile.LockFile(self.path("lock"))
        except zc.lockfile.LockError:
            raise InUseError(f"another process works with {self.folder}") from None
        try:
            yield
        finally:
            lock.close()

    def clear(self) -> None:
        """Remove the database and what belongs to it."""
        for suffix in _SUFFIXES:
            if os.path.exists(self.path(suffix)):
                os.remove(self.path(suffix))

    def open(self) -> Any:
        """Open the database; it is made if it is not there."""
        self._log_to_file()
        # By the same UUID, the next process takes up at once what this one had begun
        # if it is killed.
        os.environ["ZC_ASYNC_UUID"] = self.path("uuid")
        storage = FileStorage(self.path("fs"))
        return DB(storage, cache_size=CACHE_SIZE)

    def _log_to_file(self) -> None:
        logging.basicConfig(
            filename=self.path("log"),
            encoding="utf-8",
            errors="backslashreplace",
            level=logging.INFO,
            format="%(asctime)s %(levelname)s %(name)s %(message)s",
        )
        # Each success and each retry of each job would be there.
        logging.getLogger("zc.async.trace").setLevel(logging.ERROR)

    @property
    def size(self) -> int:
        """Bytes of the database."""
        return os.path.getsize(self.path("fs"))


def default_place(folder: str, limit: int | None = None) -> str:
    """The data folder for an index of `folder`, in the user's cache if possible."""
    key = hashlib.sha256(os.fsencode(f"{folder}\0{limit}")).hexdigest()[:8]
    return os.path.join(_cache(), f"{os.path.basename(folder) or 'root'}-{key}")


def _cache() -> str:
    home = os.path.expanduser("~")
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(home, ".cache")
    parent = cache if os.path.isdir(cache) else home
    if os.path.isabs(cache) and os.access(parent, os.W_OK):
        return os.path.join(cache, "zc.async-wordindex")
    user = os.getuid() if hasattr(os, "getuid") else "user"
    return os.path.join(tempfile.gettempdir(), f"zc.async-wordindex-{user}")
