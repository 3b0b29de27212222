# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Who puts a job in Zope, in which site and under which URL; and how that is restored.

`capture` reads what surrounds the calling code as plain, hashable values; `enter`
makes the same surroundings around a job, in another thread or process, from a
request of its own; `leave` undoes that.  Needs Zope: see `zopejob`.
"""

import io
from typing import Any, NamedTuple

from AccessControl.SecurityManagement import (
    getSecurityManager,
    newSecurityManager,
    noSecurityManager,
    setSecurityManager,
)
from AccessControl.users import system
from Acquisition import aq_base, aq_inner, aq_parent
from zope.component.hooks import getSite, setSite
from zope.event import notify
from zope.globalrequest import getRequest, setRequest
from zope.publisher.skinnable import setDefaultSkin
from zope.traversing.interfaces import BeforeTraverseEvent
from ZPublisher.BaseRequest import RequestContainer
from ZPublisher.HTTPRequest import HTTPRequest
from ZPublisher.HTTPResponse import HTTPResponse

from .errors import AsyncError

#: The user of scripts and of the start of Zope, who is in no user folder.
SYSTEM = "system"

Path = tuple[str, ...]


class GoneError(AsyncError, LookupError):
    """What a job needs has been removed from Zope since it was put."""


class Context(NamedTuple):
    """What surrounds a job: all that `enter` needs, in plain values.

    Paths are physical ones.  `folder` is the path of the user's folder; without one
    `user` is None for an anonymous visitor, or `SYSTEM`.
    """

    user: str | None = None
    folder: Path | None = None
    site: Path | None = None
    server_url: str | None = None
    script: Path = ()
    virtual_root: Path = ()
    accept_language: str | None = None
    language: str | None = None


#: Surroundings of code that was called by nobody in particular.
NOWHERE = Context()


class Entered(NamedTuple):
    """What `enter` has replaced, for `leave`."""

    request: Any
    former_request: Any
    former_manager: Any
    former_site: Any


def capture() -> Context:
    """The surroundings of the calling code."""
    user, folder = identity(getSecurityManager().getUser())
    site = getSite()
    request = getRequest()
    context = Context(user, folder, None if site is None else physical_path(site))
    if not isinstance(request, HTTPRequest):
        return context
    language = request.other.get("LANGUAGE")
    return context._replace(
        server_url=request.other.get("SERVER_URL"),
        script=tuple(request._script),
        virtual_root=tuple(request.other.get("VirtualRootPhysicalPath", ())),
        accept_language=request.environ.get("HTTP_ACCEPT_LANGUAGE"),
        language=language if isinstance(language, str) else None,
    )


def identity(user: Any) -> tuple[str | None, Path | None]:
    """`Context.user` and `Context.folder` of a user."""
    if aq_base(user) is system:
        return SYSTEM, None
    folder = aq_parent(aq_inner(user))
    if folder is None or user.getId() is None:
        return None, None
    return user.getId(), physical_path(folder)


def physical_path(ob: Any) -> Path | None:
    """The path of an object in Zope; None of one that has none."""
    method = getattr(ob, "getPhysicalPath", None)
    return None if method is None else tuple(method())


def at_path(app: Any, path: Path) -> Any:
    """What is stored at `path`, not acquired from elsewhere; else None."""
    found = app.unrestrictedTraverse(path, None)
    return found if found is not None and physical_path(found) == path else None


def enter(context: Context, root: Any) -> Entered:
    """Make `context` the surroundings of this thread; `root` is the bare application.

    The application of the new request is the last of its PARENTS.  `GoneError`
    when the user, its folder or the site have gone; then nothing has changed.
    """
    request = _make_request(context)
    app = root.__of__(RequestContainer(REQUEST=request))
    request.other["PARENTS"] = [app]
    entered = Entered(request, getRequest(), getSecurityManager(), getSite())
    try:
        setRequest(request)
        setDefaultSkin(request)
        _log_in(context, app, request)
        _set_site(context, app, request)
    except BaseException:
        leave(entered)
        raise
    return entered


def leave(entered: Entered) -> None:
    """Undo `enter`."""
    try:
        entered.request.close()
    finally:
        setSite(entered.former_site)
        setSecurityManager(entered.former_manager)
        setRequest(entered.former_request)


def application() -> Any:
    """The application as it is seen in the surroundings made by `enter`."""
    return getRequest().other["PARENTS"][-1]


def _make_request(context: Context) -> HTTPRequest:
    environ = {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "REQUEST_METHOD": "GET",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
    }
    if context.accept_language is not None:
        environ["HTTP_ACCEPT_LANGUAGE"] = context.accept_language
    response = HTTPResponse(stdout=io.BytesIO(), stderr=io.BytesIO())
    request = HTTPRequest(io.BytesIO(), environ, response)
    if context.server_url is not None:
        request.other["SERVER_URL"] = context.server_url
    if context.virtual_root:
        request.other["VirtualRootPhysicalPath"] = context.virtual_root
    if context.language is not None:
        request.other["LANGUAGE"] = context.language
    request._script = list(context.script)
    request._resetURLS()
    return request


def _log_in(context: Context, app: Any, request: Any) -> None:
    if context.user is None:
        noSecurityManager()
        return
    user = system if context.folder is None else _find_user(context, app)
    newSecurityManager(request, user)
    request.other["AUTHENTICATED_USER"] = user


def _find_user(context: Context, app: Any) -> Any:
    assert context.folder is not None
    folder = at_path(app, context.folder)
    if folder is None:
        raise GoneError(
            f"there is no user folder {'/'.join(context.folder)} any more; "
            f"{context.user!r}, who put the job, was in it"
        )
    user = folder.getUserById(context.user)
    if user is None:
        emergency = getattr(folder, "_emergency_user", None)
        if emergency is not None and emergency.getId() == context.user:
            user = emergency
    if user is None:
        raise GoneError(
            f"there is no user {context.user!r} in {'/'.join(context.folder)} any "
            "more, who put the job"
        )
    return aq_base(user).__of__(folder)


def _set_site(context: Context, app: Any, request: Any) -> None:
    if context.site is None:
        setSite(None)
        return
    site = at_path(app, context.site)
    if site is None:
        raise GoneError(
            f"there is no site {'/'.join(context.site)} any more, in which the job "
            "was put"
        )
    setSite(site)
    notify(BeforeTraverseEvent(site, request))
