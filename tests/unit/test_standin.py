# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
import pickle
import threading

import pytest
from persistent import Persistent

from zc.async_ import standin, tracebacks


class Strict(Exception):
    """Cannot be loaded from its arguments, as so many."""

    def __init__(self, name, *, code):
        super().__init__(f"no {name}")
        self.code = code


class Prefixing(Exception):
    def __init__(self, name):
        super().__init__(f"no {name}")


class Fatal(SystemExit):
    pass


class Exploding(Exception):
    def __reduce__(self):
        raise KeyboardInterrupt


class Document(Persistent):
    def __init__(self):
        self.body = "x" * 1000

    def __repr__(self):
        return "<the document>"


def no_override(obj):
    return NotImplemented


def dumped(error):
    return standin.dump(error, tracebacks.message_of(error), no_override)


def reloaded(error):
    stored = dumped(error)
    assert stored is not None
    name = tracebacks.dotted(type(error))
    return standin.load(stored, name, tracebacks.message_of(error), [])


@pytest.mark.parametrize(
    "error",
    [
        KeyError("k"),
        OSError(2, "No such file", "x.txt"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"),
        SystemExit(3),
        KeyboardInterrupt(),
        ExceptionGroup("many", [ValueError("v")]),
        Strict("bread", code=7),
        Prefixing("milk"),
        Fatal(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_exceptions_come_back_with_class_arguments_and_attributes(error):
    loaded = reloaded(error)
    assert type(loaded) is type(error)
    assert str(loaded) == str(error)
    assert repr(loaded) == repr(error)
    assert vars(loaded) == vars(error)


def test_the_pickle_has_the_protocol_of_the_zodb():
    assert dumped(KeyError("k"))[:2] == b"\x80\x03"


def test_persistent_objects_become_their_repr_wherever_they_are():
    error = KeyError(Document(), [{"deep": Document()}])
    error.document = Document()
    loaded = reloaded(error)
    assert loaded.args == ("<the document>", [{"deep": "<the document>"}])
    assert loaded.document == "<the document>"
    assert str(loaded) == str(error)
    assert b"xxx" not in dumped(error)


def test_what_cannot_be_pickled_becomes_its_repr_and_the_class_is_kept():
    error = Strict("bread", code=threading.Lock())
    loaded = reloaded(error)
    assert type(loaded) is Strict
    assert str(loaded) == "no bread"
    assert loaded.code.startswith("<unlocked _thread.lock")


def test_a_repr_in_the_place_of_an_object_looks_like_it():
    shown = standin.Shown("<the document>")
    assert repr([shown]) == "[<the document>]"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        loaded = pickle.loads(pickle.dumps(shown, protocol))
        assert type(loaded) is standin.Shown and loaded == shown


def test_an_exception_whose_reduce_raises_anything_is_kept_as_plain_data():
    assert type(reloaded(Exploding("bad"))) is Exploding


def test_the_size_of_the_pickle_is_bounded():
    error = KeyError("x" * 1_000_000)
    stored = dumped(error)
    assert len(stored) <= standin.SIZE
    loaded = pickle.loads(stored)
    assert type(loaded) is KeyError
    assert "more characters" in str(loaded)


def test_an_exception_that_would_come_back_empty_is_not_kept():
    error = UnicodeDecodeError("utf-8", b"\xff" * 1_000_000, 0, 1, "invalid")
    assert dumped(error) is None


def test_a_class_that_cannot_be_found_is_not_kept():
    class Local(Exception):
        pass

    assert dumped(Local("bad")) is None


def test_objects_inside_can_be_reduced_by_the_caller():
    def override(obj):
        return (str, ("seen",)) if isinstance(obj, Exploding) else NotImplemented

    error = ValueError("v")
    error.extra = [Exploding()]
    assert pickle.loads(standin.dump(error, "v", override)).extra == ["seen"]


def test_a_stand_in_has_dotted_name_and_message():
    error = standin.load(b"nonsense", "gone.errors.Lost", "where is it", [])
    assert tracebacks.dotted(type(error)) == "gone.errors.Lost"
    assert str(error) == "where is it"
    assert standin.class_of(error) is type(error)


def test_a_stand_in_is_caught_as_its_nearest_builtin_base():
    parents = ["gone.Lost", "gone.Base", "builtins.LookupError", "builtins.Exception"]
    with pytest.raises(LookupError, match="where"):
        raise standin.load(None, "gone.Lost", "where", parents)


@pytest.mark.parametrize(
    "parent",
    ["OSError", "UnicodeDecodeError", "ExceptionGroup", "SyntaxError", "StopIteration"],
)
def test_a_stand_in_can_be_made_for_every_kind_of_builtin(parent):
    error = standin.stand_in("gone.Lost", "where", [f"builtins.{parent}"])
    assert str(error) == "where"


@pytest.mark.parametrize("parent", ["SystemExit", "KeyboardInterrupt"])
def test_a_stand_in_does_not_end_the_thread(parent):
    parents = ["gone.Fatal", f"builtins.{parent}", "builtins.BaseException"]
    error = standin.stand_in("gone.Fatal", "stop", parents)
    assert isinstance(error, Exception)
    assert not isinstance(error, SystemExit | KeyboardInterrupt)


def test_the_real_class_of_a_stand_in_is_found_if_it_exists():
    for cls in Strict, UnicodeDecodeError, Fatal:
        error = standin.stand_in(tracebacks.dotted(cls), "m", [])
        assert standin.class_of(error) is cls
    for name in "os.path.join", "os", "?", "nowhere.at.All", "x.<locals>.Y":
        error = standin.stand_in(name, "m", [])
        assert tracebacks.dotted(type(error)) == name
        assert standin.class_of(error) is type(error)


def test_a_stand_in_can_be_pickled_and_stored_again():
    error = standin.stand_in("gone.Lost", "where", ["builtins.LookupError"])
    for loaded in pickle.loads(pickle.dumps(error)), reloaded_stand_in(error):
        assert tracebacks.dotted(type(loaded)) == "gone.Lost"
        assert str(loaded) == "where"
        assert isinstance(loaded, LookupError)


def reloaded_stand_in(error):
    parents = [tracebacks.dotted(base) for base in type(error).__mro__]
    return standin.load(dumped(error), "gone.Lost", "where", parents)


def test_an_exception_whose_class_has_gone_is_replaced(monkeypatch):
    stored = dumped(Strict("bread", code=1))
    monkeypatch.delitem(globals(), "Strict")
    error = standin.load(stored, f"{__name__}.Strict", "no bread", [])
    assert isinstance(error, standin.StandIn)
    assert str(error) == "no bread"
