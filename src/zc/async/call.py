# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""What a job calls, with which arguments, and how that is stored.

Arguments of plain types, and persistent objects, are part of the job's record.
Others are kept `frozen` until somebody looks at them, so that a job can be
claimed, shown and failed whatever has become of their code.
"""

from collections.abc import Callable, Iterable
from typing import Any

from persistent import Persistent

from . import callables, status
from .compact import OwnedDict, OwnedList
from .frozen import PLAIN, Frozen, freeze, from_state
from .interfaces import ASSIGNED, NEW, PENDING


class Call:
    """The part of a job that knows its callable and arguments.

    `_target` is what `callables.reference` returned; each of the three can be
    `Frozen`.
    """

    _target: Any = None
    _args: Any = ()
    _kwargs: Any = ()

    @property
    def callable(self) -> Callable:
        """See `IJob`."""
        return callables.resolve(_thawed_target(self._target))

    @callable.setter
    def callable(self, value: Callable) -> None:
        status.require(self, "set the callable of", (NEW, PENDING, ASSIGNED))
        self._target = callables.reference(value)

    @property
    def args(self) -> OwnedList:
        """See `IJob`."""
        if type(self._args) is not OwnedList:
            self.__dict__["_args"] = _owned(OwnedList, self, self._args)
        return self._args

    @args.setter
    def args(self, value: Iterable) -> None:
        self._args = OwnedList(self, value)

    @property
    def kwargs(self) -> OwnedDict:
        """See `IJob`."""
        if type(self._kwargs) is not OwnedDict:
            self.__dict__["_kwargs"] = _owned(OwnedDict, self, self._kwargs)
        return self._kwargs

    @kwargs.setter
    def kwargs(self, value: Any) -> None:
        self._kwargs = OwnedDict(self, value)

    def _call(self, args: tuple = (), kwargs: Any = ()) -> Any:
        """Call the callable, with these arguments after those of the job.

        UnloadableCallableError when the code no longer has it, or an argument.
        """
        args = (*(self._args and self.args), *args)
        kwargs = {**dict(self._kwargs and self.kwargs), **dict(kwargs)}
        callables.check_arguments(args, kwargs)
        return self.callable(*args, **kwargs)

    def _describe_call(self) -> str:
        try:
            return callables.describe_call(
                _thawed_target(self._target),
                self._args and self.args,
                self._kwargs and self.kwargs,
            )
        except Exception as error:
            return f"not readable: {type(error).__name__}: {error}"


def _owned(cls: type, owner: Any, value: Any) -> Any:
    """A list or dict of ours from a value that was loaded."""
    if type(value) is not Frozen:
        return cls(owner, value)
    owned = cls(owner, value.thaw())
    owned.frozen = value
    return owned


def _thawed_target(target: Any) -> Any:
    if type(target) is Frozen:
        return target.thaw()
    if type(target) is tuple and type(target[0]) is Frozen:
        return target[0].thaw(), target[1]
    return target


# Stored forms.  A list stands for something frozen.


def target_to_state(target: Any) -> Any:
    """What is stored for a callable."""
    if type(target) is tuple:
        return _kept(target[0]), target[1]
    return _kept(target)


def target_from_state(state: Any) -> Any:
    """The inverse of `target_to_state`."""
    if type(state) is tuple:
        return from_state(state[0]), state[1]
    return from_state(state)


def arguments_to_state(arguments: Any) -> Any:
    """What is stored for the arguments of one kind: a tuple, a dict, or a list."""
    if type(arguments) is Frozen:
        return arguments.state
    is_dict = isinstance(arguments, dict)
    if all(map(_is_kept, arguments.values() if is_dict else arguments)):
        return dict(arguments) if is_dict else tuple(arguments)
    try:
        return freeze(dict(arguments) if is_dict else list(arguments)).state
    except Exception:
        # Loaded, but not to be pickled again; unless they were changed, what was
        # stored is as good.
        frozen = getattr(arguments, "frozen", None)
        if frozen is None:
            raise
        return frozen.state


def _is_kept(value: Any) -> bool:
    return type(value) in PLAIN or isinstance(value, Persistent)


def _kept(value: Any) -> Any:
    if type(value) is Frozen:
        return value.state
    return value if _is_kept(value) else freeze(value).state
