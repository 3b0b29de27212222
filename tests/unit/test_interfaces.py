# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Each class is checked against its interface, and the contracts are complete."""

import ast
import inspect
import uuid
from pathlib import Path

import pytest
from zope.interface import Interface
from zope.interface.interfaces import IInterface, IMethod
from zope.interface.verify import verifyClass, verifyObject

from tests.support.queueing import World, number
from zc.async_ import interfaces, retry
from zc.async_.agent import Agent, Completed
from zc.async_.callbacks import CallbackProxy
from zc.async_.failure import Failure
from zc.async_.job import Job
from zc.async_.membership import DispatcherAgents, Dispatchers
from zc.async_.queue import Queue, Queues
from zc.async_.quota import Quota, Quotas

CLASSES = {
    Agent: interfaces.IFilterAgent,
    Completed: interfaces.ICompletedCollection,
    CallbackProxy: interfaces.ICallbackProxy,
    Dispatchers: interfaces.IDispatchers,
    DispatcherAgents: interfaces.IDispatcherAgents,
    Failure: interfaces.IFailure,
    Job: interfaces.IJob,
    Queue: interfaces.IQueue,
    Queues: interfaces.IQueues,
    Quota: interfaces.IQuota,
    Quotas: interfaces.IQuotas,
    retry.RetryCommonFourTimes: interfaces.IRetryPolicy,
    retry.RetryCommonForever: interfaces.IRetryPolicy,
    retry.NeverRetry: interfaces.IRetryPolicy,
    retry.RetryWithBackoff: interfaces.IRetryPolicy,
}

ALL = {
    name: value
    for name, value in vars(interfaces).items()
    if IInterface.providedBy(value) and value is not Interface
}


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_a_class_keeps_its_contract(cls):
    assert verifyClass(CLASSES[cls], cls)


def objects(seat):
    """One of each, as they are in use."""
    job = Job(number, 1)
    agent = seat.agent(uuid.UUID(int=1))
    seat.queue.quotas.create("q")
    yield from (
        seat.queue,
        seat.queue.parent,
        seat.queue.quotas,
        agent,
        agent.completed,
    )
    yield from (seat.queue.quotas["q"], seat.queue.dispatchers, agent.parent, job)
    yield job.addCallbacks(Job(number))
    yield Failure(ValueError("x"))
    for cls in CLASSES:
        if cls.__module__.endswith("retry"):
            yield cls(job)


def test_an_object_of_each_class_keeps_its_contract():
    with World() as world:
        checked = set()
        for each in objects(world.seat):
            assert verifyObject(CLASSES[type(each)], each)
            checked.add(type(each))
        assert checked == set(CLASSES)


def test_every_class_that_claims_a_contract_is_checked():
    found = set()
    for path in Path(interfaces.__file__).parent.glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                for decorator in node.decorator_list:
                    source = ast.unparse(decorator)
                    if source.startswith("implementer("):
                        found.add((node.name, source))
    named = {cls.__name__ for cls in CLASSES}
    missing = {pair for pair in found if pair[0] not in named | CHECKED_ELSEWHERE}
    assert not missing


#: With their own modules' tests.
CHECKED_ELSEWHERE = {
    "DatabaseOpened", "DispatcherActivated", "DispatcherDeactivated", "InstanceUUID",
    "DispatcherReactivated", "DispatcherRegistered", "DispatcherUnregistered",
    "ObjectAdded", "Reactor", "LazyUUID",
}  # fmt: skip


@pytest.mark.parametrize("name", ALL)
def test_every_promise_is_in_words(name):
    interface = ALL[name]
    assert interface.getDoc() or name.startswith("_")
    for attribute, description in interface.namesAndDescriptions():
        assert description.getDoc(), f"{name}.{attribute}"
        if IMethod.providedBy(description):
            assert inspect.cleandoc(description.getDoc())[0].isupper(), attribute


def test_all_that_is_published_is_there():
    assert set(interfaces.__all__) <= set(vars(interfaces))
    public = {name for name in ALL if not name.startswith("_")}
    assert public - {"IEnumerableMapping"} <= set(interfaces.__all__)


def test_statuses_are_published_here():
    assert interfaces.NEW == "new-status"
    assert interfaces.COMPLETED == "completed-status"
    assert interfaces.KEY == "zc.async"
