# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""A copy of the project's files, for tests of what leaves traces in them."""

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
TOPS = ("docs", "examples", "benchmarks", "src", "tests", ".ci")
LEFTOVERS = ("__pycache__", "*.egg-info", "*.fs", "*.fs.*", "*_cache", ".hypothesis")


def copy_checkout(target: Path) -> Path:
    """Copy what belongs to the project, without what running and building left."""
    for top in TOPS:
        if (ROOT / top).exists():
            ignore = shutil.ignore_patterns(*LEFTOVERS)
            shutil.copytree(ROOT / top, target / top, ignore=ignore)
    for path in ROOT.iterdir():
        if path.suffix in (".py", ".txt", ".toml", ".in", ".ini", ".cfg"):
            if path.name != "uuid.txt":
                shutil.copy(path, target)
    return target


def run(*command, cwd, timeout=110):
    """Run a command without what this process adds to the path; return its output.

    An AssertionError shows what a command printed that failed.
    """
    environment = {
        name: value for name, value in os.environ.items() if name != "PYTHONPATH"
    }
    done = subprocess.run(
        [str(each) for each in command],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
