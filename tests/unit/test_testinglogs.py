# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
import io
import logging

from zc.async_ import testing

events = logging.getLogger("zc.async.events")
trace = logging.getLogger("zc.async.trace")


def printed(*logs):
    file = io.StringIO()
    testing.print_logs(*logs, file=file)
    return file.getvalue()


def test_what_is_logged_meanwhile_is_gathered():
    with testing.Logs() as logs:
        trace.debug("found %s", 1)
        events.error("two\nlines")
    trace.error("afterwards")
    assert str(logs) == (
        "zc.async.trace DEBUG\n  found 1\nzc.async.events ERROR\n  two\n  lines"
    )


def test_the_loggers_are_afterwards_as_before():
    logger = logging.getLogger("zc.async")
    before = logger.level, list(logger.handlers)
    with testing.Logs():
        assert logger.isEnabledFor(logging.DEBUG)
    assert (logger.level, logger.handlers) == before


def test_only_the_named_loggers_and_levels_are_gathered():
    with testing.Logs("zc.async.events", level=logging.ERROR) as logs:
        trace.error("no")
        events.info("no")
        events.error("yes")
    assert [record.getMessage() for record in logs.records] == ["yes"]


def test_what_was_gathered_can_be_forgotten():
    with testing.Logs() as logs:
        events.info("one")
        logs.clear()
    assert str(logs) == ""


def test_tracebacks_are_shown():
    with testing.Logs() as logs:
        try:
            raise KeyError("gone")
        except KeyError:
            events.exception("failed")
    assert "KeyError: 'gone'" in str(logs)


def test_several_logs_are_printed_as_one_history():
    with testing.Logs("zc.async.events") as first:
        with testing.Logs("zc.async.trace") as second:
            events.info("1")
            trace.info("2")
            events.info("3")
    assert printed(first, second).split() == [
        "zc.async.events", "INFO", "1",
        "zc.async.trace", "INFO", "2",
        "zc.async.events", "INFO", "3",
    ]  # fmt: skip


def test_a_record_that_two_have_gathered_is_printed_once():
    with testing.Logs() as first, testing.Logs("zc.async.events") as second:
        events.info("once")
    assert printed(first, second).count("once") == 1
