# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Several dispatchers that are buried, resized, stopped and started while they work."""

import random
import threading
import time

import transaction
from BTrees.OOBTree import OOBTree
from ZODB.FileStorage import FileStorage
from ZODB.POSException import ConflictError

from tests.support import scenario
from tests.support.crashing import random_from_seed
from tests.support.scenario import KINDS, QUOTA, Effect, Put
from tests.support.site import Site
from zc.async_.interfaces import KEY
from zc.async_.retry import RetryCommonFourTimes

DISPATCHERS, JOBS, SECONDS = 3, 160, 6


class Trouble(threading.Thread):
    """Does, every few milliseconds, what administrators and siblings might do."""

    def __init__(self, site, seed):
        super().__init__(daemon=True)
        self.site = site
        self.done = 0
        self.errors = []
        self._chance = random.Random(seed)
        self._ended = threading.Event()

    def run(self):
        manager = transaction.TransactionManager()
        connection = self.site.db.open(manager)
        try:
            while not self._ended.wait(self._chance.uniform(0.005, 0.05)):
                self._make_trouble(manager, connection.root()[KEY][""])
        except Exception as error:
            self.errors.append(error)
        finally:
            manager.abort()
            connection.close()

    def stop(self):
        self._ended.set()
        self.join(20)
        assert not self.errors

    def _make_trouble(self, manager, queue):
        manager.begin()
        agents = self._chance.choice(list(queue.dispatchers.values()))
        action = self._chance.choice([self._bury, self._resize, self._pause])
        action(queue, agents)
        try:
            manager.commit()
            self.done += 1
        except ConflictError:
            manager.abort()

    def _bury(self, queue, agents):
        if agents.activated:
            agents.deactivate(died=False)

    def _resize(self, queue, agents):
        agent = agents["main"]
        agent.size = self._chance.randrange(1, 9)
        agent.threads = self._chance.randrange(1, 4)

    def _pause(self, queue, agents):
        queue.resume() if queue.paused else queue.pause()


def put_jobs(site, end):
    """Put jobs of all kinds until `end`; each notes its put in its transaction."""
    number = 0
    while number < JOBS or time.monotonic() < end:
        site.sync()
        kind = scenario.HARMLESS[number % len(scenario.HARMLESS)]
        effects = {name: Effect() for name in KINDS[kind].expected}
        for effect in effects.values():
            site.connection.add(effect)
        job = KINDS[kind].make(**effects)
        site.queue.put(job)
        site.root["puts"][number] = Put(kind, job, effects)
        transaction.commit()
        number += 1
        if number >= JOBS:
            threading.Event().wait(0.02)
    return number


def test_whatever_happens_to_dispatchers_each_put_has_one_effect(tmp_path, monkeypatch):
    chance = random_from_seed("burials")
    # Being buried again and again is no fault of the jobs here.
    monkeypatch.setattr(RetryCommonFourTimes, "max_interruptions", None)
    site = Site(FileStorage(str(tmp_path / "data.fs")), size=4, threads=2)
    try:
        site.root["puts"] = OOBTree()
        site.root["effects"] = OOBTree()
        site.queue.quotas.create(QUOTA)
        transaction.commit()
        made = [site.dispatcher(poll_interval=0.5) for _ in range(DISPATCHERS)]
        trouble = Trouble(site, chance.random())
        trouble.start()
        count = put_jobs(site, time.monotonic() + SECONDS / 2)
        restarted = made.pop()
        restarted.stop()
        site.start(restarted)
        trouble.stop()
        site.sync()
        site.queue.resume()
        transaction.commit()
        site.wait_until(
            lambda: not list(scenario.unfinished(site.root)),
            lambda: list(scenario.unfinished(site.root)),
            30,
        )
        site.sync()
        puts = site.root["puts"].items()
        wrong = [text for put in puts for text in scenario.wrong_effects(*put)]
        assert len(puts) == count and trouble.done > 10
        assert not wrong, "\n".join(wrong)
    finally:
        site.close()
