# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Which files there are to index, and how they are called for people."""

import os
import sysconfig
from collections.abc import Iterable, Iterator

SUFFIXES = frozenset(
    """
    .c .cfg .conf .css .csv .h .htm .html .ini .js .json .log .md .pt .py .pyi .pyx
    .rst .sh .sql .text .toml .ts .tsv .txt .xml .yaml .yml .zcml
    """.split()
)
NAMES = frozenset(
    """
    AUTHORS CHANGELOG CHANGES COPYING CREDITS HISTORY INSTALL LICENCE LICENSE METADATA
    NEWS NOTICE README THANKS TODO Dockerfile Makefile
    """.split()
)
SKIPPED_FOLDERS = frozenset(["__pycache__", "node_modules"])


def default_folder() -> str:
    """The Python packages that are installed in this environment."""
    return sysconfig.get_path("purelib")


def is_text(name: str) -> bool:
    """Whether a file of this name should be one."""
    return name in NAMES or os.path.splitext(name)[1].lower() in SUFFIXES


def is_skipped(name: str) -> bool:
    """Whether a folder of this name holds nothing that somebody wrote."""
    return name.startswith(".") or name in SKIPPED_FOLDERS


def text_files(folder: str) -> list[str]:
    """The paths of the files to index in `folder` and below, in a fixed order.

    A folder within that cannot be listed is among them: reading it will fail, and
    so be seen.  OSError when `folder` itself cannot be listed.
    """
    os.listdir(folder)
    return sorted(_walk(folder))


def _walk(folder: str) -> Iterator[str]:
    unlisted: list[str] = []

    def note(error: OSError) -> None:
        unlisted.append(error.filename)

    for parent, folders, files in os.walk(folder, onerror=note):
        folders[:] = [name for name in folders if not is_skipped(name)]
        yield from (os.path.join(parent, name) for name in files if is_text(name))
    yield from unlisted


def relative(path: str, folders: Iterable[str]) -> str:
    """`path` as it is shown: within the one of `folders` that it is in."""
    for folder in folders:
        if path.startswith(folder + os.sep):
            return printable(path[len(folder) + 1 :])
    return printable(path)


def printable(path: str) -> str:
    """A path that any terminal takes, whatever its bytes are."""
    text = path.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(
        char if char.isprintable() else f"\\x{ord(char):02x}" for char in text
    )
