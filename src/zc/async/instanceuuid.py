# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The identity of this process, which outlives it: a UUID in a file.

The file is the one that the environment variable ``ZC_ASYNC_UUID`` names, or
``uuid.txt`` in the working directory.  It is read, or made, when the value is
first needed, not at import.

Two processes must not have the same identity.  Who works under it holds `lock`;
it ends with the process, whatever ends it.
"""

import contextlib
import errno
import os
import threading
import uuid

from zope.interface import implementer

from .errors import BadIdentityError, IdentityInUseError
from .interfaces import IUUID
from .utils import log

try:
    import fcntl
except ImportError:  # no such locks there: sharing a file is not noticed
    fcntl = None  # type: ignore[assignment]

VARIABLE = "ZC_ASYNC_UUID"
DEFAULT = "uuid.txt"

_TEXT = """{value}

# The first line is the identity of one process that works for zc.async.  Keep the
# file with the process: after a restart it finds its jobs by it.  Do not give a copy
# to another process; each makes its own, where the environment variable
# ZC_ASYNC_UUID says, or as uuid.txt in its working directory.
"""

_READ_ONLY = errno.EACCES, errno.EPERM, errno.EROFS
_NO_LOCKS = errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS


@implementer(IUUID)
class InstanceUUID(uuid.UUID):
    """A `uuid.UUID` that finds out its value when it is first used.

    Compares, hashes and sorts like any other; is pickled and copied as a plain
    one.  `path` is the file, None for the one that the environment says.
    """

    is_safe = uuid.SafeUUID.unknown  # type: ignore[misc]
    __setattr__ = object.__setattr__  # type: ignore[assignment]  # a UUID forbids it

    def __init__(self, path: str | os.PathLike | None = None) -> None:
        self._given = path
        self._guard = threading.Lock()
        self._found: tuple[str, int] | None = None

    @property
    def path(self) -> str:
        """The absolute path of the file; makes it if it is not there."""
        return self._resolved()[0]

    @property  # type: ignore[misc]  # all that the base class does goes through it
    def int(self) -> int:
        return self._resolved()[1]

    def reset(self) -> None:
        """Forget the value: it is found out anew.  For tests."""
        self._found = None

    def __reduce__(self) -> tuple:
        return uuid.UUID, (self.hex,)

    def _resolved(self) -> tuple:
        found = self._found
        if found is None:
            with self._guard:
                found = self._found
                if found is None:
                    path = os.path.abspath(
                        self._given or os.environ.get(VARIABLE) or DEFAULT
                    )
                    found = self._found = path, read_or_make(path).int
        return found


#: The identity of this process, also registered as the utility for `IUUID`.
UUID = InstanceUUID()


def reset() -> None:
    """Forget the identity: it is found out anew.  For tests."""
    UUID.reset()


def read_or_make(path: str) -> uuid.UUID:
    """Return the UUID in the file at `path`; make the file if it is not there.

    Of several processes that make it at once, one wins, and all return its value.
    BadIdentityError when the first line is no UUID, OSError when the file can be
    neither read nor made.
    """
    try:
        if not os.path.exists(path):
            _make(path, _TEXT.format(value=uuid.uuid4()))
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            line = file.readline(200).strip()
    except OSError as error:
        error.add_note(f"The file with the identity of this process ({VARIABLE}).")
        raise
    try:
        return uuid.UUID(line)
    except ValueError:
        raise BadIdentityError(path, line) from None


def _make(path: str, text: str) -> None:
    """Write a file that is there with all its text or not at all."""
    draft = f"{path}.{uuid.uuid4().hex}"
    try:
        _write(draft, text)
        try:
            # Unlike a rename this leaves the file of somebody who was faster.
            os.link(draft, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            with contextlib.suppress(FileExistsError):
                _write(path, text)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)


def _write(path: str, text: str) -> None:
    with open(path, "x", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


class IdentityLock:
    """What `lock` returns.  Ends with `release`, or with the process."""

    def __init__(self, held: "_Held") -> None:
        self._held: _Held | None = held
        self.path = held.path

    @property
    def held(self) -> bool:
        """Whether this process has the lock: a fork of it does not."""
        return self._held is not None and self._held.fd is not None

    def release(self) -> None:
        """Give the lock up.  May be called twice."""
        with _guard:
            held, self._held = self._held, None
            if held is not None:
                held.drop()


def lock(path: str | os.PathLike | None = None) -> IdentityLock:
    """Make sure that no other process works under this identity.

    `path` is the UUID file, by default that of `UUID`.  Within a process the lock
    can be had several times; it is given up with the last release.
    IdentityInUseError when another process has it.  Does not wait.
    """
    name = os.path.realpath(UUID.path if path is None else path)
    with _guard:
        held = _all_held.get(name)
        if held is None:
            held = _Held(name)
        held.count += 1
        return IdentityLock(held)


class _Held:
    """The lock on one file.  Guarded by `_guard`."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.count = 0
        self.fd: int | None = None
        fd = _open(path)
        try:
            _flock(fd, path)
            self._writes_pid = _write_pid(fd, b"%d\n" % os.getpid())
        except BlockingIOError:
            raise IdentityInUseError(path, _pid_in(fd)) from None
        else:
            self.fd = fd
            _all_held[path] = self
        finally:
            if self.fd is None:
                os.close(fd)

    def drop(self) -> None:
        self.count -= 1
        if self.count == 0 and self.fd is not None:
            if self._writes_pid:
                _write_pid(self.fd, b"")
            self.close()
            del _all_held[self.path]

    def close(self) -> None:
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None


_guard = threading.Lock()
_all_held: dict[str, _Held] = {}


def _open(path: str) -> int:
    """Return a descriptor to lock: the best that our permissions allow.

    That is a file beside the UUID file, in which the holder writes its pid; or, in
    a folder that we cannot write to, the UUID file itself.
    """
    beside = f"{path}.lock"
    try:
        return os.open(beside, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        if error.errno not in _READ_ONLY:
            raise
    return os.open(beside if os.path.exists(beside) else path, os.O_RDONLY)


def _write_pid(fd: int, content: bytes) -> bool:
    """Replace the content of `fd`; return whether we were allowed to."""
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, content, 0)
    except OSError:  # opened for reading, or the disk is full: the lock holds anyway
        return False
    return True


def _flock(fd: int, path: str) -> None:
    """Lock `fd`; BlockingIOError when another has it."""
    if fcntl is None:
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        log.warning("cannot lock %s (%s): sharing it would go unnoticed", path, error)


def _pid_in(fd: int) -> int | None:
    try:
        return int(os.pread(fd, 20, 0))
    except ValueError:  # not written yet, or this is the UUID file
        return None


def _forget_after_fork() -> None:
    """Leave the locks to the parent: its death must end them."""
    global _guard
    # Other threads of the parent may have had these.
    _guard = threading.Lock()
    UUID._guard = threading.Lock()
    for held in _all_held.values():
        held.close()
    _all_held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
