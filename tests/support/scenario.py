# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Jobs of each kind whose effects can be counted afterwards, from the database.

An effect is an object of its own, so that jobs do not conflict, with a count that a
job raises in its own transaction.  A put is noted in the transaction that puts.  So
`problems` can tell, from the stored data alone, whether each put that was committed
has had exactly one effect, whatever died in between.
"""

import contextlib
import datetime
import itertools
import logging
import os
import signal
import uuid
from collections.abc import Callable
from typing import NamedTuple

import transaction
import zope.component
from BTrees.OOBTree import OOBTree
from persistent import Persistent
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage
from zope.processlifetime import DatabaseOpened

from zc.async_ import clock, configure, dispatcher, interruption, local, membership
from zc.async_.failure import is_failure
from zc.async_.interfaces import COMPLETED, KEY
from zc.async_.job import Job
from zc.async_.retry import RetryCommonFourTimes, RetryWithBackoff
from zc.async_.subscribers import AgentInstaller, QueueInstaller

from .boundaries import BoundaryStorage
from .waking import wait_until, woken_by

QUOTA = "one at a time"
MILLISECONDS = datetime.timedelta(milliseconds=1)


class Effect(Persistent):
    """Counts how often something happened."""

    count = 0

    def happen(self, *ignored):
        """A job, or a callback."""
        self.count += 1
        return self.count

    def fail(self):
        """A job that fails, and so must have no effect."""
        self.count += 1
        raise LookupError("this job fails")

    def happen_at_last(self):
        """A job that fails when it is tried for the first time."""
        self.count += 1
        if local.getJob().attempts < 2:
            raise NotYet

    def exit(self):
        """A job that ends its process, without cleaning up."""
        self.count += 1
        os._exit(3)

    def kill(self):
        """A job that kills its process."""
        self.count += 1
        os.kill(os.getpid(), signal.SIGKILL)

    def put_another(self, other):
        """A job that has another one put, and waits for it."""
        self.count += 1
        return local.getQueue().put(other.happen)


class NotYet(Exception):
    """Try again."""


def quick_retries(job):
    """The retry policy of those that fail at first."""
    return RetryWithBackoff(job, errors=(NotYet,), first_wait=20 * MILLISECONDS)


async def answer(value):
    """A job that runs on a loop."""
    return value


# The kinds of jobs, made from their effects.


def plain(main):
    return Job(main.happen)


def limited(main):
    job = Job(main.happen)
    job.quota_names = (QUOTA,)
    return job


def scheduled(main):
    job = Job(main.happen)
    job.begin_after = clock.utcnow() + 40 * MILLISECONDS
    return job


def with_callbacks(main, success, failure, last):
    job = Job(main.happen)
    job.addCallbacks(success.happen, failure.happen).addCallback(last.happen)
    return job


def failing(main, failure, always):
    job = Job(main.fail)
    job.failure_log_level = logging.DEBUG
    job.addCallbacks(failure=failure.happen)
    job.addCallback(always.happen)
    return job


def retried(main):
    job = Job(main.happen_at_last)
    job.retry_policy_factory = quick_retries
    return job


def outer(main, inner):
    job = Job(main.put_another, inner)
    return job


def awaiting(callback):
    job = Job(answer, 42)
    job.addCallback(callback.happen)
    return job


def exiting(main):
    return Job(main.exit)


def killing(main):
    return Job(main.kill)


class Kind(NamedTuple):
    """How to make a job from its effects; how often each has to happen.

    `error` names the exception that has to be the result, if it fails.
    """

    make: Callable
    expected: dict
    error: str | None = None


KINDS = {
    "plain": Kind(plain, {"main": 1}),
    "limited": Kind(limited, {"main": 1}),
    "callbacks": Kind(
        with_callbacks, {"main": 1, "success": 1, "failure": 0, "last": 1}
    ),
    "failing": Kind(failing, {"main": 0, "failure": 1, "always": 1}, "LookupError"),
    "scheduled": Kind(scheduled, {"main": 1}),
    "retried": Kind(retried, {"main": 1}),
    "outer": Kind(outer, {"main": 1, "inner": 1}),
    "awaiting": Kind(awaiting, {"callback": 1}),
    "exiting": Kind(exiting, {"main": 0}, "QuarantinedError"),
    "killing": Kind(killing, {"main": 0}, "QuarantinedError"),
}
HARMLESS = tuple(KINDS)[:-2]


class Put(Persistent):
    """Notes, in the transaction of a put, what was put."""

    def __init__(self, kind, job, effects):
        self.kind = kind
        self.job = job
        self.effects = effects


def prepare(path, count, backlog, kinds=HARMLESS):
    """Make a database with a queue, and places for the effects of `count` puts.

    They are of these kinds, in turn.  The first `backlog` of them are put already.
    """
    configure.base(uuid.uuid4())
    with _opened(FileStorage(str(path), create=True)) as (connection, root):
        QueueInstaller()(DatabaseOpened(connection.db()))
        transaction.begin()
        root[KEY][""].quotas.create(QUOTA)
        root["puts"] = OOBTree()
        root["effects"] = OOBTree()
        for number, kind in zip(range(count), itertools.cycle(kinds), strict=False):
            effects = {name: Effect() for name in KINDS[kind].expected}
            root["effects"][number] = (kind, effects)
        transaction.commit()
        Worksite(connection, root).put_missing(backlog)


@contextlib.contextmanager
def _opened(storage):
    db = DB(storage)
    connection = db.open()
    try:
        yield connection, connection.root()
    finally:
        transaction.abort()
        connection.close()
        db.close()


def adjust(plan):
    """Set what the plan of a life says, and what makes lives short."""
    agents = membership.DispatcherAgents
    agents.ping_interval = plan.get("ping", 30000) * MILLISECONDS
    agents.ping_death_interval = datetime.timedelta(seconds=plan.get("death", 60))
    if plan.get("patient"):
        interruption.MAX_DEATHS = 10_000
        RetryCommonFourTimes.max_interruptions = None


@contextlib.contextmanager
def dispatching(path, hook, size=8, threads=2):
    """A `Worksite` on the database at `path`, with a dispatcher at work."""
    configure.base()
    zope.component.provideHandler(AgentInstaller("main", size=size, threads=threads))
    with _opened(BoundaryStorage(str(path), hook)) as (connection, root):
        made = dispatcher.Dispatcher(connection.db(), poll_interval=0.2, grace=5)
        made.start()
        try:
            yield Worksite(connection, root)
        finally:
            made.stop()


class Worksite:
    """What the main thread of a life does."""

    def __init__(self, connection, root):
        self.connection = connection
        self.root = root

    def put_missing(self, count=None):
        """Put, one a transaction, what was not put before, of the first `count`."""
        for number in list(self.root["effects"])[:count]:
            transaction.begin()
            if number not in self.root["puts"]:
                self._put(number)
                transaction.commit()

    def _put(self, number):
        kind, effects = self.root["effects"][number]
        job = KINDS[kind].make(**effects)
        self.root[KEY][""].put(job)
        self.root["puts"][number] = Put(kind, job, effects)

    def wait_until_drained(self, seconds):
        """Wait until all that was put is completed, and nothing is held."""
        self._wait_until_none(unfinished, seconds)

    def wait_until_alone(self, seconds):
        """Wait until all dispatchers but one are deactivated."""
        self._wait_until_none(crowd, seconds)

    def _wait_until_none(self, find, seconds):
        def look():
            transaction.abort()
            transaction.begin()
            return not list(find(self.root))

        with woken_by(self.connection.db()) as signal:
            wait_until(look, lambda: list(find(self.root)), seconds, signal)


def unfinished(root):
    """What is not yet done, as text."""
    queue = root[KEY][""]
    for number, put in root["puts"].items():
        if put.job.status != COMPLETED:
            yield f"{number} ({put.kind}) is {put.job.status}"
    if len(queue) or list(queue):
        yield f"the queue says it has {len(queue)} and holds {list(queue)}"
    for agents in queue.dispatchers.values():
        for held in agents.values():
            if list(held) or list(held.waiting()):
                yield f"{held.name} holds {list(held)}, waiting {list(held.waiting())}"


def crowd(root):
    """The activated dispatchers, when there are several."""
    agents = root[KEY][""].dispatchers.values()
    activated = [each.UUID for each in agents if each.activated]
    return activated if len(activated) > 1 else []


# Afterwards.


def problems(path):
    """What is wrong with the stored data of a drained database, as text."""
    with _opened(FileStorage(str(path), read_only=True)) as (_, root):
        found = list(unfinished(root))
        found.extend(_wrong_places(root[KEY][""]))
        for number, (kind, _) in root["effects"].items():
            put = root["puts"].get(number)
            if put is None:
                found.append(f"{number} ({kind}) was never put")
            else:
                found.extend(wrong_effects(number, put))
        return found


def wrong_effects(number, put):
    """What is wrong with the effects of one put, as text."""
    kind = KINDS[put.kind]
    for name, effect in put.effects.items():
        if effect.count != kind.expected[name]:
            yield (
                f"{number} ({put.kind}): {name} happened {effect.count} times, "
                f"expected {kind.expected[name]}; {_outcome(put.job)}"
            )
    result = put.job.result
    error = result.type.__name__ if is_failure(result) else None
    if error != kind.error:
        yield f"{number} ({put.kind}): {_outcome(put.job)}"


def _outcome(job):
    result = job.result
    text = result.getTraceback() if is_failure(result) else repr(result)
    return (
        f"the job is {job.status}, {job.attempts} attempts, {job.interruptions} "
        f"interruptions, {job.deaths} deaths, result {text}"
    )


def _wrong_places(queue):
    for quota in queue.quotas.values():
        quota.clean()
        if len(quota):
            yield f"quota {quota.name!r} is held by {list(quota)}"
    for agents in queue.dispatchers.values():
        if agents.activated:
            yield f"dispatcher {agents.UUID} is still activated"
    if len(queue._pending.aside):
        yield f"jobs were set aside: {queue._pending.aside.values()}"
