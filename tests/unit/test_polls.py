# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
import datetime
import io
import pprint

import pytest

from zc.async_ import clock, polls, utils

START = datetime.datetime(2006, 8, 10, 15, 44, 22, 211)
MINUTES_2_5 = datetime.timedelta(seconds=150)


def seconds(count):
    return datetime.timedelta(seconds=count)


def add(kept, *offsets):
    """Add a poll at so many seconds after START, each; return the polls."""
    return [kept.add(polls.PollInfo(START + seconds(each))) for each in offsets]


@pytest.fixture
def kept():
    return polls.Polls()


@pytest.fixture
def four(kept):
    return kept, add(kept, 0, 5, 10, 15)


# The record


def test_a_record_is_keyed_and_dated_as_in_the_first_release():
    poll = polls.PollInfo(START)
    assert poll.key == 6420106068108777167
    assert poll.utc_timestamp == START
    assert poll == {}


def test_a_record_made_at_an_aware_time_shows_naive_utc():
    zone = datetime.timezone(datetime.timedelta(hours=2))
    aware = (START + datetime.timedelta(hours=2)).replace(tzinfo=zone)
    poll = polls.PollInfo(aware)
    assert (poll.utc_timestamp, poll.utc_timestamp.tzinfo) == (START, None)
    assert poll.key == polls.PollInfo(START).key


def test_a_record_is_printed_as_a_dictionary():
    poll = polls.PollInfo(START)
    poll[""] = {"main": {"len": 0, "active jobs": [], "new jobs": [], "size": 3}}
    printed = io.StringIO()
    pprint.pprint(poll, printed)
    assert repr(poll) == repr(dict(poll))
    assert printed.getvalue() == pprint.pformat(dict(poll)) + "\n"


# Order and ends


def test_no_poll_is_an_error_of_first_and_last(kept):
    for end in kept.first, kept.last:
        with pytest.raises(ValueError, match="no poll"):
            end()
    assert len(kept) == 0
    assert list(kept) == []


def test_the_newest_comes_first(four):
    kept, added = four
    assert len(kept) == 4
    assert [poll.key for poll in kept] == [poll.key for poll in reversed(added)]
    assert kept.first() is added[-1]
    assert kept.last() is added[0]


def test_polls_may_come_while_others_iterate(four):
    kept, added = four
    seen = []
    for poll in kept:
        seen.append(poll.key)
        add(kept, 20)
    assert seen == [poll.key for poll in reversed(added)]


def test_polls_of_one_microsecond_have_keys_of_their_own(kept):
    added = add(kept, *[0] * 20)
    keys = [poll.key for poll in added]
    assert keys == list(range(keys[0], keys[0] - 20, -1))


def test_the_key_of_a_collision_still_tells_the_time(kept):
    for poll in add(kept, *[0] * 16):
        assert utils.long_to_dt(poll.key) == START.replace(tzinfo=clock.UTC)


def test_order_survives_a_clock_that_was_set_back(kept):
    added = add(kept, 100, 0, 3, 200)
    assert list(map(id, kept)) == [id(poll) for poll in reversed(added)]
    keys = [poll.key for poll in added]
    assert keys == sorted(set(keys), reverse=True)


# Asking for a moment


def test_a_poll_is_found_at_its_key_and_at_its_time(four):
    kept, added = four
    poll = added[1]
    assert kept.at(poll.key) is poll
    assert kept.at(poll.utc_timestamp) is poll
    assert kept.at(poll.utc_timestamp.replace(tzinfo=clock.UTC)) is poll


def test_between_two_polls_the_earlier_one_is_found(four):
    kept, added = four
    assert kept.at(START + seconds(9.9)) is added[1]
    assert kept.at(added[1].key - 16) is added[1]
    assert kept.before(added[1].key - 16) is added[1]
    assert kept.before(START + seconds(5.4)) is added[1]


def test_before_a_poll_is_the_one_before_it(four):
    kept, added = four
    assert kept.before(added[1].key) is added[0]
    assert kept.before(added[1].utc_timestamp) is added[0]


def test_nothing_is_found_before_the_first(four):
    kept, added = four
    assert kept.before(added[0].key) is None
    assert kept.before(START) is None
    assert kept.at(START - seconds(1)) is None


def test_simultaneous_polls_are_told_apart_by_key_only(kept):
    first, second = add(kept, 0, 0)
    assert kept.at(first.key) is first
    assert kept.at(START) is second
    assert kept.before(second.key) is first
    assert kept.before(START) is None


def test_a_timedelta_is_so_long_ago(four):
    kept, added = four
    movable = clock.MovableClock((START + seconds(17)).replace(tzinfo=clock.UTC))
    clock.install(movable)
    try:
        assert kept.at(seconds(0)) is added[3]
        assert kept.at(seconds(2)) is added[3]
        assert kept.before(seconds(2)) is added[2]
        assert kept.at(seconds(3)) is added[2]
    finally:
        clock.uninstall()


def test_iteration_can_be_limited_on_both_sides_inclusively(four):
    kept, added = four
    found = list(kept.iter(added[2].key, added[1].key))
    assert list(map(id, found)) == [id(added[2]), id(added[1])]
    found = list(kept.iter(START + seconds(14), START + seconds(5)))
    assert list(map(id, found)) == [id(added[2]), id(added[1])]
    assert len(list(kept.iter())) == 4
    assert len(list(kept.iter(start=added[2].key))) == 3
    assert len(list(kept.iter(stop=added[2].key))) == 2


def test_a_span_has_one_upper_end():
    with pytest.raises(ValueError, match="found both: 1, 2"):
        polls.Span(at=1, before=2)


def test_other_values_are_not_moments(four):
    kept, _added = four
    with pytest.raises(TypeError, match="expected a poll key.*found '5M'"):
        kept.at("5M")


# What is kept


def test_the_number_is_bounded():
    kept = polls.Polls(size=3)
    added = add(kept, *range(10))
    assert list(map(id, kept)) == [id(poll) for poll in added[:6:-1]]
    assert kept.last() is added[7]


@pytest.mark.parametrize("size", [0, -1])
def test_there_is_room_for_the_current_poll(size):
    with pytest.raises(ValueError, match=f"found {size}"):
        polls.Polls(size=size)


def test_by_default_four_hundred_are_kept(kept):
    add(kept, *range(401))
    assert len(kept) == 400


def test_five_periods_are_kept_counted_from_the_first_poll(kept):
    add(kept, *range(0, 750, 5))
    assert kept.last().utc_timestamp == START
    assert kept.horizon == START
    add(kept, 750)
    assert kept.last().utc_timestamp == START + MINUTES_2_5
    assert kept.horizon == START + MINUTES_2_5
    add(kept, *range(755, 900, 5))
    assert kept.horizon == START + MINUTES_2_5
    add(kept, 900)
    assert kept.horizon == START + 2 * MINUTES_2_5
    assert len(kept.periods()) == 5


def test_periods_keep_their_rhythm_when_polls_do_not(kept):
    add(kept, 0, 149, 163, 299.5, 305, 800)
    begins = [(period.begin - START).total_seconds() for period in kept.periods()]
    assert begins == [750, 300, 150]
    assert kept.last().utc_timestamp == START + seconds(163)
    assert kept.horizon == START + MINUTES_2_5


def test_a_period_knows_its_oldest_and_newest_poll(kept):
    added = add(kept, 0, 5, 149, 151)
    newer, older = kept.periods()
    assert (older.oldest, older.newest) == (added[0], added[2])
    assert newer.oldest is newer.newest is added[3]
    assert [poll.period for poll in added] == [older, older, older, newer]


def test_after_a_long_sleep_only_the_present_is_left(kept):
    add(kept, 0, 5, 3600)
    assert len(kept) == 1
    assert kept.horizon == START + seconds(3600 - 4 * 150)


def test_a_period_says_when_single_polls_of_it_went():
    kept = polls.Polls(size=2)
    add(kept, 0, 5)
    (period,) = kept.periods()
    assert not period.incomplete
    add(kept, 10)
    assert period.incomplete


def test_a_clock_set_back_a_little_stays_in_its_period(kept):
    add(kept, 0, 151, 149)
    assert len(kept.periods()) == 2


def test_a_clock_set_back_far_begins_a_period_and_forgets_nothing_early(kept):
    add(kept, 0, 5, -3600, -3595)
    assert len(kept.periods()) == 2
    assert len(kept) == 4
    assert kept.horizon == START - seconds(3600)


def test_records_stay_bounded_while_the_clock_is_behind(kept):
    add(kept, 0, *range(-7200, -3600, 5))
    assert len(kept.periods()) == 5
    assert len(kept) == 150
    assert kept.horizon == kept.periods()[-1].begin
