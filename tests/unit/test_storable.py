# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
import datetime
import decimal
import io
import threading
import uuid

import pytest
from persistent import Persistent
from persistent.wref import WeakRef
from ZODB.DB import DB
from ZODB.DemoStorage import DemoStorage

from tests.support.queueing import World, nothing, number
from zc.async_.errors import UnpicklableError
from zc.async_.interfaces import NEW
from zc.async_.job import Job
from zc.async_.retry import NeverRetry


@pytest.fixture
def world():
    with World() as world:
        yield world


@pytest.fixture
def seat(world):
    return world.seat


class Thing(Persistent):
    def __init__(self, value=None):
        self.value = value

    def method(self):
        pass

    def __call__(self):
        pass


class Plain:
    def __init__(self, value=None):
        self.value = value


class JobWithNotes(Job):
    notes = None


LOCK = threading.Lock()


def refused(seat, item, path, culprit, match=None):
    """Putting `item` is refused and the culprit named; the error."""
    with pytest.raises(UnpicklableError, match=match) as caught:
        seat.queue.put(item)
    error = caught.value
    assert (error.path, error.culprit) == (path, culprit)
    assert path in str(error) and "cannot put" in str(error)
    assert len(seat.queue) == 0
    seat.commit()
    return error


STORABLE = [
    None, True, 1, 1.5, 1j, "text", b"bytes", decimal.Decimal("1.5"), uuid.uuid4(),
    datetime.datetime(2026, 1, 1), datetime.UTC, [1, [2]], (1, (2,)), {1: {2: 3}},
    {1, 2}, frozenset((1,)), range(3), slice(1, 2), Ellipsis, Plain({"a": 1}), Plain,
    nothing, len, Thing([1]), bytearray(b"x"),
]  # fmt: skip


@pytest.mark.parametrize("value", STORABLE, ids=lambda value: type(value).__name__)
def test_what_can_be_stored_is_put(seat, value):
    job = Job(number, value, key=[value])
    assert seat.queue.put(job) is job
    seat.commit()


LOCKS = {
    "args[0]": lambda lock: Job(number, lock),
    "args[1][0]": lambda lock: Job(number, 1, [lock]),
    "args[0]['a'][1]": lambda lock: Job(number, {"b": 1, "a": (0, lock)}),
    "args[0]{...}": lambda lock: Job(number, {lock}),
    "args[0].value": lambda lock: Job(number, Plain(lock)),
    "args[0].value[0].value": lambda lock: Job(number, Plain([Plain(lock)])),
    "kwargs['key']": lambda lock: Job(number, key=lock),
    "kwargs['key'][2]": lambda lock: Job(number, 1, key=[1, 2, lock]),
    "retry_policy_factory": lambda lock: with_attribute("retry_policy_factory", lock),
    "notes": lambda lock: with_attribute("notes", lock, JobWithNotes),
    "annotations['a'][0]": lambda lock: annotated(a=[lock]),
    "callbacks[0].args[0]": lambda lock: with_callback(Job(number, lock)),
    "callbacks[1].kwargs['key']": lambda lock: with_callback(
        Job(number), Job(number, key=lock)
    ),
}


def with_attribute(name, value, cls=Job):
    job = cls(number)
    setattr(job, name, value)
    return job


def annotated(**annotations):
    job = Job(number)
    job.annotations.update(annotations)
    return job


def with_callback(*callbacks):
    job = Job(number)
    for callback in callbacks:
        job.addCallback(callback)
    return job


@pytest.mark.parametrize("path", LOCKS)
def test_the_innermost_culprit_is_named_with_its_place(seat, path):
    error = refused(seat, LOCKS[path](LOCK), path, LOCK, "cannot be pickled")
    assert "lock" in str(error) and error.job.status == NEW


def test_a_key_of_a_dict_can_be_the_culprit(seat):
    refused(seat, Job(number, {LOCK: 1}), f"args[0] key {LOCK!r}", LOCK)


@pytest.mark.parametrize("value", [io, lambda: None, (item for item in ()), open])
def test_modules_lambdas_and_generators_are_refused_as_a_whole(seat, value):
    if value is open:
        seat.queue.put(Job(number, value))  # this one has a name
    else:
        refused(seat, Job(number, [value]), "args[0][0]", value)


def test_callbacks_by_result_are_looked_into(seat):
    job = Job(number)
    job.addCallbacks(success=Job(number, LOCK))
    with pytest.raises(UnpicklableError, match=r"callbacks\[0\]") as caught:
        seat.queue.put(job)
    assert caught.value.culprit is LOCK


def test_callbacks_of_callbacks_are_looked_into(seat):
    job, callback = Job(number), Job(number)
    job.addCallback(callback)
    callback.addCallback(Job(number, LOCK))
    refused(seat, job, "callbacks[0].callbacks[0].args[0]", LOCK)


def test_jobs_in_arguments_are_looked_into(seat):
    refused(seat, Job(number, [Job(number, LOCK)]), "args[0].args[0]", LOCK)


def test_new_persistent_objects_are_looked_into(seat):
    thing = Thing(Thing([LOCK]))
    thing.itself = thing
    refused(seat, Job(number, thing), "args[0]['value'][0]", LOCK)


def test_the_object_of_a_method_and_a_callable_object_are_looked_into(seat):
    refused(seat, Thing(LOCK).method, "the object of the method['value']", LOCK)
    refused(seat, Thing(LOCK), "the callable['value']", LOCK)


def test_something_that_contains_itself_is_no_trap(seat):
    value = [1]
    value.append(value)
    seat.queue.put(Job(number, value))
    value = [LOCK]
    value.append(value)
    with pytest.raises(UnpicklableError, match="lock"):
        seat.queue.put(Job(number, value))


# Things of the program itself.


@pytest.fixture
def in_main(monkeypatch):
    """The class `Plain`, as if the program had defined it."""
    main = __import__("__main__")
    monkeypatch.setattr(main, "Plain", Plain, raising=False)
    monkeypatch.setattr(Plain, "__module__", "__main__")


@pytest.mark.parametrize("wrap", [list, Thing])
def test_instances_of_classes_defined_in_main_are_refused(seat, in_main, wrap):
    value = Plain()
    path = "args[0][0]" if wrap is list else "args[0]['value']"
    job = Job(number, [value] if wrap is list else Thing(value))
    refused(seat, job, path, value, "Plain, which is defined in __main__")


def test_a_class_defined_in_main_is_refused(seat, in_main):
    refused(seat, Job(number, Plain), "args[0]", Plain, "__main__")


def test_text_that_mentions_main_is_not(seat):
    seat.queue.put(Job(number, ["c__main__\nPlain\n", b"c__main__\nPlain\n"]))


# Persistent objects of somewhere else.


def test_persistent_objects_of_the_same_connection_are_put(seat):
    seat.root["thing"] = Thing()
    seat.commit()
    seat.queue.put(Job(number, [seat.root["thing"]], thing=seat.root["thing"]))
    seat.commit()


def test_a_weak_reference_is_put(seat):
    seat.root["thing"] = Thing()
    seat.commit()
    seat.queue.put(Job(number, WeakRef(seat.root["thing"])))
    seat.commit()


def foreign_thing(db):
    connection = db.open()
    connection.root()["thing"] = thing = Thing()
    connection.transaction_manager.commit()
    return thing


@pytest.fixture
def foreign():
    db = DB(DemoStorage(), database_name="foreign")
    yield foreign_thing(db)
    db.close()


PLACES = {
    "args[0]": lambda thing: Job(number, thing),
    "args[0][0]['a']": lambda thing: Job(number, [{"a": thing}]),
    "the object of the method": lambda thing: thing.method,
    "the callable": lambda thing: thing,
    "args[0]['value']": lambda thing: Job(number, Thing([thing])),
}


@pytest.mark.parametrize("place", PLACES)
def test_an_object_of_a_foreign_database_is_refused(seat, foreign, place):
    with pytest.raises(UnpicklableError, match="not one of the queue's") as caught:
        seat.queue.put(PLACES[place](foreign))
    assert caught.value.culprit is foreign
    assert "'foreign'" in str(caught.value) and "'unnamed'" in str(caught.value)
    assert caught.value.path.startswith(place[:7])


def test_an_object_of_another_connection_is_refused(world, seat):
    seat.root["thing"] = Thing()
    seat.commit()
    other = world.open()
    thing = other.root["thing"]
    refused(seat, Job(number, thing), "args[0]", thing, "of another connection")


def test_a_job_of_another_connection_is_refused(world, seat):
    seat.root["job"] = Job(number)
    seat.commit()
    job = world.open().root["job"]
    refused(seat, job, "the job", job, "of another connection")


def test_objects_of_another_database_of_the_same_set_are_put():
    databases = {}
    db = DB(DemoStorage(), database_name="main", databases=databases)
    DB(DemoStorage(), database_name="other", databases=databases)
    world = World.__new__(World)
    World.__init__(world)
    with world:
        connection = db.open()
        queue = world.seat.queue
        other = connection.get_connection("other")
        other.root()["thing"] = thing = Thing()
        connection.root()["queue"] = type(queue)()
        connection.transaction_manager.commit()
        connection.root()["queue"].put(Job(number, [thing]))
        connection.root()["queue"].put(thing.method)
        connection.transaction_manager.commit()
        connection.close()
    for each in databases.values():
        each.close()


# What is stored already is not in the way.


def test_a_job_whose_arguments_are_frozen_can_be_put_again(seat, world):
    job = Job(number, Plain(1), key=Plain(2))
    job.retry_policy_factory = NeverRetry
    seat.queue.put(job)
    seat.commit()
    other = world.open()
    job = other.queue.pull()
    other.commit()
    other.connection.cacheMinimize()
    assert other.queue.put(job) is job
    other.commit()
