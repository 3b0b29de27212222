# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Statistics, as `Records` asks for them."""

import datetime
import itertools

import pytest

from zc.async_ import clock, records

START = datetime.datetime(2006, 8, 10, 15, 44, 22, 211)

NOTHING = {
    "failed": 0,
    "longest active": None,
    "longest failed": None,
    "longest successful": None,
    "shortest active": None,
    "shortest failed": None,
    "shortest successful": None,
    "started": 0,
    "statistics end": None,
    "statistics start": None,
    "successful": 0,
    "unknown": 0,
}


def seconds(count):
    return datetime.timedelta(seconds=count)


def at(hour, minute, second):
    return datetime.datetime(2006, 8, 10, hour, minute, second, 211)


class History:
    """Records, and a dispatcher that polls every five seconds."""

    def __init__(self, **sizes):
        self.records = records.Records(**sizes)
        self.now = START
        self.due = START
        self.oids = itertools.count(1)
        self.polls = []

    def until(self, moment):
        while self.due <= moment:
            self.polls.append(self.records.begin_poll(self.due))
            self.due += seconds(5)
        self.now = moment

    def start(self, queue="", agent="main"):
        job_id = (next(self.oids), "unnamed")
        self.records.job_started(job_id, queue, agent, "call", (), 1, self.aware())
        return job_id

    def settle(self, job_id, failed=False, after=0.0):
        self.now += seconds(after)
        self.records.job_settled(job_id, "42", failed, self.aware())

    def perform(self, failed=False, after=0.0, **where):
        job_id = self.start(**where)
        self.settle(job_id, failed, after)
        return job_id

    def aware(self):
        return self.now.replace(tzinfo=clock.UTC)

    def figures(self, **span):
        found = self.records.getStatistics(**span)
        return found["started"], found["successful"], found["failed"]

    def period(self, **span):
        found = self.records.getStatistics(**span)
        return found["statistics end"], found["statistics start"]


@pytest.fixture
def history():
    history = History()
    history.until(START)
    return history


@pytest.fixture
def three():
    """A history of three polls with one, two and four jobs."""
    history = History()
    for offset, count in ((0, 1), (5, 2), (10, 4)):
        history.until(START + seconds(offset))
        for _ in range(count):
            history.perform()
    return history


# The figures


def test_without_a_poll_there_is_nothing_to_tell():
    assert records.Records().getStatistics() == NOTHING


def test_the_first_poll_begins_and_ends_the_statistics(history):
    moments = {"statistics end": START, "statistics start": START}
    assert history.records.getStatistics() == {**NOTHING, **moments}


def test_the_history_of_the_first_release_gives_its_figures(history):
    history.until(at(15, 44, 27))
    history.perform()
    history.until(at(15, 44, 32))
    history.perform()
    history.until(at(15, 56, 2))
    for failed in (False, False, True, False, False, False, False, True, False):
        history.perform(failed)
    history.until(at(15, 56, 47))
    active = history.start()
    assert history.figures() == (12, 9, 2)
    assert history.period() == (START, at(15, 56, 47))
    found = history.records.getStatistics()
    assert found["longest active"] == found["shortest active"] == active
    history.until(at(15, 56, 52))
    history.settle(active)
    assert history.figures() == (10, 8, 2)
    assert history.period() == (at(15, 46, 52), at(15, 56, 52))
    assert history.records.getStatistics()["longest active"] is None
    history.until(at(15, 57, 47))
    for _ in range(12):
        history.perform()
    assert history.figures() == (22, 20, 2)
    assert history.period() == (at(15, 46, 52), at(15, 57, 47))
    assert history.records.getStatistics()["unknown"] == 0


def test_the_longest_and_the_shortest_are_named(history):
    short, long, middle = (history.perform(after=each) for each in (1, 3, 2))
    bad = [history.perform(failed=True, after=each) for each in (5, 4, 6)]
    found = history.records.getStatistics()
    assert found["longest successful"] == long
    assert found["shortest successful"] == short
    assert found["longest failed"] == bad[2]
    assert found["shortest failed"] == bad[1]
    assert middle not in found.values()


def test_the_extremes_of_all_periods_are_compared(history):
    long = history.perform(after=9)
    history.until(START + seconds(200))
    history.perform(after=3)
    history.until(START + seconds(400))
    short = history.perform(after=1)
    found = history.records.getStatistics()
    assert found["longest successful"] == long
    assert found["shortest successful"] == short


def test_the_longest_active_is_the_one_that_started_first(history):
    first = history.start()
    history.until(START + seconds(5))
    history.start()
    history.until(START + seconds(10))
    last = history.start()
    found = history.records.getStatistics()
    assert (found["longest active"], found["shortest active"]) == (first, last)


def test_an_active_job_is_shown_when_its_period_is_forgotten(history):
    job_id = history.start()
    history.until(START + seconds(900))
    found = history.records.getStatistics()
    assert found["started"] == 0
    assert found["longest active"] == job_id
    history.settle(job_id)
    assert history.figures() == (0, 0, 0)


def test_a_job_counts_where_it_started_however_late_it_ends(history):
    job_id = history.start()
    history.until(START + seconds(745))
    history.settle(job_id)
    assert history.figures() == (1, 1, 0)
    history.until(START + seconds(750))
    assert history.figures() == (0, 0, 0)


def test_jobs_that_went_away_are_unknown(history):
    history.records.job_reassigned(history.start())
    history.records.job_rescheduled(history.start(), history.aware())
    found = history.records.getStatistics()
    assert (found["started"], found["unknown"]) == (2, 2)
    assert found["longest active"] is None


def test_a_waiting_job_is_active(history):
    job_id = history.start()
    history.records.job_waits(job_id)
    found = history.records.getStatistics()
    assert found["longest active"] == job_id
    assert found["unknown"] == 0


def test_any_number_of_jobs_is_counted(history):
    for _ in range(1000):
        history.perform()
    history.until(START + seconds(160))
    for _ in range(1000):
        history.perform(failed=True)
    assert history.figures() == (2000, 1000, 1000)


def test_any_number_of_polls_is_counted():
    history = History(polls_size=2)
    for offset in range(0, 500, 5):
        history.until(START + seconds(offset))
        history.perform()
    assert history.figures() == (100, 100, 0)
    assert history.period() == (START, START + seconds(495))


def test_queues_and_agents_can_be_asked_for(history):
    history.perform(queue="", agent="main")
    history.perform(queue="", agent="other", failed=True)
    history.start(queue="mail", agent="main")
    assert history.figures(queue="") == (2, 1, 1)
    assert history.figures(agent="main") == (2, 1, 0)
    assert history.figures(queue="", agent="main") == (1, 1, 0)
    assert history.figures(queue="none") == (0, 0, 0)
    assert history.records.getStatistics(queue="")["longest active"] is None
    assert history.records.getStatistics(queue="mail")["longest active"] is not None


# Spans


def test_at_a_poll_its_own_jobs_count(three):
    for poll, count in zip(three.polls, (1, 3, 7), strict=True):
        assert three.figures(at=poll.key) == (count, count, 0)
        assert three.figures(at=poll.utc_timestamp) == (count, count, 0)
        assert three.period(at=poll.key) == (START, poll.utc_timestamp)


def test_before_a_poll_its_jobs_do_not_count(three):
    for poll, count in zip(three.polls, (0, 1, 3), strict=True):
        assert three.figures(before=poll.key) == (count, count, 0)
    assert three.period(before=three.polls[0].key) == (None, None)


def test_since_includes_the_poll(three):
    for poll, count in zip(three.polls, (7, 6, 4), strict=True):
        assert three.figures(since=poll.key) == (count, count, 0)
        assert three.figures(since=poll.utc_timestamp) == (count, count, 0)
        assert three.period(since=poll.key) == (poll.utc_timestamp, at(15, 44, 32))


def test_both_ends_can_be_given(three):
    middle = three.polls[1]
    assert three.figures(at=middle.key, since=middle.key) == (2, 2, 0)
    assert three.period(at=middle.key, since=middle.key) == (at(15, 44, 27),) * 2
    assert three.figures(at=middle.key, since=three.polls[2].key) == (0, 0, 0)


def test_a_span_of_time_ends_now(three):
    clock.install(clock.MovableClock((START + seconds(12)).replace(tzinfo=clock.UTC)))
    try:
        assert three.figures(since=seconds(8)) == (6, 6, 0)
        assert three.figures(at=seconds(8)) == (1, 1, 0)
        assert three.figures(since=datetime.timedelta(days=1)) == (7, 7, 0)
    finally:
        clock.uninstall()


def test_queues_and_agents_are_told_apart_within_a_period(three):
    three.perform(queue="mail")
    three.perform(agent="other", failed=True)
    since = three.polls[2].key
    assert three.figures(since=since, queue="mail") == (1, 1, 0)
    assert three.figures(since=since, agent="other") == (1, 0, 1)
    assert three.figures(since=since) == (6, 5, 1)


def test_every_way_to_end_is_told_apart_within_a_period(three):
    since = three.polls[2].key
    three.perform(failed=True)
    three.records.job_reassigned(three.start())
    three.records.job_rescheduled(three.start(), three.aware())
    three.records.job_waits(three.start())
    found = three.records.getStatistics(since=since)
    assert (found["started"], found["successful"], found["failed"]) == (8, 4, 1)
    assert found["unknown"] == 2


def test_a_job_that_started_later_is_not_active_in_the_span(three):
    first = three.start()
    three.until(START + seconds(15))
    second = three.start()
    span = {"at": three.polls[2].key}
    assert three.records.getStatistics(**span)["shortest active"] == first
    span = {"since": three.polls[3].key}
    assert three.records.getStatistics(**span)["shortest active"] == second
    assert three.records.getStatistics(**span)["longest active"] == first


def test_whole_periods_are_exact_without_job_records():
    history = History(jobs_size=0)
    for offset in range(0, 450, 5):
        history.until(START + seconds(offset))
        history.perform()
    first_of_second = history.polls[30]
    assert history.figures(since=first_of_second.key) == (60, 60, 0)
    assert history.figures(before=first_of_second.key) == (30, 30, 0)
    assert history.period(since=first_of_second.key) == (
        START + seconds(150),
        START + seconds(445),
    )


def test_without_job_records_a_period_that_is_touched_counts_whole_and_says_so():
    history = History(jobs_size=0)
    for offset in range(0, 450, 5):
        history.until(START + seconds(offset))
        history.perform()
    inside = history.polls[40].key
    assert history.figures(since=inside) == (60, 60, 0)
    assert history.period(since=inside) == (START + seconds(150), START + seconds(445))
    assert history.figures(at=inside) == (60, 60, 0)
    assert history.period(at=inside) == (START, START + seconds(295))


def test_at_and_before_exclude_each_other(history):
    with pytest.raises(ValueError, match="one of `at` and `before`"):
        history.records.getStatistics(at=1, before=2)


def test_started_is_the_sum_of_what_became_of_the_jobs(history):
    """Whatever happens, each start is successful, failed, unknown or unsettled."""
    active = []
    for number in range(600):
        history.until(START + seconds(number))
        active.append(history.start())
        if number % 7 == 0:
            history.records.job_waits(active.pop(0))
        elif number % 5 == 0:
            history.records.job_reassigned(active.pop())
        elif number % 2:
            history.settle(active.pop(0), failed=number % 3 == 0)
    found = history.records.getStatistics()
    settled = found["successful"] + found["failed"] + found["unknown"]
    jobs = list(history.records._jobs.unsettled())
    assert found["started"] == 600
    assert len(jobs) > len(active)
    assert settled + len(jobs) == 600
