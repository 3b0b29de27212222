# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
import datetime
import logging
import uuid

import pytest
import zope.component
from zope.interface.verify import verifyObject

from tests.support.queueing import MINUTE, START, World, number, numbers
from zc.async_ import clock
from zc.async_.agent import Agent
from zc.async_.events import (
    DispatcherActivated,
    DispatcherDeactivated,
    DispatcherReactivated,
    DispatcherRegistered,
    DispatcherUnregistered,
)
from zc.async_.interfaces import (
    ASSIGNED,
    CALLBACKS,
    COMPLETED,
    PENDING,
    AbortedError,
    IDispatcherAgents,
    IDispatchers,
    IFailure,
)
from zc.async_.job import Job
from zc.async_.membership import hand_back_job
from zc.async_.retry import NeverRetry

ONE, TWO, THREE = (uuid.UUID(int=each) for each in (1, 2, 3))


@pytest.fixture
def world():
    with World() as world:
        yield world


@pytest.fixture
def seat(world):
    return world.seat


@pytest.fixture
def dispatchers(seat):
    return seat.queue.dispatchers


@pytest.fixture
def events():
    """All events of dispatchers, as they come."""
    found = []
    for kind in (
        DispatcherRegistered,
        DispatcherUnregistered,
        DispatcherActivated,
        DispatcherDeactivated,
        DispatcherReactivated,
    ):
        zope.component.provideHandler(found.append, adapts=(kind,))
    return found


def kinds(events):
    return [type(event) for event in events]


# Registering.


def test_dispatchers_provide_their_interfaces(dispatchers):
    dispatchers.register(ONE)
    assert verifyObject(IDispatchers, dispatchers)
    assert verifyObject(IDispatcherAgents, dispatchers[ONE])


def test_a_registered_dispatcher_is_known_and_idle(seat, dispatchers, events):
    dispatchers.register(ONE)
    agents = dispatchers[ONE]
    assert (agents.UUID, agents.name, agents.parent) == (ONE, ONE, seat.queue)
    assert agents.activated is None and agents.last_ping is None and not agents.dead
    assert agents.ping_interval == datetime.timedelta(seconds=30)
    assert agents.ping_death_interval == datetime.timedelta(seconds=60)
    assert kinds(events) == [DispatcherRegistered] and events[0].object is agents


def test_a_dispatcher_is_registered_once(dispatchers):
    dispatchers.register(ONE)
    with pytest.raises(ValueError, match="registered already") as caught:
        dispatchers.register(ONE)
    assert str(ONE) in str(caught.value)


class Identity:
    """Like `InstanceUUID`: stands for a UUID, and reads it when asked."""

    def __init__(self, value):
        self._value = value

    @property
    def bytes(self):
        return self._value.bytes

    def __eq__(self, other):
        return self._value == other

    def __hash__(self):
        return hash(self._value)

    def __str__(self):
        return str(self._value)


def test_whatever_has_the_bytes_of_a_uuid_is_a_key(seat, dispatchers):
    identity = Identity(ONE)
    assert identity not in dispatchers
    dispatchers.register(identity)
    seat.commit()
    assert identity in dispatchers and ONE in dispatchers
    assert dispatchers[identity] is dispatchers[ONE]
    assert type(next(iter(dispatchers))) is uuid.UUID
    assert type(dispatchers[ONE].UUID) is uuid.UUID
    dispatchers[identity].activate()
    dispatchers.ping(identity)
    dispatchers[identity].deactivate()
    assert dispatchers.unregister(identity).UUID == ONE


def test_dispatchers_are_a_mapping(dispatchers):
    assert not dispatchers and len(dispatchers) == 0 and list(dispatchers) == []
    dispatchers.register(TWO)
    dispatchers.register(ONE)
    one, two = dispatchers[ONE], dispatchers[TWO]
    assert dispatchers and list(dispatchers) == list(dispatchers.keys()) == [ONE, TWO]
    assert list(dispatchers.values()) == [one, two]
    assert list(dispatchers.items()) == [(ONE, one), (TWO, two)]
    assert dispatchers.get(ONE) is one and dispatchers.get(2) is None
    with pytest.raises(KeyError) as caught:
        dispatchers[2]
    assert caught.value.args == (2,)


@pytest.mark.parametrize("value", [None, object(), Agent()])
def test_only_dispatchers_and_agents_can_be_inserted(dispatchers, value):
    with pytest.raises(ValueError, match="IDispatcherAgents"):
        dispatchers[ONE] = value
    dispatchers.register(ONE)
    if not isinstance(value, Agent):
        with pytest.raises(ValueError, match="IAgent"):
            dispatchers[ONE]["main"] = value


def test_a_dispatcher_that_is_not_activated_can_be_unregistered(dispatchers, events):
    dispatchers.register(ONE)
    agents = dispatchers[ONE]
    agents.activate()
    with pytest.raises(ValueError, match="is activated"):
        dispatchers.unregister(ONE)
    agents.deactivate()
    assert dispatchers.unregister(ONE) is agents
    assert ONE not in dispatchers and agents.parent is None
    assert kinds(events)[-1] is DispatcherUnregistered
    assert events[-1].object is agents
    with pytest.raises(KeyError):
        dispatchers.unregister(ONE)


# Activation, pings, death.


def test_activation_is_noted_and_announced(dispatchers, events):
    dispatchers.register(ONE)
    agents = dispatchers[ONE]
    agents.activate()
    assert agents.activated == clock.utcnow() and not agents.dead
    agents.deactivate()
    assert agents.activated is None
    agents.reactivate()
    assert kinds(events)[1:] == [
        DispatcherActivated,
        DispatcherDeactivated,
        DispatcherReactivated,
    ]
    assert all(event.object is agents for event in events)


def test_what_is_so_already_is_an_error(dispatchers):
    dispatchers.register(ONE)
    agents = dispatchers[ONE]
    with pytest.raises(ValueError, match="not activated"):
        agents.deactivate()
    agents.activate()
    for again in (agents.activate, agents.reactivate):
        with pytest.raises(ValueError, match="activated already"):
            again()


def test_pings_are_noted_once_an_interval(world, dispatchers):
    dispatchers.register(ONE)
    agents = dispatchers[ONE]
    agents.activate()
    dispatchers.ping(ONE)
    assert agents.last_ping == START
    for seconds, expected in ((29, START), (1, START + MINUTE / 2), (1, None)):
        world.advance(seconds=seconds)
        dispatchers.ping(ONE)
        assert agents.last_ping == (expected or START + MINUTE / 2)


def test_a_ping_is_noted_when_the_clock_was_set_back(world, dispatchers):
    dispatchers.register(ONE)
    dispatchers[ONE].activate()
    dispatchers.ping(ONE)
    world.clock.step(-3600)
    dispatchers.ping(ONE)
    assert dispatchers[ONE].last_ping == clock.utcnow()


def test_a_ping_writes_one_small_record(world, seat, dispatchers):
    dispatchers.register(ONE)
    dispatchers.register(TWO)
    dispatchers[ONE].activate()
    dispatchers.ping(ONE)
    seat.commit()
    world.advance(seconds=31)
    before = world.db.lastTransaction()
    dispatchers.ping(ONE)
    seat.commit()
    (found,) = [one for one in world.db.storage.iterator() if one.tid > before]
    (record,) = found
    assert record.oid == dispatchers[ONE].ping_record._p_oid


def test_who_is_silent_for_the_death_interval_is_dead(world, dispatchers):
    dispatchers.register(ONE)
    agents = dispatchers[ONE]
    agents.activate()
    world.advance(seconds=60)
    assert not agents.dead
    dispatchers.ping(ONE)
    world.advance(seconds=60)
    assert not agents.dead
    world.advance(microseconds=1)
    assert agents.dead
    agents.deactivate()
    assert not agents.dead


def test_pinging_buries_siblings_that_died(world, dispatchers, events, caplog):
    for each in (ONE, TWO, THREE):
        dispatchers.register(each)
        dispatchers[each].activate()
    dispatchers[THREE].deactivate()
    world.advance(seconds=61)
    with caplog.at_level(logging.ERROR, "zc.async.events"):
        dispatchers.ping(ONE)
    assert dispatchers[ONE].activated and not dispatchers[TWO].activated
    assert kinds(events)[-1] is DispatcherDeactivated
    assert events[-1].object is dispatchers[TWO]
    (record,) = caplog.records
    assert str(TWO) in record.getMessage()


def test_the_judge_of_death_can_be_another(dispatchers):
    for each in (ONE, TWO):
        dispatchers.register(each)
        dispatchers[each].activate()
    dispatchers.ping(ONE, is_dead=lambda agents: agents.UUID == TWO)
    assert not dispatchers[TWO].activated and dispatchers[ONE].activated


def test_nobody_buries_himself(world, dispatchers):
    dispatchers.register(ONE)
    dispatchers[ONE].activate()
    world.advance(hours=1)
    dispatchers.bury_dead(ONE, lambda agents: True)
    assert dispatchers[ONE].activated


def test_two_who_bury_the_same_dispatcher_conflict(world, seat):
    for each in (ONE, TWO, THREE):
        seat.queue.dispatchers.register(each)
        seat.queue.dispatchers[each].activate()
    seat.commit()
    other = world.open()
    world.sync()
    everybody = {"is_dead": lambda agents: agents.UUID == THREE}
    assert seat.tries(lambda: seat.queue.dispatchers.bury_dead(ONE, **everybody))
    assert not other.tries(lambda: other.queue.dispatchers.bury_dead(TWO, **everybody))
    assert other.tries(lambda: other.queue.dispatchers.bury_dead(TWO, **everybody))


# What becomes of the jobs.


def holding(seat, *values, **options):
    """An agent that holds a job for each value, committed."""
    seat.put(*values, **options)
    agent = seat.agent(ONE, size=10)
    agent.claim_some(10)
    seat.commit()
    return agent


def test_a_job_that_was_not_begun_goes_back_to_the_front(seat):
    agent = holding(seat, 1)
    seat.put(2)
    (job,) = agent
    agent.parent.deactivate()
    assert list(agent) == [] and seat.waiting() == [1, 2]
    assert job.status == PENDING and job.parent is seat.queue
    assert job.interruptions == job.deaths == job.attempts == 0


def begun(seat, *values, **attributes):
    agent = holding(seat, *values)
    for job in agent:
        job._begin(clock.micros(clock.utcnow()))
        for name, value in attributes.items():
            setattr(job, name, value)
    seat.commit()
    return agent


def test_an_active_job_is_interrupted_and_goes_to_the_front(seat):
    agent = begun(seat, 1)
    seat.put(2)
    (job,) = agent
    agent.parent.deactivate()
    assert list(agent) == [] and seat.waiting() == [1, 2]
    assert (job.status, job.interruptions, job.deaths) == (PENDING, 1, 1)


def test_a_stop_is_no_death(seat):
    (job,) = agent = begun(seat, 1)
    agent.parent.deactivate(died=False)
    assert (job.status, job.interruptions, job.deaths) == (PENDING, 1, 0)


def test_a_job_that_must_not_be_repeated_fails(seat):
    (job,) = agent = begun(seat, 1, retry_policy_factory=NeverRetry)
    agent.parent.deactivate()
    failing = seat.queue.claim()
    assert failing.callable == job.fail and len(seat.queue) == 0
    failing.parent = seat.agent(TWO)
    seat.commit()
    failing()
    assert job.status == COMPLETED and job.result.check(AbortedError)


def test_a_job_under_which_the_process_died_three_times_fails(seat):
    seat.put(1)
    for life in range(3):
        agent = seat.agent(uuid.UUID(int=10 + life))
        (job,) = agent.claim_some(1)
        job._begin(clock.micros(clock.utcnow()))
        seat.commit()
        agent.parent.deactivate()
    failing = seat.queue.claim()
    failing.parent = seat.agent(TWO)
    seat.commit()
    failing()
    assert "3 times in a row" in job.result.getErrorMessage()


def resumed(seat, job):
    """Whether the next job in the queue goes on with the callbacks of `job`."""
    found = seat.queue.claim()
    assert found.callable == job.resumeCallbacks
    found.parent = seat.agent(TWO)
    seat.commit()
    found()
    return job.status == COMPLETED and [one.result for one in job.callbacks]


def test_callbacks_are_resumed(seat):
    (job,) = agent = begun(seat, 1)
    job.addCallback(Job(number))
    job._settle("result", True)
    seat.commit()
    assert job.status == CALLBACKS
    seat.put(2)
    agent.parent.deactivate()
    assert list(agent) == [] and resumed(seat, job) == ["result"]


def test_a_completed_job_only_was_not_reaped(seat):
    (job,) = agent = begun(seat, 1)
    job._settle("result")
    seat.commit()
    agent.parent.deactivate()
    assert list(agent) == [] and list(agent.completed) == [job]
    assert len(seat.queue) == 0 and job.status == COMPLETED


def test_a_completed_job_with_a_callback_that_came_late_has_it_performed(seat):
    (job,) = agent = begun(seat, 1)
    job._settle("result")
    callback = Job(number)
    callback.parent = job
    job.callbacks.append(callback)
    seat.commit()
    agent.parent.deactivate()
    assert list(agent.completed) == [job]
    assert resumed(seat, job) == ["result"]


def test_a_job_that_belongs_to_somebody_else_by_now_is_dropped(seat):
    (job,) = agent = begun(seat, 1)
    job._step(PENDING)
    job.parent = seat.queue
    seat.queue._add_to_front(job)
    other = seat.agent(TWO)
    assert other.claim_some(1) == [job]
    agent.parent.deactivate()
    assert list(agent) == [] and list(other) == [job] and len(seat.queue) == 0
    assert job.status == ASSIGNED and job.parent is other


def test_a_waiting_job_goes_on_waiting(seat):
    inner = Job(number, "inner")
    job = Job(give, inner)
    seat.queue.put(job)
    agent = seat.agent(ONE)
    agent.claim_some(1)
    seat.commit()
    job()
    assert job.waiting
    agent.parent.deactivate()
    assert list(agent) == [] and list(agent.waiting()) == [job]
    seat.commit()
    inner()
    assert job.status == COMPLETED and job.result == "inner"


def give(job):
    return job


def test_a_wrapper_of_an_expired_job_is_handed_back_too(world, seat):
    (job,) = seat.put(1, begin_by=MINUTE)
    world.advance(hours=1)
    agent = seat.agent(ONE)
    (wrapper,) = agent.claim_some(1)
    seat.commit()
    agent.parent.deactivate()
    assert list(seat.queue) == [wrapper]
    assert seat.agent(TWO).claim_some(1) == [wrapper]
    seat.commit()
    wrapper()
    assert IFailure.providedBy(job.result)


def test_activation_cleans_up_what_a_former_life_left(seat):
    agent = holding(seat, 1, 2)
    agent.parent.activated = None
    agent.parent.activate()
    assert list(agent) == [] and sorted(seat.waiting()) == [1, 2]


def test_many_jobs_are_handed_back_in_one_go(seat):
    agent = holding(seat, 1, 2, 3, 4)
    one, two, three, four = agent
    two._begin(clock.micros(clock.utcnow()))
    three._begin(clock.micros(clock.utcnow()))
    three._settle("result", True)
    four._begin(clock.micros(clock.utcnow()))
    four._settle("result")
    seat.commit()
    agent.parent.deactivate()
    assert list(agent) == [] and list(agent.completed) == [four]
    assert len(seat.queue) == 3
    waiting = list(seat.queue)
    assert one in waiting and two in waiting
    assert [job.callable for job in waiting if job not in (one, two)] == [
        three.resumeCallbacks
    ]


# Removal of agents and dispatchers that hold jobs.


@pytest.mark.parametrize("how", ["agent", "replaced", "dispatcher", "unregistered"])
def test_jobs_of_what_is_removed_go_back(seat, how):
    agent = holding(seat, 1, 2)
    one, two = agent
    two._begin(clock.micros(clock.utcnow()))
    agents = agent.parent
    seat.commit()
    if how == "agent":
        del agents["main"]
    elif how == "replaced":
        agents["main"] = Agent()
    elif how == "dispatcher":
        del seat.queue.dispatchers[ONE]
    else:
        agents.activated = None
        seat.queue.dispatchers.unregister(ONE)
    assert list(agent) == [] and sorted(seat.waiting()) == [1, 2]
    assert one.status == two.status == PENDING
    assert (one.interruptions, two.interruptions) == (0, 1)
    assert two.deaths == 0
    assert sorted(numbers(seat.agent(TWO).claim_some(3))) == [1, 2]


def test_a_job_that_waits_ends_although_its_agent_was_removed(seat):
    inner = Job(number, "inner")
    job = Job(give, inner)
    seat.queue.put(job)
    agent = seat.agent(ONE)
    agent.claim_some(1)
    seat.commit()
    job()
    agent.jobWaits(job)
    del seat.queue.dispatchers[ONE]
    seat.commit()
    assert job.queue is seat.queue and list(agent.waiting()) == []
    inner()
    assert job.status == COMPLETED and job.result == "inner"


# Jobs that cannot be loaded.


@pytest.fixture
def broken(seat, monkeypatch):
    """An agent that holds two jobs, of which the first cannot be loaded."""
    agent = begun(seat, 1, 2)
    first, second = agent
    monkeypatch.setattr(type(first), "status", property(status_or_raise))
    status_or_raise.broken = first
    yield agent
    status_or_raise.broken = None


def status_or_raise(self):
    if self is status_or_raise.broken:
        raise AttributeError("broken")
    return self._status


def test_a_job_that_cannot_be_loaded_does_not_keep_others_from_going_back(
    seat, broken, caplog
):
    first, second = broken
    with caplog.at_level(logging.ERROR, "zc.async.events"):
        broken.parent.deactivate()
    assert list(broken) == [] and list(seat.queue) == [second]
    assert [record.exc_info[0] for record in caplog.records] == [AttributeError]
    assert list(seat.pending.aside.values()) == [first]


def test_it_comes_back_when_a_dispatcher_is_activated_that_can_load_it(seat, broken):
    first, second = broken
    broken.parent.deactivate()
    seat.agent(TWO)
    assert list(seat.queue) == [second]
    status_or_raise.broken = None
    seat.agent(THREE)
    assert list(seat.queue) == [first, second] and len(seat.pending.aside) == 0
    assert (first.status, first.interruptions, first.deaths) == (PENDING, 1, 0)


def test_it_comes_back_although_its_agent_has_gone(seat, broken):
    first, second = broken
    broken.parent.deactivate()
    seat.queue.dispatchers.unregister(ONE)
    status_or_raise.broken = None
    assert seat.queue.bring_back() == 1
    assert first in list(seat.queue) and first.status == PENDING


def test_an_error_of_the_storage_is_raised(seat):
    agent = holding(seat, 1)

    class Unreachable:
        @property
        def status(self):
            raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        hand_back_job(seat.queue, agent, Unreachable())


def test_a_dispatcher_that_ended_long_ago_is_forgotten(dispatchers, world):
    dispatchers.register(TWO)
    agents = dispatchers[TWO]
    agents.activate()
    agents.ping()
    agents.deactivate(died=False)
    dispatchers.forget_old()
    assert TWO in dispatchers
    world.clock.advance(25 * 60 * 60)
    dispatchers.forget_old()
    assert TWO not in dispatchers


def test_a_dispatcher_whose_jobs_are_listed_is_kept(dispatchers, world):
    dispatchers.register(TWO)
    agents = dispatchers[TWO]
    agents["main"] = agent = Agent()
    agents.activate()
    agents.ping()
    agent.completed.add(Job(number, 1))
    agents.deactivate(died=False)
    world.clock.advance(25 * 60 * 60)
    dispatchers.forget_old()
    assert TWO in dispatchers
    world.clock.advance(8 * 24 * 60 * 60)
    dispatchers.forget_old()
    assert TWO not in dispatchers
