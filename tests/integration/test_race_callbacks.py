# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Callbacks that are added just when the job finishes."""

import operator
import random
import threading

import transaction
from ZODB.POSException import ConflictError

from tests.support.gates import gate, pass_gate
from tests.support.scenario import Effect
from zc.async_.interfaces import COMPLETED
from zc.async_.job import Job

JOBS = 60


def add(job, effect):
    """Add a callback, and commit; again after a conflict, as documented."""
    while True:
        transaction.begin()
        try:
            callback = job.addCallback(effect.happen)
            transaction.commit()
            return callback
        except ConflictError:
            transaction.abort()


def test_each_callback_is_performed_once_whenever_it_is_added(site):
    effects = site.root["effects"] = [[Effect(), Effect()] for _ in range(JOBS)]
    transaction.commit()
    site.dispatcher()
    chance = random.Random(5)
    jobs, callbacks = [], []
    for main, after in effects:
        jobs.append(site.put(main.happen))
        # The job is performed in about a millisecond.
        threading.Event().wait(chance.uniform(0, 0.003))
        callbacks.append(add(jobs[-1], after))
    site.wait(*jobs)
    site.wait(*callbacks)
    assert [[main.count, after.count] for main, after in effects] == [[1, 1]] * JOBS
    assert all(job.attempts == 1 for job in jobs)
    agents = [
        agent for each in site.queue.dispatchers.values() for agent in each.values()
    ]
    site.wait_until(lambda: not any(map(len, agents)), "empty agents")


def test_two_who_add_callbacks_while_the_job_is_active_do_not_disturb_it(site):
    effects = site.root["effects"] = [Effect() for _ in range(10)]
    transaction.commit()
    site.dispatcher()
    job = site.put(pass_gate, "adding", 5)
    gate("adding").wait_for()

    def add_some(own):
        connection = site.db.open()
        try:
            for number in own:
                add(
                    connection.get(job._p_oid),
                    connection.root()["effects"][number],
                )
        finally:
            transaction.abort()
            connection.close()

    adders = [
        threading.Thread(target=add_some, args=(range(start, 10, 2),))
        for start in range(2)
    ]
    for each in adders:
        each.start()
    for each in adders:
        each.join(10)
    gate("adding").open()
    assert site.wait(job) == 5
    site.wait(*job.callbacks)
    assert [each.count for each in effects] == [1] * 10
    assert job.attempts == 1


def test_a_callback_added_while_callbacks_are_performed_is_performed(site):
    site.root["effect"] = Effect()
    transaction.commit()
    site.dispatcher()
    job = Job(operator.mul, 1, 5)
    slow = job.addCallback(wait_as_callback)
    site.put(job)
    gate("callback").wait_for()
    site.sync()
    assert job.status == "callback-status" and job.result == 5
    late = add(job, site.root["effect"])
    gate("callback").open()
    site.wait(job, slow, late)
    assert site.root["effect"].count == 1
    assert slow.result == 5 and job.attempts == slow.attempts == 1


def wait_as_callback(result):
    return pass_gate("callback", result)


def test_a_callback_added_to_a_completed_job_is_performed_here_and_now(site):
    site.root["effect"] = Effect()
    transaction.commit()
    site.dispatcher()
    job = site.put(pass_gate, "done", 5)
    gate("done").open()
    site.wait(job)
    site.wait_until(lambda: job.status == COMPLETED, "completion")
    callback = job.addCallback(site.root["effect"].happen)
    assert callback.status == COMPLETED and site.root["effect"].count == 1
