# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The process dies before, and after, each commit of what jobs and callbacks do.

Its dispatcher is buried, another goes on.  In the end everything is completed, and
each callable has had its effect exactly once.
"""

import contextlib
import datetime
import unittest.mock

import pytest
import transaction
from persistent.mapping import PersistentMapping

from tests.support.jobs import JobsCase
from zc.async_ import clock
from zc.async_.composition import parallel, serial
from zc.async_.failure import is_failure
from zc.async_.interfaces import COMPLETED, NEW
from zc.async_.job import Job
from zc.async_.retry import RetryCommonForever, RetryCommonFourTimes
from zc.async_.threadlocal import local

SECOND = datetime.timedelta(seconds=1)
MOST_COMMITS = 60


class Death(SystemExit):
    """Nothing commits after it, as nothing does after a SIGKILL."""


class Mortal:
    """Lets some commits pass, and dies at the next."""

    def __init__(self, manager, commits, arrives):
        self.commits, self.arrives = commits, arrives
        self._commit = manager.commit

    def __call__(self):
        self.commits -= 1
        if self.commits == 0 and not self.arrives:
            raise Death
        self._commit()
        if self.commits == 0:
            raise Death


def effect(name, *ignored):
    """Count, in the job's transaction; return the last argument."""
    effects = local.getJob()._p_jar.root()["effects"]
    effects[name] = effects.get(name, 0) + 1
    return ignored[-1] if ignored else name


def put_inner(name):
    """Put a job, and wait for it."""
    effect(f"put {name}")
    return local.getQueue().put(Job(effect, name))


def put_list():
    effect("put list")
    return [local.getQueue().put(Job(effect, f"inner {n}")) for n in range(2)]


class LaterOnce:
    """Asks for a later time at the first error."""

    wait = SECOND

    def jobError(self, failure, data_cache):
        if not failure.check(Later):
            return super().jobError(failure, data_cache)
        return self.wait

    may_repeat = False


class JobLater(LaterOnce, RetryCommonFourTimes):
    pass


class CallbackLater(LaterOnce, RetryCommonForever):
    pass


class Later(Exception):
    pass


def later_once(name, *ignored):
    if local.getJob().attempts - local.getJob().interruptions < 2:
        raise Later
    return effect(name, *ignored)


def with_callbacks(job):
    first = job.addCallback(Job(effect, "first"))
    first.addCallbacks(Job(effect, "below"), Job(effect, "not called"))
    job.addCallbacks(Job(effect, "second")).addCallback(Job(effect, "beside"))
    return job, {"first", "below", "second", "beside"}


def plain():
    job, names = with_callbacks(Job(effect, "job"))
    return job, {"job"} | names


def waiting():
    job, names = with_callbacks(Job(put_inner, "inner"))
    return job, {"put inner", "inner"} | names


def waiting_for_several():
    job, names = with_callbacks(Job(put_list))
    return job, {"put list", "inner 0", "inner 1"} | names


def callback_that_waits():
    job = Job(effect, "job")
    callback = job.addCallback(Job(inner_of_callback))
    callback.addCallback(Job(effect, "below"))
    return job, {"job", "put by callback", "by callback", "below"}


def inner_of_callback(result):
    return put_inner("by callback")


def together():
    whole = parallel(
        Job(effect, "one"), Job(effect, "two"), postprocess=Job(effect, "final")
    )
    whole.addCallback(Job(effect, "after"))
    return whole, {"one", "two", "final", "after"}


def one_after_the_other():
    whole = serial(Job(effect, "one"), Job(effect, "two"), Job(effect, "three"))
    whole.addCallback(Job(effect, "after"))
    return whole, {"one", "two", "three", "after"}


def rescheduled():
    job, names = with_callbacks(Job(later_once, "job"))
    job.retry_policy_factory = JobLater
    return job, {"job"} | names


def postponed():
    job = Job(effect, "job")
    callback = job.addCallback(Job(later_once, "callback"))
    callback.retry_policy_factory = CallbackLater
    callback.addCallback(Job(effect, "below"))
    job.addCallback(Job(effect, "next"))
    return job, {"job", "callback", "below", "next"}


def expired():
    job = Job(effect, "never")
    job.begin_by = -SECOND
    job.addCallbacks(Job(effect, "not called"), Job(effect, "failure"))
    job.addCallback(Job(effect, "next"))
    return job, {"failure", "next"}


SCENARIOS = [
    plain,
    waiting,
    waiting_for_several,
    callback_that_waits,
    together,
    one_after_the_other,
    rescheduled,
    postponed,
    expired,
]


class Life(JobsCase):
    """One database, in which processes live one after the other."""

    __test__ = False  # not a test by itself

    def runTest(self):
        """What a TestCase must have."""

    def perform_all(self, death=None):
        """Perform what is due, and what falls due, until nothing is left."""
        agent = self.make_agent()
        manager = self.connection.transaction_manager
        patch = contextlib.nullcontext()
        if death is not None:
            patch = unittest.mock.patch.object(manager, "commit", death)
        with patch:
            idle = 0
            while idle < 3:
                job = agent.claimJob()
                manager.commit()
                if job is None:
                    idle += 1
                    self.movable.advance(1)
                else:
                    idle = 0
                    job()
        agent.parent.deactivate()
        transaction.commit()

    def live(self, make, commits, arrives):
        """Whether the process died; the next one has gone on then."""
        self.movable = clock.MovableClock()
        clock.install(self.movable)
        self.addCleanup(clock.uninstall)
        self.root["effects"] = PersistentMapping()
        job, names = make()
        self.put(job)
        death = Mortal(self.connection.transaction_manager, commits, arrives)
        try:
            self.perform_all(death)
            died = False
        except Death:
            died = True
            transaction.abort()
            self.connection.cacheMinimize()
            self.bury()
            self.perform_all()
        self.check(job, names)
        return died

    def bury(self):
        for agents in self.queue.dispatchers.values():
            if agents.activated:
                agents.deactivate()
        transaction.commit()

    def check(self, job, names):
        found = self.fetch(job)
        effects = dict(found._p_jar.root()["effects"])
        self.assertEqual(effects, dict.fromkeys(names, 1))
        self.assertEqual(found.status, COMPLETED)
        self.assertEqual(len(self.queue), 0)
        self.assert_callbacks(found)
        for agents in self.queue.dispatchers.values():
            for agent in agents.values():
                self.assertEqual((list(agent), list(agent.waiting())), ([], []))

    def assert_callbacks(self, job):
        for callback in job.callbacks:
            self.assertEqual(callback.status, COMPLETED, callback)
            chosen = getattr(callback, "job", callback)
            if chosen is not None and not is_failure(job.result):
                self.assertNotEqual(chosen.status, NEW)
            self.assert_callbacks(chosen or callback)


@pytest.mark.parametrize("arrives", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("make", SCENARIOS)
def test_each_effect_happens_once_wherever_the_process_dies(make, arrives):
    for commits in range(1, MOST_COMMITS):
        life = Life()
        life.setUp()
        try:
            died = life.live(make, commits, arrives)
        except BaseException as error:
            error.add_note(f"{make.__name__}: died at commit {commits}")
            raise
        finally:
            life.doCleanups()
        if not died:
            assert commits > 4
            return
    raise AssertionError("expected the scenario to end")
