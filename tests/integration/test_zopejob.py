# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Jobs that are put in the request of a visitor and performed without one."""

import contextlib
import io

import pytest
import transaction
import ZODB

pytest.importorskip("ZPublisher", reason="Zope is not installed")

from AccessControl import Unauthorized, getSecurityManager  # noqa: E402
from AccessControl.SecurityManagement import (  # noqa: E402
    newSecurityManager,
    noSecurityManager,
)
from AccessControl.users import system  # noqa: E402
from Acquisition import aq_base  # noqa: E402
from OFS.Application import Application  # noqa: E402
from OFS.Folder import Folder  # noqa: E402
from OFS.userfolder import UserFolder  # noqa: E402
from zope.component.globalregistry import base  # noqa: E402
from zope.component.hooks import getSite, setHooks, setSite  # noqa: E402
from zope.component.interfaces import ISite  # noqa: E402
from zope.globalrequest import getRequest, setRequest  # noqa: E402
from zope.interface import alsoProvides  # noqa: E402
from ZPublisher.BaseRequest import RequestContainer  # noqa: E402
from ZPublisher.HTTPRequest import HTTPRequest  # noqa: E402
from ZPublisher.HTTPResponse import HTTPResponse  # noqa: E402

from tests.support.zopesite import Document, View, paths, seen  # noqa: E402
from zc.async_ import configure, zopejob  # noqa: E402
from zc.async_.errors import UnpicklableError  # noqa: E402
from zc.async_.interfaces import KEY, IJob  # noqa: E402
from zc.async_.job import Job  # noqa: E402
from zc.async_.queue import Queue, Queues  # noqa: E402
from zc.async_.zopejob import ZopeJob  # noqa: E402

HOST = "http://www.example.com"


class Site(Folder):
    """A folder that is a site."""

    def getSiteManager(self):
        return base


@pytest.fixture
def connection(tmp_path, monkeypatch):
    """A Zope with users, a site with a document, and the queue in `async`."""
    monkeypatch.setenv("ZC_ASYNC_UUID", str(tmp_path / "uuid.txt"))
    configure.base()
    zopejob.register()
    setHooks()
    databases = {}
    main = ZODB.DB(None, databases=databases, database_name="main")
    other = ZODB.DB(None, databases=databases, database_name="async")
    connection = main.open()
    fill(connection)
    yield connection
    transaction.abort()
    setSite(None)
    setRequest(None)
    noSecurityManager()
    connection.close()
    main.close()
    other.close()


def fill(connection):
    root = connection.root()["Application"] = Application()
    second = connection.get_connection("async")
    root_queues = second.root()[KEY] = Queues()
    root_queues[""] = Queue()
    add_users(root)
    root._setObject("site", Site("site"))
    site = root["site"]
    alsoProvides(site, ISite)
    site.color = "green"
    site._setObject("doc", Document("doc"))
    site._setObject("folder", Folder("folder"))
    site["folder"].color = "red"
    add_users(site, "ina")
    transaction.commit()


def add_users(folder, *names):
    users = folder._getOb("acl_users", None)
    if users is None:
        users = UserFolder()
        folder._setObject("acl_users", users)
    for name in names or ("anna", "boss"):
        role = "Manager" if name == "boss" else "Author"
        users._doAddUser(name, "secret", (role,), [])


@contextlib.contextmanager
def visit(connection, user=None, folder="acl_users", site=True, virtual=False):
    """A request as `user`; gives the application."""
    environ = {
        "SERVER_NAME": "www.example.com",
        "SERVER_PORT": "80",
        "REQUEST_METHOD": "GET",
        "HTTP_ACCEPT_LANGUAGE": "de",
    }
    request = HTTPRequest(io.BytesIO(), environ, HTTPResponse(stdout=io.BytesIO()))
    root = connection.root()["Application"]
    app = root.__of__(RequestContainer(REQUEST=request))
    request.other["PARENTS"] = [app]
    if virtual:
        request.setServerURL("https", "shop.example.com")
        request.setVirtualRoot(["shop"])
        request.other["VirtualRootPhysicalPath"] = ("", "site")
    setRequest(request)
    if user is not None:
        users = app.unrestrictedTraverse(folder)
        newSecurityManager(request, users.getUser(user).__of__(users))
    setSite(app["site"] if site else None)
    try:
        yield app
    finally:
        setSite(None)
        noSecurityManager()
        request.close()
        setRequest(None)


def put(connection, job):
    queue = connection.get_connection("async").root()[KEY][""]
    job = queue.put(job)
    transaction.commit()
    return job


def perform(connection, job):
    """Perform a job in a connection of its own; return what came of it."""
    key = job._p_oid
    transaction.abort()
    other = connection.db().open()
    try:
        found = other.get_connection("async").get(key)
        found.queue.pull()
        transaction.commit()
        found()
        result = found.result
        transaction.commit()
        return result
    finally:
        transaction.abort()
        other.close()


def put_and_perform(connection, make, **visitor):
    with visit(connection, **visitor) as app:
        job = put(connection, make(app))
    return perform(connection, job)


def message(failure):
    return failure.getErrorMessage()


# Who, where and which URL


def test_a_method_is_called_as_the_user_who_put_the_job(connection):
    found = put_and_perform(connection, lambda app: app["site"]["doc"].see, user="anna")
    assert found["user"] == "anna"
    assert "Author" in found["roles"]


def test_the_user_is_looked_for_in_the_folder_that_it_came_from(connection):
    visitor = {"user": "ina", "folder": "site/acl_users"}
    assert put_and_perform(connection, lambda app: seen, **visitor)["user"] == "ina"


def test_roles_are_those_at_the_time_of_the_call(connection):
    with visit(connection, user="anna") as app:
        job = put(connection, app["site"]["doc"].see)
        app.acl_users._doChangeUser("anna", None, ("Editor",), [])
        transaction.commit()
    assert "Editor" in perform(connection, job)["roles"]


def test_an_anonymous_visitor_stays_anonymous(connection):
    found = put_and_perform(connection, lambda app: app["site"]["doc"].see)
    assert found["user"] is None


def test_the_site_and_the_language_are_those_of_the_visit(connection):
    found = put_and_perform(connection, lambda app: app["site"]["doc"].see)
    assert found["site"] == "/site"
    assert found["language"] == "de"


def test_urls_are_those_of_the_visitor(connection):
    found = put_and_perform(connection, lambda app: app["site"]["doc"].see)
    assert found["url"] == f"{HOST}/site/doc"


def test_urls_are_those_of_the_virtual_host(connection):
    with visit(connection, virtual=True) as app:
        expected = app["site"]["doc"].absolute_url()
        job = put(connection, app["site"]["doc"].see)
    assert expected == "https://shop.example.com/shop/doc"
    assert perform(connection, job)["url"] == expected


def test_content_acquires(connection):
    found = put_and_perform(connection, lambda app: app["site"]["doc"].see)
    assert found["acquired"] == "green"


def test_arguments_are_wrapped_also_in_lists_and_dicts(connection):
    def make(app):
        site = app["site"]
        return ZopeJob(paths, site, [site["doc"], (site["folder"],)], x={"a": site})

    expected = ["/site", "/site/doc", "/site/folder", "/site"]
    assert put_and_perform(connection, make) == expected


def test_arguments_added_after_the_job_was_made_are_wrapped(connection):
    def make(app):
        job = IJob(paths)
        job.args.append(app["site"]["doc"])
        return job

    assert put_and_perform(connection, make) == ["/site/doc"]


def test_changes_of_content_are_committed_with_a_note(connection):
    def make(app):
        return ZopeJob(app["site"]["doc"].rename, "Plan")

    put_and_perform(connection, make, user="anna")
    connection.sync()
    document = connection.root()["Application"]["site"]["doc"]
    assert document.title == "Plan"
    latest = connection.db().history(document._p_oid, 1)[0]
    assert latest["user_name"] in ("/ anna", b"/ anna")
    assert "zc.async: tests.support.zopesite.Document" in str(latest["description"])


def test_new_content_is_added_to_its_own_database(connection):
    with visit(connection) as app:
        app["site"]._setObject("new", Document("new"))
        job = put(connection, app["site"]["new"].see)
        assert app["site"]["new"]._p_jar is connection
    assert perform(connection, job)["url"] == f"{HOST}/site/new"


# What has changed since


def test_moved_content_is_called_where_it_is_now(connection):
    with visit(connection) as app:
        job = put(connection, app["site"]["doc"].see)
        document = aq_base(app["site"]["doc"])
        app["site"]._delObject("doc", suppress_events=True)
        app["site"]["folder"]._setObject("doc", document, suppress_events=True)
        transaction.commit()
    found = perform(connection, job)
    assert (found["url"], found["acquired"]) == (f"{HOST}/site/folder/doc", "red")


def test_deleted_content_is_named(connection):
    with visit(connection) as app:
        job = put(connection, app["site"]["doc"].see)
        app["site"]._delObject("doc", suppress_events=True)
        transaction.commit()
    assert "/site/doc when the job was put, has been deleted" in message(
        perform(connection, job)
    )


def test_other_content_of_the_same_name_is_not_taken_for_it(connection):
    with visit(connection) as app:
        job = put(connection, app["site"]["doc"].see)
        app["site"]._delObject("doc", suppress_events=True)
        app["site"]._setObject("doc", Document("doc"), suppress_events=True)
        transaction.commit()
    assert "has been deleted" in message(perform(connection, job))


def test_content_of_a_parent_is_not_acquired_instead(connection):
    with visit(connection) as app:
        folder = app["site"]["folder"]
        folder._setObject("doc", Document("doc"), suppress_events=True)
        job = put(connection, folder["doc"].see)
        folder._delObject("doc", suppress_events=True)
        transaction.commit()
    assert "has been deleted" in message(perform(connection, job))


def test_a_deleted_user_is_named(connection):
    with visit(connection, user="anna") as app:
        job = put(connection, app["site"]["doc"].see)
        app.acl_users._doDelUsers(["anna"])
        transaction.commit()
    assert "no user 'anna' in /acl_users any more" in message(perform(connection, job))


def test_a_deleted_user_folder_is_named(connection):
    with visit(connection, user="ina", folder="site/acl_users") as app:
        job = put(connection, seen)
        app["site"]._delObject("acl_users", suppress_events=True)
        transaction.commit()
    assert "no user folder /site/acl_users any more" in message(
        perform(connection, job)
    )


# Refusals


@pytest.mark.parametrize(
    "make, advice",
    [
        (lambda app: View(app["site"], app.REQUEST).page, "self.context.method"),
        (lambda app: ZopeJob(paths, app.REQUEST), "values that are needed"),
        (lambda app: ZopeJob(paths, [app.REQUEST.response]), "returns what is to be"),
        (lambda app: ZopeJob(paths, {"a": io.BytesIO()}), "file.read()"),
    ],
    ids=["view", "request", "response", "file"],
)
def test_what_ends_with_the_request_is_refused(connection, make, advice):
    with visit(connection) as app, pytest.raises(UnpicklableError, match=advice):
        put(connection, make(app))


# Other users


def test_a_manager_may_have_a_job_performed_as_somebody_else(connection):
    def make(app):
        users = app.acl_users
        return IJob(seen).run_as(users.getUserById("anna").__of__(users))

    found = put_and_perform(connection, make, user="boss")
    assert found["user"] == "anna"


def test_others_may_not(connection):
    with visit(connection, user="anna") as app:
        boss = app.acl_users.getUser("boss").__of__(app.acl_users)
        job = IJob(seen)
        with pytest.raises(Unauthorized, match="Run jobs as another user"):
            job.run_as(boss)
        assert perform(connection, put(connection, job))["user"] == "anna"


# Nothing stays


@pytest.mark.parametrize("method", ["see", "fail"])
def test_nothing_of_a_job_stays(connection, method):
    put_and_perform(
        connection, lambda app: getattr(app["site"]["doc"], method), user="anna"
    )
    assert getSecurityManager().getUser().getId() is None
    assert getSite() is None
    assert getRequest() is None


def test_what_was_there_before_comes_back(connection):
    with visit(connection, user="anna") as app:
        job = put(connection, app["site"]["doc"].see)
    with visit(connection, user="boss", site=False):
        request = getRequest()
        assert perform(connection, job)["user"] == "anna"
        assert getRequest() is request
        assert getSecurityManager().getUser().getId() == "boss"
        assert getSite() is None


def test_a_user_that_is_gone_leaves_nothing_behind(connection):
    test_a_deleted_user_is_named(connection)
    assert getRequest() is None
    assert getSite() is None


# Which jobs


def test_a_script_puts_jobs_of_the_system(connection):
    newSecurityManager(None, system)
    job = put(connection, seen)
    noSecurityManager()
    assert "manage" in perform(connection, job)["roles"]


def test_without_visitor_site_and_content_jobs_are_plain(connection):
    assert type(IJob(sum)) is Job
    assert type(IJob(seen)) is Job


def test_jobs_of_the_same_surroundings_may_share_a_round(connection):
    with visit(connection, user="anna"):
        one, two = IJob(seen), IJob(seen)
    with visit(connection, user="boss"):
        other = IJob(seen)
    assert hash(one.surroundings()) == hash(two.surroundings())
    assert one.surroundings() == two.surroundings() != other.surroundings()
