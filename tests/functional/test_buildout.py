# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""`buildout.cfg` builds with the current zc.buildout and gives what it promises."""

import sys

import pytest

from tests.checkout import copy_checkout, run


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A copy of the project in which `bootstrap.py buildout` was run."""
    checkout = copy_checkout(tmp_path_factory.mktemp("buildout"))
    run(sys.executable, "bootstrap.py", "buildout", cwd=checkout, timeout=550)
    return checkout


@pytest.mark.timeout(600)
def test_the_interpreter_imports_the_package_and_what_it_needs(built, tmp_path):
    program = "import twisted, ZODB, zc.async_.interfaces as it; print(it.__file__)"
    printed = run(built / "bin" / "py", "-c", program, cwd=tmp_path)
    assert printed.startswith(str(built / "src"))


@pytest.mark.timeout(600)
def test_bin_test_runs_tests(built):
    printed = run(built / "bin" / "test", "tests/unit/test_alias.py", cwd=built)
    assert " passed in " in printed
