# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The testing toolkit with dispatchers that work."""

import datetime
import threading
import time
import uuid

import pytest
import transaction
import zope.component
from ZODB.DB import DB
from ZODB.DemoStorage import DemoStorage

from tests.support.gates import gate, open_all
from zc.async_ import clock, configure, local, testing
from zc.async_ import dispatcher as dispatchers
from zc.async_.interfaces import ACTIVE, IUUID, PENDING, IQueue
from zc.async_.job import Job
from zc.async_.testingenvironment import _registered

HOUR = datetime.timedelta(hours=1)


@pytest.fixture(autouse=True)
def gates():
    yield
    open_all()


@pytest.fixture
def running():
    with testing.environment(dispatcher=True) as env:
        yield env
        open_all()


@pytest.fixture
def by_hand():
    with testing.environment(hand_driven=True) as env:
        yield env
        open_all()


def work():
    return 42


def wait_at_gate():
    gate("g").enter()


def annotate():
    local.setLiveAnnotation("here", "from a thread")
    gate("g").enter()


def put_another():
    return local.getQueue().put(work)


def put(env, *args, **options):
    job = env.queue.put(Job(*args), **options)
    transaction.commit()
    return job


# Waiting for a dispatcher in other threads


def test_the_result_is_waited_for(running):
    assert testing.wait_for_result(put(running, work)) == 42


def test_a_failure_is_a_result(running):
    assert testing.wait_for_result(put(running, divmod, 1, 0)).check(ZeroDivisionError)


def test_waiting_ends_soon_after_the_commit(running):
    testing.wait_for_result(put(running, work))
    begin = time.monotonic()
    for _ in range(20):
        testing.wait_for_result(put(running, work))
    # Much less than twenty times the pause between two looks.
    assert time.monotonic() - begin < 20 * 0.05


def test_the_start_and_an_annotation_are_waited_for(running):
    job = put(running, annotate)
    testing.wait_for_start(job)
    assert testing.wait_for_annotation(job, "here") == "from a thread"
    assert job.status == ACTIVE
    gate("g").open()
    testing.wait_for_result(job)


def test_a_job_that_does_not_end_in_time_is_named(running):
    job = put(running, wait_at_gate)
    with pytest.raises(AssertionError, match="wait_at_gate.*active-status in 'main'"):
        testing.wait_for_result(job, seconds=0.2)


def test_a_poll_is_waited_for(running):
    first = testing.get_poll(running.dispatcher, 0)
    assert "" in first
    running.dispatcher.poll_interval = 0.05
    second = testing.get_poll(running.dispatcher)
    assert second.key < first.key


def test_a_poll_that_does_not_come_is_told(running):
    testing.get_poll(running.dispatcher, 0)
    with pytest.raises(AssertionError, match="has 1 polls, with an interval of 5"):
        testing.get_poll(running.dispatcher, seconds=0.1)


def test_deactivation_is_waited_for(running):
    with pytest.raises(AssertionError, match="it is activated"):
        testing.wait_for_deactivation(running.dispatcher, seconds=0)
    running.reactor.callFromThread(running.reactor.stop)
    testing.wait_for_deactivation(running.dispatcher)
    assert not running.dispatcher.activated


def test_a_torn_down_dispatcher_is_forgotten(running):
    testing.tear_down_dispatcher(running.dispatcher)
    testing.tear_down_dispatcher(running.dispatcher)
    assert dispatchers.get() is None
    assert not running.dispatcher.thread.is_alive()


# Driven by hand


def test_a_dispatcher_driven_by_hand_polls_once_an_interval(by_hand):
    assert by_hand.reactor.time_flies(by_hand.dispatcher.poll_interval) == 1
    assert by_hand.reactor.time_flies(1) == 0
    assert by_hand.reactor.time_flies(by_hand.dispatcher.poll_interval) == 1
    assert len(by_hand.dispatcher.polls) == 3


def test_nothing_is_performed_before_time_passes(by_hand):
    job = put(by_hand, work)
    assert not by_hand.reactor.time_passes()
    transaction.begin()
    assert job.status == PENDING
    assert clock.utcnow() == testing.START


def test_waiting_lets_time_pass(by_hand):
    job = put(by_hand, work)
    assert testing.wait_for_result(job) == 42
    assert clock.utcnow() == testing.START + datetime.timedelta(seconds=5)
    assert job.active_start == clock.utcnow()


def test_waiting_lets_time_pass_until_a_returned_job_is_done(by_hand):
    assert testing.wait_for_result(put(by_hand, put_another)) == 42


def test_time_stands_while_something_is_performed(by_hand):
    job = put(by_hand, annotate)
    assert testing.wait_for_annotation(job, "here") == "from a thread"
    with pytest.raises(AssertionError):
        testing.wait_for_result(job, seconds=0.1)
    assert clock.utcnow() == testing.START + datetime.timedelta(seconds=5)
    gate("g").open()
    testing.wait_for_result(job)
    assert clock.utcnow() == testing.START + datetime.timedelta(seconds=5)


def test_a_job_of_a_later_hour_waits_for_that(by_hand):
    job = put(by_hand, work, begin_after=clock.utcnow() + HOUR)
    with pytest.raises(AssertionError, match="it is due at"):
        testing.wait_for_result(job, seconds=0.1)
    assert clock.utcnow() <= testing.START + datetime.timedelta(seconds=60)
    testing.set_now(testing.START + HOUR)
    assert testing.wait_for_result(job) == 42


def test_a_poll_comes_when_time_passes(by_hand):
    assert len(by_hand.dispatcher.polls) == 1
    before = clock.utcnow()
    assert testing.get_poll(by_hand.dispatcher, 0).utc_timestamp == naive(before)
    poll = testing.get_poll(by_hand.dispatcher)
    assert poll.utc_timestamp == naive(before) + datetime.timedelta(seconds=5)


def naive(when):
    return when.replace(tzinfo=None)


def test_stopping_the_reactor_deactivates_and_gives_the_clock_back(by_hand):
    by_hand.reactor.stop()
    assert not by_hand.dispatcher.activated
    assert clock.utcnow() > testing.START + HOUR
    transaction.begin()
    assert not by_hand.queue.dispatchers[by_hand.UUID].activated


def test_an_ended_dispatcher_is_dead_when_time_has_passed(by_hand):
    agents = by_hand.queue.dispatchers[by_hand.UUID]
    with pytest.raises(AssertionError):
        testing.wait_for_death(agents, seconds=0)
    testing.set_now(clock.utcnow() + 2 * agents.ping_death_interval)
    testing.wait_for_death(agents, seconds=0)


# The environment


@pytest.mark.parametrize("options", [{}, {"dispatcher": True}, {"hand_driven": True}])
def test_an_environment_leaves_nothing_behind(options):
    registry = zope.component.getGlobalSiteManager()
    mine = uuid.uuid4()
    zope.component.provideUtility(mine, IUUID)
    before = _registered(registry), threading.enumerate()
    with testing.environment(**options) as env:
        assert zope.component.getUtility(IUUID) == env.UUID != mine
        assert IQueue(env.root) is env.queue
        env.root["left"] = object()
        db = env.db
    assert (_registered(registry), threading.enumerate()) == before
    assert abs(clock.utcnow() - datetime.datetime.now(datetime.UTC)) < HOUR
    assert not hasattr(db, "_mvcc_storage")  # closed
    assert dispatchers.get() is None


def test_environments_can_follow_each_other():
    for _ in range(3):
        with testing.environment(dispatcher=True) as env:
            assert testing.wait_for_result(put(env, work)) == 42


def test_a_database_that_was_given_stays_open():
    db = DB(DemoStorage())
    with testing.environment(db, queue_names=["mail"]) as env:
        assert env.db is db
        assert list(env.queues) == ["mail"]
    assert db.storage is not None
    db.close()


def test_the_dispatcher_is_as_asked():
    options = {"agent_size": 5, "poll_interval": 2, "grace": 1}
    for kind in ("dispatcher", "hand_driven"):
        with testing.environment(**{kind: True}, **options) as env:
            testing.get_poll(env.dispatcher, 0)
            transaction.begin()
            agent = env.queue.dispatchers[env.UUID]["main"]
            assert agent.size == 5
            assert env.dispatcher.poll_interval == 2
            assert env.dispatcher.grace == 1
            assert env.dispatcher.reactor is env.reactor


def test_the_clock_can_stand_anywhere():
    when = testing.START + HOUR
    for options in ({}, {"hand_driven": True}, {"dispatcher": True}):
        with testing.environment(now=when, **options):
            assert clock.utcnow() == when


def test_it_can_be_used_by_set_up_and_tear_down():
    env = testing.AsyncFixture()
    assert env.setUp() is env
    env.queue.put(work)
    assert len(testing.perform_due(env.queue)) == 1
    env.tearDown()
    env.tearDown()


def test_what_was_made_is_undone_when_set_up_fails():
    db = DB(DemoStorage())
    before = _registered(zope.component.getGlobalSiteManager())
    with pytest.raises(TypeError):
        testing.AsyncFixture(db, queue_names=[1]).setUp()
    assert _registered(zope.component.getGlobalSiteManager()) == before
    db.close()


def test_the_error_of_the_test_passes_through():
    with pytest.raises(KeyError):
        with testing.environment(dispatcher=True):
            raise KeyError


def test_threads_that_are_left_over_are_an_error():
    end = threading.Event()
    before = threading.enumerate()
    thread = threading.Thread(target=end.wait, name="left over", args=[60])
    thread.start()
    try:
        with pytest.raises(testing.LeakedThreadError) as caught:
            testing.assert_no_leaked_threads(before, seconds=0.05)
        assert caught.value.threads == [thread]
        assert "left over" in str(caught.value) and "wait" in str(caught.value)
    finally:
        end.set()
        thread.join(10)


def test_threads_that_are_about_to_end_are_waited_for():
    end = threading.Event()
    before = threading.enumerate()
    thread = threading.Thread(target=end.wait, args=[60])
    thread.start()
    threading.Timer(0.05, end.set).start()
    testing.assert_no_leaked_threads(before)
    assert not thread.is_alive()


def test_an_environment_fails_when_a_job_leaves_a_thread(monkeypatch):
    end = threading.Event()
    monkeypatch.setattr(
        "zc.async.testingenvironment.assert_no_leaked_threads.__defaults__", (0.05,)
    )
    thread = threading.Thread(target=end.wait, args=[60])
    try:
        with pytest.raises(testing.LeakedThreadError):
            with testing.environment():
                thread.start()
    finally:
        end.set()
        thread.join(10)


def test_start_in_an_environment_does_not_stay_registered():
    with testing.environment(dispatcher=True):
        pass
    registry = zope.component.getGlobalSiteManager()
    assert configure._agent_installer not in [
        each.handler for each in registry.registeredHandlers()
    ]
