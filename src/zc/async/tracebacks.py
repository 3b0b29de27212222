# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""What is kept of an exception: plain, bounded data, and its form as text.

`describe` makes a dictionary of strings, numbers, lists and tuples, which is what
`failure.Failure` stores; `brief`, `full` and `detailed` print one.  Nothing here
refers to the exception, to frames or to other objects afterwards.

Foreign code (`__str__`, `__repr__` of other people's objects) may raise anything,
so it is called behind ``except BaseException``.  What is kept is bounded whatever
a job does: the first and last frames of an endless recursion, the beginning of an
enormous message, so many errors of a chain or group.  Omissions are stated.
"""

import collections
import itertools
import linecache
import reprlib
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

FRAMES = 200  # of the error itself; fewer of those in its chain and groups
RELATED_FRAMES = 40
MESSAGE = 65_536  # characters
RELATED_MESSAGE = 4_096
RELATED = 20  # errors in the chain and in groups, together
LINE = 400  # characters of a source line or a name
LOCALS = 50  # variables of a frame
VALUE = 200  # characters of a variable's repr

Write = Callable[[str], object]
Data = dict[str, Any]

_JOINTS = {
    "cause": "The above exception was the direct cause of the following exception:",
    "context": "During handling of the above exception, another exception occurred:",
}

_reprs = reprlib.Repr()
_reprs.maxother = _reprs.maxstring = _reprs.maxlong = VALUE


def dotted(cls: object) -> str:
    """Return the dotted name of a class; of anything else, a description."""
    if not isinstance(cls, type):
        return clean(cls.decode("latin-1") if isinstance(cls, bytes) else str(cls))
    module, name = cls.__module__, cls.__qualname__
    return clean(f"{module}.{name}" if isinstance(module, str) else name)


def clean(text: str, limit: int = LINE) -> str:
    """Return the beginning of `text`, as a plain string that can be encoded."""
    left = str.__len__(text) - limit
    text = str.__getitem__(text, slice(limit))
    if left > 0:
        text += f"... [{left} more characters]"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def message_of(value: object, limit: int = MESSAGE) -> str:
    """Return ``str(value)``, bounded, whatever its `__str__` does."""
    try:
        return clean(str(value), limit)
    except BaseException as error:
        return f"<{dotted(type(value))}, whose str raises {dotted(type(error))}>"


def repr_of(value: object, limit: int = VALUE) -> str:
    """Return ``repr(value)``, bounded, whatever its `__repr__` does."""
    try:
        return clean(_reprs.repr(value), limit)
    except BaseException as error:
        return f"<{dotted(type(value))}, whose repr raises {dotted(type(error))}>"


def describe(
    value: object, tb: TracebackType | None, keep_locals: bool = False
) -> Data:
    """Return the data of exception `value`, raised through the frames of `tb`."""
    recorder = _Recorder(keep_locals)
    data = recorder.error(value, tb, FRAMES, MESSAGE)
    recorder.add_related(data, value)
    return data


class _Recorder:
    """Describes one exception and those related to it, each once."""

    def __init__(self, keep_locals: bool) -> None:
        self.keep_locals = keep_locals
        self.seen: set[int] = set()

    def error(
        self, value: object, tb: TracebackType | None, frames: int, message: int
    ) -> Data:
        self.seen.add(id(value))
        cls = type(value)
        data = {
            "type": dotted(cls),
            "parents": [dotted(base) for base in cls.__mro__],
            "message": message_of(value, message),
        }
        self._add_frames(data, tb, frames)
        notes = getattr(value, "__notes__", None)
        if isinstance(notes, list) and notes:
            data["notes"] = [message_of(n, RELATED_MESSAGE) for n in notes[:RELATED]]
        return data

    def add_related(self, data: Data, value: object) -> None:
        chain = list(self._chain(value))
        if chain:
            data["chain"] = chain
        members = list(self._members(value))
        if members:
            data["members"] = members

    def _chain(self, value: object) -> Iterator[tuple[str, Data]]:
        link, earlier = _earlier(value)
        while earlier is not None and self._has_room(earlier):
            data = self.error(
                earlier, earlier.__traceback__, RELATED_FRAMES, RELATED_MESSAGE
            )
            members = list(self._members(earlier))
            if members:
                data["members"] = members
            yield link, data
            link, earlier = _earlier(earlier)

    def _members(self, value: object) -> Iterator[Data]:
        if not isinstance(value, BaseExceptionGroup):
            return
        for member in value.exceptions:
            if self._has_room(member):
                data = self.error(
                    member, member.__traceback__, RELATED_FRAMES, RELATED_MESSAGE
                )
                self.add_related(data, member)
                yield data

    def _has_room(self, value: object) -> bool:
        return id(value) not in self.seen and len(self.seen) <= RELATED

    def _add_frames(self, data: Data, tb: TracebackType | None, limit: int) -> None:
        first = list(itertools.islice(_walk(tb), limit // 2))
        rest = itertools.islice(_walk(tb), limit // 2, None)
        last: collections.deque = collections.deque(maxlen=limit - limit // 2)
        count = len(first)
        for entry in rest:
            last.append(entry)
            count += 1
        kept = first + list(last)
        data["frames"] = [_place(entry) for entry in kept]
        if count > len(kept):
            data["omitted"] = (len(first), count - len(kept))
        if self.keep_locals:
            data["locals"] = [_variables(entry.tb_frame.f_locals) for entry in kept]


def _walk(tb: TracebackType | None) -> Iterator[TracebackType]:
    while tb is not None:
        yield tb
        tb = tb.tb_next


def _place(tb: TracebackType) -> tuple[str, str, int, str]:
    """Return function, file, line number, and source line."""
    code, line = tb.tb_frame.f_code, tb.tb_lineno or 0
    source = linecache.getline(code.co_filename, line, tb.tb_frame.f_globals)
    return clean(code.co_name), clean(code.co_filename), line, clean(source.strip())


def _variables(variables: dict[str, object]) -> list[tuple[str, str]]:
    some = itertools.islice(list(variables.items()), LOCALS)
    return [(clean(str(name)), repr_of(value)) for name, value in some]


def _earlier(value: object) -> tuple[str, BaseException | None]:
    """Return what led to exception `value`, as Python shows it."""
    if not isinstance(value, BaseException):
        return "", None
    if value.__cause__ is not None:
        return "cause", value.__cause__
    return "context", None if value.__suppress_context__ else value.__context__


def brief(data: Data, write: Write) -> None:
    """Write class, message and places, a line each."""
    name = data["type"].removeprefix("builtins.")
    title = "Traceback" if data["frames"] else "Traceback (failure with no frames)"
    write(f"{title}: <class '{name}'>: {data['message']}\n")
    for function, file, line, _source in data["frames"]:
        write(f"{file}:{line}:{function}\n")


def full(data: Data, write: Write) -> None:
    """Write what Python shows: the earlier errors first, then this one."""
    for link, earlier in reversed(data.get("chain", ())):
        _one(earlier, write)
        write(f"\n{_JOINTS[link]}\n\n")
    _one(data, write)


def detailed(data: Data, write: Write, number: int) -> None:
    """Write places with their variables (if kept), under the failure's number."""
    write(f"*--- Failure #{number} (pickled) ---\n")
    kept = data.get("locals", ())
    for place, variables in itertools.zip_longest(data["frames"], kept):
        function, file, line, _source = place
        write(f"{file}:{line}: {function}(...)\n")
        if variables is not None:
            write(" [ Locals ]\n")
            for name, value in variables:
                write(f"  {name} : {value}\n")
    if not kept:
        write(" [ Locals ] not kept, unless zc.async.failure.KEEP_LOCALS is set\n")
    _last_lines(data, write)
    write(f"*--- End of Failure #{number} ---\n")


def _one(data: Data, write: Write) -> None:
    write("Traceback (most recent call last):\n")
    at, count = data.get("omitted", (None, 0))
    for index, (function, file, line, source) in enumerate(data["frames"]):
        if index == at:
            write(f"  [{count} frames omitted]\n")
        write(f'  File "{file}", line {line}, in {function}\n')
        if source:
            write(f"    {source}\n")
    if not data["frames"]:
        write("Failure: ")  # as Twisted marks an error that was never raised
    _last_lines(data, write)


def _last_lines(data: Data, write: Write) -> None:
    write(f"{data['type']}: {data['message']}\n")
    for note in data.get("notes", ()):
        write(f"{note}\n")
    members = data.get("members", ())
    for number, member in enumerate(members, 1):
        write(f"  +--- error {number} of {len(members)} ---\n")
        lines: list[str] = []
        full(member, lines.append)
        for line in "".join(lines).splitlines():
            write(f"  | {line}\n")
