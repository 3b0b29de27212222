# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The example `wordindex`, stopped in the midst of its work: it continues.

However often it was stopped, the index is that of a run that was left in peace.
"""

import os
import random
import signal
import subprocess
import time
from contextlib import suppress

import pytest

from tests.wordindexing import dump, ended, looking, make_folder, run, spawn, wait_until

FILES = 150
KILLS = 6


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("texts"), FILES)


@pytest.fixture(scope="module")
def undisturbed(texts, tmp_path_factory):
    """The index of an undisturbed run, and how large its database became."""
    data = tmp_path_factory.mktemp("undisturbed")
    run(texts, "--data", data)
    return dump(data), size(data)


@pytest.fixture
def rng():
    """Chances that can be repeated: the seed is printed when a test fails."""
    seed = int(os.environ.get("WORDINDEX_SEED") or time.time_ns() % 1_000_000)
    print(f"WORDINDEX_SEED={seed}")
    return random.Random(seed)


def size(data):
    """How large the database is by now: it grows with each commit."""
    with suppress(FileNotFoundError):
        return os.path.getsize(data / "wordindex.fs")
    return 0


def stop_at(process, number, data, goal):
    """Send a signal when the database has reached a size; or find it ended."""
    wait_until(lambda: size(data) >= goal or process.poll() is not None, pause=0.0005)
    process.send_signal(number)


def test_killed_at_random_moments_it_builds_the_same_index(
    texts, undisturbed, tmp_path, rng
):
    lines, full = undisturbed
    kills = 0
    for _ in range(KILLS):
        process = spawn(texts, "--data", tmp_path)
        with ended(process):
            # Sizes, and not seconds, since they do not depend on the machine.  The
            # file grows during commits, so many of these kills tear one apart.
            goal = size(tmp_path) + rng.uniform(0, 0.2) * full
            stop_at(process, signal.SIGKILL, tmp_path, goal)
            output, _ = process.communicate(timeout=30)
        print(f"at {size(tmp_path)} of {full} bytes: {process.returncode}")
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, output
        kills += 1
    assert kills >= 3
    output = run(texts, "--data", tmp_path)
    assert "Indexed 150 files" in output
    assert dump(tmp_path) == lines
    with looking(tmp_path) as root:
        assert root["wordindex"].diary.sessions <= kills + 1


def test_killed_while_it_starts_it_builds_the_same_index(
    texts, undisturbed, tmp_path, rng
):
    for _ in range(3):
        process = spawn(texts, "--data", tmp_path)
        with ended(process), suppress(subprocess.TimeoutExpired):
            process.wait(rng.uniform(0.2, 1.0))
    run(texts, "--data", tmp_path)
    assert dump(tmp_path) == undisturbed[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_says_so_and_continues(texts, undisturbed, tmp_path, number):
    lines, full = undisturbed
    process = spawn(texts, "--data", tmp_path)
    with ended(process):
        stop_at(process, number, tmp_path, 0.4 * full)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 128 + number, output
    assert "Stopping: running jobs have 10 s to end" in output
    assert "Interrupted: " in output
    with looking(tmp_path) as root:
        build = root["wordindex"]
        assert build.finished is None
        assert build.interrupted == 0  # nothing was torn apart
    run(texts, "--data", tmp_path)
    assert dump(tmp_path) == lines
