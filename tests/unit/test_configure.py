# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
import functools
import uuid

import pytest
import transaction
import zope.component
from persistent import Persistent
from persistent.interfaces import IPersistent
from transaction.interfaces import ITransactionManager
from ZODB.DB import DB
from ZODB.DemoStorage import DemoStorage
from ZODB.interfaces import IConnection

from zc.async_ import configure, instanceuuid
from zc.async_ import dispatcher as dispatchers
from zc.async_.errors import MissingDatabaseError
from zc.async_.interfaces import IUUID, KEY, IJob
from zc.async_.job import Job
from zc.async_.testingenvironment import _registered


@pytest.fixture(autouse=True)
def identity(tmp_path, monkeypatch):
    monkeypatch.setenv("ZC_ASYNC_UUID", str(tmp_path / "uuid.txt"))
    instanceuuid.reset()
    yield tmp_path / "uuid.txt"
    instanceuuid.reset()


@pytest.fixture
def db():
    db = DB(DemoStorage())
    yield db
    transaction.abort()
    db.close()


def registered():
    return _registered(zope.component.getGlobalSiteManager())


class Callable(Persistent):
    def __call__(self):
        return 42

    def method(self):
        return 42


def function():
    return 42


# Registrations


def test_base_gives_connections_and_transaction_managers(db):
    configure.base()
    connection = db.open()
    root = connection.root()
    assert IConnection(root) is connection
    assert ITransactionManager(root) is connection.transaction_manager
    assert ITransactionManager(connection) is connection.transaction_manager


@pytest.mark.parametrize(
    "ob",
    [
        function,
        len,
        Callable().method,
        [].append,
        "".__add__,
        functools.partial(function),
        Callable(),
    ],
)
def test_callables_become_jobs(ob):
    configure.base()
    assert isinstance(IJob(ob), Job)


@pytest.mark.parametrize("ob", [Persistent(), 42, "function"])
def test_what_cannot_be_called_becomes_none(ob):
    configure.base()
    with pytest.raises(TypeError, match="Could not adapt"):
        IJob(ob)


def test_a_job_stays_itself():
    configure.base()
    job = Job(function)
    assert IJob(job) is job


def test_the_identity_is_that_of_the_file(identity):
    configure.base()
    found = zope.component.getUtility(IUUID)
    assert found is instanceuuid.UUID
    assert str(found) == identity.read_text().split()[0]


def test_another_identity_can_be_given(identity):
    mine = uuid.uuid4()
    configure.base(mine)
    assert zope.component.getUtility(IUUID) == mine
    assert not identity.exists()


def test_an_identity_of_the_application_stays():
    mine = uuid.uuid4()
    zope.component.provideUtility(mine, IUUID)
    configure.base()
    assert zope.component.getUtility(IUUID) is mine


def test_base_can_be_repeated():
    configure.base()
    before = registered()
    configure.base()
    configure.minimal()
    assert registered() == before


def test_minimal_leaves_the_connection_to_others():
    configure.base()
    everything = set(registered())
    zope.component.testing.tearDown()
    zope.component.testing.setUp()
    configure.minimal()
    assert everything - set(registered()) == {
        ("adapter", (IPersistent,), IConnection, "")
    }


def test_base_keeps_the_connection_of_others():
    def other(ob):
        return "other"

    zope.component.provideAdapter(other, (IPersistent,), IConnection)
    configure.base()
    registry = zope.component.getGlobalSiteManager()
    assert registry.adapters.registered((IPersistent,), IConnection) is other


# Bad arguments of start


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"poll_interval": 0}, ValueError, "found poll_interval 0"),
        ({"poll_interval": -1}, ValueError, "more than 0 seconds"),
        ({"poll_interval": float("nan")}, ValueError, "more than 0 seconds"),
        ({"poll_interval": "5"}, TypeError, "found poll_interval '5'"),
        ({"poll_interval": True}, TypeError, "found poll_interval True"),
        ({"db_name": "async"}, MissingDatabaseError, "expected one named 'async'"),
        ({"agent_size": 0}, ValueError, "found size 0"),
        ({"agent_size": 1.5}, ValueError, "found size 1.5"),
        ({"queue_names": "mail"}, TypeError, r"as in \('mail',\)"),
        ({"queue_names": [None]}, TypeError, "found None"),
        ({"uuid": "me"}, TypeError, "expected a uuid.UUID"),
    ],
)
def test_a_bad_argument_is_refused_before_anything_is_done(
    db, arguments, error, message
):
    before = db.lastTransaction()
    with pytest.raises(error, match=message):
        configure.start(db, **arguments)
    assert registered() == {}
    assert db.lastTransaction() == before
    assert KEY not in db.open().root()


@pytest.mark.parametrize("found", [None, "jobs.fs", DemoStorage()])
def test_something_else_than_a_database_is_refused(found):
    with pytest.raises(TypeError, match="expected an open database"):
        configure.start(found)


def test_the_missing_database_names_what_was_found(db):
    with pytest.raises(MissingDatabaseError) as caught:
        configure.start(db, db_name="async")
    assert caught.value.name == "async"
    assert caught.value.found == ("unnamed",)
    assert dispatchers._dispatchers == {}
