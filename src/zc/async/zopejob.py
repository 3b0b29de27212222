# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Jobs that are performed in Zope as if by the visitor who put them.

`zopecontext` tells what is restored around the call.  Content that is called, or
an argument, is stored as a reference to the object and its physical path, and
given to the callable wrapped in acquisition, from the request of the job.
"""

import io
from collections.abc import Callable
from typing import Any

import transaction
import zope.component
from AccessControl import Unauthorized, getSecurityManager
from AccessControl.Permission import addPermission
from Acquisition import aq_base, aq_chain, aq_inner, aq_parent
from persistent import Persistent
from persistent.interfaces import IPersistent
from ZODB.POSException import POSKeyError
from zope.interface import Interface
from zope.publisher.interfaces.browser import IBrowserView
from ZPublisher.BaseRequest import BaseRequest
from ZPublisher.BaseResponse import BaseResponse
from ZPublisher.HTTPRequest import FileUpload

from . import callables, zopecontext
from .call import _thawed_target
from .errors import UnpicklableError
from .interfaces import IJob
from .job import Job
from .registrations import CALLABLES
from .zopecontext import NOWHERE, Context, GoneError

#: Needed to put a job that another user is to perform.
RUN_AS = "zc.async: Run jobs as another user"
addPermission(RUN_AS, ("Manager",))

#: How many objects are looked at to find one that has been moved.
SEARCH_LIMIT = 100_000

_APPLICATION = "Application"


class ZopeJob(Job):
    """A job that remembers who put it, and where: see the module.

    `context` is a `zopecontext.Context`, as a tuple.  `places` has the physical
    path of each content object, by the name of its database and its oid.
    """

    context: tuple = tuple(NOWHERE)
    places: dict = {}  # replaced, never changed  # noqa: RUF012

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.context = tuple(zopecontext.capture())
        self._prepare()

    def run_as(self, user: Any) -> "ZopeJob":
        """Have the job performed as `user`, an object from a user folder; return it.

        Unauthorized without the permission `RUN_AS` in that folder.
        """
        name, folder = zopecontext.identity(user)
        allowed = getSecurityManager().checkPermission(
            RUN_AS, aq_parent(aq_inner(user))
        )
        if folder is None or not allowed:
            raise Unauthorized(
                f"{getSecurityManager().getUser()!r} may not put a job that is "
                f"performed as {user!r}; expected the permission {RUN_AS!r} in the "
                "user folder that it was taken from"
            )
        changed = Context(*self.context)._replace(user=name, folder=folder)
        self.context = tuple(changed)
        return self

    # Putting.

    def _prepare(self) -> None:
        """Note the places of content; refuse what does not outlive a request.

        New content is added to the connection of what contains it.
        """
        places = dict(self.places)
        target = self._target
        if isinstance(target, tuple):
            owner = _bare(target[0], places, "the object of the method", self)
            self._target = owner, target[1]
        elif not isinstance(target, str):
            self._target = _bare(target, places, "the callable", self)
        for index, value in enumerate(self._args and self.args):
            bare = _bare(value, places, f"args[{index}]", self)
            if bare is not value:
                self.args[index] = bare
        for name in list(self._kwargs and self.kwargs):
            bare = _bare(self.kwargs[name], places, f"kwargs[{name!r}]", self)
            if bare is not self.kwargs[name]:
                self.kwargs[name] = bare
        if places != self.places:
            self.places = places

    # Performing.

    def setUp(self) -> Any:
        """See `IJob`."""
        root = _application_root(self._p_jar)
        return None if root is None else zopecontext.enter(Context(*self.context), root)

    def tearDown(self, info: Any) -> None:
        """See `IJob`."""
        if info is not None:
            zopecontext.leave(info)

    def surroundings(self) -> Any:
        """See `IJob`."""
        return self.context

    def _call(self, args: tuple = (), kwargs: Any = ()) -> Any:
        self._note()
        if not self.places:
            return super()._call(args, kwargs)
        places, app = self.places, zopecontext.application()
        target = _thawed_target(self._target)
        if isinstance(target, tuple):
            target = _wrapped(target[0], places, app), target[1]
        elif not isinstance(target, str):
            target = _wrapped(target, places, app)
        args = (*_wrapped(tuple(self.args), places, app), *args)
        kwargs = {**_wrapped(dict(self.kwargs), places, app), **dict(kwargs)}
        callables.check_arguments(args, kwargs)
        return callables.resolve(target)(*args, **kwargs)

    def _note(self) -> None:
        """Say in the transaction whose it is: Zope shows that where one can undo."""
        context, current = Context(*self.context), transaction.get()
        if context.user is not None:
            folder = "/".join((context.folder or ())[:-1]) or "/"
            current.user = f"{folder} {context.user}"
        target = _thawed_target(self._target)
        current.note(f"zc.async: {callables.describe_reference(target)}")


def zope_job(function: Any) -> Job | None:
    """A job that calls `function`; None when it cannot be called.

    A plain one where there is neither a visitor, nor a site, nor content.
    """
    if not callable(function):
        return None
    owner = getattr(function, "__self__", function)
    if zopecontext.capture() == NOWHERE and aq_parent(owner) is None:
        return Job(function)
    return ZopeJob(function)


def register() -> None:
    """Register `zope_job` for all that can be put, instead of the plain jobs."""
    for kind in (*CALLABLES, IPersistent):
        zope.component.provideAdapter(zope_job, adapts=(kind,), provides=IJob)


class IZopeJobsDirective(Interface):
    """Have what is put in Zope performed by jobs that know the visitor."""


def zope_jobs_directive(context: Any) -> None:
    """ZCML: `register`, after the adapters of plain jobs."""
    context.action(discriminator=None, callable=register, order=10_000)


def _application_root(jar: Any) -> Any:
    """The application's bare root object; None when this is not Zope's database."""
    databases = jar.db().databases
    for name in sorted(databases, key=lambda name: (name != "main", name)):
        root = jar.get_connection(name).root()
        if _APPLICATION in root:
            return root[_APPLICATION]
    return None


# What is stored of content.


def _bare(value: Any, places: dict, path: str, job: Any) -> Any:
    """`value` without acquisition wrappers; notes the places of what had one."""
    advice = _refusal(value)
    if advice:
        raise UnpicklableError(
            f"cannot put {callables.describe(value)} ({path}), which ends with the "
            f"request; {advice}",
            culprit=value,
            path=path,
            job=job,
        )
    return (
        _mapped(value, lambda part, name: _bare(part, places, path + name, job))
        if type(value) in _CONTAINERS
        else _reference(value, places)
    )


def _reference(value: Any, places: dict) -> Any:
    bare = aq_base(value)
    if not isinstance(bare, Persistent) or aq_parent(value) is None:
        return value
    if bare._p_jar is None:
        _add(value, bare)
    if bare._p_jar is not None:
        where = zopecontext.physical_path(value)
        if where is not None:
            places[_key(bare)] = where
    return bare


def _add(value: Any, bare: Any) -> None:
    """Add new content to the connection of what contains it."""
    for container in aq_chain(aq_inner(value))[1:]:
        jar = getattr(aq_base(container), "_p_jar", None)
        if jar is not None:
            jar.add(bare)
            return


def _key(bare: Any) -> tuple[str, bytes]:
    return bare._p_jar.db().database_name, bare._p_oid


_CONTAINERS = (list, tuple, dict, set, frozenset)


def _mapped(value: Any, function: Callable[[Any, str], Any]) -> Any:
    """A container with `function(part, name)` for each part; itself if all stay."""
    if isinstance(value, dict):
        new: Any = {key: function(part, f"[{key!r}]") for key, part in value.items()}
        same = all(new[key] is value[key] for key in value)
    else:
        parts = list(value)
        mapped = [function(part, f"[{at}]") for at, part in enumerate(parts)]
        same = all(a is b for a, b in zip(mapped, parts, strict=True))
        new = type(value)(mapped)
    return value if same else new


def _refusal(value: Any) -> str | None:
    """What to put instead of `value`; None if it may be put."""
    if isinstance(value, BaseRequest):
        return "expected the values that are needed of it, as in request.form['title']"
    if isinstance(value, BaseResponse):
        return "expected a function that returns what is to be shown later"
    if isinstance(value, (io.IOBase, FileUpload)):
        return "expected its content, as in file.read(), or content that holds it"
    if isinstance(value, Persistent):
        return None
    if IBrowserView.providedBy(value):
        return (
            "expected a function of a module, with the content as its argument, or a "
            "method of the content, as in put(self.context.method)"
        )
    return None


# How content is found.


def _wrapped(value: Any, places: dict, app: Any) -> Any:
    if type(value) in _CONTAINERS:
        return _mapped(value, lambda part, name: _wrapped(part, places, app))
    if not isinstance(value, Persistent) or value._p_jar is None:
        return value
    where = places.get(_key(value))
    return value if where is None else _find(app, where, value)


def _find(app: Any, where: tuple[str, ...], bare: Any) -> Any:
    """`bare` where it is in Zope now; GoneError when it is not there any more."""
    found = zopecontext.at_path(app, where)
    if found is not None and aq_base(found) is bare:
        return found
    try:
        bare._p_activate()
        found = _search(app, bare)
    except POSKeyError:
        found = None
    if found is None:
        raise GoneError(
            f"{callables.describe(bare)}, which was {'/'.join(where)} when the job was "
            "put, has been deleted"
        )
    return found


def _search(app: Any, bare: Any) -> Any:
    """Look for moved content in all folders, those near the root first."""
    waiting, seen = [app], 0
    while waiting and seen < SEARCH_LIMIT:
        folder = waiting.pop(0)
        for ob in folder.objectValues():
            seen += 1
            if aq_base(ob) is bare:
                return ob
            if getattr(aq_base(ob), "objectValues", None) is not None:
                waiting.append(ob)
    return None
