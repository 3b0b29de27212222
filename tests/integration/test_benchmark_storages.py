# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The servers that benchmarks start, and the databases on them."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import transaction

from benchmarks import servers, storages

SERVED = ("zeo", "postgresql")


@pytest.fixture
def folder():
    """Where other users can come to: the one that runs PostgreSQL."""
    with tempfile.TemporaryDirectory(prefix="zc.async-") as name:
        yield Path(name)


def require(kind):
    reason = storages.KINDS[kind].missing()
    if reason is not None:
        pytest.skip(reason)


@pytest.mark.parametrize("kind", storages.KINDS)
def test_what_one_database_commits_another_sees(kind):
    require(kind)
    with storages.maker(kind)() as store:
        db = store.open()
        with db.transaction() as connection:
            connection.root()["x"] = 42
        other = db if kind == "filestorage" else store.open()
        with other.transaction() as connection:
            assert connection.root()["x"] == 42
        for one in {db, other}:
            one.close()


@pytest.mark.parametrize("kind", SERVED)
def test_each_store_is_empty(kind):
    require(kind)
    for _ in range(2):
        with storages.maker(kind)() as store:
            db = store.open()
            with db.transaction() as connection:
                assert not connection.root()
                connection.root()["x"] = 42
            db.close()
    transaction.abort()


@pytest.mark.parametrize("kind", SERVED)
def test_servers_listen_on_loopback_only(kind, folder):
    require(kind)
    server, port = (servers.zeo if kind == "zeo" else servers.postgres)(folder)
    try:
        assert is_open("127.0.0.1", port)
        assert not is_open(address_of_this_machine(), port)
    finally:
        server.stop()
    assert not is_open("127.0.0.1", port)


def is_open(address, port):
    with socket.socket() as found:
        return found.connect_ex((address, port)) == 0


def address_of_this_machine():
    """One that is not loopback; where there is none, one that nobody has."""
    try:
        address = socket.gethostbyname(socket.gethostname())
    except OSError:
        return "192.0.2.1"
    return "192.0.2.1" if address.startswith("127.") else address


def test_a_server_ends_when_the_process_that_started_it_is_killed(tmp_path):
    program = (
        "import sys, time; from pathlib import Path; from benchmarks import servers\n"
        "command = ['sh', '-c', 'echo $$ > pid.tmp; mv pid.tmp pid; exec sleep 60']\n"
        "import os; folder = sys.argv[1]\n"
        "command[2] = f'cd {folder}; ' + command[2]\n"
        "servers.Server(command, Path(folder) / 'log').start(); time.sleep(60)\n"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], cwd=servers.ROOT
    )
    servers.wait_until((tmp_path / "pid").exists, "the server")
    pid = int((tmp_path / "pid").read_text())
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    servers.wait_until(lambda: not is_alive(pid), "the end of the server", timeout=20)


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or ") Z " not in status.read_text()


def test_a_server_that_does_not_start_is_told_with_its_log(tmp_path):
    server = servers.Server(["sh", "-c", "echo out of order; exit 1"], tmp_path / "log")
    server.start()
    with pytest.raises(RuntimeError, match="out of order"):
        server.wait_for_port(servers.free_port())
    server.stop()
