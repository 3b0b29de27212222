# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
import datetime
import uuid

import pytest
from zope.interface.verify import verifyObject

from tests.support import queueing
from tests.support.queueing import MINUTE, START, World, number, numbers
from zc.async_ import claiming, clock
from zc.async_.agent import Agent, addMainAgentActivationHandler, chooseFirst
from zc.async_.errors import UnloadableCallableError, UnpicklableError
from zc.async_.events import DispatcherActivated
from zc.async_.interfaces import (
    ACTIVE,
    ASSIGNED,
    COMPLETED,
    NEW,
    PENDING,
    IAgent,
    ICompletedCollection,
    IFilterAgent,
)
from zc.async_.job import Job


@pytest.fixture
def world():
    with World() as world:
        yield world


@pytest.fixture
def seat(world):
    return world.seat


@pytest.fixture
def agent(seat):
    return seat.agent(uuid.UUID(int=1))


def last(agent):
    """A chooser that takes the last job."""
    queue = agent.queue
    return queue.pull(-1) if queue else None


def even(job):
    return job.args[0] % 2 == 0


# Settings.


def test_agents_provide_their_interfaces(agent):
    assert verifyObject(IAgent, agent) and verifyObject(IFilterAgent, agent)
    assert verifyObject(ICompletedCollection, agent.completed)


def test_a_new_agent_is_empty(agent):
    assert len(agent) == 0 and not agent and list(agent) == []
    assert list(agent.waiting()) == [] and len(agent.completed) == 0
    assert agent.claimJob() is None


def test_an_agent_knows_where_it_belongs(seat, agent):
    assert agent.name == "main" and agent.queue is seat.queue
    assert agent.parent is seat.queue.dispatchers[uuid.UUID(int=1)]
    assert Agent().queue is None


def test_by_default_three_jobs_are_held_and_all_performed_at_once(agent):
    assert (agent.size, agent.threads) == (3, 3)
    agent.size = 5
    assert (agent.size, agent.threads) == (5, 5)
    agent.threads = 2
    assert (agent.size, agent.threads) == (5, 2)
    agent.size = 1
    assert (agent.size, agent.threads) == (1, 1)
    agent.threads = None
    agent.size = 9
    assert agent.threads == 9


@pytest.mark.parametrize("name", ["size", "threads", "round_size"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "3", True])
def test_counts_are_positive_integers(agent, name, value):
    before = getattr(agent, name)
    with pytest.raises(ValueError, match=f"{name} .*expected an integer") as caught:
        setattr(agent, name, value)
    assert repr(value) in str(caught.value)
    assert getattr(agent, name) == before
    if name != "round_size":
        with pytest.raises(ValueError, match="expected an integer"):
            Agent(**{name: value})


def test_an_agent_that_is_alone_has_no_rounds(agent):
    agent.round_size = 7
    assert agent.round_size == 7
    agent.alone = True
    assert agent.round_size == 1


def test_the_default_chooser_takes_the_first():
    assert Agent().chooser is chooseFirst and Agent().filter is None
    assert Agent(chooseFirst).chooser is chooseFirst
    assert Agent(last).chooser is last
    assert (Agent(filter=even).chooser, Agent(filter=even).filter) == (None, even)


def test_a_chooser_and_a_filter_exclude_each_other():
    with pytest.raises(ValueError, match="at most one"):
        Agent(last, even)
    agent = Agent(last)
    with pytest.raises(ValueError, match="at most one"):
        agent.filter = even
    agent.chooser = None
    agent.filter = even
    with pytest.raises(ValueError, match="at most one"):
        agent.chooser = last
    agent.chooser = chooseFirst  # does what filters do
    assert agent.filter is even
    agent.filter = None
    agent.chooser = last
    assert agent.chooser is last


@pytest.mark.parametrize("name", ["chooser", "filter"])
def test_what_could_not_be_loaded_is_refused_at_once(name):
    with pytest.raises(UnpicklableError, match="lambda"):
        Agent(**{name: lambda it: it})
    with pytest.raises(UnpicklableError, match="not callable"):
        setattr(Agent(), name, 5)


@pytest.mark.parametrize("name", ["chooser", "filter"])
def test_an_agent_whose_code_has_gone_claims_nothing(world, seat, monkeypatch, name):
    monkeypatch.setattr(queueing, "vanishing", even, raising=False)
    monkeypatch.setattr(even, "__module__", "tests.support.queueing")
    monkeypatch.setattr(even, "__qualname__", "vanishing")
    agent = seat.agent(**{name: even})
    seat.put(2)
    seat.commit()
    assert getattr(agent, name) is even
    monkeypatch.delattr(queueing, "vanishing")
    with pytest.raises(UnloadableCallableError, match="vanishing"):
        agent.claimJob()
    other = world.open()
    assert len(other.find_agent(agent.parent.UUID)) == 0  # can be loaded
    setattr(agent, name, None)
    assert agent.claimJob().args == [2]


# Claiming.


def test_an_agent_claims_no_more_than_its_size(seat, agent):
    jobs = seat.put(1, 2, 3, 4, 5)
    assert [agent.claimJob() for _ in range(4)] == [*jobs[:3], None]
    assert list(agent) == jobs[:3] and len(agent) == 3 and agent
    assert all(job.parent is agent and job.status == ASSIGNED for job in agent)
    assert jobs[0].agent is agent and jobs[0].queue is seat.queue
    agent.size = 4
    assert agent.claim_some(5) == [jobs[3]]
    agent.size = 1
    assert agent.claim_some(5) == []


def test_several_are_claimed_in_order(seat, agent):
    jobs = seat.put(*range(5))
    assert agent.claim_some(2) == jobs[:2]
    assert agent.claim_some(2) == [jobs[2]]
    assert list(agent) == jobs[:3]
    assert [agent.index(job) for job in jobs[:3]] == [0, 1, 2]
    with pytest.raises(ValueError):
        agent.index(jobs[3])


def test_an_agent_of_an_idle_dispatcher_claims_nothing(seat, agent):
    seat.put(1)
    agent.parent.deactivate()
    assert agent.claimJob() is None
    assert Agent().claimJob() is None
    agent.parent.activate()
    assert agent.claimJob() is not None


def test_a_chooser_chooses(seat):
    seat.put(1, 2, 3)
    agent = seat.agent(chooser=last)
    assert numbers([agent.claimJob(), agent.claimJob()]) == [3, 2]
    assert numbers(agent.claim_some(5)) == [1]
    assert agent.claim_some(5) == []


def test_a_filter_selects(seat):
    seat.put(1, 2, 3, 4)
    agent = seat.agent(filter=even)
    assert numbers(agent.claim_some(5)) == [2, 4]
    assert seat.waiting() == [1, 3]


def test_one_job_is_found_behind_any_number_that_wait_for_a_quota(
    seat, agent, monkeypatch
):
    monkeypatch.setattr(claiming, "FILE_AT_ONCE", 5)
    seat.queue.quotas.create("q")
    seat.put(*range(20), quota_names=("q",))
    seat.put("free")
    assert agent.claimJob().args == [0]
    assert agent.claim_some(1) == [] and seat.queue.more_to_claim
    assert agent.claimJob().args == ["free"]


def test_a_claim_that_is_aborted_has_not_happened(world, seat, agent):
    (job,) = seat.put(1)
    seat.commit()
    agent.claimJob()
    seat.abort()
    assert len(agent) == 0 and list(seat.queue) == [job] and job.status == PENDING


def test_the_wrapper_of_an_expired_job_is_stored(world, seat, agent):
    seat.put(1, begin_by=MINUTE)
    seat.commit()
    world.advance(hours=1)
    wrapper = agent.claimJob()
    assert wrapper._p_jar is seat.connection and wrapper.parent is agent
    seat.commit()
    wrapper()
    assert list(agent) == [] and len(agent.completed) == 2


# Letting go.


def test_a_completed_job_moves_to_the_completed_ones(seat, agent):
    one, two, three = seat.put(1, 2, 3)
    agent.claim_some(3)
    seat.commit()
    assert two() == 2
    assert list(agent) == [one, three] and list(agent.completed) == [two]
    assert two.parent is agent and two.status == COMPLETED
    assert len(agent.completed) == 1 and agent.completed.first() is two


def test_a_job_can_be_given_up(seat, agent):
    one, two, three = seat.put(1, 2, 3)
    agent.claim_some(3)
    agent.remove(two)
    assert list(agent) == [one, three]
    assert (two.status, two.parent) == (NEW, None)
    with pytest.raises(LookupError, match="not held by agent 'main'"):
        agent.remove(two)
    assert agent.pull() is one and agent.pull(-1) is three
    with pytest.raises(IndexError):
        agent.pull()


def test_a_job_that_is_active_stays_what_it_is(seat, agent):
    (job,) = seat.put(1)
    agent.claim_some(1)
    job._begin(clock.micros(clock.utcnow()))
    agent.remove(job)
    assert job.status == ACTIVE and job.parent is agent


def test_a_job_claimed_by_another_is_not_touched(seat, agent):
    (job,) = seat.put(1)
    agent.claim_some(1)
    other = seat.agent(uuid.UUID(int=2))
    job.parent = other
    agent.remove(job)
    assert (job.status, job.parent) == (ASSIGNED, other)


def test_reaping_does_not_load_the_job(world, seat, agent):
    seat.queue.quotas.create("q")
    seat.put(1, quota_names=("q",))
    agent.claim_some(1)
    seat.commit()
    seat.connection.cacheMinimize()
    ((key, job),) = agent.active_items()
    agent.reap(key, job, ("q",))
    assert job._p_changed is None  # a ghost
    assert list(agent) == [] and list(agent.completed) == [job]
    assert len(seat.queue.quotas["q"]) == 0
    agent.reap(key, job, ("q",))
    assert len(agent.completed) == 1


def test_a_job_put_back_is_forgotten_by_its_key(seat, agent):
    seat.queue.quotas.create("q")
    (job,) = seat.put(1, quota_names=("q",))
    agent.claim_some(1)
    ((key, _),) = agent.active_items()
    job._step(PENDING)
    seat.queue._add_to_front(job)
    agent.forget(key, job)
    assert list(agent) == [] and len(seat.queue.quotas["q"]) == 0
    agent.forget(key, job)


def test_a_job_put_back_and_claimed_again_is_held_once(seat, agent):
    seat.queue.quotas.create("q")
    (job,) = seat.put(1, quota_names=("q",))
    agent.claim_some(1)
    ((key, _),) = agent.active_items()
    job._step(PENDING)
    seat.queue._add_to_front(job)
    assert agent.claim_some(1) == [job] and len(agent) == 2
    agent.forget(key, job)
    assert list(agent) == [job] and list(seat.queue.quotas["q"]) == [job]


def test_a_waiting_job_holds_no_slot(seat, agent):
    agent.size = 1
    inner = Job(number, "inner")
    job = Job(hand_on, inner)
    seat.queue.put(job)
    seat.put(2)
    agent.claim_some(1)
    seat.commit()
    assert job() is inner
    agent.jobWaits(job)
    agent.jobWaits(job)
    assert list(agent) == [] and list(agent.waiting()) == [job]
    assert numbers(agent.claim_some(1)) == [2]
    seat.commit()
    inner()
    assert list(agent.waiting()) == [] and list(agent.completed) == [job]


def hand_on(job):
    return job


def test_jobs_completed_by_hand_in_two_connections_merge(world, seat, agent):
    seat.put(1, 2, 3)
    agent.claim_some(3)
    for _ in range(2):
        agent.completed.add(Job(number, 0))
    seat.commit()
    other = world.open()
    world.sync()
    mine, theirs = agent, other.find_agent(uuid.UUID(int=1))
    mine.jobCompleted(list(mine)[0])
    theirs.jobCompleted(list(theirs)[2])
    seat.commit()
    other.commit()
    world.sync()
    assert numbers(mine) == [2] and len(mine.completed) == 4


# The completed jobs.


def completed(world, agent, count, spacing):
    jobs = []
    for value in range(count):
        jobs.append(Job(number, value))
        agent.completed.add(jobs[-1])
        world.advance(seconds=spacing)
    return jobs


def test_completed_jobs_are_listed_from_the_newest(world, agent):
    jobs = completed(world, agent, 5, 60)
    assert list(agent.completed) == jobs[::-1]
    assert (agent.completed.first(), agent.completed.last()) == (jobs[4], jobs[0])
    start, stop = START + 3 * MINUTE, START + MINUTE
    assert list(agent.completed.iter(start, stop)) == [jobs[3], jobs[2]]
    assert list(agent.completed.iter(start)) == jobs[3::-1]
    assert list(agent.completed.iter(None, stop)) == [jobs[4], jobs[3], jobs[2]]


def test_nothing_completed_has_no_first(agent):
    for fails in (agent.completed.first, agent.completed.last):
        with pytest.raises(ValueError):
            fails()


def test_completed_jobs_are_let_go_after_about_a_week(world, agent):
    completed(world, agent, 3, 60)
    world.advance(days=5)
    completed(world, agent, 1, 60)
    assert len(agent.completed) == 4
    world.advance(days=4)
    completed(world, agent, 1, 60)
    assert len(agent.completed) == len(list(agent.completed)) == 2


# The handler.


def test_a_dispatcher_without_an_agent_is_given_one(seat, agent):
    agents = agent.parent
    addMainAgentActivationHandler(DispatcherActivated(agents))
    assert agents["main"] is agent
    seat.queue.dispatchers.register(uuid.UUID(int=2))
    agents = seat.queue.dispatchers[uuid.UUID(int=2)]
    addMainAgentActivationHandler(DispatcherActivated(agents))
    assert list(agents) == ["main"] and agents["main"].size == 3


def test_the_time_of_completion_comes_from_the_clock(world, agent):
    world.advance(days=300)
    completed(world, agent, 1, 0)
    before = clock.utcnow() - datetime.timedelta(seconds=1)
    assert len(list(agent.completed.iter(stop=before))) == 1
