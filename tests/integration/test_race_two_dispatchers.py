# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Two dispatchers with identities and connections of their own claim from one queue."""

import collections
import threading

import transaction

from tests.support.gates import gate, pass_gate
from zc.async_ import local

QUOTA, SIZE = "few", 2


class Concurrency:
    """Counts who is inside; all dispatchers of these tests are in this process."""

    def __init__(self):
        self._lock = threading.Lock()
        self._inside = 0
        self.most = 0
        self.calls = collections.Counter()

    def __enter__(self):
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)

    def __exit__(self, *exc_info):
        with self._lock:
            self._inside -= 1

    def clear(self):
        self.__init__()


limited = Concurrency()


def call(number):
    with limited:
        limited.calls[number, local.getDispatcher().UUID] += 1


def dwell(number):
    with limited:
        limited.calls[number, local.getDispatcher().UUID] += 1
        threading.Event().wait(0.005)


def test_no_job_is_performed_twice(site):
    limited.clear()
    first, second = site.dispatcher(), site.dispatcher()
    jobs = [site.put(call, number) for number in range(150)]
    site.wait(*jobs)
    assert sorted(number for number, _ in limited.calls) == list(range(150))
    assert set(limited.calls.values()) == {1}
    assert {job.attempts for job in jobs} == {1}
    assert {job.agent.parent.UUID for job in jobs} <= {first.UUID, second.UUID}


def test_a_backlog_is_divided_among_both(site):
    limited.clear()
    jobs = [site.put(dwell, number) for number in range(60)]
    made = [site.dispatcher(start=False) for _ in range(2)]
    for each in made:
        each.start()
    site.wait(*jobs)
    assert len(limited.calls) == 60 and set(limited.calls.values()) == {1}
    assert {UUID for _, UUID in limited.calls} == {each.UUID for each in made}


def test_both_work_at_the_same_time(site):
    site.dispatcher()
    site.dispatcher()
    jobs = [site.put(pass_gate, "both") for _ in range(7)]
    gate("both").wait_for(6)
    site.wait_until(lambda: len(site.queue) == 1, "one job to be left")
    assert gate("both").arrived == 6
    gate("both").open()
    site.wait(*jobs)


def test_a_quota_holds_for_both_together(site):
    limited.clear()
    site.queue.quotas.create(QUOTA, size=SIZE)
    transaction.commit()
    site.dispatcher()
    site.dispatcher()
    jobs = [site.put(dwell, number, quota_names=(QUOTA,)) for number in range(40)]
    site.wait(*jobs)
    assert len(limited.calls) == 40 and set(limited.calls.values()) == {1}
    assert 1 <= limited.most <= SIZE
    site.wait_until(lambda: not len(site.queue.quotas[QUOTA]), "an empty quota")


def test_what_one_leaves_is_done_by_the_other(site):
    first = site.dispatcher(grace=0.1)
    jobs = [site.put(pass_gate, "leaving", number) for number in range(3)]
    gate("leaving").wait_for(3)
    second = site.dispatcher()
    first.stop()
    gate("leaving").wait_for(6)
    gate("leaving").open()
    assert site.wait(*jobs) == [0, 1, 2]
    assert {job.agent.parent.UUID for job in jobs} == {second.UUID}
