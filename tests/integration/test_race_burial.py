# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Dispatchers that are dead, or are thought to be."""

import datetime
import logging
import uuid

import pytest
import transaction
import zope.component

from tests.support.gates import gate
from tests.support.waking import wait_until
from zc.async_ import clock, local
from zc.async_.interfaces import (
    ACTIVE,
    COMPLETED,
    PENDING,
    IDispatcherReactivated,
)


def count(name):
    root = local.getJob()._p_jar.root()
    gate(name).enter()
    root["count"] = root.get("count", 0) + 1
    return root["count"]


def test_a_buried_dispatcher_that_lives_comes_back_and_counts_once(site, caplog):
    events = []
    zope.component.provideHandler(events.append, (IDispatcherReactivated,))
    made = site.dispatcher()
    job = site.put(count, "buried")
    gate("buried").wait_for()
    site.sync()
    site.agents(made).deactivate()
    transaction.commit()
    site.wait_until(lambda: site.is_activated(made), "the reactivation")
    gate("buried").wait_for(2)  # both attempts are under way now
    gate("buried").open()
    assert site.wait(job) == 1
    gate("buried").wait_for_passed(2)
    wait_until(lambda: not made.getActiveJobIds(), "both to end")
    site.sync()
    assert site.root["count"] == 1
    assert (job.attempts, job.interruptions) == (2, 1)
    assert [event.object._p_oid for event in events] == [site.agents(made)._p_oid]
    assert "was declared dead" in caplog.text
    site.wait_until(lambda: not len(site.agent(made)), "an empty agent")


def test_the_late_commit_of_a_buried_dispatcher_loses(site, caplog):
    caplog.set_level(logging.WARNING, "zc.async.trace")
    first = site.dispatcher()
    job = site.put(count, "late")
    gate("late").wait_for()
    second = site.dispatcher()
    site.sync()
    # It may have no new job, so that the second one has to do this.
    site.agent(first).chooser = no_job
    site.agents(first).deactivate()
    transaction.commit()
    gate("late").wait_for(2)
    gate("late").open()
    assert site.wait(job) == 1
    gate("late").wait_for_passed(2)
    wait_until(
        lambda: not (first.getActiveJobIds() or second.getActiveJobIds()),
        "both to end",
    )
    site.sync()
    assert site.root["count"] == 1
    site.wait_until(
        lambda: not len(site.agent(first)) and not len(site.agent(second)),
        "empty agents",
    )
    assert job.agent.parent.UUID == second.UUID
    (ids,) = claimed_ids(first)
    assert first.getJobInfo(*ids)["reassigned"]
    assert "belongs to somebody else" in caplog.text


def no_job(agent):
    return None


def claimed_ids(made):
    return [ids for poll in made.polls for ids in poll[""]["main"]["new jobs"]]


@pytest.fixture
def movable():
    """The clock of the package, which moves when it is told to."""
    made = clock.MovableClock()
    clock.install(made)
    yield made
    clock.uninstall()


def wait_for_polls(made):
    """Wait until two polls have been made that begin from now on."""
    begun = {made.polls.first().key}

    def look():
        begun.add(made.polls.first().key)
        return len(begun) > 3

    wait_until(look, "two whole polls")


def dead_sibling(site):
    """A dispatcher without a process, whose agent has a job that is ACTIVE."""
    UUID = uuid.uuid4()
    site.queue.dispatchers.register(UUID)
    agents = site.queue.dispatchers[UUID]
    agents.activate()
    agents.ping()
    transaction.commit()
    job = site.put(count, "sibling")
    assert agents["main"].claimJob() is job
    job._begin(clock.micros(clock.utcnow()))
    transaction.commit()
    return UUID, job


def test_death_is_a_silence_that_the_observer_has_measured_itself(site, movable):
    gate("sibling").open()
    UUID, job = dead_sibling(site)
    made = site.dispatcher(poll_interval=0.02)
    agents = site.queue.dispatchers[UUID]

    wait_for_polls(made)
    movable.step(datetime.timedelta(days=1))  # the wall clock says little
    wait_for_polls(made)
    site.sync()
    assert agents.activated and job.status == ACTIVE
    movable.advance(59)
    wait_for_polls(made)
    site.sync()
    assert agents.activated and job.status == ACTIVE
    movable.advance(2)
    site.wait_until(lambda: not agents.activated, "the burial")
    assert site.wait(job) == 1
    assert (job.interruptions, job.deaths) == (1, 1)
    assert job.agent.parent.UUID == made.UUID


def test_a_sign_of_life_begins_the_silence_anew(site, movable):
    UUID, job = dead_sibling(site)
    made = site.dispatcher(poll_interval=0.02)
    agents = site.queue.dispatchers[UUID]
    for _ in range(4):
        wait_for_polls(made)
        movable.advance(40)
        site.sync()
        assert agents.ping()
        transaction.commit()
    site.sync()
    assert agents.activated and job.status == ACTIVE


def test_two_who_bury_the_same_one_do_it_once(site, movable):
    gate("sibling").open()
    UUID, job = dead_sibling(site)
    made = [site.dispatcher(poll_interval=0.02) for _ in range(2)]
    for each in made:
        site.agents(each).ping_interval = datetime.timedelta(seconds=1)
    transaction.commit()
    for _ in range(4):
        movable.advance(20)
        now = clock.utcnow()
        for each in made:  # or they would bury each other as well
            site.wait_until(
                lambda each=each, now=now: site.agents(each).last_ping == now, "pings"
            )
            wait_for_polls(each)
    agents = site.queue.dispatchers[UUID]
    site.wait_until(lambda: not agents.activated, "the burial")
    assert site.wait(job) == 1
    site.sync()
    assert job.interruptions == 1
    assert site.root["count"] == 1
    assert not len(site.queue)


def test_a_job_that_went_back_before_its_dispatcher_died_is_not_handed_back_twice(
    site, movable
):
    # The worker has put it back, and nobody has reaped it: it is in both places.
    UUID, job = dead_sibling(site)
    site.queue.reschedule(job, datetime.timedelta(hours=1))
    transaction.commit()
    agent = site.queue.dispatchers[UUID]["main"]
    assert list(agent) == [job] and job.status == PENDING
    made = site.dispatcher(poll_interval=0.02)
    wait_for_polls(made)
    movable.advance(61)
    site.wait_until(lambda: not agent.parent.activated, "the burial")
    assert len(agent) == 0
    assert list(site.queue) == [job] and len(site.queue) == 1
    assert job.interruptions == 0


def test_a_job_that_another_has_claimed_stays_with_it(site, movable):
    # As above, but a living dispatcher is already at work on it.
    site.queue.quotas.create("one")
    UUID, job = dead_sibling(site)
    job.quota_names = ("one",)
    site.queue.quotas["one"].add(job)
    site.queue.putBack(job)
    transaction.commit()
    agent = site.queue.dispatchers[UUID]["main"]
    made = site.dispatcher(poll_interval=0.02)
    gate("sibling").wait_for()
    site.sync()
    assert list(agent) == [job] and list(site.agent(made)) == [job]
    wait_for_polls(made)
    movable.advance(61)
    site.wait_until(lambda: not agent.parent.activated, "the burial")
    assert len(agent) == 0 and list(site.agent(made)) == [job]
    assert job.status == ACTIVE and list(site.queue.quotas["one"]) == [job]
    gate("sibling").open()
    assert site.wait(job) == 1
    assert job.status == COMPLETED and job.interruptions == 0
