# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""What each retry policy answers, and how answers are understood."""

import datetime
import functools
import logging

import pytest
from transaction.interfaces import TransientError
from ZODB.POSException import ConflictError, POSKeyError, ReadConflictError
from zope.interface.verify import verifyClass, verifyObject

from tests.support.jobs import nothing
from zc.async_ import clock, retry
from zc.async_.errors import ReassignedError
from zc.async_.failure import Failure
from zc.async_.interfaces import IRetryPolicy
from zc.async_.job import Job
from zc.async_.retry import (
    NeverRetry,
    RetryCommonForever,
    RetryCommonFourTimes,
    RetryWithBackoff,
    ask,
    lies_ahead,
)

SECOND = datetime.timedelta(seconds=1)
POLICIES = (RetryCommonFourTimes, RetryCommonForever, NeverRetry, RetryWithBackoff)


class Unpicklable(ConflictError):
    """Its failure holds a stand-in."""

    def __reduce__(self):
        raise TypeError("not to be pickled")


class ClientDisconnected(TransientError):
    """Like the one of ZEO."""

    __module__ = "ZEO.Exceptions"


class Never(Exception):
    pass


def failures(error, count):
    return [Failure(error) for _ in range(count)]


def answers(policy, question, error, count, cache=None):
    cache = {} if cache is None else cache
    return [getattr(policy, question)(one, cache) for one in failures(error, count)]


@pytest.fixture(params=["jobError", "commitError"])
def question(request):
    return request.param


@pytest.fixture
def job():
    return Job(nothing)


@pytest.mark.parametrize("policy", POLICIES)
def test_policies_provide_their_interface(policy, job):
    assert verifyClass(IRetryPolicy, policy)
    assert verifyObject(IRetryPolicy, policy(job))


@pytest.mark.parametrize(
    "error", [ConflictError(), ReadConflictError(), TransientError(), Unpicklable()]
)
def test_the_default_makes_five_attempts_after_transient_errors(job, question, error):
    policy = RetryCommonFourTimes(job)
    assert answers(policy, question, error, 6) == [True] * 4 + [False] * 2


def test_the_default_waits_for_lost_connections_without_limit(job, question):
    found = answers(RetryCommonFourTimes(job), question, ClientDisconnected(), 100)
    assert found[:3] == [5 * SECOND, 10 * SECOND, 15 * SECOND]
    assert found[11:] == [60 * SECOND] * 89


@pytest.mark.parametrize("error", [ValueError(), POSKeyError(b"\0" * 8), SystemExit()])
def test_other_errors_are_final_to_the_default(job, question, error):
    assert answers(RetryCommonFourTimes(job), question, error, 1) == [False]


def test_the_default_retries_nine_interruptions(job):
    policy = RetryCommonFourTimes(job)
    found = []
    for job.interruptions in range(1, 12):
        found.append(policy.interrupted())
    assert found == [datetime.timedelta()] * 9 + [False] * 2


def test_forever_repeats_transient_errors_at_once_then_later_then_gives_up(job):
    found = answers(RetryCommonForever(job), "commitError", ConflictError(), 201)
    assert found[:19] == [True] * 19
    assert found[19:22] == [5 * SECOND, 10 * SECOND, 15 * SECOND]
    assert found[198] == 60 * SECOND
    assert found[199:] == [False, False]


def test_forever_is_forever_where_it_is_told_so(job):
    policy = RetryCommonForever(job, max_attempts=None, max_at_once=None)
    assert answers(policy, "jobError", ConflictError(), 1000) == [True] * 1000


def test_forever_waits_after_other_errors_of_the_commit(job, caplog):
    policy = RetryCommonForever(job)
    found = answers(policy, "commitError", TypeError("no pickle"), 21)
    assert found[:2] == [5 * SECOND, 10 * SECOND]
    assert found[18] == 60 * SECOND
    assert found[19:] == [False, False]
    levels = {record.levelno for record in caplog.records}
    assert levels == {logging.CRITICAL}
    assert "no pickle" in caplog.text


def test_errors_of_the_job_are_final_to_forever(job):
    assert answers(RetryCommonForever(job), "jobError", TypeError(), 1) == [False]


def test_forever_looks_later_at_what_another_thread_has_taken_over(job):
    found = answers(RetryCommonForever(job), "jobError", ReassignedError(), 2)
    assert found == [5 * SECOND, 10 * SECOND]
    assert answers(RetryCommonFourTimes(job), "jobError", ReassignedError(), 1) == [
        False
    ]


def test_forever_retries_interruptions_without_limit(job):
    job.interruptions = 10_000
    assert RetryCommonForever(job).interrupted() == datetime.timedelta()


@pytest.mark.parametrize("error", [ConflictError(), ClientDisconnected(), ValueError()])
def test_everything_is_final_to_never(job, question, error):
    assert answers(NeverRetry(job), question, error, 1) == [False]
    assert NeverRetry(job).interrupted() is False


# Back-off


def test_backoff_waits_longer_each_time_up_to_a_limit(job, monkeypatch):
    monkeypatch.setattr(retry.random, "random", lambda: 1.0)
    policy = RetryWithBackoff(job, longest_wait=10 * SECOND)
    found = answers(policy, "jobError", ValueError(), 8)
    assert found == [one * SECOND for one in (1, 2, 4, 8, 10, 10, 10)] + [False]


def test_backoff_has_full_jitter_and_never_asks_for_the_front(job, monkeypatch):
    monkeypatch.setattr(retry.random, "random", lambda: 0.25)
    assert answers(RetryWithBackoff(job), "jobError", ValueError(), 3)[2] == SECOND
    monkeypatch.setattr(retry.random, "random", lambda: 0.0)
    (wait,) = answers(RetryWithBackoff(job), "jobError", ValueError(), 1)
    assert datetime.timedelta() < wait <= SECOND / 1000


def test_backoff_without_limit_does_not_overflow(job):
    policy = RetryWithBackoff(
        job, max_tries=None, first_wait=datetime.timedelta(days=1)
    )
    found = answers(policy, "jobError", ValueError(), 2000)
    assert all(wait <= 3600 * SECOND for wait in found)


def test_backoff_is_for_the_errors_named(job):
    for errors in (Never, (Never,), ("tests.unit.test_retry.Never",)):
        policy = RetryWithBackoff(job, errors=errors)
        assert answers(policy, "jobError", ValueError(), 1) == [False]
        assert answers(policy, "jobError", Never(), 1) != [False]


def test_backoff_repeats_transient_errors_at_once_first(job):
    found = answers(RetryWithBackoff(job), "jobError", ConflictError(), 5)
    assert found[:4] == [True] * 4
    assert isinstance(found[4], datetime.timedelta)


def test_backoff_leaves_errors_of_the_commit_to_the_default(job):
    assert answers(RetryWithBackoff(job), "commitError", ValueError(), 1) == [False]


@pytest.mark.parametrize(
    "settings, message",
    [
        (
            {"max_trys": 3},
            "'max_trys' of RetryWithBackoff, expected one of max",
        ),
        ({"data": 3}, "'data'"),
        ({"jobError": None}, "'jobError'"),
        ({"first_wait": 3}, "first_wait=3, expected a timedelta"),
        ({"max_tries": "3"}, "max_tries='3', expected an integer"),
        ({"errors": [ValueError]}, "expected exception classes"),
    ],
)
def test_wrong_settings_are_refused_with_what_was_expected(job, settings, message):
    with pytest.raises(TypeError, match=message):
        functools.partial(RetryWithBackoff, **settings)(job)


def test_never_has_no_settings(job):
    with pytest.raises(TypeError, match="expected one of none"):
        NeverRetry(job, max_tries=1)


# What is remembered


def test_counts_go_on_at_the_next_performance(job):
    first, cache = RetryCommonFourTimes(job), {}
    assert answers(first, "jobError", ConflictError(), 3, cache) == [True] * 3
    first.updateData(cache)
    assert RetryCommonFourTimes(job).data == {"transient errors": 3}
    second = RetryCommonFourTimes(job)
    assert answers(second, "jobError", ConflictError(), 2) == [True, False]


def test_kinds_of_errors_are_counted_apart(job):
    policy, cache = RetryCommonFourTimes(job), {}
    answers(policy, "jobError", ConflictError(), 4, cache)
    assert answers(policy, "jobError", ClientDisconnected(), 1, cache) == [5 * SECOND]


def test_data_is_a_copy(job):
    policy = RetryCommonFourTimes(job)
    policy.updateData({"a": 1})
    policy.data["a"] = 2
    assert policy.data == {"a": 1}


def test_nothing_to_remember_does_not_write_the_job():
    job = Job(nothing)
    RetryCommonFourTimes(job).updateData({})
    assert "retry_data" not in vars(job)


# How answers are understood


def ask_for(answer, caplog=None):
    class Policy:
        def __init__(self, job):
            pass

        def interrupted(self):
            if isinstance(answer, BaseException):
                raise answer
            return answer

    job = Job(nothing)
    return ask(lambda: Policy(job), "interrupted", job)


AWARE = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)


@pytest.mark.parametrize("answer", [True, False, SECOND, -SECOND, AWARE])
def test_an_answer_is_taken_as_it_is(answer):
    assert ask_for(answer) == answer


def test_none_is_no():
    assert ask_for(None) is False


def test_a_datetime_is_understood_in_utc():
    zone = datetime.timezone(datetime.timedelta(hours=2))
    found = ask_for(AWARE.astimezone(zone))
    assert found == AWARE and found.tzinfo is datetime.UTC


@pytest.mark.parametrize(
    "answer",
    [
        "soon",
        3,
        0,
        datetime.time(tzinfo=datetime.UTC),
        datetime.datetime(2030, 1, 1),
        datetime.timedelta.max,
        ValueError("raised"),
        SystemExit(),
        KeyboardInterrupt(),
    ],
)
def test_nonsense_and_errors_give_up_with_a_log_entry(answer, caplog):
    assert ask_for(answer) is False
    (record,) = caplog.records
    assert "the retry policy of <zc.async.job.Job" in record.getMessage()
    assert record.exc_info is not None


def test_a_policy_that_cannot_be_made_gives_up(caplog):
    def broken():
        raise LookupError("there is none")

    assert ask(broken, "interrupted", Job(nothing)) is False
    assert "there is none" in caplog.text


@pytest.mark.parametrize(
    "answer, ahead",
    [
        (True, False),
        (datetime.timedelta(), False),
        (-SECOND, False),
        (SECOND, True),
        (datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC), False),
        (datetime.datetime(9000, 1, 1, tzinfo=datetime.UTC), True),
    ],
)
def test_whether_an_answer_lies_ahead(answer, ahead):
    assert lies_ahead(answer) is ahead


def test_waits_are_measured_by_our_clock():
    movable = clock.MovableClock(AWARE)
    clock.install(movable)
    try:
        assert lies_ahead(AWARE + SECOND)
        movable.advance(1)
        assert not lies_ahead(AWARE + SECOND)
    finally:
        clock.uninstall()
