# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
import threading
import uuid

import pytest
import transaction
from ZODB.DB import DB
from ZODB.DemoStorage import DemoStorage

from zc.async_ import configure, instanceuuid, testing
from zc.async_ import dispatcher as dispatchers
from zc.async_.interfaces import KEY, IQueue
from zc.async_.job import Job


@pytest.fixture(autouse=True)
def identity(tmp_path, monkeypatch):
    monkeypatch.setenv("ZC_ASYNC_UUID", str(tmp_path / "uuid.txt"))
    instanceuuid.reset()
    yield tmp_path / "uuid.txt"
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


def queues(db):
    transaction.begin()
    return db.open().root()[KEY]


def perform(queue):
    job = queue.put(Job(sum, [19, 23]))
    transaction.commit()
    return testing.wait_for_result(job)


def last(agent):
    """A chooser that prefers what came last."""
    return agent.queue.pull(-1) if len(agent.queue) else None


def test_one_call_does_it_all(db):
    dispatcher = configure.start(db)
    assert dispatchers.get() is dispatcher
    assert dispatcher.activated
    assert (dispatcher.db, dispatcher.poll_interval) == (db, 5)
    queue = IQueue(db.open().root())
    assert queue is queue._p_jar.root()[KEY][""]
    assert perform(queue) == 42
    (agents,) = queue.dispatchers.values()
    assert list(agents) == ["main"]
    assert agents["main"].size == 3


def test_the_dispatcher_works_in_daemon_threads(db):
    before = set(threading.enumerate())
    dispatcher = configure.start(db)
    testing.get_poll(dispatcher, 0)
    added = set(threading.enumerate()) - before
    assert dispatcher.thread in added
    assert all(thread.daemon for thread in added)


def test_the_dispatcher_is_stopped_by_its_stop(db):
    dispatcher = configure.start(db)
    testing.get_poll(dispatcher, 0)
    dispatcher.stop()
    dispatcher.stop()
    assert not dispatcher.activated
    (agents,) = queues(db)[""].dispatchers.values()
    assert not agents.activated


def test_it_can_be_started_again_after_it_was_stopped(db):
    first = configure.start(db)
    first.stop()
    second = configure.start(db)
    assert second is not first
    assert perform(IQueue(db.open().root())) == 42


def test_started_twice_it_is_the_same(db):
    first = configure.start(db)
    testing.get_poll(first, 0)
    assert configure.start(db, agent_size=7, queue_names=["", "mail"]) is first
    assert sorted(queues(db)) == ["", "mail"]
    assert perform(queues(db)["mail"]) == 42
    # What is there stays, what is new is as asked the second time.
    assert queues(db)[""].dispatchers[first.UUID]["main"].size == 3
    assert queues(db)["mail"].dispatchers[first.UUID]["main"].size == 7


def test_the_agent_is_as_asked(db):
    dispatcher = configure.start(db, agent_chooser=last, agent_size=8)
    testing.get_poll(dispatcher, 0)
    agent = queues(db)[""].dispatchers[dispatcher.UUID]["main"]
    assert (agent.chooser, agent.size) == (last, 8)
    assert perform(queues(db)[""]) == 42


def test_all_named_queues_are_served(db):
    configure.start(db, queue_names=["mail", "index"])
    assert sorted(queues(db)) == ["index", "mail"]
    for queue in queues(db).values():
        assert perform(queue) == 42


def test_queues_can_be_in_another_database(db):
    other = DB(DemoStorage(), databases=db.databases, database_name="async")
    configure.start(db, db_name="async")
    queue = IQueue(db.open().root())
    assert queue._p_jar.db() is other
    assert perform(queue) == 42
    db.close()
    other.close()


def test_the_identity_is_that_of_the_process_and_locked(db, identity):
    dispatcher = configure.start(db)
    assert str(dispatcher.UUID) == identity.read_text().split()[0]
    held = instanceuuid._all_held
    assert str(identity) in held
    dispatcher.stop()
    assert str(identity) not in held


def test_another_identity_can_be_given(db, identity):
    mine = uuid.uuid4()
    dispatcher = configure.start(db, uuid=mine)
    assert dispatcher.UUID == mine
    assert dispatchers.get(mine) is dispatchers.get() is dispatcher
    assert perform(IQueue(db.open().root())) == 42
    assert not identity.exists()


def test_the_pool_of_the_database_is_afterwards_what_it_was(db):
    size = db.getPoolSize()
    dispatcher = configure.start(db)
    assert perform(IQueue(db.open().root())) == 42
    assert db.getPoolSize() > size
    dispatcher.stop()
    assert db.getPoolSize() == size


def test_the_transaction_of_the_caller_is_not_touched(db):
    root = db.open().root()
    root["mine"] = 1
    configure.start(db)
    assert root["mine"] == 1
    transaction.abort()
    assert "mine" not in root
