# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Jobs whose code has gone since they were put do not stop a dispatcher."""

import functools
import operator
import sys
import types

import pytest
from persistent import Persistent

from zc.async_.job import Job
from zc.async_.retry import RetryCommonFourTimes

NAME = "code_that_vanishes"


class Unloadable:
    """Stored without complaint, and cannot be loaded."""

    def __getstate__(self):
        return {"a": 1}

    def __setstate__(self, state):
        raise ZeroDivisionError("cannot be loaded")


@pytest.fixture
def code():
    """A module with something of each kind."""
    module = sys.modules[NAME] = types.ModuleType(NAME)
    for name, bases in (
        ("Plain", (object,)),
        ("Stored", (Persistent,)),
        ("Policy", (RetryCommonFourTimes,)),
        ("Special", (Job,)),
    ):
        members = {"__module__": NAME, "method": lambda self: "found"}
        setattr(module, name, type(name, bases, members))
    exec("def function(*args): return 'found'", vars(module))
    yield module
    sys.modules.pop(NAME, None)


def jobs_of(code):
    """Jobs that need the code, by what is missing."""
    with_policy = Job(operator.mul, 2, 3)
    with_policy.retry_policy_factory = code.Policy
    with_callback = Job(operator.mul, 2, 3)
    with_callback.addCallback(Job(functools.partial(code.function)))
    return {
        "function": Job(code.function),
        "function in a partial": Job(functools.partial(code.function, 1)),
        "function as an argument": Job(len, code.function),
        "method": Job(code.Plain().method),
        "method of a persistent object": Job(code.Stored().method),
        "object in an argument": Job(len, [{"a": code.Plain()}]),
        "policy": with_policy,
        "callback": with_callback,
        "argument that cannot be loaded": Job(len, Unloadable()),
        "result that cannot be loaded": Job(Unloadable),
    }


def test_each_fails_with_an_error_that_says_so_and_others_are_performed(site, code):
    jobs = {name: site.put(job) for name, job in jobs_of(code).items()}
    last = site.put(operator.mul, 2, 21)
    site.sync()
    del sys.modules[NAME]
    site.connection.cacheMinimize()
    site.dispatcher()
    assert site.wait(last) == 42
    for name, job in jobs.items():
        result = site.wait(job)
        if name == "callback":
            assert result == 6
            result = site.wait(job.callbacks[0])
        assert hasattr(result, "getErrorMessage"), name
        named = "cannot be loaded" if "cannot" in name else NAME
        assert named in result.getErrorMessage(), name


def test_a_job_of_a_class_that_has_gone_does_not_stop_the_others(site, code):
    special = site.put(code.Special(operator.mul, 2, 3))
    last = site.put(operator.mul, 2, 21)
    site.sync()
    del sys.modules[NAME]
    site.connection.cacheMinimize()
    site.dispatcher()
    assert site.wait(last) == 42
    assert special._p_oid is not None
