# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Running the example `wordindex` as a process, and looking at what it made."""

import os
import random
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from ZODB.DB import DB
from ZODB.FileStorage import FileStorage

from zc.async_.interfaces import KEY

ROOT = Path(__file__).parents[1]
LONG_AGO = 1_000_000_000

#: Files that cannot be indexed, and why.
BAD_FILES = {
    "bad/latin.txt": (b"caf\xe9", "not utf-8: byte 0xe9 in line 1"),
    "bad/binary.txt": (b"\x7fELF\0", "binary: a zero at byte 4"),
    "bad/claims.py": (b"# coding: klingon", "declared encoding: unknown encoding"),
    "bad/link.txt": (None, "No such file or directory"),
}


def write(path, content):
    """Make a file that nobody has written to for long."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (LONG_AGO, LONG_AGO))


def make_folder(folder, count, words=60, seed=1):
    """Make `count` files of words, always the same, and the bad files."""
    rng = random.Random(seed)
    vocabulary = [
        "".join(rng.choices("abcdefgh", k=rng.randint(2, 9))) for _ in range(900)
    ]
    for number in range(count):
        text = " ".join(rng.choices(vocabulary, k=words))
        write(folder / f"part{number % 7}" / f"{number}.txt", text.encode())
    for name, (content, _) in BAD_FILES.items():
        if content is not None:
            write(folder / name, content)
    os.symlink("nowhere", folder / "bad" / "link.txt")
    return folder


def command(*arguments):
    return [sys.executable, "-m", "examples.wordindex", *map(str, arguments)]


def environment():
    path = [str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    joined = os.pathsep.join(filter(None, path))
    return {**os.environ, "PYTHONPATH": joined, "PYTHONUNBUFFERED": "1"}


def spawn(*arguments):
    """Start the program; its output can be read from `stdout`."""
    return subprocess.Popen(
        command(*arguments),
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextmanager
def ended(process, seconds=None):
    """Whatever happens, the process has ended afterwards, or after some seconds."""
    timer = threading.Timer(seconds, process.kill) if seconds else None
    try:
        if timer:
            timer.start()
        yield
    finally:
        if timer:
            timer.cancel()
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def run(*arguments, status=0, timeout=60):
    """Run the program to its end; return its output, of errors too."""
    process = spawn(*arguments)
    with ended(process):
        output, _ = process.communicate(timeout=timeout)
    assert process.returncode == status, output
    return output


def wait_until(test, seconds=30, pause=0.05):
    """Wait for what another process does, of which there is no event."""
    deadline = time.monotonic() + seconds
    while not test():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(pause)


@contextmanager
def looking(data):
    """The root object of the database in a data folder where nothing works."""
    storage = FileStorage(str(data / "wordindex.fs"), read_only=True)
    db = DB(storage)
    connection = db.open()
    try:
        yield connection.root()
    finally:
        connection.close()
        db.close()


def dump(data):
    """The lines of the finished index; nothing may be left to do."""
    with looking(data) as root:
        queue = root[KEY][""]
        assert not list(queue)
        assert not [
            job
            for agents in queue.dispatchers.values()
            for agent in agents.values()
            for job in [*agent, *agent.waiting()]
        ]
        assert root["wordindex"].finished
        return list(root["wordindex"].index.dump())
