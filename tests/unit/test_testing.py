# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
import inspect

import pytest

from zc.async_ import testing


@pytest.mark.parametrize("name", testing.__all__)
def test_what_is_published_is_there_and_documented(name):
    published = getattr(testing, name)
    assert name == "START" or inspect.getdoc(published)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("get_poll", ["dispatcher", "count", "seconds"]),
        ("wait_for_start", ["job", "seconds"]),
        ("wait_for_result", ["job", "seconds"]),
        ("wait_for_annotation", ["job", "name", "seconds"]),
        ("wait_for_deactivation", ["dispatcher", "seconds"]),
        ("wait_for_death", ["agents", "seconds"]),
        ("tear_down_dispatcher", ["dispatcher", "seconds"]),
        ("set_now", ["dt"]),
    ],
)
def test_functions_are_called_as_in_earlier_releases(name, expected):
    signature = inspect.signature(getattr(testing, name))
    assert list(signature.parameters) == expected
    if "seconds" in expected:
        assert signature.parameters["seconds"].default == 6


def test_the_methods_of_the_reactor_are_documented():
    methods = [
        value
        for name, value in vars(testing.Reactor).items()
        if inspect.isfunction(value) and not name.startswith("_")
    ]
    assert len(methods) >= 10
    assert all(map(inspect.getdoc, methods))
