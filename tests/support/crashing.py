# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Series of lives on one database, and what the stored data says afterwards.

What is chosen at random comes from a seed, which is printed: to have the same
choices again, set ZC_ASYNC_CRASH_SEED.
"""

import collections
import os
import random
import shutil

from .boundaries import points_of
from .lives import LifeError

SEED_VARIABLE = "ZC_ASYNC_CRASH_SEED"

#: After so many failures no more series are run.
ENOUGH = 3


def random_from_seed(name):
    """A `random.Random` for the test of this name; prints how to have it again."""
    seed = os.environ.get(SEED_VARIABLE) or str(random.SystemRandom().randrange(10**6))
    print(f"{name}: {SEED_VARIABLE}={seed}")
    return random.Random(f"{name} {seed}")


class Crashes:
    """Runs series of lives, each on a fresh copy of one prepared database.

    `kills` counts the lives that were killed, `hit` those killed at each (point,
    moment); `failures` tells what went wrong, as text.
    """

    def __init__(self, nursery, folder, count=10, backlog=8, kinds=None):
        self.nursery = nursery
        self.folder = folder
        self.kills = 0
        self.hit = collections.Counter()
        self.failures = []
        self._run(
            do="prepare", file="base.fs", count=count, backlog=backlog, kinds=kinds
        )

    def series(self, *plans):
        """Run these lives one after the other, then one that is not killed; check.

        Returns the reports.
        """
        self._renew()
        reports = []
        try:
            for plan in (*plans, {}):
                reports.append(self._run(**plan))
            problems = self._run(do="check")["text"]
        except LifeError as error:
            problems = str(error)
        if problems:
            self.failures.append(_story(plans, reports, problems))
            assert len(self.failures) < ENOUGH, self.story()
        return reports

    def _renew(self):
        for path in self.folder.glob("data.fs*"):
            path.unlink()
        shutil.copy(self.folder / "base.fs", self.folder / "data.fs")

    def _run(self, **plan):
        report = self.nursery.run({"folder": str(self.folder), **plan})
        if report["ended"] == "killed":
            self.kills += 1
            for _, moment, name in report["at"]:
                self.hit.update((point, moment) for point in points_of(name))
        return report

    def story(self):
        """What went wrong, for an assertion's message."""
        return "\n\n".join(self.failures)


def _story(plans, reports, problems):
    lines = [f"lives: {list(plans)}"]
    for report in reports:
        lines.append(f"{report['ended']} at {report['at']}")
    return "\n".join([*lines, problems])
