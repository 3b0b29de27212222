# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""A process is killed at each boundary of each commit, and once more afterwards.

See `tests.support.boundaries` for boundaries and points, `tests.support.scenario`
for the jobs.  Whatever happens, each put that was committed has exactly one effect.
"""

import pytest

from tests.support.boundaries import MOMENTS
from tests.support.crashing import Crashes, random_from_seed

pytestmark = pytest.mark.timeout(300)

#: At least so many for each moment: with the other tests more than 200 in all.
KILLS = 75

POINTS = (
    "main: put",
    "poller: activate",
    "poller: claim",
    "poller: job active",
    "poller: reap",
    "worker: job result",
    "worker: callback active",
    "worker: callback result",
    "worker: choose",
    "worker: job callbacks done",
    "worker: put back",
    "worker: job waits",
    "worker: job awaits",
    "deactivate",
)
#: Seen only in a life that follows one that was killed.
INHERITED = ("poller: activate", "poller: put back")


@pytest.fixture(scope="module")
def boundaries(nursery, tmp_path_factory):
    """How many boundaries the life has that is not killed."""
    crashes = Crashes(nursery, tmp_path_factory.mktemp("reference"))
    (report,) = crashes.series()
    assert not crashes.failures, crashes.story()
    return report["boundaries"][-1][0] + 1


@pytest.mark.parametrize("moment", MOMENTS)
def test_no_put_is_lost_or_repeated_wherever_the_process_is_killed(
    moment, nursery, boundaries, tmp_path
):
    chance = random_from_seed(f"boundaries {moment}")
    crashes = Crashes(nursery, tmp_path)
    number = 0
    while number < boundaries or crashes.kills < KILLS:
        again = [chance.randrange(boundaries), chance.choice(MOMENTS)]
        crashes.series({"kill at": [number % boundaries, moment]}, {"kill at": again})
        number += 1
    print(f"{crashes.kills} kills")
    assert not crashes.failures, crashes.story()


def test_each_named_point_can_be_survived_at_each_moment(nursery, tmp_path):
    crashes = Crashes(nursery, tmp_path)
    for moment in MOMENTS:
        for point in POINTS:
            crashes.series({"kill at": [point, 1, moment]})
        for point in INHERITED:
            died = {"kill at": ["worker: job result", 1, "between"]}
            crashes.series(died, {"kill at": [point, 1, moment]})
    assert not crashes.failures, crashes.story()
    missed = [
        (point, moment)
        for point in {*POINTS, *INHERITED}
        for moment in MOMENTS
        if not crashes.hit[point, moment]
    ]
    assert not missed


def test_a_ping_can_be_survived_at_each_moment(nursery, tmp_path):
    crashes = Crashes(nursery, tmp_path, count=1, backlog=1)
    for moment in MOMENTS:
        crashes.series(
            {"kill at": ["pinger: ping", 1, moment], "ping": 20, "linger": 5}
        )
    assert not crashes.failures, crashes.story()
    assert all(crashes.hit["pinger: ping", moment] for moment in MOMENTS)
