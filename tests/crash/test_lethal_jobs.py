# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Jobs that end their process: given up in the end, and nobody else is harmed.

That the innocents of the same process complete, each once, is what `Crashes` checks.
"""

import pytest

from tests.support.crashing import Crashes

pytestmark = pytest.mark.timeout(120)

EXIT = {"may end": ["exit status 3"]}


def ends(reports):
    return [report["ended"] for report in reports]


def test_a_job_that_exits_is_quarantined_after_three_deaths(nursery, tmp_path):
    crashes = Crashes(nursery, tmp_path, kinds=["plain", "exiting", "plain", "outer"])
    # Three of the ten exit, each of them three times.
    reports = crashes.series(*[EXIT] * 9)
    assert ends(reports[:9]) == ["exit status 3"] * 9
    assert not crashes.failures, crashes.story()


def test_a_job_that_kills_its_process_is_quarantined_after_three_deaths(
    nursery, tmp_path
):
    crashes = Crashes(nursery, tmp_path, count=30, backlog=30, kinds=[
        "killing", *["plain"] * 29])  # fmt: skip
    reports = crashes.series({}, {}, {})
    assert ends(reports) == ["killed", "killed", "killed", "done"]
    assert not crashes.failures, crashes.story()
