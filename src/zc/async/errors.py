# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The errors of this package.

All share `AsyncError`, carry the objects concerned as attributes, and say what
was found and what was expected.  They survive pickling under any protocol,
without their constructors being called; the objects they carry are replaced by
their repr on the way, so that an error never drags a job or a connection into
somebody else's record.

Four of them have been published by `interfaces` since release 1.0.  Tracebacks
and pickles use that name.
"""

import copyreg

_PLAIN = (str, bytes, int, float, bool, type(None))
_LONGEST_REPR = 1000


def _plain(value: object) -> object:
    """Return `value`, with everything that is not plain data as its repr."""
    if type(value) in _PLAIN:
        return value
    if type(value) is tuple:
        return tuple(_plain(item) for item in value)
    try:
        return repr(value)[:_LONGEST_REPR]
    except Exception as error:
        return f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"


class AsyncError(Exception):
    """Base of all errors of this package.

    `job` is the job concerned, or None.
    """

    job: object = None

    def __init__(self, *args: object, job: object = None) -> None:
        super().__init__(*args)
        if job is not None:
            self.job = job

    def __reduce__(self) -> tuple:
        state = {name: _plain(value) for name, value in self.__dict__.items()}
        new = copyreg.__newobj__  # type: ignore[attr-defined]
        return new, (type(self), *self.args), state or None


class BadStatusError(AsyncError):
    """A job's status does not allow what was asked for.

    `found` is the job's status at that moment, `expected` the statuses that
    would have been right.
    """

    __module__ = "zc.async.interfaces"

    found: str | None = None
    expected: tuple[str, ...] = ()

    def __init__(
        self, message: str, job: object = None, expected: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message, job=job)
        self.found = getattr(job, "status", None)
        self.expected = tuple(expected)


class AbortedError(AsyncError):
    """A job was given up before it had a result of its own."""

    __module__ = "zc.async.interfaces"


class TimeoutError(AbortedError):
    """A job was not begun in time: its `begin_by` has passed.

    Not a builtin TimeoutError, since that is an OSError, and handlers of lost
    connections would take it for one.
    """

    __module__ = "zc.async.interfaces"


class ReassignedError(AsyncError):
    """This job belongs to another process (or nobody) by now."""

    __module__ = "zc.async.interfaces"


class QuarantinedError(AbortedError):
    """The process died under this job again and again.

    `interruptions` says how often.
    """

    interruptions: int | None = None

    def __init__(
        self, *args: object, job: object = None, interruptions: int | None = None
    ) -> None:
        super().__init__(*args, job=job)
        if interruptions is not None:
            self.interruptions = interruptions


class UnpicklableError(AsyncError, TypeError):
    """Something in a job cannot be stored, or could not be loaded again.

    `culprit` is the object, `path` says where in the job it was found, for
    instance ``kwargs['request']``.
    """

    def __init__(
        self,
        message: str,
        culprit: object = None,
        path: str | None = None,
        job: object = None,
    ) -> None:
        super().__init__(message, job=job)
        self.culprit = culprit
        self.path = path


class UnloadableCallableError(AsyncError):
    """What was stored with a job cannot be loaded: its callable, an argument.

    `name` is the dotted name that is gone from the code, None when it is not that.
    """

    def __init__(
        self, message: str, name: str | None = None, job: object = None
    ) -> None:
        super().__init__(message, job=job)
        self.name = name


class BadIdentityError(AsyncError, ValueError):
    """The UUID file at `path` begins with `found`, which is not a UUID."""

    def __init__(self, path: str, found: str) -> None:
        super().__init__(
            f"expected a UUID in the first line of {path}, found {found!r};"
            " correct the file, or remove it to have a new one made"
        )
        self.path = path
        self.found = found


class IdentityInUseError(AsyncError):
    """Another process holds the lock on the UUID file.

    `path` is the file, `pid` the process that holds it, None when unknown.
    """

    def __init__(self, path: str, pid: int | None = None) -> None:
        holder = f"process {pid}" if pid is not None else "another process"
        super().__init__(
            f"the UUID file {path} is used by {holder};"
            " give each process its own file with ZC_ASYNC_UUID"
        )
        self.path = path
        self.pid = pid


class NotInQueueError(AsyncError, LookupError):
    """A job is not in the `queue` in which it was looked for."""

    def __init__(self, job: object = None, queue: object = None) -> None:
        super().__init__(f"{_plain(job)} is not in {_plain(queue)}", job=job)
        self.queue = queue


class MissingDatabaseError(AsyncError, LookupError):
    """The database `name`, in which queues should be, is not among those `found`."""

    def __init__(self, name: str, found: tuple[str, ...]) -> None:
        super().__init__(
            f"found the databases {sorted(found)}, expected one named {name!r} for "
            f"the queues.  Add to zope.conf:\n\n{_SECTION.format(name=name)}\n"
            "or in Python, beside the main database `db`:\n\n"
            f"    ZODB.DB(storage, databases=db.databases, database_name={name!r})"
        )
        self.name = name
        self.found = tuple(found)


_SECTION = """\
    <zodb_db {name}>
      mount-point /{name}_mount
      <filestorage>
        path $INSTANCE/var/{name}.fs
      </filestorage>
    </zodb_db>
"""
