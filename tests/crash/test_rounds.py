# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""A process is killed around the commits that complete several jobs at once."""

import pytest

from tests.support.boundaries import MOMENTS
from tests.support.crashing import Crashes, random_from_seed

pytestmark = pytest.mark.timeout(200)

KINDS = ["plain", "plain", "limited", "plain", "callbacks", "plain", "failing"]


def test_a_round_happens_as_a_whole_or_not_at_all(nursery, tmp_path):
    chance = random_from_seed("rounds")
    crashes = Crashes(nursery, tmp_path, count=60, backlog=50, kinds=KINDS)
    for moment in MOMENTS:
        for number in range(1, 5):
            again = {"kill at": ["round", chance.randrange(1, 4), moment]}
            crashes.series({"kill at": ["round", number, moment]}, again)
    print(f"{crashes.kills} kills")
    assert not crashes.failures, crashes.story()
    assert all(crashes.hit["round", moment] >= 2 for moment in MOMENTS)
