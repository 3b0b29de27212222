# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Races between those who perform a job, add to it, fail it, or resume it.

The threads meet at gates; nothing depends on how fast they are.
"""

import threading

import pytest
import transaction
from twisted.internet.defer import Deferred
from ZODB.POSException import ConflictError

from tests.support.gates import PATIENCE, gate, open_all, pass_gate
from tests.support.scenario import Effect
from tests.support.waking import wait_until
from zc.async_.composition import parallel, serial
from zc.async_.errors import ReassignedError
from zc.async_.interfaces import ACTIVE, CALLBACKS, COMPLETED
from zc.async_.job import Job
from zc.async_.threadlocal import local


class GatedJob(Job):
    """Stops just before it notes that its callbacks have been performed."""

    def _complete(self):
        gate("completing").enter()
        super()._complete()


class Hand:
    """A thread that does one thing to one job, in a connection of its own."""

    def __init__(self, db, job, act):
        self.error = None
        self._oid = job._p_oid
        self._db, self._act = db, act
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        connection = self._db.open()
        try:
            self._act(connection.get(self._oid))
        except BaseException as error:
            self.error = error
        finally:
            transaction.abort()
            connection.close()

    def join(self):
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        return self.error


@pytest.fixture
def by_hand(site):
    """Starts a `Hand`, by default one that calls the job."""
    hands = []

    def start(job, act=lambda job: job()):
        hands.append(Hand(site.db, job, act))
        return hands[-1]

    yield start
    open_all()
    for hand in hands:
        hand.join()


@pytest.fixture
def effects(site):
    site.root["effects"] = effects = [Effect() for _ in range(40)]
    transaction.commit()
    return effects


def stored(site, job, *callbacks):
    for callback in callbacks:
        job.addCallback(callback)
    site.root["job"] = job
    transaction.commit()
    return job


def counts(site, effects):
    site.sync()
    return [effect.count for effect in effects]


def pass_and_happen(name, effect, *ignored):
    gate(name).enter()
    effect.count += 1


# Adding


def test_a_callback_added_while_another_is_performed(site, by_hand, effects):
    first, second = effects[:2]
    job = stored(site, Job(pass_gate, "call"), Job(pass_and_happen, "callback", first))
    hand = by_hand(job)
    gate("call").wait_for()
    site.sync()
    assert job.status == ACTIVE
    gate("call").open()
    gate("callback").wait_for()
    site.sync()
    assert job.status == CALLBACKS
    job.addCallback(second.happen)
    transaction.commit()
    gate("callback").open()
    assert hand.join() is None
    assert counts(site, [first, second]) == [1, 1]
    assert job.status == COMPLETED


def test_a_callback_added_just_before_the_completion(site, by_hand, effects):
    """After the last look at the callbacks, before the commit of COMPLETED."""
    first, second = effects[:2]
    job = stored(site, GatedJob(pass_gate, "call"), Job(first.happen))
    gate("call").open()
    hand = by_hand(job)
    gate("completing").wait_for()
    site.sync()
    assert job.status == CALLBACKS
    job.addCallback(second.happen)
    transaction.commit()
    gate("completing").open()
    assert hand.join() is None
    assert counts(site, [first, second]) == [1, 1]
    assert job.status == COMPLETED
    assert gate("completing").arrived == 2


def test_a_callback_added_before_and_committed_after_the_completion(
    site, by_hand, effects
):
    first, second = effects[:2]
    job = stored(site, Job(pass_gate, "call"), Job(pass_and_happen, "callback", first))
    gate("call").open()
    hand = by_hand(job)
    gate("callback").wait_for()
    site.sync()
    job.addCallback(second.happen)
    gate("callback").open()
    assert hand.join() is None
    with pytest.raises(ConflictError):
        transaction.commit()
    assert counts(site, [first, second]) == [1, 0]
    job.addCallback(second.happen)
    assert counts(site, [first, second]) == [1, 1]


def test_a_callback_added_before_and_committed_after_a_job_without_any(
    site, by_hand, effects
):
    site.dispatcher()
    job = site.put(pass_gate, "call")
    gate("call").wait_for()
    site.sync()
    job.addCallback(effects[0].happen)
    gate("call").open()
    watcher = site.db.open(transaction.TransactionManager())
    there = watcher.get(job._p_oid)

    def is_completed():
        watcher.transaction_manager.begin()
        return there.status == COMPLETED

    wait_until(is_completed, "the completion")
    watcher.close()
    with pytest.raises(ConflictError):
        transaction.commit()
    transaction.abort()
    job.addCallback(effects[0].happen)
    assert counts(site, effects[:1]) == [1]
    assert job.attempts == 1


def test_two_add_to_a_completed_job_at_once(site, by_hand, effects):
    job = stored(site, Job(pass_gate, "call"))
    gate("call").open()
    job()

    def add(number):
        return lambda job: job.addCallback(
            Job(pass_and_happen, "late", job._p_jar.root()["effects"][number])
        )

    hands = [by_hand(job, add(number)) for number in range(2)]
    # One after the other: each commits its addition before it calls, merged.
    gate("late").wait_for(2)
    gate("late").open()
    assert [hand.join() for hand in hands] == [None, None]
    assert counts(site, effects[:2]) == [1, 1]
    assert len(job.callbacks) == 2
    assert {callback.status for callback in job.callbacks} == {COMPLETED}


def test_a_callback_added_to_a_proxy_at_the_moment_of_the_choice(
    site, by_hand, effects
):
    first, second = effects[:2]
    job = Job(pass_gate, "call")
    proxy = job.addCallbacks(Job(pass_and_happen, "chosen", first))
    stored(site, job)
    hand = by_hand(job)
    gate("call").wait_for()
    site.sync()
    proxy.addCallback(second.happen)  # not yet committed
    gate("call").open()
    gate("chosen").wait_for()
    with pytest.raises(ConflictError):
        transaction.commit()
    site.sync()
    proxy.addCallback(second.happen)  # to the chosen one, which is active
    transaction.commit()
    gate("chosen").open()
    assert hand.join() is None
    assert counts(site, [first, second]) == [1, 1]


# Two at work


def test_two_that_call_the_same_job_call_it_once(site, by_hand, effects):
    for effect in effects[:10]:
        job = stored(site, Job(effect.happen))
        barrier = threading.Barrier(2)

        def call(job, barrier=barrier):
            job.status  # noqa: B018 - seen as NEW by both
            barrier.wait(PATIENCE)
            job()

        errors = [hand.join() for hand in [by_hand(job, call), by_hand(job, call)]]
        assert sum(error is None for error in errors) == 1
        site.sync()
        assert (job.status, effect.count) == (COMPLETED, 1)


def test_two_that_resume_the_same_callbacks_perform_each_once(site, by_hand, effects):
    for start in range(0, 40, 4):
        some = effects[start : start + 4]
        job = Job(pass_gate, "never called")
        job._status = CALLBACKS
        stored(site, job, *[Job(effect.happen) for effect in some])
        barrier = threading.Barrier(2)

        def resume(job, barrier=barrier):
            job.callbacks[0].status  # noqa: B018
            barrier.wait(PATIENCE)
            job.resumeCallbacks()

        hands = [by_hand(job, resume), by_hand(job, resume)]
        errors = [hand.join() for hand in hands]
        # The one that lost a callback to the other steps back.
        assert None in errors
        assert {type(error) for error in errors} <= {type(None), ReassignedError}
        assert counts(site, some) == [1] * 4
        assert job.status == COMPLETED


def test_a_job_failed_while_it_is_performed_has_one_end(site, by_hand, effects):
    happened, after = effects[:2]
    job = stored(site, Job(pass_and_happen, "call", happened), Job(after.happen))
    hand = by_hand(job)
    gate("call").wait_for()
    site.sync()
    job.fail(ValueError("from outside"))
    gate("call").open()
    assert isinstance(hand.join(), ReassignedError)
    assert counts(site, [happened, after]) == [0, 1]
    assert (job.status, job.result.type) == (COMPLETED, ValueError)


# Values and jobs that come at once

deferreds = {}


def deferred(name, *ignored):
    deferreds[name] = Deferred()
    gate(name).enter()
    return deferreds[name]


def test_a_value_and_a_failure_at_once(site, by_hand):
    gate("value").open()
    for _ in range(10):
        job = stored(site, Job(deferred, "value"))
        job()
        barrier = threading.Barrier(2)

        def fire(job, barrier=barrier):
            barrier.wait(PATIENCE)
            deferreds["value"].callback("the value")

        def fail(job, barrier=barrier):
            barrier.wait(PATIENCE)
            job.fail(ValueError("from outside"))

        hands = [by_hand(job, fire), by_hand(job, fail)]
        assert hands[0].join() is None
        hands[1].join()
        site.sync()
        assert job.status == COMPLETED
        if hands[1].error is None:
            assert job.result.type is ValueError
        else:
            assert job.result == "the value"


def test_a_callback_that_awaits_a_value_in_a_dispatcher(site, effects):
    made = site.dispatcher()
    gate("awaited").open()
    job = Job(pass_gate, "call", "result")
    gate("call").open()
    callback = job.addCallback(Job(deferred, "awaited"))
    callback.addCallback(effects[0].happen)
    site.put(job)
    gate("awaited").wait_for_passed()
    site.wait_until(lambda: callback.status == ACTIVE, "the callback")
    made.reactor.callFromThread(deferreds["awaited"].callback, "a late value")
    assert site.wait(job) == "result"
    assert callback.result == "a late value"
    assert counts(site, effects[:1]) == [1]
    site.wait_until(lambda: len(site.agent(made)) == 0, "a free slot")
    assert [one for one in site.agent(made).completed] == [job]


# Compositions


def happen(effect):
    effect.count += 1
    return effect.count


def number_of(*jobs):
    job = local.getJob()
    job.queue.happened = getattr(job.queue, "happened", 0) + 1
    return len(jobs)


def test_parts_that_end_at_once_put_the_final_job_once(make_site):
    site = make_site(size=4)
    site.dispatcher()
    for number in range(8):
        parts = [Job(pass_gate, f"part {number}") for _ in range(3)]
        job = site.put(parallel(*parts, postprocess=number_of))
        gate(f"part {number}").wait_for(3)
        gate(f"part {number}").open()  # all three end within a millisecond
        assert site.wait(job) == 3
    assert site.queue.happened == 8


def test_many_parts_are_performed_once_each(make_site):
    site = make_site(size=4)
    site.root["effects"] = effects = [Effect() for _ in range(40)]
    transaction.commit()
    site.dispatcher()
    jobs = [Job(happen, effect) for effect in effects]
    whole = serial(parallel(*jobs[:30]), serial(*jobs[30:]), postprocess=Job(number_of))
    assert site.wait(site.put(whole)) == 2
    assert counts(site, effects) == [1] * 40
    assert [job.result for job in jobs] == [1] * 40
