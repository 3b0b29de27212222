# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
import datetime
import itertools
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from persistent import Persistent
from ZODB.POSException import ConflictError

from tests.support.queueing import Seat, World
from zc.async_ import clock
from zc.async_.containers import (
    History,
    Mapping,
    MergingMapping,
    merge_dicts,
    same_reference,
)

DAY = 24 * 3600 * 1_000_000
NOW = 1_700_000_000_000_000


class Item(Persistent):
    name = parent = None


class Reference:
    """Like `PersistentReference`: refuses to be compared with another."""

    def __init__(self, oid, database_name=None):
        self.oid = oid
        self.database_name = database_name

    def __eq__(self, other):
        raise ValueError("cannot be compared")

    __hash__ = None


# Equality in conflict resolution.


def test_references_to_one_object_are_the_same():
    assert same_reference(Reference(b"1"), Reference(b"1"))
    assert not same_reference(Reference(b"1"), Reference(b"2"))
    assert not same_reference(Reference(b"1"), Reference(b"1", "other"))


def test_references_in_tuples_are_compared_one_by_one():
    assert same_reference((Reference(b"1"), ("a",)), (Reference(b"1"), ("a",)))
    assert not same_reference((Reference(b"1"), ("a",)), (Reference(b"1"), ("b",)))
    assert not same_reference((Reference(b"1"),), (Reference(b"1"), ("b",)))


def test_a_reference_is_not_a_value():
    assert not same_reference(Reference(b"1"), "1")
    assert not same_reference("1", Reference(b"1"))


# Merging.

STATES = st.dictionaries(st.integers(0, 5), st.integers(0, 2), max_size=5)


def changed(before, after):
    """The keys at which two states differ."""
    return {
        key for key in {*before, *after} if before.get(key, -1) != after.get(key, -1)
    }


@given(STATES, STATES, STATES)
def test_changes_of_different_keys_merge_and_of_the_same_conflict(old, saved, new):
    if changed(old, saved) & changed(old, new):
        with pytest.raises(ConflictError):
            merge_dicts(old, saved, new)
        return
    merged = merge_dicts(old, saved, new)
    assert changed(old, merged) == changed(old, saved) | changed(old, new)
    assert all(merged.get(key) == saved.get(key) for key in changed(old, saved))
    assert all(merged.get(key) == new.get(key) for key in changed(old, new))


def test_the_same_key_removed_twice_is_a_conflict():
    with pytest.raises(ConflictError):
        merge_dicts({1: "job"}, {}, {})


@pytest.fixture
def world():
    with World() as world:
        yield world


def two_writers(world, item):
    """A mapping that two connections see."""
    world.seat.root["item"] = item
    world.seat.commit()
    other = Seat(world.db)
    world.seats.append(other)
    world.sync()
    return world.seat, other


def test_a_mapping_that_one_empties_takes_what_another_adds(world):
    mapping = MergingMapping()
    mapping.add(1, "one")
    mine, theirs = two_writers(world, mapping)
    mine.root["item"].remove(1)
    theirs.root["item"].add(2, "two")
    mine.commit()
    theirs.commit()
    world.sync()
    assert mine.root["item"].items() == [(2, "two")]


def test_persistent_values_merge(world):
    mapping = MergingMapping()
    mapping.add(1, Item())
    mapping.add(2, (Item(), ("lane",)))
    mine, theirs = two_writers(world, mapping)
    mine.root["item"].remove(1)
    theirs.root["item"].add(3, Item())
    theirs.root["item"].replace(2, (theirs.root["item"][2][0], ("other",)))
    mine.commit()
    theirs.commit()
    world.sync()
    assert list(mine.root["item"]) == [2, 3]
    assert mine.root["item"][2][1] == ("other",)


def test_a_value_removed_by_two_is_a_conflict_for_the_second(world):
    mapping = MergingMapping()
    mapping.add(1, Item())
    mine, theirs = two_writers(world, mapping)
    assert mine.tries(lambda: mine.root["item"].remove(1))
    assert not theirs.tries(lambda: theirs.root["item"].remove(1))


def test_a_value_moved_by_one_and_removed_by_another_is_a_conflict(world):
    mapping = MergingMapping()
    mapping.add(1, (Item(), ("lane",)))
    mine, theirs = two_writers(world, mapping)
    assert mine.tries(lambda: mine.root["item"].replace(1, mine.root["item"][1][0]))
    assert not theirs.tries(lambda: theirs.root["item"].remove(1))


def test_a_merging_mapping_is_ordered_by_key():
    mapping = MergingMapping()
    for key in (3, -2, 1):
        mapping.add(key, str(key))
    assert list(mapping) == list(mapping.keys()) == [-2, 1, 3]
    assert mapping.values() == ["-2", "1", "3"]
    assert mapping.items() == [(-2, "-2"), (1, "1"), (3, "3")]
    assert len(mapping) == 3 and 3 in mapping and 2 not in mapping
    assert mapping.get(3) == mapping[3] == "3" and mapping.get(2, "x") == "x"


def test_a_merging_mapping_refuses_what_would_lose_a_value():
    mapping = MergingMapping()
    mapping.add(1, "one")
    with pytest.raises(KeyError):
        mapping.add(1, "another")
    with pytest.raises(KeyError):
        mapping.replace(2, "two")
    with pytest.raises(KeyError):
        mapping.remove(2)
    assert mapping.items() == [(1, "one")]


# The mapping that knows parents.


def test_values_learn_their_name_and_parent_and_forget_them():
    mapping, item = Mapping(), Item()
    mapping["a"] = item
    assert (item.name, item.parent) == ("a", mapping)
    del mapping["a"]
    assert (item.name, item.parent) == (None, None)
    mapping["b"] = item
    assert mapping.pop("b") is item and item.parent is None


def test_a_value_that_is_replaced_forgets_its_parent():
    mapping, item, other = Mapping(), Item(), Item()
    mapping["a"] = item
    mapping["a"] = item  # nothing changes
    assert item.parent is mapping
    mapping["a"] = other
    assert item.parent is None and other.parent is mapping


def test_a_value_has_one_parent():
    mapping, item = Mapping(), Item()
    mapping["a"] = item
    for other in (mapping, Mapping()):
        with pytest.raises(ValueError, match="has a parent already"):
            other["b"] = item
    assert mapping.keys() == ["a"]


def test_a_mapping_answers_like_a_dict():
    mapping, one, two = Mapping(), Item(), Item()
    assert not mapping and len(mapping) == 0 and list(mapping) == []
    mapping.update({"b": two, "a": one})
    assert mapping and len(mapping) == 2 and "a" in mapping and "c" not in mapping
    assert mapping.keys() == list(mapping) == ["a", "b"]
    assert mapping.values() == [one, two]
    assert mapping.items() == [("a", one), ("b", two)]
    assert mapping.get("a") is one and mapping.get("c") is None
    assert mapping.get("c", two) is two and mapping.pop("c", None) is None
    for fails in (mapping.__getitem__, mapping.__delitem__, mapping.pop):
        with pytest.raises(KeyError) as caught:
            fails("c")
        assert caught.value.args == ("c",)


@pytest.mark.parametrize("key", [2, None, object(), uuid.UUID(int=1), ("a",)])
@pytest.mark.parametrize("empty", [True, False])
def test_keys_that_do_not_compare_with_those_there_are_absent(key, empty):
    mapping = Mapping()
    if not empty:
        mapping["a"] = Item()
    assert mapping.get(key) is None and key not in mapping
    assert mapping.pop(key, 1) == 1
    with pytest.raises(KeyError):
        mapping[key]
    with pytest.raises(KeyError):
        del mapping[key]


def test_a_key_that_does_not_compare_is_refused_and_changes_nothing():
    mapping, item = Mapping(), Item()
    mapping["a"] = Item()
    with pytest.raises(TypeError):
        mapping[2] = item
    assert item.parent is None and len(mapping) == 1


def test_a_mapping_may_be_changed_while_it_is_iterated():
    mapping = Mapping()
    mapping.update({name: Item() for name in "abc"})
    for name in mapping:
        del mapping[name]
    assert not mapping


# History.


def filled(count, spacing=1, **settings):
    history = History()
    for name, value in settings.items():
        setattr(history, name, value)
    for position in range(count):
        history.add(position, NOW + position * spacing)
    return history


@pytest.mark.parametrize("count", [0, 1, 5, 32, 33, 100])
def test_a_history_lists_the_newest_first(count):
    history = filled(count)
    assert list(history) == list(reversed(range(count)))
    assert len(history) == count and bool(history) == (count > 0)


def test_first_is_the_newest_and_last_the_oldest():
    history = filled(70)
    assert (history.first(), history.last()) == (69, 0)


def test_an_empty_history_has_no_first_and_no_last():
    for fails in (History().first, History().last):
        with pytest.raises(ValueError):
            fails()


def test_values_of_one_moment_keep_their_order():
    history = filled(40, spacing=0)
    assert list(history) == list(reversed(range(40)))


def test_a_history_keeps_the_order_of_additions_when_the_clock_is_set_back():
    history = History()
    for position in range(100):
        history.add(position, NOW - position * DAY // 50)
    assert list(history) == list(reversed(range(100)))
    assert (history.first(), history.last()) == (99, 0)


@given(st.integers(0, 120), st.integers(-3, 125), st.integers(-3, 125))
def test_iter_takes_a_span_of_time(count, newest, oldest):
    history = filled(count, spacing=10)
    moments = [clock.from_micros(NOW + 10 * each) for each in (newest, oldest)]
    found = list(history.iter(*moments))
    expected = [each for each in range(count) if oldest < each <= newest]
    assert found == list(reversed(expected))


def test_iter_takes_either_end_alone():
    history = filled(50, spacing=1_000_000)
    moment = clock.from_micros(NOW) + datetime.timedelta(seconds=20)
    assert list(history.iter(start=moment)) == list(reversed(range(21)))
    assert list(history.iter(stop=moment)) == list(reversed(range(21, 50)))


def test_iter_refuses_naive_datetimes():
    with pytest.raises(ValueError, match="aware"):
        list(filled(1).iter(datetime.datetime(2026, 1, 1)))


@pytest.mark.parametrize("spacing", [DAY, DAY // 10, DAY // 400])
def test_what_is_older_than_a_week_or_so_is_dropped(spacing):
    count = 20 * DAY // spacing
    history = filled(count, spacing)
    now = NOW + (count - 1) * spacing
    ages = [now - (NOW + each * spacing) for each in history]
    assert max(ages) <= 8 * DAY + spacing
    assert len(ages) >= 7 * DAY // spacing
    assert len(history) == len(ages) == len(list(history))
    assert history.last() == list(history)[-1]


def test_a_few_old_values_are_dropped_too():
    history = filled(3)
    history.add("new", NOW + 9 * DAY)
    assert list(history) == ["new"]
    assert len(history) == 1


def test_an_addition_writes_little(world):
    world.seat.root["history"] = history = filled(3000, spacing=1000)
    world.seat.commit()
    sizes = []
    for position in range(70):
        history.add(position, NOW + DAY // 10 + position)
        changed = [history, history._chunks, *history._chunks.values()]
        sizes.append(len([each for each in changed if each._p_changed]))
        world.seat.commit()
    assert sorted(sizes)[-3] == 1  # but for the two or three that begin a chunk
    assert max(sizes) <= 3


def test_two_who_add_at_once_merge_within_a_chunk(world):
    mine, theirs = two_writers(world, filled(3))
    mine.root["item"].add("mine", NOW + 10)
    theirs.root["item"].add("theirs", NOW + 11)
    mine.commit()
    theirs.commit()
    world.sync()
    assert list(mine.root["item"])[:2] == ["theirs", "mine"]
    assert len(mine.root["item"]) == 5


def test_iteration_loads_no_more_than_it_needs(world):
    world.seat.root["history"] = filled(2000, spacing=1000)
    world.seat.commit()
    world.seat.connection.cacheMinimize()
    history = world.seat.root["history"]
    assert list(itertools.islice(history, 5)) == [1999, 1998, 1997, 1996, 1995]
    chunks = [each for each in history._chunks.values() if each._p_changed is not None]
    assert len(chunks) <= 2
