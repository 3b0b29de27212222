# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""What holds for every test.

* The folder of a test is its tier, which is also its marker (`-m unit`); cheap tiers
  run first.
* A test skips only for a missing prerequisite.  Where CI is set in the environment
  everything is expected to be there, and such a skip is a failure; a skip whose
  reason begins with "not applicable" stays one.
* Each test begins and ends with an empty component registry.
* Generated examples may take as long as a busy machine needs.
"""

import os
import sys
from pathlib import Path

import pytest
import zope.component.testing
from hypothesis import HealthCheck, settings

TIERS = ("unit", "integration", "functional", "crash", "stress")
TESTS = Path(__file__).parent
STRICT = os.environ.get("CI", "").lower() not in ("", "0", "false")
NOT_APPLICABLE = "not applicable"

settings.register_profile(
    "busy", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("busy")


def tier_of(item):
    """The tier of a test; documents are examples that run for real."""
    if item.path.is_relative_to(TESTS):
        return item.path.relative_to(TESTS).parts[0]
    return "integration"


def pytest_collection_modifyitems(items):
    for item in items:
        item.add_marker(tier_of(item))
    items.sort(key=lambda item: TIERS.index(tier_of(item)))


def _fail_when_strict(report):
    """Turn a skip for a missing prerequisite into a failure, under CI."""
    if not (STRICT and report.skipped) or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[-1] if report.longrepr else ""
    reason = reason.removeprefix("Skipped: ")
    if not reason.startswith(NOT_APPLICABLE):
        report.outcome = "failed"
        report.longrepr = f"Skipped, but nothing may be missing under CI: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    _fail_when_strict(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    report = yield
    _fail_when_strict(report)
    return report


@pytest.fixture(autouse=True)
def component_registry():
    """An empty global component registry, before and after."""
    zope.component.testing.setUp()
    yield
    zope.component.testing.tearDown()


@pytest.fixture(autouse=True)
def no_dispatchers():
    """No dispatcher of an earlier test is remembered."""
    yield
    dispatcher = sys.modules.get("zc.async.dispatcher")
    if dispatcher is not None:
        dispatcher.clear()
