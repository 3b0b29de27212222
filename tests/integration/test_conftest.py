# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""What `conftest.py` promises for every test, tried on small suites of their own."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

SKIPS = {
    "marker": """
import pytest
@pytest.mark.skipif(True, reason="no PostgreSQL")
def test_something(): pass
""",
    "call": """
import pytest
def test_something(): pytest.skip("no PostgreSQL")
""",
    "fixture": """
import pytest
@pytest.fixture
def server(): pytest.skip("no PostgreSQL")
def test_something(server): pass
""",
    "unittest": """
import unittest
class Tests(unittest.TestCase):
    @unittest.skip("no PostgreSQL")
    def test_something(self): pass
""",
    "module": """
import pytest
pytest.skip("no PostgreSQL", allow_module_level=True)
""",
    "import": """
import pytest
psycopg2 = pytest.importorskip("no_PostgreSQL", reason="no PostgreSQL")
""",
}


@pytest.fixture
def suite(tmp_path):
    """Call it with the CI variable, arguments, and source for each file."""
    shutil.copy(TESTS.parent / "pyproject.toml", tmp_path)
    (tmp_path / "tests").mkdir()
    shutil.copy(TESTS / "conftest.py", tmp_path / "tests")

    def run(ci, *arguments, **sources):
        for name, source in sources.items():
            path = tmp_path / "tests" / name.replace("__", "/")
            path.parent.mkdir(exist_ok=True)
            path.with_suffix(".py").write_text(source)
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
            cwd=tmp_path,
            env={**os.environ, "CI": ci},
            capture_output=True,
            text=True,
            timeout=100,
        )

    return run


def reported(word, printed):
    """The files of the suite that the summary names after `word`."""
    return set(re.findall(rf"^{word} .*tests/unit/test_(\w+)\.py", printed, re.M))


def skipping(replacement="no PostgreSQL"):
    return {
        f"unit__test_{way}": source.replace("no PostgreSQL", replacement)
        for way, source in SKIPS.items()
    }


def test_a_missing_prerequisite_is_named_and_skipped(suite):
    done = suite("", **skipping())
    assert done.returncode == 0, done.stdout
    assert done.stdout.count(": no PostgreSQL") == len(SKIPS)
    assert "6 skipped" in done.stdout


def test_a_missing_prerequisite_fails_under_ci(suite):
    done = suite("true", "--continue-on-collection-errors", "-rfE", **skipping())
    assert done.returncode == 1, done.stdout
    assert "no PostgreSQL" in done.stdout
    assert reported("(?:FAILED|ERROR)", done.stdout) == set(SKIPS)


def test_what_is_not_applicable_may_be_skipped_under_ci(suite):
    done = suite("true", **skipping("not applicable: no Windows"))
    assert done.returncode == 0, done.stdout
    assert "6 skipped" in done.stdout


def test_an_expected_failure_stays_one_under_ci(suite):
    source = "import pytest\n@pytest.mark.xfail\ndef test_it(): assert False\n"
    done = suite("true", unit__test_it=source)
    assert done.returncode == 0, done.stdout
    assert "1 xfailed" in done.stdout


def test_tiers_can_be_selected_and_cheap_ones_come_first(suite):
    source = "def test_something(): pass\n"
    names = ["crash__test_a", "functional__test_b", "unit__test_c"]
    done = suite("", "-v", **dict.fromkeys(names, source))
    assert re.findall(r"tests/(\w+)/\S+ PASSED", done.stdout) == [
        "unit",
        "functional",
        "crash",
    ]
    done = suite("", "-v", "-m", "functional")
    assert re.findall(r"tests/(\w+)/\S+ PASSED", done.stdout) == ["functional"]


def test_a_test_does_not_see_the_registrations_of_another(suite):
    source = """
import zope.component, zope.interface
class IThing(zope.interface.Interface): pass
def look():
    assert zope.component.queryUtility(IThing) is None
    zope.component.provideUtility(object(), IThing)
def test_one(): look()
def test_two(): look()
"""
    done = suite("", unit__test_it=source)
    assert done.returncode == 0, done.stdout
