# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Files that make trouble, for the tour: failures and retries that can be seen.

They are made only when no FOLDER was given.
"""

import os
import threading
from contextlib import suppress

BAD_FILES = {
    "is-not-text.txt": b"\x7fELF\x02\x01\x01\0\0\0\0\0" * 8,
    "is-not-utf-8.txt": "Une tasse de café\n".encode("latin-1"),
}
LINK_TO_NOWHERE = "leads-nowhere.txt"
BEING_WRITTEN = "is-being-written.txt"

_LINE = b"Another program is still writing this file; it will be read again later.\n"
LINES, PAUSE = 60, 0.025  # a second and a half, in all


def plant(folder: str) -> None:
    """Make the files, except for the one that is being written."""
    os.makedirs(folder, exist_ok=True)
    for name, content in BAD_FILES.items():
        with open(os.path.join(folder, name), "wb") as file:
            file.write(content)
    link = os.path.join(folder, LINK_TO_NOWHERE)
    if not os.path.lexists(link):
        os.symlink("no-such-file", link)
    with open(os.path.join(folder, BEING_WRITTEN), "ab"):
        pass


def remove(folder: str) -> None:
    """Remove the files."""
    for name in [*BAD_FILES, LINK_TO_NOWHERE, BEING_WRITTEN]:
        with suppress(FileNotFoundError):
            os.remove(os.path.join(folder, name))


class Writer:
    """Another program, as it were, that writes a file for a while, line by line.

    Owns a thread.  When it was stopped before the end, the next one goes on.
    """

    def __init__(self, folder: str):
        self._path = os.path.join(folder, BEING_WRITTEN)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()

    def join(self, timeout: float | None = None) -> None:
        self._thread.join(timeout)

    def _write(self) -> None:
        written = os.path.getsize(self._path)
        while written < LINES * len(_LINE) and not self._stopping.wait(PAUSE):
            with open(self._path, "ab") as file:
                written += file.write(_LINE[written % len(_LINE) :])
