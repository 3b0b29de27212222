# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""How a callable is stored, found again, and described.

A function or class is stored by its dotted name and looked up when it is
called, so that a job whose code has gone can still be loaded, looked at and
failed with an error that names what is missing.  A method is stored as the
object and the name of the method.  Anything else that can be called is stored
as it is.
"""

import importlib
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from persistent import Persistent
from ZODB.broken import Broken
from ZODB.utils import u64

from .errors import UnloadableCallableError, UnpicklableError

_GLOBAL = (types.FunctionType, type)
_BOUND = (types.MethodType, types.BuiltinMethodType, type([].__len__))

#: The longest text of one argument, and of a whole call, in a description.
MAX_ARGUMENT, MAX_CALL = 200, 1000

Reference = str | tuple | Any


def reference(function: Callable) -> Reference:
    """What is stored for `function`; UnpicklableError when it cannot be found again.

    A string ``"module:qualified.name"``, a tuple ``(object, method name)``, or
    the callable itself.
    """
    if not callable(function):
        raise UnpicklableError(
            f"{_safe_repr(function)} is not callable; expected a function, a method "
            "of a stored object, a callable persistent object or a job",
            culprit=function,
        )
    owner = getattr(function, "__self__", None)
    if isinstance(function, _BOUND) and _is_instance(owner):
        return owner, function.__name__
    if isinstance(function, (*_GLOBAL, *_BOUND)):
        return _dotted(function, owner)
    return function


def _is_instance(owner: object) -> bool:
    return owner is not None and not isinstance(owner, (type, types.ModuleType))


def _dotted(function: Any, owner: object) -> str:
    if isinstance(owner, type):  # a class method, perhaps inherited
        name = f"{owner.__module__}:{owner.__qualname__}.{function.__name__}"
    else:
        qualified = getattr(function, "__qualname__", None) or function.__name__
        name = f"{_module_name(function, owner)}:{qualified}"
    reason = _not_found(name, function)
    if reason:
        raise UnpicklableError(
            f"cannot put {_safe_repr(function)}: {reason}.  Expected a callable that "
            "every process can import by its name: define it at the top of a module",
            culprit=function,
        )
    return name


def _module_name(function: Any, owner: object) -> str:
    module = getattr(function, "__module__", None)
    if module is None and isinstance(owner, types.ModuleType):
        module = owner.__name__
    return module or "builtins"


def _not_found(name: str, function: object) -> str | None:
    """Why `name` does not lead to `function`, or None if it does."""
    module, qualified = name.split(":")
    if module == "__main__":
        return f"{qualified} is defined in __main__, which differs in each process"
    if "<lambda>" in qualified:
        return "a lambda has no name by which it could be found again"
    if "<locals>" in qualified:
        return f"{qualified} is defined inside of a function"
    try:
        found = resolve(name)
    except UnloadableCallableError as error:
        return f"there is no {error.name} ({error.__cause__})"
    if found != function:
        return f"its name {module}.{qualified} leads to {_safe_repr(found)}"
    return None


def resolve(stored: Reference) -> Callable:
    """The callable of what `reference` returned.

    UnloadableCallableError, naming it, when it is gone.
    """
    if isinstance(stored, str):
        return _import(stored)
    if isinstance(stored, tuple):
        return _method(*stored)
    _check_present(stored)
    return stored


def check_arguments(args: Iterable, kwargs: Mapping) -> None:
    """Raise UnloadableCallableError for a persistent argument whose class is gone.

    The database gives a placeholder for it.
    """
    for value in args:
        _check_present(value)
    for value in kwargs.values():
        _check_present(value)


def _check_present(value: Any) -> None:
    if isinstance(value, Broken):
        raise _gone(_class_name(type(value)), "its class cannot be imported")


def _import(stored: str) -> Callable:
    module_name, qualified = stored.split(":")
    found: Any = sys.modules.get(module_name)
    try:
        if found is None:
            found = importlib.import_module(module_name)
        for part in qualified.split("."):
            found = getattr(found, part)
    except Exception as error:
        # Whatever keeps a module from being imported is the job's failure.
        reason = f"{type(error).__name__}: {error}"
        raise _gone(f"{module_name}.{qualified}", reason) from error
    return found


def _method(owner: Any, name: str) -> Callable:
    if isinstance(owner, Broken):
        dotted = _class_name(type(owner))
        raise _gone(f"{dotted}.{name}", f"the class {dotted} cannot be imported")
    try:
        return getattr(owner, name)
    except AttributeError as error:
        raise _gone(f"{_class_name(type(owner))}.{name}", str(error)) from error


def _gone(name: str, reason: str) -> UnloadableCallableError:
    return UnloadableCallableError(
        f"the code no longer has {name} ({reason}); expected it where it was when "
        "the job was put",
        name=name,
    )


def _class_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def describe_reference(stored: Reference) -> str:
    """A callable's stored form as short text: its dotted name, where it has one."""
    if isinstance(stored, str):
        module, qualified = stored.split(":")
        if module in ("builtins", "_operator", "_functools"):
            return _describe_builtin(stored)
        return f"{module}.{qualified}"
    if isinstance(stored, tuple):
        owner, name = stored
        return f"{describe(owner)} :{name}"
    return describe(stored)


def _describe_builtin(stored: str) -> str:
    try:
        return _safe_repr(resolve(stored))
    except UnloadableCallableError:
        return stored.replace(":", ".")


def describe(value: Any) -> str:
    """`value` as short text: persistent objects by class, oid and database."""
    if isinstance(value, Persistent):
        return f"{_class_name(type(value))} {identity(value)}"
    text = _safe_repr(value)
    return text if len(text) <= MAX_ARGUMENT else f"{text[:MAX_ARGUMENT]}..."


def describe_call(stored: Reference, args: Any, kwargs: Any) -> str:
    """The call of a job as text, as in a job's repr."""
    parts = [describe(arg) for arg in args]
    parts += [f"{name}={describe(kwargs[name])}" for name in kwargs]
    text = f"{describe_reference(stored)}({', '.join(parts)})"
    return text if len(text) <= MAX_CALL else f"{text[:MAX_CALL]}..."


def identity(obj: Persistent) -> str:
    """``(oid 12, db 'main')`` of a persistent object, ``?`` for what it lacks."""
    if obj._p_oid is None or obj._p_jar is None:
        return "(oid ?, db ?)"
    return f"(oid {u64(obj._p_oid)}, db {obj._p_jar.db().database_name!r})"


def _safe_repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception as error:
        return f"<{_class_name(type(value))}, whose repr raises {type(error).__name__}>"
