# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""From a file to its words: what one job does.  Knows no database.

A file that is no text, or in an encoding other than it says, is an error with a
message for people; the index never holds half of a file.
"""

import codecs
import hashlib
import os
import re
import stat
import time
import unicodedata
from collections import Counter

LONGEST_FILE = 8_000_000  # bytes
SHORTEST_WORD, LONGEST_WORD = 2, 40  # letters

#: Seconds without a change after which nobody seems to write a file any more.
AT_REST = 0.1

_WORD = re.compile(r"[^\W\d_]+")
_BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# As Python's own sources declare it, in the first or second line (PEP 263).
_DECLARED = re.compile(
    rb"\A(?:[^\n]*\n)?[ \t\f]*#[^\n]*?coding[:=][ \t]*([-\w.]+)", re.ASCII
)


class UnreadableTextError(Exception):
    """The file is there, but it is no text that can be indexed."""


class StillChangingError(Exception):
    """The file is being written at this moment: worth another try, later."""


def read_bytes(path: str) -> bytes:
    """The content of a file that is at rest.

    OSError, UnreadableTextError, or StillChangingError when somebody is writing.
    """
    check_is_file(path)
    with open(path, "rb") as file:
        before = os.stat(file.fileno())
        if before.st_size > LONGEST_FILE:
            raise UnreadableTextError(
                f"too long: {before.st_size:,} bytes, the limit is {LONGEST_FILE:,}"
            )
        data = file.read()
        after = os.stat(file.fileno())
    changed = (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns)
    if changed or 0 <= time.time() - after.st_mtime < AT_REST:
        raise StillChangingError("the file is being written")
    return data


def check_is_file(path: str) -> None:
    """OSError or UnreadableTextError unless `path` leads to a file.

    Opening something else may wait for ever: a pipe, until somebody writes to it.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        os.listdir(path)  # says what is wrong with it
        raise UnreadableTextError("a folder, which could not be listed before")
    if not stat.S_ISREG(mode):
        raise UnreadableTextError("not a file")


def digest_of(data: bytes) -> str:
    """Short text that tells contents apart."""
    return hashlib.sha256(data).hexdigest()[:16]


def decode(data: bytes) -> str:
    """The text in `data`; UnreadableTextError tells where it is none."""
    encoding = encoding_of(data)
    if encoding == "utf-8" and b"\0" in data:
        raise UnreadableTextError(f"binary: a zero at byte {data.index(0):,}")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UnreadableTextError(
            f"not {encoding}: byte 0x{data[error.start]:02x} in line {line:,}"
        ) from None
    except (LookupError, UnicodeError) as error:
        raise UnreadableTextError(f"declared encoding: {error}") from None


def encoding_of(data: bytes) -> str:
    """The encoding that the file itself declares, else UTF-8."""
    for mark, encoding in _BOMS.items():
        if data.startswith(mark):
            return encoding
    declared = _DECLARED.match(data)
    return declared[1].decode("ascii") if declared else "utf-8"


def words_of(text: str) -> dict[str, int]:
    """The words of `text`, each with how often it occurs.

    Letters only, in lower case: `queue.put_later` has three.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    counts = Counter(_WORD.findall(text.casefold()))
    return {
        word: count
        for word, count in counts.items()
        if SHORTEST_WORD <= len(word) <= LONGEST_WORD
    }
