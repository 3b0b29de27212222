# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
import copy
import errno
import os
import pickle
import pickletools
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pytest
from zope.component import getUtility, provideUtility
from zope.interface.verify import verifyObject

from zc.async_ import instanceuuid
from zc.async_.errors import BadIdentityError, IdentityInUseError
from zc.async_.instanceuuid import UUID, InstanceUUID
from zc.async_.interfaces import IUUID

SRC = Path(instanceuuid.__file__).parents[2]


@pytest.fixture(autouse=True)
def path(tmp_path, monkeypatch):
    path = tmp_path / "identity.txt"
    monkeypatch.setenv("ZC_ASYNC_UUID", str(path))
    instanceuuid.reset()
    yield path
    instanceuuid.reset()


@pytest.fixture
def lock():
    """Take locks; they end with the test."""
    locks = []

    def take(*args):
        locks.append(instanceuuid.lock(*args))
        return locks[-1]

    yield take
    for taken in locks:
        taken.release()


class Other:
    """Another process, which does what it is told."""

    CODE = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from zc.async_ import instanceuuid
taken = instanceuuid.lock()
if sys.argv[2] == "fork":
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(writer, b".")  # the fork is over in the child, too
        signal.pause()
    os.read(reader, 1)
    print(pid, taken.held, flush=True)
elif sys.argv[2] == "relock":
    pid = os.fork()
    if not pid:
        try:
            instanceuuid.lock()
        except Exception as error:
            print(taken.held, type(error).__name__, error.pid == os.getppid())
        taken.release()
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(pid, 0)
print("ready", flush=True)
sys.stdin.read()
"""

    def __init__(self, what="hold"):
        self.process = subprocess.Popen(
            [sys.executable, "-c", self.CODE, str(SRC), what],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self.process.pid

    def __enter__(self):
        self.lines = list(iter(self.process.stdout.readline, "ready\n"))
        return self

    def __exit__(self, *exc):
        self.kill()

    def kill(self):
        self.process.kill()
        self.process.wait(30)
        self.process.stdin.close()
        self.process.stdout.close()


def test_nothing_is_read_or_made_at_import(path):
    code = (
        f"import sys; sys.path.insert(0, {str(SRC)!r}); import zc.async_.instanceuuid"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert not path.exists()


def test_an_existing_file_is_read_by_its_first_line(path):
    value = uuid.uuid4()
    path.write_text(f"  {value}  \n\nanything else\n")
    assert value == UUID
    assert path.read_text().endswith("anything else\n")


@pytest.mark.parametrize("form", ["{}", "\ufeff{}\r\n", "urn:uuid:{}\n"])
def test_every_form_of_a_uuid_is_understood(path, form):
    value = uuid.uuid4()
    path.write_bytes(form.format(value).encode("utf-8"))
    assert value == UUID


def test_a_missing_file_is_made_and_explains_itself(path):
    first, *rest = UUID.hex and path.read_text().splitlines()
    assert uuid.UUID(first) == UUID
    assert uuid.UUID(first).version == 4
    assert "ZC_ASYNC_UUID" in "".join(rest)
    assert os.listdir(path.parent) == [path.name]
    instanceuuid.reset()
    assert str(UUID) == first


def test_without_the_variable_the_working_directory_has_the_file(
    tmp_path, monkeypatch
):
    monkeypatch.delenv("ZC_ASYNC_UUID")
    monkeypatch.chdir(tmp_path)
    assert UUID.path == str(tmp_path / "uuid.txt")
    assert (tmp_path / "uuid.txt").read_text().startswith(str(UUID))


def test_the_file_is_read_once_until_reset(path):
    value = uuid.UUID(UUID.hex)
    path.write_text(f"{uuid.uuid4()}\n")
    assert value == UUID
    instanceuuid.reset()
    assert value != UUID


def test_processes_that_make_the_file_at_once_agree(path):
    barrier = threading.Barrier(8)
    found = []

    def make():
        barrier.wait(10)
        found.append(instanceuuid.read_or_make(str(path)))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == 8 and len(set(found)) == 1
    assert os.listdir(path.parent) == [path.name]


def test_a_file_made_meanwhile_by_another_is_respected(path, monkeypatch):
    value = uuid.uuid4()
    path.write_text(f"{value}\n")
    monkeypatch.setattr(os.path, "exists", lambda path: False)
    assert value == UUID


def test_the_file_is_made_where_there_are_no_links(path, monkeypatch):
    def link(*args):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    assert uuid.UUID(path.read_text().splitlines()[0] if UUID.hex else "") == UUID
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("content", [b"", b"no uuid\n", b"\xff\xfe\n", b"x" * 10_000])
def test_a_file_without_uuid_is_refused_with_path_and_content(path, content):
    path.write_bytes(content)
    with pytest.raises(BadIdentityError) as caught:
        str(UUID)
    assert str(path) in str(caught.value)
    assert repr(caught.value.found) in str(caught.value)
    assert len(str(caught.value)) < 600
    assert path.read_bytes() == content
    path.write_text(f"{uuid.uuid4()}\n")
    assert str(UUID) == path.read_text().strip()


def test_a_file_that_cannot_be_made_is_named_with_the_variable(monkeypatch, tmp_path):
    missing = str(tmp_path / "missing" / "uuid.txt")
    monkeypatch.setenv("ZC_ASYNC_UUID", missing)
    with pytest.raises(FileNotFoundError) as caught:
        str(UUID)
    assert caught.value.filename.startswith(missing)
    assert "ZC_ASYNC_UUID" in caught.value.__notes__[0]


def test_it_stands_for_its_uuid_everywhere():
    plain = uuid.UUID(str(UUID))
    other = uuid.UUID(int=plain.int ^ 1)
    assert plain == UUID and UUID == plain  # noqa: SIM300
    assert other != UUID and UUID != other  # noqa: SIM300
    assert hash(plain) == hash(UUID)
    assert {plain: 1}[UUID] == {UUID: 1}[plain] == 1
    assert sorted([UUID, other]) == sorted([plain, other])
    assert (other < UUID) == (other < plain) == (plain > other)
    for name in "hex", "bytes", "int", "urn", "version", "fields", "is_safe":
        assert getattr(UUID, name) == getattr(plain, name)
    assert repr(UUID) == f"InstanceUUID('{plain}')"
    assert isinstance(UUID, uuid.UUID)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_is_pickled_and_copied_as_a_plain_uuid(protocol):
    stored = pickle.dumps({UUID: UUID}, protocol)
    assert not [a for _op, a, _at in pickletools.genops(stored) if "zc" in str(a)]
    for found in [*pickle.loads(stored), copy.copy(UUID), copy.deepcopy(UUID)]:
        assert type(found) is uuid.UUID
        assert found == UUID


def test_it_is_the_registered_utility():
    assert verifyObject(IUUID, UUID)
    provideUtility(UUID, IUUID, "")
    assert getUtility(IUUID) is UUID


def test_another_file_can_be_given(tmp_path):
    other = InstanceUUID(tmp_path / "other.txt")
    assert other != UUID
    assert other.path == str(tmp_path / "other.txt")
    assert InstanceUUID(other.path) == other


def test_a_lock_is_had_again_by_the_same_process(lock, path):
    one, two = lock(), lock(path)
    assert one.held and two.held
    one.release()
    one.release()
    assert not one.held and two.held
    with pytest.raises(IdentityInUseError):
        fail_in_other(path)
    two.release()
    with Other():
        pass


def fail_in_other(path):
    code = (
        f"import sys; sys.path.insert(0, {str(SRC)!r});"
        "from zc.async_ import instanceuuid\n"
        "try: instanceuuid.lock()\n"
        "except Exception as error: print(type(error).__name__, error.pid)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    if done.stdout:
        name, pid = done.stdout.split()
        assert name == "IdentityInUseError" and pid == str(os.getpid())
        raise IdentityInUseError(str(path), int(pid))


def test_the_lock_of_another_process_is_noticed_and_ends_with_it(lock, path):
    with Other() as other:
        with pytest.raises(IdentityInUseError) as caught:
            lock()
        assert caught.value.path == str(path)
        assert caught.value.pid == other.pid
        other.kill()
        assert lock().held


def test_the_same_file_by_another_name_is_the_same_lock(lock, path, monkeypatch):
    with Other():
        link = path.with_name("link.txt")
        link.symlink_to(path)
        with pytest.raises(IdentityInUseError):
            lock(link)


def test_a_child_does_not_keep_the_lock_of_its_dead_parent(lock):
    with Other("fork") as other:
        child, held = other.lines[0].split()
        assert held == "True"
        other.kill()
        try:
            assert lock().held
        finally:
            os.kill(int(child), 9)


def test_a_child_does_not_have_the_lock_of_its_parent(lock):
    with Other("relock") as other:
        assert other.lines == ["False IdentityInUseError True\n"]
        with pytest.raises(IdentityInUseError):  # though the child has released it
            lock()


def test_in_a_folder_that_is_not_ours_the_file_itself_is_locked(
    lock, path, monkeypatch
):
    str(UUID)
    real = os.open

    def refuse_writing(name, flags, *args):
        if flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, "Permission denied", name)
        return real(name, flags, *args)

    monkeypatch.setattr(os, "open", refuse_writing)
    taken = lock()
    assert taken.held
    assert os.listdir(path.parent) == [path.name]
    with open(path) as file, pytest.raises(BlockingIOError):
        instanceuuid.fcntl.flock(
            file, instanceuuid.fcntl.LOCK_EX | instanceuuid.fcntl.LOCK_NB
        )


def test_a_pid_that_cannot_be_read_is_not_told(lock, path):
    with Other():
        path.with_name("identity.txt.lock").write_text("")
        with pytest.raises(IdentityInUseError, match="by another process") as caught:
            lock()
        assert caught.value.pid is None


def test_a_file_system_without_locks_is_logged(lock, path, monkeypatch, caplog):
    def flock(fd, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(instanceuuid.fcntl, "flock", flock)
    assert lock().held
    assert f"cannot lock {path}" in caplog.text


def test_a_failed_lock_leaves_no_descriptor_open(lock):
    with Other():
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            with pytest.raises(IdentityInUseError):
                lock()
        assert len(os.listdir("/proc/self/fd")) == before
