# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""What README.txt shows is what happens."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.txt"


def test_the_first_job_runs_as_shown_and_the_process_ends(tmp_path):
    path = os.pathsep.join([str(ROOT / "src"), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-m", "doctest", str(README)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "jobs.fs").exists()


def test_the_first_job_takes_ten_lines():
    shown = re.findall(r"^    (>>>|\.\.\.) ", README.read_text(), re.M)
    assert 0 < len(shown) <= 10


def test_the_documents_that_it_names_are_there():
    named = re.findall(r"^``(\w+\.txt)``$", README.read_text(), re.M)
    assert named
    for name in named:
        assert (ROOT / "docs" / name).exists(), name
