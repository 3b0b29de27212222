# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
import datetime

import pytest

from zc.async_ import jobinfo, polls, totals
from zc.async_.stats import Tally

NOW = datetime.datetime(2006, 8, 10, 15, 44, 22, tzinfo=datetime.UTC)
SECOND = datetime.timedelta(seconds=1)


@pytest.fixture
def jobs():
    return jobinfo.Jobs(2)


@pytest.fixture
def tally():
    return Tally(totals.Counts())


@pytest.fixture
def poll():
    return polls.Polls().add(polls.PollInfo(NOW))


@pytest.fixture
def start(jobs, tally, poll):
    def start(oid, database="unnamed"):
        job_id = (oid, database)
        info = jobinfo.JobInfo(
            job_id, "", "main", f"job {oid}", (), 1, NOW, poll, tally
        )
        jobs.start(info)
        return job_id

    return start


def ids(infos):
    return [info.id[0] for info in infos]


def test_active_ones_are_never_forgotten(jobs, start):
    for oid in range(10):
        start(oid)
    assert ids(jobs.active()) == list(range(9, -1, -1))


def test_ended_ones_are_forgotten_in_the_order_in_which_they_ended(jobs, start):
    first, second, third = start(1), start(2), start(3)
    for job_id in second, third, first:
        jobs.end(job_id, jobinfo.COMPLETED, NOW)
    assert ids(jobs) == [3, 1]


def test_a_forgotten_record_makes_its_period_incomplete(jobs, start, poll):
    for oid in range(3):
        assert not poll.period.incomplete
        jobs.end(start(oid), jobinfo.COMPLETED, NOW)
    assert poll.period.incomplete


def test_a_second_performance_takes_the_place_of_the_first(jobs, start, poll):
    jobs.end(start(1), jobinfo.RESCHEDULED, NOW)
    start(1)
    assert len(list(jobs)) == 1
    assert jobs.get(1, "unnamed").state == jobinfo.ACTIVE
    assert poll.period.incomplete


def test_a_start_nobody_ended_counts_as_unknown_when_the_job_starts_again(
    jobs, start, tally
):
    start(1)
    start(1)
    assert ids(jobs) == [1]
    assert tally.unknown == 1


def test_waiting_ones_are_unsettled_but_not_active(jobs, start):
    jobs.wait(start(1))
    start(2)
    assert ids(jobs.active()) == [2]
    assert sorted(ids(jobs.unsettled())) == [1, 2]


def test_waiting_ones_that_are_forgotten_count_as_unknown(jobs, start, tally):
    for oid in range(5):
        jobs.wait(start(oid))
    assert ids(jobs) == [3, 4]
    assert tally.unknown == 3


def test_a_waiting_one_that_starts_again_counts_once_as_unknown(jobs, start, tally):
    jobs.wait(start(1))
    start(1)
    assert ids(jobs.active()) == [1]
    assert tally.unknown == 1


def test_waiting_ones_can_be_settled(jobs, start, tally):
    job_id = start(1)
    jobs.wait(job_id)
    assert jobs.end(job_id, jobinfo.COMPLETED, NOW).completed == NOW
    assert (tally.successful, tally.unknown) == (1, 0)


def test_what_has_ended_neither_waits_nor_ends_again(jobs, start, tally):
    job_id = start(1)
    jobs.end(job_id, jobinfo.COMPLETED, NOW)
    jobs.wait(job_id)
    assert jobs.end(job_id, jobinfo.COMPLETED, NOW, failed=True) is None
    assert jobs.get(*job_id).state == jobinfo.COMPLETED
    assert (tally.successful, tally.failed) == (1, 0)


def test_a_clock_set_back_makes_no_negative_durations(jobs, start, tally):
    jobs.end(start(1), jobinfo.COMPLETED, NOW - SECOND)
    assert tally.longest_successful == (datetime.timedelta(), (1, "unnamed"))


def test_the_database_name_may_be_left_out_when_one_job_has_the_oid(jobs, start):
    start(1, "main")
    assert jobs.get(1, None) is jobs.get(1, "main")
    start(1, "async")
    with pytest.raises(KeyError, match=r"1, .*found in \['async', 'main'\]"):
        jobs.get(1, None)


@pytest.mark.parametrize("database", ["unnamed", None])
def test_an_unknown_id_is_named(jobs, start, database):
    start(1, "main")
    with pytest.raises(KeyError, match="7"):
        jobs.get(7, database)


def test_it_can_be_told_to_keep_none_that_ended(tally, poll):
    jobs = jobinfo.Jobs(0)
    job_id = (1, "unnamed")
    jobs.start(jobinfo.JobInfo(job_id, "", "main", "job 1", (), 1, NOW, poll, tally))
    assert ids(jobs) == [1]
    jobs.end(job_id, jobinfo.COMPLETED, NOW)
    assert ids(jobs) == []


def test_a_size_below_zero_is_refused():
    with pytest.raises(ValueError, match="found -1"):
        jobinfo.Jobs(-1)


def in_round(jobs, poll, tally, number):
    info = jobinfo.JobInfo(
        (1, "unnamed"), "", "main", "job", (), 1, NOW, poll, tally, number
    )
    jobs.start(info)
    return info


def test_the_round_is_shown_of_jobs_that_shared_one(jobs, poll, tally):
    assert in_round(jobs, poll, tally, 7).as_dict()["round"] == 7
    assert "round" not in in_round(jobs, poll, tally, None).as_dict()


def test_a_job_that_left_its_round_is_another_threads_alone(jobs, poll, tally):
    info = in_round(jobs, poll, tally, 7)
    jobs.leave_round(info.id, 2)
    assert "round" not in info.as_dict()
    assert info.as_dict()["thread"] == 2
    jobs.end(info.id, jobinfo.COMPLETED, NOW, False, "42")
    jobs.leave_round(info.id, 3)
    jobs.leave_round((5, "unnamed"), 3)
    assert info.as_dict()["thread"] == 2
