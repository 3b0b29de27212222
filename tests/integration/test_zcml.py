# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import transaction
import zope.component
import zope.event
from persistent import Persistent
from persistent.interfaces import IPersistent
from ZODB.DB import DB
from ZODB.DemoStorage import DemoStorage
from ZODB.interfaces import IConnection
from zope.component.testing import setUp as empty_registry
from zope.configuration import xmlconfig
from zope.interface import implementer
from zope.processlifetime import DatabaseOpened, DatabaseOpenedWithRoot

from zc.async_ import adapters, configure, instanceuuid, testing
from zc.async_ import dispatcher as dispatchers
from zc.async_.errors import MissingDatabaseError
from zc.async_.interfaces import KEY, IJob, IQueue
from zc.async_.job import Job
from zc.async_.testingenvironment import _registered

FOLDER = Path(adapters.__file__).parent
FILES = [
    "client.zcml",
    "configure.zcml",
    "dispatcher.zcml",
    "basic_dispatcher_policy.zcml",
    "multidb_dispatcher_policy.zcml",
]


@pytest.fixture(autouse=True)
def identity(tmp_path, monkeypatch):
    monkeypatch.setenv("ZC_ASYNC_UUID", str(tmp_path / "uuid.txt"))
    instanceuuid.reset()
    yield
    instanceuuid.reset()


@pytest.fixture
def db():
    before = threading.enumerate()
    db = DB(DemoStorage())
    yield db
    transaction.abort()
    db.close()
    dispatchers.clear()
    testing.assert_no_leaked_threads(before)


def load(body):
    xmlconfig.string(
        f"<configure xmlns='http://namespaces.zope.org/zope'>{body}</configure>"
    )


def include(name):
    return f'<include package="zc.async" file="{name}" />'


def registered():
    return set(_registered(zope.component.getGlobalSiteManager()))


@implementer(IConnection)
@zope.component.adapter(IPersistent)
def another_connection(ob):
    return "another"


class Callable(Persistent):
    def __call__(self):
        return 42


def function():
    return 42


# Loading


@pytest.mark.parametrize("name", FILES)
def test_a_process_that_has_only_zope_configuration_can_include(name):
    """By its dotted name, without an import of the alias."""
    program = f"""
import sys
sys.path[:0] = {sys.path!r}
from zope.configuration import xmlconfig
assert not any(module.startswith("zc.async") for module in sys.modules)
xmlconfig.string('''<configure xmlns="http://namespaces.zope.org/zope">
{include(name)}
</configure>''')
assert "zc.async_" not in sys.modules
from zc.async_.interfaces import IJob
import zc.async_.job
assert type(IJob(print)) is zc.async_.job.Job
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize("name", FILES)
def test_a_file_can_be_included_twice(name):
    load(include(name) + include("configure.zcml") + include(name))


def test_zcml_registers_what_base_registers():
    configure.base()
    from_python = registered()
    zope.component.testing.tearDown()
    empty_registry()
    load(include("configure.zcml"))
    assert from_python <= registered()


@pytest.mark.parametrize("ob", [function, print, Callable().__call__, Callable()])
def test_callables_become_jobs(ob):
    load(include("configure.zcml"))
    assert isinstance(IJob(ob), Job)


def test_other_persistent_objects_do_not_become_jobs():
    load(include("configure.zcml"))
    with pytest.raises(TypeError, match="Could not adapt"):
        IJob(Persistent())


# The adapter to IConnection


def connection_factory():
    registry = zope.component.getGlobalSiteManager()
    return registry.adapters.registered((IPersistent,), IConnection)


def in_a_file_of_its_own(folder, factory):
    path = folder / "other.zcml"
    path.write_text(
        "<configure xmlns='http://namespaces.zope.org/zope'>"
        f"<adapter factory='{factory}' /></configure>"
    )
    return f'<include file="{path}" />'


META = '<include package="zope.component" file="meta.zcml" />'
OURS = "zc.async.adapters.connection"
THEIRS = f"{__name__}.another_connection"


def test_persistent_objects_are_adapted_to_their_connection():
    load(include("configure.zcml"))
    assert connection_factory() is adapters.connection


@pytest.mark.parametrize("factory", [OURS, THEIRS])
def test_the_site_may_register_one_itself(factory):
    load(META + include("dispatcher.zcml") + f'<adapter factory="{factory}" />')
    assert connection_factory().__name__ == factory.split(".")[-1]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("factory", [OURS, THEIRS])
def test_another_package_may_register_one(tmp_path, factory, first):
    parts = [in_a_file_of_its_own(tmp_path, factory), include("configure.zcml")]
    load(META + "".join(parts if first else reversed(parts)))
    assert connection_factory().__name__ == factory.split(".")[-1]


def test_one_that_python_registered_stays():
    zope.component.provideAdapter(another_connection)
    load(include("configure.zcml"))
    configure.base()
    assert connection_factory() is another_connection


# Policies


def perform_one(db):
    queue = IQueue(db.open().root())
    job = queue.put(Job(sum, [19, 23]))
    transaction.commit()
    return testing.wait_for_result(job)


@pytest.mark.parametrize(
    "events",
    [
        [DatabaseOpened],
        [DatabaseOpenedWithRoot],
        [DatabaseOpened, DatabaseOpenedWithRoot],
    ],
)
def test_the_basic_policy_performs_jobs_when_the_database_is_open(db, events):
    load(include("basic_dispatcher_policy.zcml"))
    for event in events:
        zope.event.notify(event(db))
    assert perform_one(db) == 42
    agents = IQueue(db.open().root()).dispatchers[dispatchers.get().UUID]
    assert list(agents) == ["main"]


def test_the_multidb_policy_keeps_queues_in_the_database_async(db):
    other = DB(DemoStorage(), databases=db.databases, database_name="async")
    load(
        META
        + '<include package="zope.component" />'
        + include("multidb_dispatcher_policy.zcml")
        + f'<adapter factory="{OURS}" />'
    )
    zope.event.notify(DatabaseOpened(db))
    try:
        assert perform_one(db) == 42
        assert db.open().root()[KEY]._p_jar.db() is other
    finally:
        db.close()
        other.close()


def test_the_multidb_policy_says_what_is_missing(db):
    load(include("multidb_dispatcher_policy.zcml"))
    with pytest.raises(MissingDatabaseError, match="<zodb_db async>"):
        zope.event.notify(DatabaseOpened(db))
    assert dispatchers.get() is None


def test_without_a_policy_nothing_happens_to_a_database(db):
    load(include("dispatcher.zcml"))
    zope.event.notify(DatabaseOpened(db))
    assert dispatchers.get() is None
    assert KEY not in db.open().root()


def test_all_files_are_tried_here():
    found = {path.name for path in FOLDER.glob("*.zcml")} - {"meta.zcml"}
    assert found == set(FILES)
