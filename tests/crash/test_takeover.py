# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""What a killed process left is taken over by another one, or by its next life."""

import time

import pytest

from tests.support.boundaries import MOMENTS
from tests.support.crashing import Crashes

pytestmark = pytest.mark.timeout(200)

POINTS = ("job active", "job result", "callback result", "put back", "claim")


def test_another_process_buries_the_dead_one_and_does_its_jobs(nursery, tmp_path):
    crashes = Crashes(nursery, tmp_path)
    for point in POINTS:
        for moment in MOMENTS:
            crashes.series(
                {"kill at": [point, 1, moment], "instance": "the dead"},
                {"instance": "the sibling", "death": 0.2},
            )
    assert crashes.kills >= len(POINTS) * len(MOMENTS) - 3
    assert not crashes.failures, crashes.story()


def test_a_process_that_dies_while_it_buries_another_is_buried_with_it(
    nursery, tmp_path
):
    crashes = Crashes(nursery, tmp_path)
    for moment in MOMENTS:
        crashes.series(
            {"kill at": ["worker: job result", 2, moment], "instance": "first"},
            {"kill at": ["poller: put back", 1, moment], "instance": "second",
             "death": 0.2},
            {"instance": "third", "death": 0.2},
        )  # fmt: skip
    assert crashes.hit["poller: put back", "between"] == 1
    assert not crashes.failures, crashes.story()


def test_the_same_instance_takes_its_ghost_over_at_once(nursery, tmp_path):
    # Others would have to watch it for the minute that is the default.
    crashes = Crashes(nursery, tmp_path)
    began = time.monotonic()
    crashes.series({"kill at": ["worker: job result", 1, "between"]})
    assert crashes.kills == 1
    assert not crashes.failures, crashes.story()
    assert time.monotonic() - began < 15
