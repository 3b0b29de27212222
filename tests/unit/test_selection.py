# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Which of the due jobs a claim takes."""

import logging
import uuid

import pytest
from ZODB.POSException import POSKeyError, ReadConflictError

from tests.support import queueing
from tests.support.queueing import HOUR, MINUTE, SECOND, World, number, numbers
from zc.async_ import clock, selection
from zc.async_.interfaces import (
    ASSIGNED,
    COMPLETED,
    NEW,
    PENDING,
    IFailure,
    TimeoutError,
)
from zc.async_.job import Job
from zc.async_.selection import SUSPECT

LOOK_AT_ONCE, LOOK_AGAIN = 25, 100


@pytest.fixture
def world():
    with World() as world:
        yield world


@pytest.fixture
def seat(world):
    return world.seat


@pytest.fixture(autouse=True)
def small_bounds(monkeypatch):
    monkeypatch.setattr(selection, "LOOK_AT_ONCE", LOOK_AT_ONCE)
    monkeypatch.setattr(selection, "LOOK_AGAIN", LOOK_AGAIN)


def even(job):
    return job.args[0] % 2 == 0


# Expiry.


def claimed_number(job):
    """The number of a job, or of the one that `job` makes fail."""
    return job.callable.__self__.args[0] if job.args == [TimeoutError] else job.args[0]


def test_a_job_past_its_begin_by_is_claimed_to_fail(world, seat):
    (job,) = seat.put(1, begin_by=MINUTE)
    seat.commit()
    world.advance(seconds=61)
    wrapper = seat.queue.claim()
    assert wrapper is not job and wrapper.callable == job.fail
    assert len(seat.queue) == 0
    wrapper.parent = agent = seat.agent()
    seat.commit()
    wrapper()
    assert job.status == COMPLETED and IFailure.providedBy(job.result)
    assert job.result.check(TimeoutError)
    assert wrapper.status == COMPLETED and not IFailure.providedBy(wrapper.result)
    assert job in list(agent.completed)


def test_a_job_is_in_time_until_the_very_end(world, seat):
    seat.put(1, 2, begin_by=MINUTE)
    world.advance(minutes=1)
    assert seat.queue.claim().args == [1]
    world.advance(microseconds=1)
    assert seat.queue.claim().args != [2]


def test_begin_by_counts_from_begin_after(world, seat):
    seat.put(1, begin_after=clock.utcnow() + HOUR, begin_by=MINUTE)
    world.advance(hours=1, seconds=59)
    assert seat.queue.claim().args == [1]


def test_a_begin_after_too_far_in_the_past_has_expired(seat):
    (job,) = seat.put(1, begin_after=clock.utcnow() - 59 * SECOND, begin_by=MINUTE)
    assert seat.queue.claim() is job
    (job,) = seat.put(1, begin_after=clock.utcnow() - 61 * SECOND, begin_by=MINUTE)
    assert seat.queue.claim().callable == job.fail


@pytest.mark.parametrize("default", [None, HOUR])
def test_the_default_begin_by_is_an_attribute_of_the_queue(world, seat, default):
    seat.queue.default_begin_by = default
    (job,) = seat.put(1)
    assert job.begin_by == default
    world.advance(days=1000)
    assert (seat.queue.claim() is job) == (default is None)


def test_a_filter_does_not_keep_a_job_from_expiring(world, seat):
    seat.put(1, 3, begin_by=MINUTE)
    agent = seat.agent(filter=even)
    assert agent.claimJob() is None
    world.advance(minutes=2)
    assert [claimed_number(job) for job in agent.claim_some(2)] == [1, 3]


def test_a_full_quota_does_not_keep_a_job_from_expiring(world, seat):
    seat.queue.quotas.create("q")
    seat.put(0, quota_names=("q",))
    seat.put(1, 2, quota_names=("q",), begin_by=MINUTE)
    seat.put(3, quota_names=("q",))
    agent = seat.agent(size=10)
    assert numbers(agent.claim_some(10)) == [0]
    world.advance(minutes=2)
    assert [claimed_number(job) for job in agent.claim_some(10)] == [1, 2]
    assert numbers(seat.queue.quotas["q"]) == [0]


def test_a_job_that_began_in_time_is_never_expired_on_retry(world, seat):
    (job,) = seat.put(1, begin_by=MINUTE)
    agent = seat.agent()
    agent.claimJob()
    job._begin(clock.micros(clock.utcnow()))
    agent.remove(job)
    seat.queue.reschedule(job, 2 * HOUR)
    world.advance(hours=3)
    assert agent.claimJob() is job


def test_a_job_put_back_before_it_began_expires(world, seat):
    (job,) = seat.put(1, begin_by=MINUTE)
    agent = seat.agent()
    agent.claimJob()
    agent.remove(job)
    seat.queue.putBack(job)
    world.advance(hours=1)
    assert claimed_number(agent.claimJob()) == 1 and job.status == NEW


def test_a_job_without_a_date_can_be_put_back(seat):
    job = Job(number, 1)
    job.begin_by = MINUTE
    seat.queue.putBack(job)
    assert seat.queue.claim() is job


# Filters.


def test_a_filter_chooses_the_first_job_that_passes(seat):
    seat.put(1, 2, 3, 4)
    assert seat.queue.claim(even).args == [2]
    assert seat.queue.claim(even).args == [4]
    assert seat.queue.claim(even) is None
    assert seat.queue.claim(even, "nothing") == "nothing"
    assert seat.waiting() == [1, 3]


def test_by_hand_a_filter_finds_a_job_behind_any_number(seat):
    seat.put(*range(1, 3000, 2), 2)
    assert seat.queue.claim(even).args == [2]


class Counting:
    """A filter that knows how often it was asked."""

    def __init__(self, predicate=even):
        self.predicate = predicate
        self.count = 0

    def __call__(self, job):
        self.count += 1
        return self.predicate(job)

    def asked(self):
        count, self.count = self.count, 0
        return count


def claims(agent, count=1):
    return [job.args[0] for job in agent.claim_some(count)]


def test_each_claim_looks_at_all_while_few_are_refused(seat):
    agent = seat.agent(filter=Counting())
    seat.put(*range(1, 2 * (LOOK_AT_ONCE - 5), 2))
    for _ in range(3):
        assert claims(agent) == []
        assert agent.filter.asked() == LOOK_AT_ONCE - 5
        assert not seat.pending.more_to_file


def test_a_walk_of_a_filter_is_bounded_and_goes_on(seat):
    agent = seat.agent(filter=Counting())
    seat.put(*range(1, 401, 2), 2)
    found, walks = [], 0
    while not found:
        found = claims(agent)
        walks += 1
        assert agent.filter.asked() <= LOOK_AT_ONCE + LOOK_AGAIN
        assert found or seat.pending.more_to_file
    assert found == [2]
    assert walks == 200 // LOOK_AT_ONCE + 1


def far_behind(seat, count=300):
    """An agent that has looked at many jobs and refused them."""
    agent = seat.agent(filter=Counting(), size=10)
    seat.put(*range(1, 2 * count, 2))
    for _ in range(count):
        assert claims(agent) == []
        if not seat.pending.more_to_file:
            break
    agent.filter.asked()
    return agent


def test_new_jobs_are_found_at_once_behind_many_that_were_refused(world, seat):
    agent = far_behind(seat)
    while claims(agent) or agent.filter.asked():
        pass  # until this second's looks at old jobs are used up
    seat.put(2, 4)
    assert claims(agent, 2) == [2, 4]
    assert agent.filter.asked() == 2


def test_old_jobs_are_looked_at_again_with_a_bound(world, seat):
    agent = far_behind(seat)
    agent.filter.predicate = lambda job: job.args[0] == 599
    for _ in range(300 // LOOK_AGAIN - 1):
        assert claims(agent) == []
        assert agent.filter.asked() <= LOOK_AGAIN
        world.advance(seconds=1)
    assert claims(agent) == [599]


def test_what_comes_late_behind_what_was_looked_at_is_found_soon(world, seat):
    agent = far_behind(seat)
    seat.commit()
    job = Job(number, 2)
    job.begin_after = clock.utcnow() - MINUTE
    seat.queue.put(job)
    found = []
    for _ in range(10):
        world.advance(seconds=1)
        found += claims(agent)
    assert found == [2]


def test_when_few_are_left_each_claim_looks_at_all_again(world, seat):
    agent = far_behind(seat)
    while len(seat.queue) > LOOK_AT_ONCE - 5:
        seat.queue.pull()
    for _ in range(5):
        world.advance(seconds=1)
        claims(agent)
    for _ in range(10):  # in one second
        agent.filter.asked()
        assert claims(agent) == []
        assert agent.filter.asked() == LOOK_AT_ONCE - 5


def test_another_filter_begins_anew(seat):
    agent = far_behind(seat)
    agent.filter = Counting(lambda job: job.args[0] == 1)
    assert claims(agent) == [1]


def test_expired_jobs_are_found_behind_many_that_were_refused(world, seat):
    agent = far_behind(seat)
    agent.size = 1000
    world.advance(hours=2)
    found = []
    for _ in range(20):
        found += [claimed_number(job) for job in agent.claim_some(1000)]
        world.advance(seconds=1)
    assert sorted(found) == list(range(1, 601, 2))


def raising(job):
    if job.args[0] == 1:
        raise KeyError("no such thing")
    return True


def test_a_filter_that_raises_refuses_and_is_logged_once_a_claim(seat, caplog):
    seat.put(1, 1, 2)
    with caplog.at_level(logging.ERROR, "zc.async.events"):
        assert seat.agent(filter=raising).claim_some(3)[0].args == [2]
    (record,) = caplog.records
    assert "raising" in record.getMessage() and "number(1)" in record.getMessage()
    assert seat.waiting() == [1, 1]


def test_a_conflict_in_a_filter_is_not_swallowed(seat):
    def conflicting(job):
        raise ReadConflictError("again")

    seat.put(1)
    with pytest.raises(ReadConflictError):
        seat.queue.claim(conflicting)


def test_a_job_whose_code_has_gone_is_claimed_to_fail_whatever_the_filter(
    seat, monkeypatch
):
    (job,) = seat.put(1)
    seat.commit()
    monkeypatch.delattr(queueing, "number")
    assert seat.queue.claim(lambda job: job.callable is even) is job


# Jobs that cannot be loaded.


def offered(seat, monkeypatch, error):
    """Put three jobs, of which loading the second raises `error`."""
    _, second, _ = seat.put(1, 2, 3)
    original = selection._is_expired

    def is_expired(job, now):
        if job is second:
            raise error
        return original(job, now)

    monkeypatch.setattr(selection, "_is_expired", is_expired)
    return second


@pytest.mark.parametrize("error", [AttributeError(), POSKeyError(b"1"), ImportError()])
def test_a_job_that_cannot_be_loaded_is_set_aside(seat, monkeypatch, caplog, error):
    second = offered(seat, monkeypatch, error)
    with caplog.at_level(logging.ERROR, "zc.async.events"):
        assert seat.claim_all() == [1, 3]
    assert len(caplog.records) == 1 and "aside" in caplog.records[0].getMessage()
    assert len(seat.queue) == 0
    monkeypatch.undo()
    assert seat.queue.bring_back() == 1
    assert seat.queue.claim() is second


@pytest.mark.parametrize("error", [ReadConflictError("x"), ConnectionError("gone")])
def test_a_job_is_not_set_aside_for_an_error_of_the_storage(seat, monkeypatch, error):
    offered(seat, monkeypatch, error)
    with pytest.raises(type(error)):
        seat.queue.claim_some(3)
    assert len(seat.pending.aside) == 0


def test_a_blocked_job_that_cannot_be_loaded_is_set_aside_too(seat, monkeypatch):
    seat.queue.quotas.create("q")
    seat.put(0, quota_names=("q",))
    second = offered(seat, monkeypatch, AttributeError("x"))
    seat.queue.quotas["q"].add(next(iter(seat.queue)))
    second.quota_names = ("q",)
    assert seat.claim_all() == [0, 1, 3]
    assert len(seat.pending.aside) == 1


# Jobs under which a process has died.


def suspects(seat, *values):
    jobs = seat.put(*values)
    for job in jobs:
        seat.queue.remove(job)
        job.deaths = 1
        seat.queue.put(job)
    return jobs


def test_a_dispatcher_holds_one_suspect_at_a_time(seat):
    first, second = suspects(seat, 1, 2)
    seat.put(3, 4)
    agent = seat.agent(uuid.UUID(int=1), size=10)
    assert numbers(agent.claim_some(10)) == [1, 3, 4]
    assert agent.claim_some(10) == []
    other = seat.agent(uuid.UUID(int=2), size=10)
    assert numbers(other.claim_some(10)) == [2]
    agent.remove(first)
    seat.queue.putBack(first)
    assert numbers(agent.claim_some(10)) == [1]


def test_a_suspect_in_another_agent_of_the_dispatcher_counts(seat):
    suspects(seat, 1, 2)
    agent = seat.agent()
    agent.parent["other"] = other = type(agent)()
    assert numbers(agent.claim_some(10)) == [1]
    assert other.claim_some(10) == []


def test_by_hand_suspects_are_claimed_as_any_job(seat):
    suspects(seat, 1, 2)
    assert seat.claim_all() == [1, 2]


def test_a_suspect_waits_in_its_lane_beside_its_quotas(seat):
    seat.queue.quotas.create("q")
    jobs = seat.put(1, 2, quota_names=("q",))
    jobs[1].deaths = 1
    seat.queue.remove(jobs[1])
    seat.queue.put(jobs[1])
    agent = seat.agent(size=10)
    assert numbers(agent.claim_some(10)) == [1]
    assert list(seat.pending.lanes) == [("q", SUSPECT)]


# Shares.


def test_two_dispatchers_rarely_want_the_same_jobs(world):
    agents = [world.seat.agent(uuid.UUID(int=each), 16) for each in (1, 2)]
    world.seat.put(*range(200))
    world.seat.commit()
    other = world.open()
    world.sync()
    mine = numbers(agents[0].claim_some(16))
    theirs = numbers(other.find_agent(uuid.UUID(int=2)).claim_some(16))
    assert not set(mine) & set(theirs)
    assert max(mine + theirs) < 33
    world.seat.commit()
    other.commit()


def test_a_dispatcher_helps_the_others(seat):
    agents = [seat.agent(uuid.UUID(int=each), 200) for each in (1, 2, 3)]
    seat.put(*range(200))
    assert sorted(claims(agents[1], 200)) == list(range(200))


def test_one_who_is_alone_or_takes_jobs_by_hand_keeps_the_order(seat):
    agent = seat.agent(uuid.UUID(int=1), 20)
    seat.agent(uuid.UUID(int=2)).parent.deactivate()
    seat.put(*range(100))
    assert claims(agent, 20) == list(range(20))
    seat.queue.dispatchers[uuid.UUID(int=2)].activate()
    assert seat.claim_all() == list(range(20, 100))


def test_jobs_of_a_quota_and_those_put_back_keep_their_order(seat):
    agents = [seat.agent(uuid.UUID(int=each), 50) for each in (1, 2)]
    seat.queue.quotas.create("q", 100)
    seat.put(*range(10), quota_names=("q",))
    for job in seat.put(*range(100, 105)):
        seat.queue.remove(job)
        seat.queue.putBack(job)
    expected = [104, 103, 102, 101, 100, *range(10)]
    assert [claims(agent, 1)[0] for agent in agents for _ in range(7)] == expected[:14]


# The rest.


def test_a_claimed_job_belongs_to_its_claimer(seat):
    (job,) = seat.put(1)
    assert (job.status, job.parent) == (PENDING, seat.queue)
    assert seat.queue.claim() is job
    assert (job.status, job.parent) == (NEW, None)
    job.parent = agent = seat.agent()
    assert (job.status, job.parent) == (ASSIGNED, agent)


def test_a_paused_queue_gives_nothing_until_it_is_resumed(world, seat):
    seat.put(1, 2)
    agent = seat.agent()
    seat.queue.pause()
    seat.put(3)
    assert seat.queue.paused
    assert seat.queue.claim() is None and agent.claim_some(3) == []
    assert seat.waiting() == [1, 2, 3]
    seat.queue.resume()
    assert numbers(agent.claim_some(3)) == [1, 2, 3]


def test_nothing_is_due_before_its_time(world, seat):
    seat.put(1, begin_after=clock.utcnow() + SECOND)
    assert seat.queue.claim() is None
    world.advance(seconds=1)
    assert seat.queue.claim().args == [1]
