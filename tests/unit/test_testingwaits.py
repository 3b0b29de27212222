# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""What the waits say when nothing comes; that it comes is tested with threads."""

import datetime

import pytest
import transaction

from zc.async_ import clock, testing
from zc.async_.agent import Agent
from zc.async_.job import Job
from zc.async_.testing import (
    wait_for_annotation,
    wait_for_death,
    wait_for_result,
    wait_for_start,
)

HOUR = datetime.timedelta(hours=1)


@pytest.fixture
def env():
    with testing.environment(now=testing.START) as env:
        yield env


@pytest.fixture
def queue(env):
    return env.queue


def work():
    return 42


def committed(job):
    transaction.commit()
    return job


def complaint(wait, *args, seconds=0):
    with pytest.raises(AssertionError) as caught:
        wait(*args, seconds=seconds)
    return str(caught.value)


def register(queue, with_agent):
    queue.dispatchers.register(testing_uuid := "some uuid")
    agents = queue.dispatchers[testing_uuid]
    agents.activate()
    if with_agent:
        agents["main"] = Agent(size=1)
    transaction.commit()
    return agents


def test_a_completed_job_is_not_waited_for(queue):
    job = queue.put(work)
    testing.perform_due(queue)
    wait_for_start(job, seconds=0)
    assert wait_for_result(job, seconds=0) == 42


def test_an_annotation_that_is_there_is_returned(queue):
    job = queue.put(work)
    job.annotations["name"] = "value"
    assert wait_for_annotation(committed(job), "name", seconds=0) == "value"


@pytest.mark.parametrize("wait", [wait_for_result, wait_for_start])
def test_a_job_that_was_not_committed_cannot_be_waited_for(queue, wait):
    job = queue.put(work)
    assert "transaction.commit()" in complaint(wait, job)
    assert job in queue


def test_a_job_that_was_never_put_cannot_be_waited_for():
    assert "transaction.commit()" in complaint(wait_for_result, Job(work))


def test_a_stored_job_that_is_not_loaded_can_be_waited_for(queue):
    job = committed(queue.put(work))
    job._p_deactivate()
    assert "pending" in complaint(wait_for_result, job)


def test_what_was_waited_for_is_said(queue):
    job = committed(queue.put(work))
    found = complaint(wait_for_result, job)
    assert repr(job) in found
    assert "waited 0 seconds" in found
    assert "to be completed; it is pending-status in queue ''" in found
    assert "to be begun" in complaint(wait_for_start, job)
    assert "annotation 'here'" in complaint(wait_for_annotation, job, "here")


def test_the_changes_of_the_caller_are_lost(env):
    job = committed(env.queue.put(work))
    env.root["here"] = 1
    complaint(wait_for_result, job)
    assert "here" not in env.root


def test_the_absence_of_a_dispatcher_is_said(queue):
    job = committed(queue.put(work))
    assert "no dispatcher is activated" in complaint(wait_for_result, job)


def test_the_absence_of_an_agent_is_said(queue):
    job = committed(queue.put(work))
    register(queue, with_agent=False)
    assert "no activated dispatcher has an agent" in complaint(wait_for_result, job)


def test_the_time_of_a_job_that_is_not_due_is_said(queue):
    job = committed(queue.put(work, begin_after=clock.utcnow() + HOUR))
    register(queue, with_agent=True)
    found = complaint(wait_for_result, job)
    assert f"due at {clock.utcnow() + HOUR}" in found
    assert "no dispatcher" not in found


def test_a_pause_is_said(queue):
    job = queue.put(work)
    queue.pause()
    assert "paused" in complaint(wait_for_result, committed(job))


def test_a_filled_quota_is_said(queue):
    queue.quotas.create("narrow")
    agents = register(queue, with_agent=True)
    for _ in range(2):
        job = queue.put(work)
        job.quota_names = ("narrow",)
    agents["main"].claimJob()
    found = complaint(wait_for_result, committed(job))
    assert "quota 'narrow' is filled" in found


def test_the_agent_that_holds_a_job_is_said(queue):
    agents = register(queue, with_agent=True)
    queue.put(work)
    job = agents["main"].claimJob()
    assert "in 'main'" in complaint(wait_for_result, committed(job))


def test_death_is_waited_for(queue):
    agents = register(queue, with_agent=False)
    found = complaint(wait_for_death, agents)
    assert "to be dead" in found and str(agents.UUID) in found
    testing.set_now(clock.utcnow() + HOUR)
    wait_for_death(agents, seconds=0)


def test_a_buried_dispatcher_is_dead(queue):
    agents = register(queue, with_agent=False)
    agents.deactivate()
    transaction.commit()
    wait_for_death(agents, seconds=0)
