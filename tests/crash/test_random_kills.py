# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""A process is killed from outside, by SIGKILL, whenever it happens to strike."""

import pytest

from tests.support.boundaries import MOMENTS
from tests.support.crashing import Crashes, random_from_seed

pytestmark = pytest.mark.timeout(200)

#: How many kills a chain of lives has to survive, and the longest life, in seconds.
KILLS, LONGEST = 40, 0.2


def test_one_or_two_kills_at_random_moments_change_nothing(nursery, tmp_path):
    chance = random_from_seed("random kills")
    crashes = Crashes(nursery, tmp_path)
    while crashes.kills < KILLS:
        plans = [{"kill after": chance.uniform(0.02, LONGEST)} for _ in range(2)]
        crashes.series(*plans)
    assert not crashes.failures, crashes.story()


def test_a_long_chain_of_kills_changes_nothing(nursery, tmp_path):
    # By default a job under which the process dies three times in a row is not
    # tried again: nobody could tell it from one that kills.  Here all are patient.
    chance = random_from_seed("chain of kills")
    crashes = Crashes(nursery, tmp_path, count=60, backlog=50)
    plans = [
        {"kill at": [chance.randrange(1, 20), chance.choice(MOMENTS)], "patient": True}
        for _ in range(KILLS)
    ]
    crashes.series(*plans, {"patient": True})
    assert crashes.kills >= 8
    assert not crashes.failures, crashes.story()
