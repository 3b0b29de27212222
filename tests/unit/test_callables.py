# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Callables are stored by name, found again, and described."""

import datetime
import functools
import importlib
import operator
import sys
import textwrap
import types

import pytest
import transaction
from persistent import Persistent

from tests.support.jobs import Counter, JobsCase, multiply, nothing
from zc.async_ import callables
from zc.async_.errors import UnloadableCallableError, UnpicklableError
from zc.async_.job import Job

MODULE = "tests.unit.test_callables"


class Plain:
    """Not persistent."""

    def __init__(self, value=0):
        self.value = value

    def get(self):
        return self.value

    def __call__(self):
        return "called", self.value

    def __eq__(self, other):
        return isinstance(other, Plain) and vars(self) == vars(other)

    __hash__ = None

    class Inner:
        @staticmethod
        def deep():
            return "deep"


class Heir(Counter):
    """Inherits a class method."""


class Meta(type):
    pass


class Classy(metaclass=Meta):
    pass


@pytest.mark.parametrize(
    "function, stored",
    [
        (multiply, "tests.support.jobs:multiply"),
        (Plain, f"{MODULE}:Plain"),
        (Classy, f"{MODULE}:Classy"),
        (Plain.Inner.deep, f"{MODULE}:Plain.Inner.deep"),
        (Plain.get, f"{MODULE}:Plain.get"),
        (Counter.named, "tests.support.jobs:Counter.named"),
        (Heir.named, f"{MODULE}:Heir.named"),
        (Counter.plain, "tests.support.jobs:Counter.plain"),
        (len, "builtins:len"),
        (int, "builtins:int"),
        (operator.mul, "_operator:mul"),
        (dict.fromkeys, "builtins:dict.fromkeys"),
        (datetime.datetime.fromtimestamp, "datetime:datetime.fromtimestamp"),
    ],
)
def test_what_has_a_name_is_stored_by_it_and_found_again(function, stored):
    assert callables.reference(function) == stored
    assert callables.resolve(stored) == function


@pytest.mark.parametrize(
    "method, owner, name",
    [
        (Plain(7).get, Plain(7), "get"),
        ("abc".upper, "abc", "upper"),
        ((5).__add__, 5, "__add__"),
    ],
)
def test_a_method_is_stored_as_its_object_and_its_name(method, owner, name):
    stored = callables.reference(method)
    assert stored == (owner, name)
    assert callables.resolve(stored)() == method() if name != "__add__" else True


def test_a_method_with_an_argument_works_after_it_is_found_again():
    assert callables.resolve(callables.reference((5).__add__))(2) == 7


@pytest.mark.parametrize("function", [str.upper, Plain(1), functools.partial(len)])
def test_other_callables_are_stored_as_they_are(function):
    assert callables.reference(function) is function
    assert callables.resolve(function) is function


def a_closure():
    def inner():
        pass

    return inner


def from_main():
    function = types.FunctionType((lambda: None).__code__, {"__name__": "__main__"})
    function.__name__ = function.__qualname__ = "work"
    function.__module__ = "__main__"
    return function


def impostor():
    pass


impostor_of_old = impostor


def impostor():  # noqa: F811 - takes the name of the one before
    pass


@pytest.mark.parametrize(
    "function, reason",
    [
        (lambda: None, "lambda"),
        (a_closure(), "inside of a function"),
        (from_main(), "__main__"),
        (impostor_of_old, "leads to"),
    ],
)
def test_what_could_not_be_found_again_is_refused_with_the_reason(function, reason):
    with pytest.raises(UnpicklableError, match=reason) as caught:
        callables.reference(function)
    assert caught.value.culprit is function


def test_what_cannot_be_called_is_refused():
    with pytest.raises(UnpicklableError, match="'text' is not callable"):
        callables.reference("text")


@pytest.mark.parametrize(
    "stored, named",
    [
        ("tests.support.jobs:vanished", "tests.support.jobs.vanished"),
        ("no.such.module:function", "no.such.module.function"),
        (f"{MODULE}:Plain.vanished", f"{MODULE}.Plain.vanished"),
        ((Plain(), "vanished"), f"{MODULE}.Plain.vanished"),
    ],
)
def test_what_is_gone_is_named(stored, named):
    with pytest.raises(UnloadableCallableError) as caught:
        callables.resolve(stored)
    assert caught.value.name == named
    assert named in str(caught.value)


def test_a_module_that_cannot_be_imported_is_the_error_of_its_callable(tmp_path):
    (tmp_path / "broken_on_import.py").write_text("raise ZeroDivisionError('oh')\n")
    sys.path.insert(0, str(tmp_path))
    try:
        with pytest.raises(UnloadableCallableError, match="ZeroDivisionError: oh"):
            callables.resolve("broken_on_import:function")
    finally:
        sys.path.remove(str(tmp_path))


# Descriptions


class Rude:
    def __repr__(self):
        raise ZeroDivisionError


def test_arguments_whose_repr_raises_are_described():
    text = callables.describe_call(f"{MODULE}:nothing", (Rude(), 2), {"a": Rude()})
    rude = f"<{MODULE}.Rude, whose repr raises ZeroDivisionError>"
    assert text == f"{MODULE}.nothing({rude}, 2, a={rude})"


def test_long_arguments_and_long_calls_are_cut():
    text = callables.describe_call("m:f", ("x" * 10_000,), {})
    assert len(text) < 300 and text.endswith("...)")
    text = callables.describe_call("m:f", ("x" * 150,) * 100, {})
    assert len(text) <= callables.MAX_CALL + 3


@pytest.mark.parametrize(
    "function, text",
    [
        (multiply, "tests.support.jobs.multiply"),
        (operator.mul, "<built-in function mul>"),
        (Plain(7).get, f"{MODULE}.Plain object at"),
        (
            functools.partial(len, "a"),
            "functools.partial(<built-in function len>, 'a')",
        ),
    ],
)
def test_a_callable_is_described(function, text):
    assert text in callables.describe_reference(callables.reference(function))


def test_a_builtin_that_is_gone_is_described_by_its_name():
    assert callables.describe_reference("builtins:unicode") == "builtins.unicode"


# In the database


VANISHING = textwrap.dedent("""
    from persistent import Persistent

    def function(*args):
        return "found"

    class Plain:
        def method(self):
            return "found"
        def __call__(self):
            return "found"

    class Stored(Persistent):
        def method(self):
            return "found"
        def __call__(self):
            return "found"
""")


class VanishedTests(JobsCase):
    """Jobs whose code has gone load, and fail with an error that names it."""

    def setUp(self):
        super().setUp()
        self.module = types.ModuleType("vanishing_code")
        sys.modules["vanishing_code"] = self.module
        self.addCleanup(sys.modules.pop, "vanishing_code", None)
        exec(VANISHING, vars(self.module))

    def perform_without(self, job, *names):
        """Perform the stored job after `names` have gone from the module."""
        oid = self.stored(job)._p_oid
        for name in names:
            delattr(self.module, name)
        # Loaded anew: what the ZODB remembers of classes is dropped as well.
        importlib.import_module("ZODB.broken").broken_cache.clear()
        job = self.new_connection().get(oid)
        self.assertIn("``", repr(job))
        job()
        return job.result

    def assert_names(self, failure, name):
        self.assertEqual(failure.type, UnloadableCallableError)
        self.assertIn(f"vanishing_code.{name}", failure.getErrorMessage())

    def test_function(self):
        result = self.perform_without(Job(self.module.function), "function")
        self.assert_names(result, "function")

    def test_function_in_a_partial(self):
        job = Job(functools.partial(self.module.function, 1))
        self.assert_names(self.perform_without(job, "function"), "function")

    def test_function_in_a_partial_in_a_partial(self):
        inner = functools.partial(self.module.function, 1)
        job = Job(functools.partial(functools.partial(inner), 2))
        self.assert_names(self.perform_without(job, "function"), "function")

    def test_method_of_an_object_that_is_not_persistent(self):
        job = Job(self.module.Plain().method)
        self.assert_names(self.perform_without(job, "Plain"), "Plain")

    def test_method_of_a_persistent_object(self):
        job = Job(self.module.Stored().method)
        self.assert_names(self.perform_without(job, "Stored"), "Stored.method")

    def test_callable_object(self):
        job = Job(self.module.Plain())
        self.assert_names(self.perform_without(job, "Plain"), "Plain")

    def test_callable_persistent_object(self):
        job = Job(self.module.Stored())
        self.assert_names(self.perform_without(job, "Stored"), "Stored")

    def test_function_as_an_argument(self):
        job = Job(nothing, 1, self.module.function)
        self.assert_names(self.perform_without(job, "function"), "function")

    def test_object_as_an_argument(self):
        job = Job(nothing, key=self.module.Plain())
        self.assert_names(self.perform_without(job, "Plain"), "Plain")

    def test_what_is_still_there_is_called(self):
        job = Job(functools.partial(self.module.function, 1))
        self.assertEqual(self.perform_without(job, "Plain"), "found")


class StoredTests(JobsCase):
    """Callables of all kinds survive the database."""

    def reloaded(self, function, *args):
        job = self.stored(function, *args)
        return self.fetch(job)

    def test_all_kinds_are_called_after_they_were_loaded(self):
        for function, args, result in (
            (multiply, (2, 3), 6),
            (operator.mul, (2, 3), 6),
            (Plain(7).get, (), 7),
            (Plain(7), (), ("called", 7)),
            (Counter().increase, (5,), 5),
            (Counter(), (1,), ("called", 1)),
            (Counter.named, (), "Counter"),
            (Heir.named, (), "Heir"),
            (Counter.plain, (3,), 3),
            (functools.partial(multiply, 2), (4,), 8),
            (functools.partial(Plain(3).get), (), 3),
            (dict.fromkeys, ("a",), {"a": None}),
            (str.upper, ("a",), "A"),
            ("abc".upper, (), "ABC"),
            (int, ("12",), 12),
        ):
            with self.subTest(function=function):
                job = self.reloaded(function, *args)
                job()
                self.assertEqual(job.result, result)

    def test_a_job_can_be_the_callable_of_a_job(self):
        outer = self.reloaded(Job(Job(multiply, 2), 4))
        outer()
        self.assertEqual(outer.result, 8)

    def test_methods_of_persistent_objects_refer_to_the_object(self):
        counter = self.root["counter"] = Counter()
        job = self.reloaded(counter.increase)
        job()
        transaction.begin()
        self.assertEqual(counter.count, 1)

    def test_a_ghost_is_described_without_being_loaded(self):
        counter = self.root["counter"] = Counter()
        job = self.reloaded(nothing, counter)
        text = repr(job)
        self.assertIn("Counter (oid", text)
        self.assertIsNone(job.args[0]._p_changed)

    def test_a_persistent_object_without_a_connection_is_described(self):
        self.assertEqual(callables.identity(Persistent()), "(oid ?, db ?)")
