# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""A storage that often cannot be reached, also between a commit and its answer."""

import threading

import pytest
import transaction
from BTrees.OOBTree import OOBTree
from ZODB.POSException import ConflictError

from tests.support import scenario
from tests.support.boundaries import AFTER, BoundaryStorage, role_of
from tests.support.crashing import random_from_seed
from tests.support.jobs import AnswerLostError
from tests.support.scenario import KINDS, MILLISECONDS, QUOTA, Effect, Put
from tests.support.site import Site
from zc.async_.retry import RetryCommonForever, RetryCommonFourTimes

JOBS = 96


class Faults:
    """Raises at some boundaries of commits, except at those of the test itself."""

    def __init__(self, chance, errors, share):
        self._chance = chance
        self._errors = errors
        self._share = share
        self.active = False
        self.raised = 0
        self.answers_lost = 0

    def __call__(self, number, moment, name):
        if not self.active or role_of(threading.current_thread().name) == "main":
            return
        if self._chance.random() < self._share:
            if moment == AFTER:
                self.answers_lost += 1
                raise AnswerLostError(f"the answer to commit {number} was lost")
            self.raised += 1
            raise self._chance.choice(self._errors)(f"commit {number} was lost")


@pytest.fixture
def impatient(monkeypatch):
    """Policies that wait for milliseconds, not seconds; no limit to bad luck."""
    for policy in (RetryCommonFourTimes, RetryCommonForever):
        monkeypatch.setattr(policy, "wait_increment", 2 * MILLISECONDS)
        monkeypatch.setattr(policy, "max_wait", 10 * MILLISECONDS)
        monkeypatch.setattr(policy, "max_attempts", None)
        monkeypatch.setattr(policy, "max_interruptions", None)


def perform_among_faults(path, faults):
    site = Site(BoundaryStorage(str(path), faults), size=8, threads=3)
    try:
        site.root["puts"] = OOBTree()
        site.queue.quotas.create(QUOTA)
        transaction.commit()
        site.dispatcher(poll_interval=0.1)
        faults.active = True
        for number in range(JOBS):
            site.sync()
            kind = scenario.HARMLESS[number % len(scenario.HARMLESS)]
            effects = {name: Effect() for name in KINDS[kind].expected}
            for effect in effects.values():
                site.connection.add(effect)
            job = KINDS[kind].make(**effects)
            site.queue.put(job)
            site.root["puts"][number] = Put(kind, job, effects)
            transaction.commit()
        site.wait_until(
            lambda: not list(scenario.unfinished(site.root)),
            lambda: list(scenario.unfinished(site.root)),
            60,
        )
        faults.active = False
        site.sync()
        puts = site.root["puts"].items()
        return [text for put in puts for text in scenario.wrong_effects(*put)]
    finally:
        faults.active = False
        site.close()


def test_each_put_has_one_effect_however_often_commits_fail(tmp_path, impatient):
    chance = random_from_seed("storage faults")
    faults = Faults(chance, [AnswerLostError, ConflictError], 0.03)
    wrong = perform_among_faults(tmp_path / "data.fs", faults)
    print(f"{faults.raised} commits and {faults.answers_lost} answers were lost")
    assert not wrong, "\n".join(wrong)
    assert faults.raised > 5 and faults.answers_lost > 2
