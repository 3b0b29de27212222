# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""What is logged of jobs while they are performed."""

import logging

import pytest

from tests.support.jobs import Counter, nothing
from zc.async_.failure import Failure
from zc.async_.job import Job
from zc.async_.observing import Observer


class Rude:
    def __repr__(self):
        raise ZeroDivisionError


def settled_job(result):
    job = Job(nothing)
    job._result = result
    return job


def logged(caplog, job):
    with caplog.at_level(logging.DEBUG, "zc.async"):
        Observer().settled(job)
    return caplog.records


@pytest.mark.parametrize(
    "result, text",
    [
        (42, "42"),
        ("text", "'text'"),
        (None, "None"),
        (
            Rude(),
            "<tests.unit.test_observing.Rude, whose repr raises ZeroDivisionError>",
        ),
        ("x" * 10_000, "'" + "x" * 199 + "..."),
        (Counter(), "tests.support.jobs.Counter (oid ?, db ?)"),
    ],
)
def test_a_success_is_in_the_trace_with_its_result(caplog, result, text):
    (record,) = logged(caplog, settled_job(result))
    assert (record.name, record.levelno) == ("zc.async.trace", logging.INFO)
    message, _, shown = record.getMessage().partition("with result:\n")
    assert message.startswith("<zc.async.job.Job (oid ?, db ?) ``")
    assert "succeeded in thread" in message
    assert shown == text


def test_a_failure_is_among_the_events_and_in_the_trace(caplog):
    records = logged(caplog, settled_job(Failure(ValueError("told"))))
    assert [record.name for record in records] == ["zc.async.events", "zc.async.trace"]
    for record in records:
        assert record.levelno == logging.ERROR
        assert "failed in thread" in record.getMessage()
        assert "ValueError: told" in record.getMessage()


def test_the_level_of_a_failure_is_that_of_the_job(caplog):
    job = settled_job(Failure(ValueError()))
    job.failure_log_level = logging.INFO
    assert {record.levelno for record in logged(caplog, job)} == {logging.INFO}


def test_a_retry_is_a_warning(caplog):
    job, problem = Job(nothing), Failure(ValueError("again"))
    Observer().retrying(job, problem, True)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("zc.async.trace", logging.WARNING)
    assert record.getMessage().endswith("is retried (now) after: again")


def test_who_can_wait_for_values_says_how():
    assert Observer.is_worker is False
    with pytest.raises(NotImplementedError):
        Observer().awaiting(Job(nothing), None)
