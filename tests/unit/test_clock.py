# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
import datetime
import threading
import time
import zoneinfo

import pytest

from zc.async_ import clock

UTC = datetime.UTC
START = datetime.datetime(2006, 8, 10, 15, 44, 22, 211, tzinfo=UTC)
HOUR = datetime.timedelta(hours=1)


@pytest.fixture
def movable():
    source = clock.MovableClock(START)
    clock.install(source)
    yield source
    clock.uninstall()


def test_the_machine_tells_the_time_by_default():
    before = datetime.datetime.now(UTC), time.time(), time.monotonic()
    found = clock.utcnow(), clock.time(), clock.monotonic()
    after = datetime.datetime.now(UTC), time.time(), time.monotonic()
    for earliest, value, latest in zip(before, found, after, strict=True):
        assert earliest <= value <= latest
    assert found[0].tzinfo is datetime.timezone.utc  # noqa: UP017


def test_an_installed_clock_tells_the_time_until_it_is_uninstalled(movable):
    assert clock.utcnow() == START
    assert clock.time() == START.timestamp()
    clock.uninstall()
    assert clock.utcnow() > START + 1000 * HOUR
    clock.uninstall()  # harmless


def test_a_movable_clock_stands_still():
    source = clock.MovableClock()
    assert source.utcnow() == source.utcnow()
    assert source.monotonic() == source.monotonic()
    assert abs(source.utcnow() - datetime.datetime.now(UTC)) < HOUR


def test_the_monotonic_reading_does_not_go_back_when_a_clock_is_installed():
    before = clock.monotonic()
    clock.install(clock.MovableClock(START))
    try:
        assert clock.monotonic() >= before
    finally:
        clock.uninstall()


def test_advancing_moves_both_clocks(movable):
    before = clock.monotonic()
    movable.advance(0.25)
    movable.advance(HOUR)
    assert clock.utcnow() == START + HOUR + datetime.timedelta(seconds=0.25)
    assert clock.monotonic() == before + 3600.25


def test_many_small_advances_do_not_drift(movable):
    before = clock.monotonic()
    for _ in range(1000):
        movable.advance(0.1)
    assert clock.utcnow() == START + datetime.timedelta(seconds=100)
    assert clock.monotonic() == before + 100


def test_time_cannot_pass_backwards(movable):
    with pytest.raises(ValueError, match="use step"):
        movable.advance(-1)
    assert clock.utcnow() == START


def test_setting_forward_moves_both_and_backward_only_the_wall_clock(movable):
    before = clock.monotonic()
    movable.set(START + HOUR)
    assert clock.utcnow() == START + HOUR
    assert clock.monotonic() == before + 3600
    movable.set(START)
    assert clock.utcnow() == START
    assert clock.monotonic() == before + 3600


def test_setting_takes_any_zone_and_answers_in_utc(movable):
    berlin = zoneinfo.ZoneInfo("Europe/Berlin")
    movable.set((START + HOUR).astimezone(berlin))
    assert clock.utcnow() == START + HOUR
    assert clock.utcnow().tzinfo is UTC


def test_a_naive_time_is_refused(movable):
    naive = datetime.datetime(2006, 8, 10)
    for refuse in movable.set, clock.MovableClock, clock.micros:
        with pytest.raises(ValueError, match="expected an aware datetime"):
            refuse(naive)


def test_a_step_of_the_administrator_leaves_the_monotonic_clock(movable):
    before = clock.monotonic()
    movable.step(-HOUR)
    assert clock.utcnow() == START - HOUR
    movable.step(7200)
    assert clock.utcnow() == START + HOUR
    assert clock.monotonic() == before


@pytest.mark.parametrize(
    "when",
    [
        START,
        datetime.datetime.max.replace(tzinfo=UTC),
        datetime.datetime.min.replace(tzinfo=UTC),
        datetime.datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    ],
)
def test_microseconds_are_exact_there_and_back(when):
    count = clock.micros(when)
    assert isinstance(count, int)
    assert clock.from_micros(count) == when
    assert clock.from_micros(count).tzinfo is UTC


def test_microseconds_count_from_the_epoch():
    assert clock.micros(clock.EPOCH) == 0
    assert clock.micros(clock.EPOCH + HOUR) == 3_600_000_000
    assert clock.from_micros(-1) == clock.EPOCH - datetime.timedelta(microseconds=1)


def test_threads_that_move_the_clock_lose_nothing(movable):
    def advance():
        for _ in range(500):
            movable.advance(0.001)

    threads = [threading.Thread(target=advance) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert clock.utcnow() == START + datetime.timedelta(seconds=2)
