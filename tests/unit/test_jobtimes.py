# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The times and attempts of a job."""

import datetime
import zoneinfo

import pytest

from tests.support.jobs import nothing
from zc.async_.interfaces import ACTIVE, ASSIGNED, NEW, PENDING
from zc.async_.job import Job

UTC = datetime.UTC
MOMENT = datetime.datetime(2030, 1, 2, 3, 4, 5, 6, UTC)


@pytest.fixture
def job():
    return Job(nothing)


def test_a_new_job_has_no_times(job):
    names = "begin_after begin_by active_start active_end first_active"
    names += " initial_callbacks_end"
    assert [getattr(job, name) for name in names.split()] == [None] * 6
    assert job.attempts == 0


def test_begin_after_is_kept_in_utc_to_the_microsecond(job):
    job.begin_after = MOMENT.astimezone(zoneinfo.ZoneInfo("Europe/Berlin"))
    assert job.begin_after == MOMENT
    assert job.begin_after.tzinfo is UTC
    job.begin_after = None
    assert job.begin_after is None


def test_begin_after_needs_a_zone(job):
    with pytest.raises(ValueError, match="cannot use timezone-naive values"):
        job.begin_after = datetime.datetime(2030, 1, 1)


@pytest.mark.parametrize("wrong", [MOMENT, 60, "1 hour"])
def test_begin_by_is_a_timedelta(job, wrong):
    with pytest.raises(TypeError, match="expected a timedelta or None"):
        job.begin_by = wrong
    job.begin_by = datetime.timedelta(1)
    job.begin_by = None


def test_beginning_counts_attempts_and_keeps_the_first_start(job):
    assert job._begin(1_000_000) == 1_000_000
    first = job.active_start
    job._step(NEW)
    job._begin(2_000_000)
    job._step(NEW)
    job._begin(3_000_000)
    assert job.attempts == 3
    assert job.first_active == first
    assert job.active_start == first + datetime.timedelta(seconds=2)


def test_no_two_attempts_have_the_same_start(job):
    tokens = []
    for now in (1000, 1000, 500):  # a clock that stands still, or goes back
        tokens.append(job._begin(now))
        job._step(NEW)
    assert tokens == [1000, 1001, 1002]


def test_a_job_that_was_disowned_has_another_start(job):
    token = job._begin(1000)
    assert job._disown() > token
    assert job._active_start > token


def test_a_job_that_was_never_begun_cannot_be_disowned(job):
    assert job._disown() is None
    assert job.active_start is None


def test_a_beginning_that_nobody_took_up_does_not_count(job):
    for status in (PENDING, ASSIGNED):
        job._status = status
    job._begin(1000)
    job._unbegin()
    assert (job.attempts, job.active_start, job.first_active) == (0, None, None)
    job._status = NEW
    job._begin(2000)
    job._status = NEW
    job._begin(3000)
    job._unbegin()
    assert job.attempts == 1
    assert job.active_start == job.first_active


def test_a_new_attempt_forgets_what_the_last_one_waited_for(job):
    job._begin(1000)
    job._awaited, job._awaits = Job(nothing), True
    assert job.status == ACTIVE
    job._step(NEW)
    job._postponed = True
    job._begin(2000)
    assert (job._awaited, job._awaits, job._postponed) == (None, False, False)
