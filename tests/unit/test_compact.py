# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ZODB.DB import DB
from ZODB.DemoStorage import DemoStorage

from zc.async_.compact import Compact, OwnedDict, OwnedList

NAMES = ("a", "b", "c", "d", "e")


class Record(Compact):
    _stored_ = NAMES
    _to_state_ = {"e": str}  # noqa: RUF012
    _from_state_ = {"e": int}  # noqa: RUF012
    a = b = c = d = None
    e = 0


class OlderRecord(Compact):
    """`Record` as an earlier release had it."""

    _stored_ = NAMES[:2]
    a = b = None


class Child(Record):
    """An application's subclass."""

    _stored_ = (*NAMES, "f")
    f = "default"


class Holder(Compact):
    _stored_ = ("items", "table")
    items = table = ()

    def __init__(self):
        self.items = OwnedList(self)
        self.table = OwnedDict(self)


@pytest.fixture
def connection():
    db = DB(DemoStorage())
    connection = db.open()
    yield connection
    connection.transaction_manager.abort()
    connection.close()
    db.close()


def loaded(cls, state):
    found = cls.__new__(cls)
    found.__setstate__(state)
    return found


# Records.

VALUES = st.one_of(st.integers(), st.text("ab"), st.none(), st.lists(st.integers()))


@given(st.dictionaries(st.sampled_from((*NAMES[:4], "x", "y")), VALUES))
def test_a_record_comes_back_as_it_was(attributes):
    record = Record()
    for name, value in attributes.items():
        setattr(record, name, value)
    again = loaded(Record, record.__getstate__())
    assert vars(again) == vars(record)


def test_what_was_never_set_takes_no_room():
    assert Record().__getstate__() == (0,)
    record = Record()
    record.c = "value"
    assert record.__getstate__() == (0b100, "value")


def test_a_value_like_the_default_that_was_set_stays_set():
    record = Record()
    record.a = None
    assert "a" in vars(loaded(Record, record.__getstate__()))


def test_values_are_stored_in_the_form_of_the_tables():
    record = Record()
    record.e = 42
    assert record.__getstate__() == (0b10000, "42")
    assert loaded(Record, (0b10000, "42")).e == 42


def test_other_attributes_are_stored_by_name():
    record = Record()
    record.b, record.note, record._v_volatile = 1, "application's", "forgotten"
    assert record.__getstate__() == (0b10, 1, {"note": "application's"})
    assert loaded(Record, record.__getstate__()).note == "application's"


def test_records_of_an_older_release_load():
    older = OlderRecord()
    older.b, older.note = 1, 2
    newer = loaded(Record, older.__getstate__())
    assert (newer.a, newer.b, newer.c, newer.note) == (None, 1, None, 2)


def test_a_subclass_may_store_more():
    child = Child()
    child.a, child.f, child.note = 1, 2, 3
    again = loaded(Child, child.__getstate__())
    assert (again.a, again.f, again.note) == (1, 2, 3)
    assert Record()._bits_ != Child()._bits_
    assert loaded(Child, (0b1, 5)).f == "default"


def test_a_record_may_be_a_plain_dict():
    assert loaded(Record, {"a": 1, "note": 2}).note == 2


def test_records_go_through_the_database(connection):
    connection.root()["record"] = record = Record()
    record.a, record.note = {"x": 1}, "kept"
    connection.transaction_manager.commit()
    connection.cacheMinimize()
    assert record._p_changed is None
    assert (record.a, record.b, record.note) == ({"x": 1}, None, "kept")


# Lists and dicts that report their changes.

LIST_CHANGES = {
    "append": lambda it: it.append(4),
    "put": lambda it: it.put(4),
    "extend": lambda it: it.extend([4, 5]),
    "insert": lambda it: it.insert(0, 4),
    "pop": lambda it: it.pop(),
    "remove": lambda it: it.remove(2),
    "clear": lambda it: it.clear(),
    "sort": lambda it: it.sort(reverse=True),
    "reverse": lambda it: it.reverse(),
    "setitem": lambda it: it.__setitem__(0, 9),
    "setslice": lambda it: it.__setitem__(slice(0, 2), [9]),
    "delitem": lambda it: it.__delitem__(0),
    "iadd": lambda it: it.__iadd__([4]),
    "imul": lambda it: it.__imul__(2),
}

DICT_CHANGES = {
    "setitem": lambda it: it.__setitem__("d", 4),
    "delitem": lambda it: it.__delitem__("a"),
    "pop": lambda it: it.pop("a"),
    "popitem": lambda it: it.popitem(),
    "clear": lambda it: it.clear(),
    "update": lambda it: it.update(d=4),
    "setdefault": lambda it: it.setdefault("d", 4),
    "ior": lambda it: it.__ior__({"d": 4}),
}


@pytest.fixture
def holder(connection):
    connection.root()["holder"] = holder = Holder()
    holder.items.extend([1, 2, 3])
    holder.table.update(a=1, b=2, c=3)
    connection.transaction_manager.commit()
    return holder


def plain(change, items):
    """What a change does to a builtin list or dict."""
    again = type(items).__mro__[1](items)
    if change is not LIST_CHANGES["put"]:
        change(again)
    else:
        again.append(4)
    return again


@pytest.mark.parametrize("name", LIST_CHANGES)
def test_each_change_of_a_list_is_stored(holder, name):
    expected = plain(LIST_CHANGES[name], holder.items)
    assert not holder._p_changed
    LIST_CHANGES[name](holder.items)
    assert holder._p_changed and holder.items == expected


@pytest.mark.parametrize("name", DICT_CHANGES)
def test_each_change_of_a_dict_is_stored(holder, name):
    expected = plain(DICT_CHANGES[name], holder.table)
    assert not holder._p_changed
    DICT_CHANGES[name](holder.table)
    assert holder._p_changed and holder.table == expected


def test_every_method_that_changes_reports():
    for cls, changes in (OwnedList, LIST_CHANGES), (OwnedDict, DICT_CHANGES):
        base = cls.__mro__[1]
        silent = {
            name for name in vars(base) if vars(cls).get(name) is None
            and name not in READING
        }  # fmt: skip
        assert not silent, (cls, changes)


READING = {
    *vars(object), "copy", "count", "index", "get", "items", "keys", "values",
    "fromkeys", "__iter__", "__len__", "__getitem__", "__contains__", "__add__",
    "__mul__", "__rmul__", "__reversed__", "__or__", "__ror__", "__class_getitem__",
}  # fmt: skip


def test_reading_stores_nothing(holder):
    assert holder.items[0] == 1 and len(holder.items) == 3 and 2 in holder.items
    assert holder.items + [4] == [1, 2, 3, 4] and holder.items.index(2) == 1
    assert holder.table["a"] == 1 and dict(holder.table) == {"a": 1, "b": 2, "c": 3}
    assert not holder._p_changed


def test_a_change_that_fails_stores_nothing(holder):
    for change in (lambda: holder.items.remove(9), lambda: holder.table.pop("z")):
        with pytest.raises((ValueError, KeyError)):
            change()
    assert not holder._p_changed


def test_changes_in_place_keep_the_container(holder):
    items, table = holder.items, holder.table
    holder.items += [4]
    holder.items *= 1
    holder.table |= {"d": 4}
    assert holder.items is items and holder.table is table
    assert type(items) is OwnedList and type(table) is OwnedDict


def test_methods_return_what_those_of_builtins_do(holder):
    assert holder.items.pop() == 3 and holder.items.append(5) is None
    assert holder.table.pop("a") == 1 and holder.table.pop("z", 7) == 7
    assert holder.table.setdefault("b", 9) == 2


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_copies_are_plain(holder, copied):
    for owned, cls in (holder.items, list), (holder.table, dict):
        again = copied(owned)
        assert type(again) is cls and again == owned


@pytest.mark.parametrize("protocol", [2, 3])
def test_pickles_are_plain(holder, protocol):
    for owned, cls in (holder.items, list), (holder.table, dict):
        again = pickle.loads(pickle.dumps(owned, protocol))
        assert type(again) is cls and again == owned
        assert b"Owned" not in pickle.dumps(owned, protocol)


def test_a_change_forgets_what_was_loaded(holder):
    holder.items.frozen = holder.table.frozen = "as it was loaded"
    assert (holder.items[0], holder.items.frozen) == (1, "as it was loaded")
    holder.items.append(1)
    holder.table["x"] = 1
    assert holder.items.frozen is None and holder.table.frozen is None
