# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
import copy
import pickle

import pytest

from zc.async_ import errors, interfaces

EXAMPLES = [
    errors.AsyncError("bad"),
    errors.AbortedError(),
    errors.TimeoutError("too late"),
    errors.ReassignedError("gone", job=42),
    errors.QuarantinedError("killed the process", interruptions=3),
    errors.BadStatusError("no", expected=("new-status",)),
    errors.UnpicklableError("cannot store", culprit=7, path="args[0]"),
    errors.UnloadableCallableError("gone", name="app.work"),
    errors.BadIdentityError("uuid.txt", "nonsense"),
    errors.IdentityInUseError("uuid.txt", 1234),
    errors.NotInQueueError("job", "queue"),
]


class Thing:
    status = "active-status"

    def __repr__(self):
        return "<the thing>"


class Sulky:
    def __repr__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_errors_survive_pickling(error, protocol):
    loaded = pickle.loads(pickle.dumps(error, protocol))
    assert type(loaded) is type(error)
    assert loaded.args == error.args
    assert str(loaded) == str(error)
    assert vars(loaded) == vars(error)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_errors_can_be_copied(error):
    assert copy.copy(error).args == error.args


@pytest.mark.parametrize(
    "name", ["AbortedError", "BadStatusError", "ReassignedError", "TimeoutError"]
)
def test_published_errors_keep_the_dotted_name_of_interfaces(name):
    error = getattr(errors, name)
    assert error.__module__ == "zc.async.interfaces"
    assert getattr(interfaces, name) is error


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_every_error_shares_the_base(error):
    assert isinstance(error, errors.AsyncError)


@pytest.mark.parametrize(
    ("error", "base"),
    [
        (errors.TimeoutError, errors.AbortedError),
        (errors.QuarantinedError, errors.AbortedError),
        (errors.UnpicklableError, TypeError),
        (errors.NotInQueueError, LookupError),
    ],
)
def test_errors_are_caught_by_what_they_are(error, base):
    assert issubclass(error, base)


def test_a_timeout_is_not_an_operating_system_error():
    assert not issubclass(errors.TimeoutError, OSError)


def test_a_bad_status_carries_job_found_and_expected():
    thing = Thing()
    error = errors.BadStatusError("cannot", thing, ["new-status"])
    assert str(error) == "cannot"
    assert error.job is thing
    assert error.found == "active-status"
    assert error.expected == ("new-status",)


def test_the_objects_of_an_error_are_pickled_as_their_repr():
    error = errors.UnpicklableError("no", culprit=Thing(), path="args[0]", job=Sulky())
    loaded = pickle.loads(pickle.dumps(error))
    assert loaded.culprit == "<the thing>"
    assert loaded.path == "args[0]"
    assert loaded.job == "<Sulky, whose repr raises RuntimeError>"


def test_an_enormous_object_does_not_make_an_enormous_error():
    error = errors.UnpicklableError("no", culprit=list(range(100_000)))
    assert len(pickle.dumps(error)) < 2000


def test_an_identity_in_use_names_file_and_process():
    error = errors.IdentityInUseError("/var/uuid.txt", 1234)
    assert "/var/uuid.txt is used by process 1234;" in str(error)
    assert "ZC_ASYNC_UUID" in str(error)
    assert "another process" in str(errors.IdentityInUseError("/var/uuid.txt"))


def test_a_job_missing_in_a_queue_is_named():
    thing = Thing()
    error = errors.NotInQueueError(thing, "the queue")
    assert str(error) == "<the thing> is not in the queue"
    assert error.job is thing and error.queue == "the queue"
