# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
import datetime
import logging
import pickle
import zoneinfo

import pytest
import pytz

from zc.async_ import utils

UTC = datetime.UTC
WHEN = datetime.datetime(2006, 8, 10, 15, 44, 22, 211, tzinfo=UTC)


class StubDatetime(datetime.datetime):
    """What tests that replace `datetime` make."""


def test_keys_are_those_of_the_first_release():
    assert utils.dt_to_long(WHEN) + 15 == 6420106068108777167


def test_later_dates_have_smaller_keys():
    steps = [
        datetime.timedelta(microseconds=1),
        datetime.timedelta(seconds=1),
        datetime.timedelta(hours=23),
        datetime.timedelta(days=400),
    ]
    dates = [WHEN + step for step in steps]
    keys = [utils.dt_to_long(date) for date in [WHEN, *dates]]
    assert keys == sorted(keys, reverse=True)
    assert len(set(keys)) == len(keys)


def test_the_lowest_four_bits_are_free():
    assert utils.dt_to_long(WHEN) & 15 == 0
    assert utils.long_to_dt(utils.dt_to_long(WHEN) + 15) == WHEN


@pytest.mark.parametrize(
    "when",
    [
        WHEN,
        datetime.datetime.max.replace(tzinfo=UTC),
        datetime.datetime.min.replace(tzinfo=UTC),
    ],
)
def test_keys_give_back_the_exact_date_and_fit_64_bits(when):
    key = utils.dt_to_long(when)
    assert 0 <= key < 2**63
    assert utils.long_to_dt(key) == when
    assert utils.long_to_dt(key).tzinfo is UTC


@pytest.mark.parametrize(
    "zone",
    [
        UTC,
        pytz.UTC,
        pytz.timezone("Europe/Berlin"),
        zoneinfo.ZoneInfo("America/New_York"),
        datetime.timezone(datetime.timedelta(hours=5, minutes=30)),
    ],
    ids=str,
)
def test_dates_of_any_zone_become_utc(zone):
    found = utils.as_utc(WHEN.astimezone(zone))
    assert found == WHEN
    assert found.tzinfo is UTC
    assert utils.dt_to_long(WHEN.astimezone(zone)) == utils.dt_to_long(WHEN)


def test_a_subclass_of_datetime_becomes_a_plain_one():
    found = utils.as_utc(StubDatetime(2006, 8, 10, 15, 44, 22, 211, tzinfo=pytz.UTC))
    assert type(found) is datetime.datetime
    assert found == WHEN
    assert b"pytz" not in pickle.dumps(found)


@pytest.mark.parametrize("function", [utils.as_utc, utils.dt_to_long])
def test_naive_dates_are_refused(function):
    with pytest.raises(ValueError, match="^cannot use timezone-naive values$"):
        function(datetime.datetime(2006, 8, 10))


@pytest.mark.parametrize("value", ["tomorrow", 5, datetime.date(2006, 8, 10)])
def test_what_is_no_date_is_refused_by_name(value):
    with pytest.raises(TypeError, match="expected a datetime, found"):
        utils.as_utc(value)


def test_loggers_have_the_published_names():
    assert utils.log is logging.getLogger("zc.async.events")
    assert utils.tracelog is logging.getLogger("zc.async.trace")
