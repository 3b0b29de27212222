# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Jobs that wait: for a Deferred, on a loop, or for other jobs."""

import asyncio
import gc
import operator
import threading
import time

import pytest
import transaction
from twisted.internet.defer import Deferred
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.threads import blockingCallFromThread

from tests.support.gates import gate, pass_gate
from tests.support.site import runtime_threads
from tests.support.waking import wait_until
from zc.async_ import local
from zc.async_.failure import is_failure
from zc.async_.interfaces import ACTIVE, PENDING
from zc.async_.job import Job

deferreds = {}
asked = {}


def defer(name):
    """A job whose value a test gives by `fire`."""
    deferreds[name] = made = Deferred()
    gate(name).open()
    gate(name).enter()
    return made


def fire(site, name, value):
    reactor = site.dispatchers[0].reactor
    reactor.callFromThread(deferreds.pop(name).callback, value)


async def sleep_until_told(name, value):
    """A job that runs on a loop until a test calls `tell`."""
    event = asyncio.Event()
    asked[name] = asyncio.get_running_loop(), event
    gate(name).open()
    gate(name).enter()
    await event.wait()
    return value, threading.current_thread().name


def tell(name):
    loop, event = asked.pop(name)
    loop.call_soon_threadsafe(event.set)


async def fail_after_a_while():
    await asyncio.sleep(0.001)
    raise LookupError("this job fails")


@pytest.fixture
def one_thread(site):
    """A dispatcher whose agent holds two jobs and has one thread."""
    made = site.dispatcher()
    site.agent(made).size, site.agent(made).threads = 2, 1
    transaction.commit()
    wait_until(lambda: site.db.getPoolSize() == 7 + 1 + 1, "one thread")
    return made


def test_a_job_that_returned_a_deferred_frees_its_thread(site, one_thread):
    job = site.put(defer, "deferred")
    gate("deferred").wait_for_passed()
    assert site.wait(site.put(operator.mul, 2, 3)) == 6
    assert job.status == ACTIVE
    fire(site, "deferred", 42)
    assert site.wait(job) == 42
    assert job.attempts == 1


def test_it_keeps_its_slot(site, one_thread):
    site.agent(one_thread).size = 1
    transaction.commit()
    job = site.put(defer, "slot")
    gate("slot").wait_for_passed()
    other = site.put(operator.mul, 2, 3)
    site.wait_until(lambda: list(site.agent(one_thread)) == [job], "the claim")
    wait_until(lambda: not one_thread.getActiveJobIds(), "the thread to be free")
    site.sync()
    assert other.status == PENDING
    fire(site, "slot", 42)
    assert site.wait(job, other) == [42, 6]


def test_it_keeps_its_quota(site, one_thread):
    site.queue.quotas.create("one")
    transaction.commit()
    job = site.put(defer, "quota", quota_names=("one",))
    gate("quota").wait_for_passed()
    other = site.put(operator.mul, 2, 3, quota_names=("one",))
    assert site.wait(site.put(operator.mul, 2, 4)) == 8
    assert other.status == PENDING
    fire(site, "quota", 42)
    assert site.wait(job, other) == [42, 6]


def test_a_deferred_that_fails_is_a_failure_of_the_job(site, one_thread):
    job = site.put(defer, "failing")
    gate("failing").wait_for_passed()
    reactor = one_thread.reactor
    reactor.callFromThread(deferreds.pop("failing").errback, LookupError("no"))
    result = site.wait(job)
    assert is_failure(result) and result.check(LookupError)


def test_a_coroutine_runs_on_the_loop_of_the_dispatcher(site, one_thread):
    job = site.put(sleep_until_told, "loop", 42)
    gate("loop").wait_for_passed()
    assert site.wait(site.put(operator.mul, 2, 3)) == 6
    assert job.status == ACTIVE
    tell("loop")
    assert site.wait(job) == (42, "zc.async reactor")


def test_many_coroutines_run_at_once_with_one_thread(site, one_thread):
    site.agent(one_thread).size = 20
    transaction.commit()
    jobs = [site.put(sleep_until_told, f"many {n}", n) for n in range(20)]
    for number in range(20):
        gate(f"many {number}").wait_for_passed()
    for number in range(20):
        tell(f"many {number}")
    assert [value for value, _ in site.wait(*jobs)] == list(range(20))


def test_a_coroutine_that_raises_is_a_failure_of_the_job(site, one_thread):
    job = Job(fail_after_a_while)
    callback = job.addCallbacks(failure=is_failure)
    site.put(job)
    result = site.wait(job)
    assert result.check(LookupError)
    assert site.wait(callback) is True


def test_a_reactor_without_a_loop_gets_one_beside_it(site):
    reactor = SelectReactor()
    made = site.dispatcher(start=False, reactor=reactor)
    made.activate()
    thread = threading.Thread(
        target=reactor.run, kwargs={"installSignalHandlers": False}
    )
    thread.start()
    job = site.put(sleep_until_told, "beside", 42)
    gate("beside").wait_for_passed()
    tell("beside")
    assert site.wait(job) == (42, "zc.async loop")
    reactor.callFromThread(reactor.stop)
    thread.join(10)
    wait_until(lambda: not runtime_threads(), "all threads to end")


def test_a_job_that_awaits_when_its_dispatcher_stops_is_performed_again(site):
    made = site.dispatcher(grace=0.1)
    job = site.put(sleep_until_told, "stopped", 42)
    gate("stopped").wait_for_passed()
    site.wait_until(lambda: job.status == ACTIVE, "the job to be active")
    wait_until(lambda: not made.getActiveJobIds(), "its thread to be free")
    made.stop()
    site.sync()
    assert job.status == PENDING and job.interruptions == 1 and job.deaths == 0
    site.start(made)
    gate("stopped").wait_for_passed(2)
    tell("stopped")
    assert site.wait(job)[0] == 42


@pytest.mark.filterwarnings("error")
def test_a_coroutine_that_is_not_done_when_all_stops_is_cancelled(site, caplog):
    made = site.dispatcher(grace=0.1)
    job = site.put(note_cancellation, "cancelled")
    gate("cancelled").wait_for_passed()
    wait_until(lambda: not made.getActiveJobIds(), "its thread to be free")
    made.stop()
    gc.collect()
    assert gate("cancellation").arrived == 1
    assert not [each for each in caplog.records if each.name == "asyncio"]
    site.sync()
    assert job.status == PENDING


async def note_cancellation(name):
    gate(name).open()
    gate(name).enter()
    try:
        await asyncio.Event().wait()
    finally:
        gate("cancellation").open()
        gate("cancellation").enter()


def test_a_job_that_needs_the_reactor_can_end_while_it_stops(site):
    made = site.dispatcher(grace=20)
    job = site.put(ask_reactor, "asking")
    gate("asking").wait_for()
    stopping = threading.Thread(target=made.stop)
    stopping.start()
    wait_until(lambda: made._poller is None, "the stop to begin")
    began = time.monotonic()
    gate("asking").open()
    stopping.join(30)
    assert time.monotonic() - began < 10
    site.sync()
    assert job.result == 42 and job.interruptions == 0


def ask_reactor(name):
    gate(name).enter()
    return blockingCallFromThread(local.getReactor(), operator.mul, 6, 7)


# Jobs that wait for other jobs.


def put_inner(name, value):
    return local.getQueue().put(Job(pass_gate, name, value))


def put_several(count):
    queue = local.getQueue()
    return [queue.put(Job(operator.mul, 2, number)) for number in range(count)]


def put_deeply(depth):
    if not depth:
        return 42
    return local.getQueue().put(Job(put_deeply, depth - 1))


def test_jobs_that_wait_for_others_do_not_stop_a_full_agent(site):
    made = site.dispatcher()
    outer = [site.put(put_inner, "inner", number) for number in range(3)]
    gate("inner").wait_for(3)  # so the slots of the outer ones are free
    site.sync()
    assert [job.status for job in outer] == [ACTIVE] * 3
    assert len(site.agent(made)) == 3
    assert len(list(site.agent(made).waiting())) == 3
    gate("inner").open()
    assert site.wait(*outer) == [0, 1, 2]
    assert {job.attempts for job in outer} == {1}
    site.wait_until(
        lambda: not list(site.agent(made).waiting()), "nobody to wait any more"
    )


def test_a_job_that_waits_for_others_leaves_its_quota(site):
    site.queue.quotas.create("one")
    transaction.commit()
    site.dispatcher()
    outer = site.put(put_inner, "leaving", 5, quota_names=("one",))
    gate("leaving").wait_for()
    other = site.put(operator.mul, 2, 3, quota_names=("one",))
    assert site.wait(other) == 6
    assert outer.status == ACTIVE
    gate("leaving").open()
    assert site.wait(outer) == 5


def test_a_list_of_jobs_gives_a_list_of_results(site):
    site.dispatcher()
    assert site.wait(site.put(put_several, 7)) == [0, 2, 4, 6, 8, 10, 12]


def test_a_chain_of_waiting_jobs_longer_than_the_agent_ends(site):
    site.dispatcher()
    assert site.wait(site.put(put_deeply, 8)) == 42


def test_a_failure_of_the_inner_job_is_the_result_of_the_outer_one(site):
    site.dispatcher()
    result = site.wait(site.put(put_failing))
    assert is_failure(result) and result.check(ZeroDivisionError)


def put_failing():
    return local.getQueue().put(Job(operator.truediv, 1, 0))
