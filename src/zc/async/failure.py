# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Errors as values: what became of a job that raised something.

A `Failure` is a Twisted Failure for its users, but its stored form is our own, so
that it loads under any later Twisted, and after the exception's class has gone;
`tracebacks` and `standin` say what is kept.  It never refers to frames, persistent
objects or connections, not even before it is pickled.

Values of local variables are neither kept nor logged, since they can hold
secrets, unless `KEEP_LOCALS` is set to True.
"""

import copyreg
import io
import itertools
import sys
from typing import Any, NoReturn

from twisted.python import log
from twisted.python.failure import Failure as TwistedFailure
from twisted.python.failure import NoCurrentExceptionError
from ZODB.POSException import POSError
from zope.interface import classImplements

from . import standin, tracebacks
from .errors import AsyncError
from .interfaces import IFailure
from .tracebacks import Data, dotted

#: Keep the bounded reprs of local variables in new failures.
KEEP_LOCALS = False

#: What code that catches everything may want to let pass.
EXPLOSIVE_ERRORS = (SystemExit, KeyboardInterrupt, POSError)

_numbers = itertools.count(1)

classImplements(TwistedFailure, IFailure)


class Failure(TwistedFailure):
    """An error as a value: see `IFailure`, and Twisted's own documentation.

    Made from an exception, by default the current one, or from another failure.
    `captureVars` keeps the local variables of this one.  Immutable, so that any
    thread may use it.
    """

    pickled = 1
    tb = None
    _parents: list[str]  # type: ignore[assignment]

    def __init__(
        self,
        exc_value: BaseException | None = None,
        exc_type: object = None,
        exc_tb: Any = None,
        captureVars: bool = False,
    ) -> None:
        self.args = ()  # where BaseException.__new__ has put the live exception
        value: Any = exc_value if exc_value is not None else sys.exc_info()[1]
        if value is None:
            raise NoCurrentExceptionError()
        keep_locals = captureVars or KEEP_LOCALS
        # issubclass, since isinstance would ask the exception for its __class__.
        if issubclass(type(value), TwistedFailure):
            state = _state_of_failure(value, keep_locals)
        elif issubclass(type(value), BaseException):
            state = _state_of_exception(value, exc_tb, keep_locals)
        else:
            raise TypeError(f"expected an exception or a failure, found {value!r}")
        self.__setstate__(state)

    def __reduce__(self) -> tuple:
        new = copyreg.__newobj__  # type: ignore[attr-defined]
        return new, (type(self),), self.__getstate__()

    def __getstate__(self) -> Data:
        return self._data

    def __setstate__(self, state: Any) -> None:
        self._data = state
        self._parents = state["parents"]
        self._frames = _twisted_frames(state)
        # Twisted makes one failure from another by its __dict__; before 24.10 these
        # were no properties.
        vars(self).update(frames=self._frames, parents=self._parents, stack=[])
        self.captureVars = "locals" in state
        self.count = next(_numbers)
        self.value = _exception(state)
        self.type = standin.class_of(self.value)

    @property  # type: ignore[misc]  # nobody sets it
    def frames(self) -> list:
        """Of each frame kept: function, file, line, local and global variables.

        Variables are pairs of name and repr, if they were kept at all.
        """
        return self._frames

    @property
    def stack(self) -> list:
        """The frames outside of the ones that the error passed: not kept."""
        return []

    @property  # type: ignore[misc]
    def parents(self) -> list[str]:
        """The dotted names of the exception's class and its bases."""
        return self._parents

    def check(self, *errorTypes: Any) -> Any:
        """Return the first of `errorTypes` this is one of, or None.

        Classes are compared by dotted name, so that they match after a reload.
        """
        for error in errorTypes:
            name = dotted(error) if isinstance(error, type) else error
            if name in self._parents:
                return error
        return None

    def trap(self, *errorTypes: Any) -> Any:
        """Return what `check` finds; raise the exception when it finds nothing."""
        error = self.check(*errorTypes)
        if error is None:
            self.raiseException()
        return error

    def raiseException(self) -> NoReturn:
        """Raise the exception (a copy: one that was raised refers to frames)."""
        raise _exception(self._data)

    def throwExceptionIntoGenerator(self, g: Any) -> Any:
        """Have the generator `g` raise the exception; return what it yields next."""
        return g.throw(_exception(self._data))

    def cleanFailure(self) -> None:
        """Do nothing: this is clean from the beginning."""

    def getErrorMessage(self) -> str:
        return self._data["message"]

    def getTraceback(self, elideFrameworkCode: int = 0, detail: str = "default") -> str:
        """Return the traceback: 'default', 'brief' or 'verbose'."""
        file = io.StringIO()
        self.printTraceback(file, elideFrameworkCode, detail)
        return file.getvalue()

    def getBriefTraceback(self) -> str:
        return self.getTraceback(detail="brief")

    def printTraceback(
        self, file: Any = None, elideFrameworkCode: int = 0, detail: str = "default"
    ) -> None:
        """Write the traceback to `file`, by default to the log of Twisted."""
        write = (log.logerr if file is None else file).write
        if detail == "default":
            tracebacks.full(self._data, write)
        elif detail == "brief":
            tracebacks.brief(self._data, write)
        elif detail == "verbose":
            tracebacks.detailed(self._data, write, self.count)
        else:
            raise ValueError(f"expected default, brief or verbose, found {detail!r}")

    def printBriefTraceback(
        self, file: Any = None, elideFrameworkCode: int = 0
    ) -> None:
        self.printTraceback(file, elideFrameworkCode, "brief")

    def printDetailedTraceback(
        self, file: Any = None, elideFrameworkCode: int = 0
    ) -> None:
        self.printTraceback(file, elideFrameworkCode, "verbose")

    def __repr__(self) -> str:
        return f"<{dotted(type(self))} {self._data['type']}>"

    def __str__(self) -> str:
        return f"[Failure instance: {self.getBriefTraceback()}]"


def sanitize(source: Any) -> Failure:
    """Return a Failure for any exception or Twisted failure.

    One of ours is returned as it is.  The source is not changed.
    """
    # type() and not __class__, which foreign exceptions may refuse to tell.
    return source if issubclass(type(source), Failure) else Failure(source)


def current() -> Failure:
    """Return a Failure for the exception that is being handled, of any kind."""
    return Failure()


def is_failure(value: object) -> bool:
    """Tell whether `value` is a failure, ours or Twisted's.

    Looks at the class only: a persistent object is not loaded for it.
    """
    return IFailure.implementedBy(type(value))


def _state_of_exception(value: Any, tb: Any, keep_locals: bool) -> Data:
    try:
        return _description(value, tb or value.__traceback__, keep_locals)
    except BaseException as problem:  # it refuses to be asked for anything
        name, why = object.__repr__(value), dotted(type(problem))
        return _description(
            AsyncError(f"{name} cannot be described: {why}"), tb, keep_locals
        )


def _description(value: object, tb: Any, keep_locals: bool) -> Data:
    state = tracebacks.describe(value, tb, keep_locals)
    if isinstance(value, BaseException):
        stored = standin.dump(value, state["message"], _reduce_failures)
        if stored is not None:
            state["exception"] = stored
    return state


def _state_of_failure(source: TwistedFailure, keep_locals: bool) -> Data:
    if isinstance(source, Failure):
        return source.__getstate__()
    value = source.value
    if isinstance(value, TwistedFailure):
        return _state_of_failure(value, keep_locals)
    tb = source.getTracebackObject()
    if issubclass(type(value), BaseException):
        return _state_of_exception(value, tb, keep_locals)
    # It came over a network: what it knows of its class are names.
    state = _description(value, tb, keep_locals)
    state["type"] = dotted(source.type)
    state["parents"] = [dotted(name) for name in source.parents]
    return state


def _exception(state: Data) -> BaseException:
    return standin.load(
        state.get("exception"), state["type"], state["message"], state["parents"]
    )


def _twisted_frames(state: Data) -> list[list]:
    variables = state.get("locals", ())
    return [
        [function, file, line, kept or [], []]
        for (function, file, line, _source), kept in itertools.zip_longest(
            state["frames"], variables
        )
    ]


def _reduce_failures(obj: object) -> Any:
    """Have failures inside an exception stored in our form, not in Twisted's."""
    if isinstance(obj, TwistedFailure) and not isinstance(obj, Failure):
        return sanitize, (Failure(obj),)
    return NotImplemented
