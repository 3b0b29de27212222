# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
import uuid

import pytest
from ZODB.POSException import ReadConflictError
from zope.interface.verify import verifyObject

from tests.support.queueing import World, number, numbers
from zc.async_.interfaces import ASSIGNED, COMPLETED, PENDING, IQuota, IQuotas
from zc.async_.job import Job
from zc.async_.quota import Quota, Quotas


@pytest.fixture
def world():
    with World() as world:
        yield world


@pytest.fixture
def seat(world):
    return world.seat


@pytest.fixture
def quota(seat):
    seat.queue.quotas.create("q", 2)
    seat.commit()
    return seat.queue.quotas["q"]


def test_quotas_provide_their_interfaces(seat, quota):
    assert verifyObject(IQuota, quota)
    assert verifyObject(IQuotas, seat.queue.quotas)


# One quota.


def test_a_quota_knows_its_name_parent_and_size(seat, quota):
    assert (quota.name, quota.parent, quota.size) == ("q", seat.queue.quotas, 2)
    assert list(quota) == [] and len(quota) == 0 and bool(quota) and not quota.filled


def test_the_size_of_a_quota_is_one_by_default_and_can_be_changed(seat):
    seat.queue.quotas.create("default")
    quota = seat.queue.quotas["default"]
    assert quota.size == 1
    quota.size = 7
    assert quota.size == 7


@pytest.mark.parametrize("size", [0, -1, None, "1", 1.5, True])
def test_a_size_that_is_no_positive_integer_is_refused(seat, quota, size):
    with pytest.raises(ValueError, match="expected an integer") as caught:
        quota.size = size
    assert repr(size) in str(caught.value) and "'q'" in str(caught.value)
    assert quota.size == 2
    with pytest.raises(ValueError, match="expected an integer"):
        seat.queue.quotas.create("r", size)
    assert "r" not in seat.queue.quotas


def test_only_jobs_that_name_the_quota_can_be_added(quota):
    job = Job(number, 1)
    with pytest.raises(ValueError, match="'q' among them"):
        quota.add(job)
    job.quota_names = ("q",)
    quota.add(job)
    quota.add(job)
    assert list(quota) == [job] and job in quota and not quota.filled
    quota.discard(job)
    quota.discard(job)
    assert list(quota) == [] and job not in quota


# The quotas of a queue.


def test_a_name_is_used_once(seat, quota):
    with pytest.raises(ValueError, match="'q' already"):
        seat.queue.quotas.create("q")
    assert seat.queue.quotas["q"] is quota


@pytest.mark.parametrize("name", [None, 1, b"q", ("q",)])
def test_a_name_is_a_string(seat, name):
    with pytest.raises(TypeError, match="expected a string") as caught:
        seat.queue.quotas.create(name)
    assert repr(name) in str(caught.value)


def test_only_quotas_can_be_inserted(seat):
    with pytest.raises(ValueError, match="IQuota"):
        seat.queue.quotas["x"] = object()
    seat.queue.quotas["x"] = quota = Quota("x", 3)
    assert seat.queue.quotas["x"] is quota


def test_a_quota_can_be_removed(seat, quota):
    seat.queue.quotas.remove("q")
    assert quota.parent is None and list(seat.queue.quotas) == []
    with pytest.raises(KeyError):
        seat.queue.quotas.remove("q")


def test_quotas_are_a_mapping(seat, quota):
    assert isinstance(seat.queue.quotas, Quotas)
    assert list(seat.queue.quotas.items()) == [("q", quota)]


# As limits.


def test_no_more_jobs_than_the_quota_has_places_are_claimed(seat, quota):
    seat.put(*range(5), quota_names=("q",))
    seat.put("free")
    agent = seat.agent(size=10)
    assert numbers(agent.claim_some(10)) == [0, 1, "free"]
    assert numbers(quota) == [0, 1] and quota.filled
    assert agent.claim_some(10) == []


def test_a_job_that_ends_gives_its_place_to_the_next(seat, quota):
    seat.put(*range(5), quota_names=("q",))
    agent = seat.agent(size=10)
    first, second = agent.claim_some(10)
    seat.commit()
    second()
    assert first.status == ASSIGNED and second.status == COMPLETED
    assert numbers(agent.claim_some(10)) == [2]
    assert numbers(quota) == [0, 2]


def test_a_job_claimed_by_hand_holds_its_place_until_it_is_performed(seat):
    seat.queue.quotas.create("one")
    seat.put(1, 2, quota_names=("one",))
    seat.commit()
    job = seat.queue.claim()
    assert seat.queue.claim() is None
    job()
    assert seat.queue.claim().args == [2]


def test_a_job_of_two_quotas_needs_a_place_in_both(seat, quota):
    seat.queue.quotas.create("one")
    seat.put(1, 2, quota_names=("one", "q"))
    seat.put(3, quota_names=("one",))
    seat.put(4, 5, quota_names=("q",))
    agent = seat.agent(size=10)
    assert numbers(agent.claim_some(10)) == [1, 4]
    assert numbers(quota) == [1, 4]
    assert numbers(seat.queue.quotas["one"]) == [1]


@pytest.mark.parametrize("names", [("q", "q"), ["q"], {"q"}, iter(["q"])])
def test_names_may_come_in_any_iterable_and_twice(seat, quota, names):
    (job,) = seat.put(1, quota_names=names)
    seat.queue.claim()
    assert list(quota) == [job]


def test_a_quota_that_grows_or_shrinks_counts_from_then_on(seat, quota):
    seat.put(*range(9), quota_names=("q",))
    agent = seat.agent(size=10)
    agent.claim_some(10)
    quota.size = 3
    assert numbers(agent.claim_some(10)) == [2]
    quota.size = 1
    seat.commit()
    for job in list(agent)[:2]:
        job()
    assert agent.claim_some(10) == [] and numbers(quota) == [2]


def test_a_removed_quota_limits_nothing_any_more(seat, quota):
    seat.put(*range(5), quota_names=("q",))
    agent = seat.agent(size=10)
    agent.claim_some(10)
    seat.queue.quotas.remove("q")
    assert numbers(agent.claim_some(10)) == [2, 3, 4]
    for job in list(agent):
        agent.remove(job)
        seat.queue.putBack(job)
    assert sorted(numbers(agent.claim_some(10))) == list(range(5))


def test_a_quota_made_again_counts_the_jobs_that_are_held(seat, quota):
    seat.put(*range(5), quota_names=("q",))
    agent = seat.agent(size=10)
    agent.claim_some(10)
    seat.queue.quotas.remove("q")
    seat.queue.quotas.create("q", 3)
    assert numbers(seat.queue.quotas["q"]) == [0, 1]
    assert numbers(agent.claim_some(10)) == [2]


def test_a_job_that_is_handed_back_or_removed_gives_up_its_place(seat, quota):
    seat.put(*range(5), quota_names=("q",))
    agent = seat.agent(size=10)
    first, second = agent.claim_some(10)
    agent.remove(first)
    assert numbers(quota) == [1]
    agent.parent.deactivate()
    assert numbers(quota) == []
    assert second.status == PENDING


def test_a_job_that_waits_for_another_gives_up_its_place(seat):
    seat.queue.quotas.create("one")
    inner = Job(number, "inner")
    outer = Job(nothing_but, inner)
    outer.quota_names = ("one",)
    seat.queue.put(outer)
    seat.put(1, quota_names=("one",))
    seat.commit()
    agent = seat.agent(size=10)
    (job,) = agent.claim_some(10)
    job()
    assert job.waiting
    assert numbers(agent.claim_some(10)) == [1]


def nothing_but(job):
    return job


def test_a_quota_is_not_blocked_by_a_job_that_cannot_be_loaded(seat, quota):
    class Broken:
        @property
        def status(self):
            raise AttributeError("broken")

    quota._holders = (Broken(), Broken())
    seat.put(1, quota_names=("q",))
    assert seat.queue.claim().args == [1]


def test_a_lost_connection_is_not_taken_for_a_job_that_is_gone(quota):
    class Unreachable:
        @property
        def status(self):
            raise ReadConflictError("try again")

    quota._holders = (Unreachable(), Unreachable())
    with pytest.raises(ReadConflictError):
        quota.clean()
    assert quota.filled


# Between two dispatchers.


def two_agents(world, size=10):
    mine = world.seat.agent(uuid.UUID(int=1), size)
    world.seat.agent(uuid.UUID(int=2), size)
    world.seat.commit()
    other = world.open()
    world.sync()
    return mine, other.find_agent(uuid.UUID(int=2)), other


def active(*agents):
    return sorted(job.args[0] for agent in agents for job in agent)


def test_two_dispatchers_that_claim_at_once_stay_within_the_limit(world, quota):
    world.seat.put(*range(9), quota_names=("q",))
    mine, theirs, other = two_agents(world)
    assert len(mine.claim_some(10)) == len(theirs.claim_some(10)) == 2
    world.seat.commit()
    assert not other.tries(lambda: None)
    assert theirs.claim_some(10) == []


def test_the_last_place_is_taken_once(world, quota):
    world.seat.put(*range(9), quota_names=("q",))
    mine, theirs, other = two_agents(world)
    mine.claim_some(1)
    world.seat.commit()
    world.sync()
    assert len(mine.claim_some(10)) == len(theirs.claim_some(10)) == 1
    assert other.tries(lambda: None)
    assert not world.seat.tries(lambda: None)
    world.sync()
    assert len(active(mine, theirs)) == 2


def test_a_job_claimed_again_before_its_place_was_cleared_counts(world, quota):
    """One dispatcher takes up a job that the other sees given back."""
    world.seat.put(*range(9), quota_names=("q",))
    mine, theirs, other = two_agents(world)
    first, second = mine.claim_some(10)
    world.seat.commit()
    # The worker puts the first job back; nobody has reaped it yet.
    first._step(PENDING)
    first.parent = world.seat.queue
    world.seat.queue._add_to_front(first)
    world.seat.commit()
    quota.size = 3
    world.seat.commit()
    world.sync()
    assert numbers(theirs.claim_some(1)) == [0]  # holds a place there already
    quota.clean()
    claimed = world.seat.queue.claim_some(10, lambda job: job.args != [0], mine)
    assert numbers(claimed) == [2, 3]
    assert other.tries(lambda: None)
    assert not world.seat.tries(lambda: None)


def test_reaping_does_not_take_a_place_from_the_next_holder(world, quota):
    world.seat.put(1, quota_names=("q",))
    mine, theirs, other = two_agents(world)
    (job,) = mine.claim_some(1)
    job._step("active-status")
    world.seat.commit()
    job._step(PENDING)
    job.parent = world.seat.queue
    world.seat.queue._add_to_front(job)
    world.seat.commit()
    world.sync()
    assert len(theirs.claim_some(1)) == 1
    other.commit()
    world.sync()
    mine.release(job)
    world.seat.commit()
    world.sync()
    assert numbers(quota) == [1] and len(mine) == 0
