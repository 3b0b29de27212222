# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Values are kept as pickles, with persistent objects beside them."""

import operator
import sys
import types

import pytest
from persistent.wref import WeakRef
from ZODB.POSException import ReadConflictError

from tests.support.jobs import Counter, JobsCase
from zc.async_.errors import UnloadableCallableError
from zc.async_.frozen import Frozen, freeze, from_state, to_state


class Box:
    def __init__(self, value):
        self.value = value


class Unloadable:
    def __setstate__(self, state):
        raise ZeroDivisionError("cannot be loaded")

    def __getstate__(self):
        return {"a": 1}


@pytest.mark.parametrize("value", ["a", 1, 1.5, True, b"b", 1j, None])
def test_plain_values_are_stored_as_they_are(value):
    assert to_state(value) is value
    assert from_state(value) is value


@pytest.mark.parametrize("value", [[1, "a"], {"a": (1, 2)}, (), {1}, operator.mul])
def test_other_values_are_stored_as_a_list_and_come_back(value):
    state = to_state(value)
    assert type(state) is list
    frozen = from_state(state)
    assert frozen.thaw() == value
    assert to_state(frozen) == state


def test_persistent_objects_stand_beside_the_pickle_once():
    one, other = Counter(), Counter()
    frozen = freeze([one, {"a": other, "b": one}])
    assert frozen.references == (one, other)
    assert b"Counter" not in frozen.data
    thawed = frozen.thaw()
    assert thawed[0] is one and thawed[1] == {"a": other, "b": one}


def test_each_thaw_gives_a_new_value():
    frozen = freeze([1])
    assert frozen.thaw() is not frozen.thaw()


def test_what_cannot_be_pickled_is_refused():
    with pytest.raises(Exception, match="function"):
        freeze([lambda: None])


def test_what_cannot_be_loaded_raises_only_when_it_is_thawed():
    frozen = from_state(to_state([Unloadable()]))
    with pytest.raises(UnloadableCallableError) as caught:
        frozen.thaw()
    assert "ZeroDivisionError: cannot be loaded" in str(caught.value)


def test_errors_of_the_database_pass(monkeypatch):
    def conflict(self, state):
        raise ReadConflictError

    frozen = from_state(to_state([Unloadable()]))
    monkeypatch.setattr(Unloadable, "__setstate__", conflict)
    with pytest.raises(ReadConflictError):
        frozen.thaw()


@pytest.mark.parametrize("broken", ["attribute", "module"])
def test_what_has_vanished_is_named_when_it_is_thawed(broken):
    module = sys.modules["vanishing_box"] = types.ModuleType("vanishing_box")
    module.Box = Box
    try:
        frozen = Frozen(b"\x80\x03cvanishing_box\nBox\n.", ())
        assert frozen.thaw() is Box
        if broken == "attribute":
            del module.Box
        else:
            sys.modules["vanishing_box"] = None
        with pytest.raises(UnloadableCallableError) as caught:
            frozen.thaw()
        assert caught.value.name == "vanishing_box.Box"
        assert "vanishing_box.Box" in str(caught.value)
    finally:
        del sys.modules["vanishing_box"]


class StoredTests(JobsCase):
    def test_weak_references_stay_weak(self):
        counter = self.root["counter"] = Counter()
        self.connection.add(counter)
        frozen = freeze([WeakRef(counter)])
        assert frozen.references and frozen.thaw()[0]() is counter
