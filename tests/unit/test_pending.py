# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The waiting jobs as one sequence, and the walk of a claim over it."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from persistent import Persistent
from ZODB.POSException import ConflictError

from tests.support.queueing import World
from zc.async_ import claiming
from zc.async_.buckets import SIZE
from zc.async_.claiming import WINDOW, Due, Place
from zc.async_.keys import front_key, new_key
from zc.async_.pending import Pending

NOW = 1_700_000_000_000_000
LATER = NOW + 1_000_000


class Thing(Persistent):
    """Stands for a job."""

    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return f"<{self.name}>"


def unblocked(lane):
    return False


@pytest.fixture
def pending():
    return Pending()


@pytest.fixture
def world():
    with World() as world:
        world.seat.root["pending"] = Pending()
        world.seat.commit()
        yield world


def put(pending, *names, at=NOW, lane=(), dated=None):
    things = []
    for name in names:
        thing = Thing(name)
        pending.put(new_key(at), thing, lane, at > NOW if dated is None else dated)
        things.append(thing)
    return things


def due(pending, now=NOW, blocked=unblocked, **options):
    """The names that a claim would be offered; nothing is taken."""
    return [entry.job.name for entry in pending.iter_due(now, blocked, **options)]


def take(pending, count=None, now=NOW, blocked=unblocked, **options):
    """Claim; return the names."""
    taken = []
    for entry in pending.iter_due(now, blocked, **options):
        if count is not None and len(taken) == count:
            break
        pending.take(entry)
        taken.append(entry.job.name)
    return taken


def names(pending):
    return [thing.name for thing in pending]


# Order.


def test_jobs_are_offered_in_the_order_of_putting(pending):
    put(pending, *range(100))
    assert due(pending) == list(range(100))
    assert take(pending) == list(range(100))
    assert len(pending) == 0 and names(pending) == []


def test_front_jobs_come_first_the_last_put_back_ahead(pending):
    put(pending, "a")
    for name in "bc":
        pending.put(front_key(NOW), Thing(name))
    assert names(pending) == due(pending) == ["c", "b", "a"]


@pytest.mark.parametrize("count", [10, WINDOW + 10, 5 * WINDOW])
def test_scheduled_jobs_are_offered_by_their_due_time(pending, count):
    times = list(range(count))
    random.Random(1).shuffle(times)
    for time in times:
        put(pending, time, at=LATER + time)
    put(pending, "now")
    assert due(pending) == ["now"]
    assert names(pending) == ["now", *range(count)]
    assert take(pending, now=LATER + count) == ["now", *range(count)]


def test_many_scheduled_jobs_that_fall_due_do_not_pass_those_due_before(pending):
    for position in range(3 * WINDOW):
        put(pending, position + 1000, at=LATER + position)
    put(pending, *range(3 * WINDOW))
    expected = [*range(3 * WINDOW), *range(1000, 1000 + 3 * WINDOW)]
    assert take(pending, now=LATER + 1000) == expected


def test_a_job_put_with_an_old_date_goes_ahead(pending):
    put(pending, *range(3 * WINDOW))
    put(pending, "old", at=NOW - 10, dated=True)
    assert take(pending, 1) == ["old"]
    assert names(pending)[0] == 0


def test_keys_slightly_out_of_order_are_offered_in_order(pending):
    keys = [new_key(NOW) for _ in range(10 * SIZE)]
    numbered = list(enumerate(keys))
    shuffled = []
    generator = random.Random(2)
    for start in range(0, len(numbered), 2 * SIZE):
        some = numbered[start : start + 2 * SIZE]
        generator.shuffle(some)
        shuffled += some
    for number, key in shuffled:
        pending.put(key, Thing(number))
    assert due(pending) == list(range(10 * SIZE))


def test_a_job_of_a_clock_that_is_ahead_is_filed_until_it_is_due(pending):
    put(pending, "ahead", at=NOW + 5, dated=False)
    put(pending, "now")
    assert take(pending) == ["now"]
    assert [thing.name for thing in pending.later.values()] == ["ahead"]
    assert take(pending, now=NOW + 5) == ["ahead"]


# Lanes.


def test_jobs_of_a_blocked_lane_are_passed_and_filed_once(pending):
    put(pending, *"abc", lane=("q",))
    put(pending, *"de")
    assert take(pending, 1, blocked=bool) == ["d"]
    assert [thing[0].name for thing in pending.lanes["q",].values()] == list("abc")
    asked = []
    assert take(pending, blocked=lambda lane: asked.append(lane) or True) == ["e"]
    assert asked == [("q",)]  # the head of the lane only
    assert names(pending) == list("abc")


def test_a_lane_with_room_again_goes_ahead_in_order(pending):
    put(pending, *"abc", lane=("q",))
    put(pending, *"de")
    assert take(pending, 1, blocked=bool) == ["d"]
    assert take(pending) == list("abce")
    assert len(pending.lanes) == 0


def test_a_lane_that_fills_meanwhile_waits(pending):
    put(pending, *"abc", lane=("q",))
    put(pending, *"def")
    taken = []
    for entry in pending.iter_due(NOW, lambda lane: "a" in taken):
        pending.take(entry)
        taken.append(entry.job.name)
    assert taken == list("adef")
    assert names(pending) == list("bc")


def test_a_lane_that_fills_while_its_list_is_walked_waits(pending):
    put(pending, *"abc", lane=("q",))
    take(pending, blocked=bool)
    taken = []
    for entry in pending.iter_due(NOW, lambda lane: len(taken) == 2):
        pending.take(entry)
        taken.append(entry.job.name)
    assert taken == list("ab")


def test_lanes_are_independent(pending):
    put(pending, "a", lane=("q",))
    put(pending, "b", lane=("r",))
    put(pending, "c", lane=("q", "r"))
    assert due(pending, blocked=lambda lane: "q" in lane) == ["b"]
    assert due(pending, blocked=lambda lane: "r" in lane) == ["a"]
    assert due(pending) == list("abc")


def test_a_job_put_back_into_a_blocked_lane_stays_its_first(pending):
    put(pending, *"ab", lane=("q",))
    pending.put(front_key(NOW), Thing("c"), ("q",))
    assert due(pending, blocked=bool) == []
    assert len(pending.front) == 0
    assert due(pending) == list("cab")


def test_overdue_jobs_of_a_blocked_lane_are_offered(pending):
    put(pending, *"abc", lane=("q",))
    overdue = {"overdue": lambda thing: thing.name in "ac"}
    assert take(pending, blocked=bool, **overdue) == ["a", "c"]
    overdue = {"overdue": lambda thing: thing.name == "b"}
    assert take(pending, blocked=bool, **overdue) == ["b"]


def test_scheduled_jobs_of_a_lane_wait_in_it_when_due(pending):
    put(pending, "a", at=LATER, lane=("q",))
    assert due(pending, now=LATER, blocked=bool) == []
    assert list(pending.lanes) == [("q",)]
    assert take(pending, now=LATER) == ["a"]


def test_one_claim_files_so_much_and_says_that_there_is_more(pending, monkeypatch):
    monkeypatch.setattr(claiming, "FILE_AT_ONCE", 10)
    put(pending, *range(25), lane=("q",))
    put(pending, "free")
    offered, more = [], []
    for _ in range(4):
        offered.append(due(pending, blocked=bool))
        more.append(pending.more_to_file)
    assert offered == [[], [], ["free"], ["free"]]
    assert more == [True, True, False, False]
    assert names(pending) == [*range(25), "free"]


def test_filing_scheduled_jobs_is_bounded_as_well(pending, monkeypatch):
    monkeypatch.setattr(claiming, "FILE_AT_ONCE", 10)
    for number in range(25):
        put(pending, number, at=LATER + number)
    for filed in (10, 20, 25, 25):
        assert due(pending) == []
        assert len(pending.later) == filed
    assert not pending.more_to_file


# Taking up where a walk ended.


@pytest.mark.parametrize("step", [1, 7, SIZE, 100])
def test_a_place_lets_walks_go_on(pending, step):
    put(pending, *"abc", lane=("q",))
    take(pending, 0, blocked=bool)
    put(pending, *range(200))
    for number in range(20):
        put(pending, f"later {number}", at=NOW - 1, dated=True)
    place, seen = Place(), []
    for _ in range(300):
        walk = pending.iter_due(NOW, unblocked, place=place)
        seen += [entry.job.name for _, entry in zip(range(step), walk, strict=False)]
        walk.close()
    assert set(seen) == {*"abc", *range(200), *(f"later {n}" for n in range(20))}
    assert len(seen) == 223  # none twice


def test_a_place_finds_what_was_put_since(pending):
    put(pending, *range(50))
    place = Place()
    due(pending, place=place)
    put(pending, *range(50, 60))
    assert due(pending, place=place) == list(range(50, 60))
    assert due(pending, place=place) == []


def test_a_walk_goes_on_past_a_job_of_a_clock_that_was_ahead(pending):
    pending.put(new_key(LATER), Thing("ahead"))
    put(pending, *range(20 * SIZE))
    place, seen = Place(), []
    while "ahead" not in seen:
        walk = pending.iter_due(LATER, unblocked, place=place)
        seen += [entry.job.name for _, entry in zip(range(WINDOW), walk, strict=False)]
        walk.close()
    assert seen == [*range(20 * SIZE), "ahead"]
    assert len(place.seen) <= WINDOW


def test_a_place_forgets_what_is_behind(pending):
    put(pending, *range(50 * SIZE))
    place = Place()
    due(pending, place=place)
    assert len(place.seen) <= SIZE
    take(pending)
    put(pending, *range(3 * SIZE))
    due(pending, place=place)
    assert len(place.seen) <= 2 * SIZE


def test_front_jobs_are_always_looked_at(pending):
    place = Place()
    put(pending, "a")
    due(pending, place=place)
    pending.put(front_key(NOW), Thing("b"))
    assert "b" in due(pending, place=place)


# As a sequence.


def filled(pending):
    """Jobs in all places; their names in order."""
    put(pending, "late", at=LATER)
    put(pending, "soon", at=LATER - 1)
    put(pending, *"ab", lane=("q",))
    put(pending, *"cd")
    due(pending, blocked=bool)
    put(pending, *"ef", lane=("q",))
    put(pending, "middle", at=LATER - 1)
    pending.put(front_key(NOW), Thing("front"))
    return ["front", *"abcdef", "soon", "middle", "late"]


def test_the_sequence_is_one_wherever_its_jobs_are(pending):
    expected = filled(pending)
    assert names(pending) == expected
    assert len(pending) == len(expected)
    assert [pending[index].name for index in range(len(expected))] == expected
    assert [pending[-1].name, pending[-len(expected)].name] == ["late", "front"]
    for index in (len(expected), -len(expected) - 1):
        with pytest.raises(IndexError):
            pending[index]


@given(st.data())
@settings(max_examples=20)
def test_jobs_can_be_pulled_from_anywhere(data):
    pending = Pending()
    expected = filled(pending)
    while expected:
        index = data.draw(st.integers(-len(expected), len(expected) - 1))
        assert pending.pull(index).name == expected.pop(index)
        assert names(pending) == expected and len(pending) == len(expected)
    with pytest.raises(IndexError):
        pending.pull()


def test_each_job_can_be_removed_and_only_once(pending):
    expected = filled(pending)
    for thing in list(pending):
        pending.remove(thing)
        expected.remove(thing.name)
        assert names(pending) == expected
        with pytest.raises(LookupError):
            pending.remove(thing)
    assert len(pending) == 0


@pytest.mark.parametrize("lane", [("r",), (), ("q",)])
def test_each_job_can_change_its_lane_and_keeps_its_place(pending, lane):
    expected = filled(pending)
    for thing in list(pending):
        pending.relane(thing, lane)
    assert names(pending) == expected
    offered = due(pending, now=LATER, blocked=lambda one: one == lane and bool(lane))
    assert offered == ([] if lane else expected)
    assert take(pending, now=LATER) == expected


def test_to_change_the_lane_of_a_job_that_is_not_here_is_an_error(pending):
    with pytest.raises(LookupError):
        pending.relane(Thing("x"), ())


def test_next_due_is_the_first_time_after_the_one_given(pending):
    put(pending, "a", at=NOW + 10)
    put(pending, "b", at=NOW + 20)
    assert pending.next_due(NOW) is None  # not filed yet
    due(pending)
    assert pending.next_due(NOW) == NOW + 10
    assert pending.next_due(NOW + 10) == NOW + 20
    assert pending.next_due(NOW + 20) is None


def test_jobs_set_aside_leave_the_sequence_and_can_be_brought_back(pending):
    put(pending, *"abc", lane=("q",))
    for entry in pending.iter_due(NOW, unblocked):
        if entry.job.name == "b":
            pending.set_aside(entry)
    assert names(pending) == ["a", "c"] and len(pending) == 2
    assert len(pending.aside) == 1
    ((key, entry),) = pending.aside.items()
    pending.bring_back(Due(key, entry, pending.aside))
    assert names(pending) == ["a", "b", "c"] and len(pending) == 3
    assert due(pending, blocked=bool) == []  # still in its lane
    assert len(pending.aside) == 0


def test_keys_that_collide_lose_nothing(pending):
    key = new_key(LATER)
    for name in "ab":
        pending.put(key, Thing(name), dated=True)
        due(pending)
    assert sorted(take(pending, now=LATER)) == ["a", "b"]


def test_an_entry_knows_its_lane_and_its_stored_form():
    thing = Thing("a")
    plain, laned = Due(1, thing, None), Due(2, (thing, ("q",)), None)
    assert (plain.job, plain.lane, plain.entry) == (thing, (), thing)
    assert (laned.job, laned.lane, laned.entry) == (thing, ("q",), (thing, ("q",)))
    assert plain < laned and not laned < plain


# Through several connections.


def both(world):
    other = world.open()
    world.sync()
    return world.seat.root["pending"], other.root["pending"], other


def test_late_arrivals_are_filed_by_due_time(world):
    mine, theirs, other = both(world)
    put(mine, *range(SIZE - 2))
    world.seat.commit()
    other.begin()
    put(theirs, "late")
    put(mine, *range(100, 100 + 3 * SIZE))
    world.seat.commit()
    take(mine, 2 * SIZE)
    world.seat.commit()
    mine.housekeep(NOW)
    world.seat.commit()
    other.commit()
    world.sync()
    assert "late" in names(mine) and len(names(mine)) == len(mine)
    assert mine.touched({theirs.inbox.frontier[0]._p_oid})
    assert mine.housekeep(NOW)
    assert due(mine)[0] == "late"
    assert not mine.housekeep(NOW)


def test_length_and_content_agree_also_when_late_jobs_were_not_found(world):
    mine, theirs, other = both(world)
    put(mine, *range(SIZE - 2))
    world.seat.commit()
    other.begin()
    put(theirs, *range(1000, 1000 + 2 * SIZE))
    put(mine, *range(100, 100 + 2 * SIZE))
    world.seat.commit()
    take(mine)
    world.seat.commit()
    for _ in range(2):
        world.seat.begin()
        mine.housekeep(NOW)
        world.seat.commit()
        world.advance(seconds=20)
    assert len(mine.inbox.passed) == 1
    other.commit()
    world.sync()
    assert due(mine) != names(mine) == list(range(1000, 1000 + 2 * SIZE))
    assert len(mine) == 2 * SIZE
    mine.remove(mine[3])
    assert len(names(mine)) == len(mine) == 2 * SIZE - 1


def test_two_who_file_the_same_job_conflict(world):
    mine, theirs, other = both(world)
    put(mine, "a", lane=("q",))
    world.seat.commit()
    other.begin()
    due(mine, blocked=bool)
    due(theirs, blocked=bool)
    world.seat.commit()
    with pytest.raises(ConflictError):
        other.commit()
    world.sync()
    assert names(theirs) == ["a"]


def test_a_lane_emptied_while_another_files_into_it_loses_nothing(world):
    mine, theirs, other = both(world)
    put(mine, "a", lane=("q",))
    due(mine, blocked=bool)
    world.seat.commit()
    put(mine, "b", lane=("q",))
    world.seat.commit()
    for first in (True, False):
        world.sync()
        taken = take(mine, 1)
        due(theirs, blocked=bool)
        ok = world.seat.tries(lambda: None) if first else other.tries(lambda: None)
        last = other.tries(lambda: None) if first else world.seat.tries(lambda: None)
        world.sync()
        left = names(mine)
        assert ok
        assert sorted(left + (taken if first or last else [])) == ["a", "b"]
        if first:
            put(mine, "a", lane=("q",), at=NOW - 1, dated=True)
            world.seat.commit()


def test_a_put_writes_one_bucket_and_the_length(world):
    mine, _, _ = both(world)
    put(mine, "a")
    world.seat.commit()
    put(mine, "b")
    changed = [
        each
        for each in (mine, mine.inbox, mine.inbox.tail, mine.length, mine.later,
                     mine.inbox.tail.bucket, mine.dated, mine.dated.tail.bucket)
        if each._p_changed
    ]  # fmt: skip
    assert changed == [mine.length, mine.inbox.tail.bucket]
