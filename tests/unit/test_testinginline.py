# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
import datetime

import pytest
import transaction
from twisted.internet.defer import Deferred

from zc.async_ import clock, local, testing
from zc.async_.interfaces import (
    ACTIVE,
    COMPLETED,
    NEW,
    PENDING,
    AbortedError,
    IFailure,
)
from zc.async_.job import Job

HOUR = datetime.timedelta(hours=1)
calls = []


@pytest.fixture
def env():
    calls.clear()
    with testing.environment(now=testing.START) as env:
        yield env


@pytest.fixture
def queue(env):
    return env.queue


def note(value=None):
    calls.append(value)
    return value


def fail():
    raise KeyError("expected by the test")


def put_another(value):
    return note(local.getQueue().put(Job(note, value)) and value)


def return_another():
    return local.getQueue().put(Job(note, "inner"))


def quit_process():
    raise SystemExit("expected by the test")


deferreds = []


def return_deferred():
    deferreds.append(Deferred())
    return deferreds[-1]


async def coroutine():
    return "from a coroutine"


def nest():
    testing.perform_due(local.getQueue())


def test_due_jobs_are_performed_in_their_order_in_this_thread(queue):
    jobs = [queue.put(Job(note, number)) for number in range(5)]
    assert testing.perform_due(queue) == jobs
    assert calls == [0, 1, 2, 3, 4]
    assert [job.result for job in jobs] == [0, 1, 2, 3, 4]
    assert {job.status for job in jobs} == {COMPLETED}
    assert len(queue) == 0


def test_nothing_due_is_nothing_performed(queue):
    assert testing.perform_due(queue) == []


def test_what_the_caller_changed_is_committed(env):
    env.root["here"] = 1
    testing.perform_due(env.queue)
    transaction.abort()
    assert env.root["here"] == 1


def test_jobs_that_are_not_due_stay(queue):
    job = queue.put(note, begin_after=clock.utcnow() + HOUR)
    assert testing.perform_due(queue) == []
    assert job.status == PENDING
    testing.set_now(testing.START + HOUR)
    assert testing.perform_due(queue) == [job]


def test_jobs_can_be_performed_as_if_it_were_later(queue):
    later = testing.START + HOUR
    job = queue.put(note, begin_after=later)
    assert testing.perform_due(queue, now=later) == [job]
    assert job.active_start == later
    assert clock.utcnow() == testing.START


def test_jobs_put_by_jobs_are_performed_too(queue):
    queue.put(Job(put_another, 7))
    testing.perform_due(queue)
    assert calls == [7, 7]


def test_no_more_than_the_limit_are_performed(queue):
    jobs = [queue.put(Job(note, number)) for number in range(3)]
    assert testing.perform_due(queue, limit=2) == jobs[:2]
    assert testing.perform_due(queue, limit=2) == jobs[2:]


def test_failures_become_results(queue):
    job = queue.put(fail)
    testing.perform_due(queue)
    assert IFailure.providedBy(job.result)
    assert job.result.check(KeyError)


def test_callbacks_are_performed(queue):
    job = queue.put(Job(note, 1))
    callback = job.addCallback(Job(note))
    testing.perform_due(queue)
    assert (job.status, callback.status) == (COMPLETED, COMPLETED)
    assert calls == [1, 1]


def test_a_returned_job_gives_its_result(queue):
    job = queue.put(return_another)
    assert len(testing.perform_due(queue)) == 2
    assert (job.status, job.result) == (COMPLETED, "inner")


def test_a_coroutine_gives_its_result(queue):
    job = queue.put(coroutine)
    testing.perform_due(queue)
    assert job.result == "from a coroutine"


def test_a_deferred_is_awaited_and_the_others_are_performed(env):
    queue = env.queue
    waiting, other = queue.put(return_deferred), queue.put(Job(note, 1))
    testing.perform_due(queue)
    assert (waiting.status, other.status) == (ACTIVE, COMPLETED)
    deferreds[-1].callback("at last")
    transaction.begin()
    assert (waiting.status, waiting.result) == (COMPLETED, "at last")


def test_quotas_hold_and_are_given_back(queue):
    queue.quotas.create("one")
    for number in range(3):
        queue.put(Job(note, number)).quota_names = ("one",)
    testing.perform_due(queue)
    assert calls == [0, 1, 2]
    assert len(queue.quotas["one"]) == 0


def test_an_expired_job_fails(queue):
    job = queue.put(note, begin_by=HOUR)
    testing.perform_due(queue, now=testing.START + 2 * HOUR)
    assert job.result.check(AbortedError)
    assert calls == []


def test_a_paused_queue_gives_nothing(queue):
    queue.put(note)
    queue.pause()
    assert testing.perform_due(queue) == []


def test_no_dispatcher_is_left_behind(queue):
    queue.put(note)
    testing.perform_due(queue)
    assert len(queue.dispatchers) == 0


def test_a_job_that_wants_to_end_the_process_is_handed_back(queue):
    job = queue.put(quit_process)
    with pytest.raises(SystemExit):
        testing.perform_due(queue)
    assert (job.status, job.interruptions) == (PENDING, 1)
    assert len(queue.dispatchers) == 0


def test_a_job_cannot_perform_its_own_queue(queue):
    job = queue.put(nest)
    testing.perform_due(queue)
    assert job.result.check(RuntimeError)
    assert "called by a job" in job.result.getErrorMessage()


def test_a_job_that_was_not_put_is_not_touched(queue):
    job = Job(note)
    testing.perform_due(queue)
    assert job.status == NEW
