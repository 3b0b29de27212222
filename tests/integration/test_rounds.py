# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Rounds of a dispatcher that runs.

What they do with each kind of job is tested without threads, in `tests/unit`.
"""

import asyncio
import datetime
import threading

import pytest
import transaction
from persistent import Persistent
from twisted.internet.defer import Deferred
from ZODB.MappingStorage import MappingStorage
from ZODB.POSException import ConflictError

from tests.support.gates import gate, pass_gate
from tests.support.waking import wait_until
from zc.async_ import local, pool
from zc.async_.failure import is_failure
from zc.async_.interfaces import ACTIVE, COMPLETED, PENDING
from zc.async_.job import Job
from zc.async_.retry import NeverRetry

MANY = 24


class Tree(Persistent):
    """What jobs change."""

    def __init__(self):
        self.values = []

    def append(self, value):
        self.values = [*self.values, value]
        return len(self.values)


class CountingStorage(MappingStorage):
    """Counts the commits of worker threads."""

    count = 0

    def tpc_finish(self, *args, **kw):
        if threading.current_thread().name.startswith("zc.async /main"):
            self.count += 1
        return super().tpc_finish(*args, **kw)


# What jobs call.


def plain(value=None):
    return value


def fail():
    raise LookupError("on purpose")


def note_thread():
    return threading.get_ident()


def commit():
    transaction.commit()


def abort():
    transaction.abort()


def conflict_at_first():
    job = local.getJob()
    if job._p_oid not in conflict_at_first.done:
        conflict_at_first.done.add(job._p_oid)
        raise ConflictError


conflict_at_first.done = set()


def put_another(value):
    return local.getQueue().put(Job(plain, value))


def pass_gate_and_append(name, tree):
    pass_gate(name)
    tree.append("once")


def wait_for(job):
    """Wait for another job, as one should not."""

    def look():
        transaction.abort()
        return job.status == COMPLETED

    wait_until(look, "the other job")
    return "it came"


async def coroutine(value):
    return value


async def begin_and_end(number):
    begin_and_end.events.append(("begin", number))
    await asyncio.sleep(0.01)
    begin_and_end.events.append(("end", number))


begin_and_end.events = []


def deferred(value):
    found = Deferred()
    local.getReactor().callFromThread(found.callback, value)
    return found


KNOWN = (
    plain, fail, note_thread, commit, abort, conflict_at_first, put_another,
    coroutine, deferred, pass_gate,
)  # fmt: skip


@pytest.fixture
def storage():
    return CountingStorage()


@pytest.fixture
def site(make_site, storage):
    return make_site(storage, size=1)


@pytest.fixture
def start(site):
    """Start a dispatcher that knows all callables to be short."""

    def start(threads=1, known=KNOWN, size=64, **settings):
        made = site.dispatcher(start=False)
        for function in known:
            made.durations.note(f"{function.__module__}:{function.__name__}", 0.0)
        made.durations.note(f"{__name__}:Tree.append", 0.0)
        site.start(made)
        agent = site.agent(made)
        agent.threads, agent.size = threads, size
        for name, value in settings.items():
            setattr(agent, name, value)
        transaction.commit()
        holdings = made._poller.holdings.values()
        site.wait_until(
            lambda: [one.pool.size for one in holdings] == [threads], "the threads"
        )
        return made

    return start


def put_at_once(site, *jobs):
    """Put jobs that become due together: in one transaction."""
    site.sync()
    for job in jobs:
        site.queue.put(job)
    transaction.commit()
    return jobs


def info(made, job):
    return made.getJobInfo(int.from_bytes(job._p_oid, "big"))


def rounds(made, jobs):
    """The numbers of the rounds that these have shared; None for those alone."""
    return {info(made, job).get("round") for job in jobs}


def sharing(made, jobs):
    """How many of these have shared a round.

    On a busy machine some may be thought to be long.
    """
    return len([job for job in jobs if "round" in info(made, job)])


def test_short_jobs_that_wait_share_commits(site, storage, start):
    made = start()
    before = storage.count
    jobs = put_at_once(site, *[Job(plain, number) for number in range(MANY)])
    assert site.wait(*jobs) == list(range(MANY))
    assert storage.count - before <= MANY / 4
    assert sharing(made, jobs) > MANY / 2


def test_with_rounds_of_one_each_has_its_commit(site, storage, start):
    made = start(round_size=1)
    before = storage.count
    jobs = put_at_once(site, *[Job(plain, number) for number in range(MANY)])
    assert site.wait(*jobs) == list(range(MANY))
    assert storage.count - before == MANY
    assert rounds(made, jobs) == {None}


def test_an_agent_can_be_alone(site, start):
    made = start(alone=True)
    jobs = put_at_once(site, *[Job(plain) for _ in range(MANY)])
    site.wait(*jobs)
    assert rounds(made, jobs) == {None}


def test_the_size_of_rounds_can_be_changed_while_they_run(site, start):
    made = start()
    site.agent(made).round_size = 1
    transaction.commit()
    jobs = put_at_once(site, *[Job(plain) for _ in range(MANY)])
    site.wait(*jobs)
    assert rounds(made, jobs) == {None}
    site.agent(made).round_size = 4
    transaction.commit()
    jobs = put_at_once(site, *[Job(plain) for _ in range(MANY)])
    site.wait(*jobs)
    assert len(rounds(made, jobs)) >= MANY / 4


def test_what_is_marked_is_alone_among_others_that_are_not(site, start):
    made = start()
    marked, never = Job(plain), Job(plain)
    marked.alone = True
    never.retry_policy_factory = NeverRetry
    others = [Job(plain) for _ in range(MANY)]
    put_at_once(site, *others[:12], marked, never, *others[12:])
    site.wait(marked, never, *others)
    assert rounds(made, [marked, never]) == {None}
    assert sharing(made, others) > MANY / 2


def test_a_callable_is_alone_when_it_is_called_first(site, start):
    made = start(known=())
    first = site.put(plain)
    site.wait(first)
    jobs = put_at_once(site, *[Job(plain) for _ in range(MANY)])
    site.wait(*jobs)
    assert rounds(made, [first]) == {None}
    assert sharing(made, jobs) > MANY / 2


def test_all_kinds_of_jobs_in_the_same_rounds_end_as_they_do_alone(site, start):
    start(threads=3)
    tree = site.root["tree"] = Tree()
    kinds = [
        lambda number: Job(plain, number),
        lambda number: Job(fail),
        lambda number: Job(commit),
        lambda number: Job(abort),
        lambda number: Job(conflict_at_first),
        lambda number: Job(put_another, number),
        lambda number: Job(coroutine, number),
        lambda number: Job(deferred, number),
    ]
    jobs = [kind(number) for number in range(8) for kind in kinds]
    callbacks = [job.addCallback(plain) for job in jobs]
    put_at_once(site, *jobs)
    results = site.wait(*jobs, seconds=30)
    for number in range(8):
        found = results[number * len(kinds) :][: len(kinds)]
        assert is_failure(found.pop(1))
        assert found == [number, None, None, None, number, number, number]
    for job, callback in zip(jobs, callbacks, strict=True):
        assert callback.status == COMPLETED
        assert is_failure(job.result) or callback.result == job.result
    assert tree.values == []
    assert len(site.queue) == 0


def test_what_a_hanging_job_keeps_from_beginning_is_done_by_others(
    site, start, monkeypatch
):
    monkeypatch.setattr(pool, "TAKE_OVER", 0.05)
    made = start(threads=2)
    hanging = Job(pass_gate, "hang")
    others = [Job(note_thread) for _ in range(MANY)]
    put_at_once(site, hanging, *others)
    gate("hang").wait_for()
    results = site.wait(*others)
    assert hanging.status == ACTIVE
    assert info(made, hanging)["thread"] not in results
    gate("hang").open()
    site.wait(hanging)
    assert gate("hang").arrived == 1


def test_what_was_called_before_a_hanging_job_is_done_by_others(
    site, start, monkeypatch
):
    monkeypatch.setattr(pool, "TAKE_OVER", 0.05)
    monkeypatch.setattr(pool, "STUCK", 0.1)
    made = start(threads=2)
    tree, other = site.root["trees"] = Tree(), Tree()
    jobs = [Job(tree.append, 1), Job(plain, 2)]
    hanging = Job(pass_gate_and_append, "stuck", other)
    made.durations.note(f"{__name__}:pass_gate_and_append", 0.0)
    put_at_once(site, *jobs, hanging)
    gate("stuck").wait_for()
    assert site.wait(*jobs) == [1, 2]
    assert tree.values == [1]
    assert hanging.status == ACTIVE
    gate("stuck").open()
    site.wait(hanging)
    assert (tree.values, other.values) == ([1], ["once"])
    assert [job.attempts for job in [*jobs, hanging]] == [1, 1, 1]
    site.wait_until(lambda: len(site.agent(made)) == 0, "an empty agent")
    assert len(site.queue) == 0
    assert not info(made, jobs[0])["reassigned"]


def test_a_job_may_wait_for_one_that_was_called_before_it(site, start, monkeypatch):
    monkeypatch.setattr(pool, "STUCK", 0.1)
    monkeypatch.setattr(pool, "TAKE_OVER", 0.05)
    made = start(threads=2)
    first = Job(plain, 1)
    made.durations.note(f"{__name__}:wait_for", 0.0)
    waiting = Job(wait_for, first)
    put_at_once(site, first, waiting)
    assert site.wait(first, waiting) == [1, "it came"]


def test_a_stop_lets_the_job_in_hand_finish_and_hands_back_the_rest(site, start):
    made = start()
    working = Job(pass_gate, "stop")
    others = [Job(plain) for _ in range(MANY)]
    put_at_once(site, working, *others)
    gate("stop").wait_for()
    [holding] = made._poller.holdings.values()
    stopping = threading.Thread(target=made.stop)
    stopping.start()
    site.wait_until(lambda: holding.pool._stopping, "the stop")
    gate("stop").open()
    stopping.join(10)
    site.sync()
    assert working.status == COMPLETED
    for job in others:
        assert job.status == PENDING
        assert (job.attempts, job.interruptions) == (0, 0)
    start()
    site.wait(*others)
    assert {job.attempts for job in others} == {1}


def test_what_is_not_done_within_the_grace_is_interrupted_and_done_alone(site, start):
    made = start()
    made.grace = 0.05
    done = [Job(plain) for _ in range(3)]
    hanging = Job(pass_gate, "grace")
    others = [Job(plain) for _ in range(3)]
    put_at_once(site, *done, hanging, *others)
    gate("grace").wait_for()
    made.stop()
    site.sync()
    for job in [*done, hanging]:
        assert (job.status, job.interruptions) == (PENDING, 1)
    for job in others:
        assert (job.status, job.interruptions) == (PENDING, 0)
    gate("grace").open()
    second = start()
    site.wait(*done, hanging, *others)
    assert rounds(second, [*done, hanging]) == {None}
    assert {job.attempts for job in done} == {2}


def test_what_was_taken_away_in_the_midst_is_done_once_and_by_the_other(site, start):
    first = start()
    tree = site.root["tree"] = Tree()
    jobs = [Job(tree.append, 1), Job(pass_gate, "away"), Job(tree.append, 2)]
    put_at_once(site, *jobs)
    gate("away").wait_for()
    site.sync()
    site.agents(first).deactivate()
    transaction.commit()
    second = start()
    gate("away").wait_for(2)
    site.sync()
    assert jobs[1].agent is site.agent(second)
    gate("away").open()
    site.wait(*jobs)
    gate("away").wait_for_passed(2)
    first.stop()
    site.sync()
    assert tree.values in ([1, 2], [2, 1])
    assert {job.status for job in jobs} == {COMPLETED}


def test_serialised_work_shares_commits_and_is_never_done_at_once(
    site, storage, start
):
    site.queue.quotas.create("one")
    tree = site.root["tree"] = Tree()
    transaction.commit()
    start(threads=4)
    before = storage.count
    jobs = [Job(tree.append, number) for number in range(200)]
    for job in jobs:
        job.quota_names = ("one",)
    put_at_once(site, *jobs)
    results = site.wait(*jobs, seconds=30)
    assert sorted(results) == list(range(1, 201))
    assert sorted(tree.values) == list(range(200))
    assert storage.count - before <= 50


def test_serialised_work_that_awaits_is_never_done_at_once(site, start):
    site.queue.quotas.create("one")
    transaction.commit()
    made = start(threads=4)
    made.durations.note(f"{__name__}:begin_and_end", 0.0)
    jobs = [Job(begin_and_end, number) for number in range(8)]
    for job in jobs:
        job.quota_names = ("one",)
    begin_and_end.events.clear()
    put_at_once(site, *jobs)
    site.wait(*jobs)
    events = begin_and_end.events
    assert len(events) == 16
    for begun, ended in zip(events[::2], events[1::2], strict=True):
        assert (begun[0], ended[0]) == ("begin", "end")
        assert begun[1] == ended[1]


def test_an_idle_queue_does_not_wait_for_company(site, start):
    made = start()
    job = site.put(plain, 1)
    assert site.wait(job) == 1
    assert rounds(made, [job]) == {None}
    assert job.active_start - job.begin_after < datetime.timedelta(seconds=2)
