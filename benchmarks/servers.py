# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Servers of storages, on loopback, with their data in a folder of their own.

A server is started behind a guard: a process that ends it when it has ended itself,
or when the process that measures has, however that came about.

    python -m benchmarks.servers USER COMMAND ...    # is such a guard
"""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from .measure import wait_until

ROOT = Path(__file__).parents[1]

#: How many seconds a server has to end after it was asked to.
PATIENCE = 10

#: Who a server that root must not run is run by: the first of these that exists.
USERS = ("postgres", "nobody")

#: Where Debian has the programs of PostgreSQL, newest last.
POSTGRES = "/usr/lib/postgresql"


class Server:
    """One running server; a context manager.  `command` is what runs it.

    `user` is who it runs as, by default the same.  Its output goes to `log`.
    """

    def __init__(self, command: Sequence[str], log: Path, user: str | None = None):
        self.command = list(command)
        self.log = log
        self.user = user

    def start(self) -> None:
        """Start it, behind a guard."""
        guard = [sys.executable, "-m", __name__, self.user or "", *self.command]
        with self.log.open("ab") as output:
            self._guard = subprocess.Popen(
                guard,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
            )

    def stop(self) -> None:
        """End it; return when it has ended."""
        if self._guard.stdin is not None:
            self._guard.stdin.close()
        self._guard.wait(2 * PATIENCE)

    def wait_for_port(self, port: int) -> None:
        """Return when it takes connections."""

        def answers() -> bool:
            if self._guard.poll() is not None:
                raise RuntimeError(f"{self.command[0]} ended:\n{self.log.read_text()}")
            with socket.socket() as found:
                return found.connect_ex(("127.0.0.1", port)) == 0

        wait_until(answers, f"{self.command[0]} on port {port}", interval=0.02)

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


def free_port() -> int:
    """A port on loopback that nobody listens at now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


# ZEO.


def zeo(folder: Path) -> tuple[Server, int]:
    """A started ZEO server on a FileStorage in `folder`, and its port."""
    port = free_port()
    command = ["-m", "ZEO.runzeo", "-a", f"127.0.0.1:{port}", "-f", folder / "data.fs"]
    server = Server([sys.executable, *map(str, command)], folder / "zeo.log")
    server.start()
    try:
        server.wait_for_port(port)
    except BaseException:
        server.stop()
        raise
    return server, port


# PostgreSQL.


def postgres_programs() -> Path | None:
    """The folder of the newest PostgreSQL here; None without one."""
    found = sorted(Path(POSTGRES).glob("*/bin/initdb"), key=_version)
    if found:
        return found[-1].parent
    path = shutil.which("initdb")
    return None if path is None else Path(path).resolve().parent


def _version(path: Path) -> int:
    digits = path.parents[1].name
    return int(digits) if digits.isdigit() else 0


def postgres(folder: Path) -> tuple[Server, int]:
    """A started PostgreSQL with its data in `folder`, and its port.

    With its defaults, so it waits for the disk at each commit.  Who may connect: any
    user of this machine, for as long as the benchmark takes.
    """
    programs = postgres_programs()
    if programs is None:
        raise LookupError("found no PostgreSQL")
    user = _unprivileged()
    data = folder / "postgres"
    data.mkdir(mode=0o700)
    if user is not None:
        folder.chmod(0o711)
        shutil.chown(data, user)
    made = subprocess.run(
        [programs / "initdb", "-D", data, "-A", "trust", "-U", "zodb", "-E", "UTF8",
         "--locale=C"],
        capture_output=True, text=True, cwd="/", **_identity(user),
    )  # fmt: skip
    if made.returncode:
        raise RuntimeError(f"initdb failed, as user {user or 'this'}:\n{made.stderr}")
    port = free_port()
    settings = {
        "port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "",
    }  # fmt: skip
    options = [f"--{name}={value}" for name, value in settings.items()]
    log = folder / "postgres.log"
    server = Server([str(programs / "postgres"), "-D", str(data), *options], log, user)
    server.start()
    try:
        server.wait_for_port(port)
    except BaseException:
        server.stop()
        raise
    return server, port


def _unprivileged() -> str | None:
    """Who runs what root must not run; None when we are not root."""
    if os.geteuid() != 0:
        return None
    for name in USERS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise LookupError(f"found none of the users {USERS}")


def _identity(user: str | None) -> dict:
    """Arguments of a process that this user runs; None for the same."""
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": ()}


# The guard.


def guard(user: str | None, command: Sequence[str]) -> int:
    """Run `command` until it ends or our standard input does; return its status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the one that measures
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, cwd="/" if user else None, **_identity(user)
    )
    threading.Thread(target=_end_with_input, args=(process,), daemon=True).start()
    return process.wait()


def _end_with_input(process: subprocess.Popen) -> None:
    while os.read(0, 1024):
        pass
    process.send_signal(signal.SIGINT)  # PostgreSQL waits for no client then
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()


if __name__ == "__main__":
    sys.exit(guard(sys.argv[1] or None, sys.argv[2:]))
