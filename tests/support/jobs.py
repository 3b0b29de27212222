# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""A database with jobs in it, a queue, and a stand-in for a worker's thread.

What jobs call must be found by name, so the callables that several tests need
are here as well.
"""

import unittest
import uuid

import transaction
from persistent import Persistent
from persistent.mapping import PersistentMapping
from transaction.interfaces import TransientError
from ZODB.DB import DB
from ZODB.DemoStorage import DemoStorage
from ZODB.POSException import StorageError

from zc.async_ import registrations
from zc.async_.agent import Agent
from zc.async_.interfaces import KEY
from zc.async_.job import Job
from zc.async_.observing import Observer
from zc.async_.performance import Performance
from zc.async_.queue import Queue, Queues
from zc.async_.testinginline import perform_due
from zc.async_.threadlocal import Surroundings, local


class JobsCase(unittest.TestCase):
    """A database in memory, and the registrations."""

    def setUp(self):
        registrations.register(uuid.uuid4())
        registrations.register_connection()
        self.db = DB(self.make_storage())
        self.addCleanup(self.db.close)
        self.connection = self.db.open()
        self.addCleanup(self.connection.close)
        self.addCleanup(transaction.abort)
        self.root = self.connection.root()
        self.addCleanup(CALLS.clear)
        CALLS.clear()

    def make_storage(self):
        return DemoStorage()  # it resolves conflicts

    def stored(self, *args, **kwargs):
        """A job that is committed; the arguments are those of `Job`."""
        job = args[0] if isinstance(args[0], Job) else Job(*args, **kwargs)
        jobs = self.root.setdefault("jobs", PersistentMapping())
        jobs[len(jobs)] = job
        transaction.commit()
        return job

    def make_queue(self):
        """The queue of the database, made when there is none."""
        if KEY not in self.root:
            self.root[KEY] = Queues()
            self.root[KEY][""] = Queue()
            transaction.commit()
        return self.root[KEY][""]

    @property
    def queue(self):
        return self.make_queue()

    def make_agent(self, size=10):
        """An agent of an activated dispatcher that nobody runs; commits."""
        identity = uuid.uuid4()
        self.queue.dispatchers.register(identity)
        agents = self.queue.dispatchers[identity]
        agents["main"] = Agent(size=size)
        agents.activate()
        transaction.commit()
        return agents["main"]

    def put(self, item, **options):
        """Put into the queue, and commit."""
        job = self.queue.put(item, **options)
        transaction.commit()
        return job

    def perform_due(self, **options):
        return perform_due(self.queue, **options)

    def new_connection(self):
        """Another connection, with a transaction manager of its own and no cache."""
        manager = transaction.TransactionManager()
        connection = self.db.open(manager)
        connection.cacheMinimize()
        self.addCleanup(connection.close)
        self.addCleanup(manager.abort)
        return connection

    def fetch(self, job):
        """The same job as another connection sees it now."""
        return self.new_connection().get(job._p_oid)

    def record(self, obj):
        """The bytes of the record that is stored for `obj`."""
        return self.db.storage.load(obj._p_oid, "")[0]


class Worker(Observer):
    """What a dispatcher's thread is to a performance; remembers what it is told."""

    is_worker = True

    def __init__(self):
        self.told = []
        self.awaited = []

    def settled(self, job):
        super().settled(job)
        self.told.append(("settled", job))

    def retrying(self, job, problem, answer):
        super().retrying(job, problem, answer)
        self.told.append(("retrying", job, answer))

    def awaiting(self, job, awaited):
        self.awaited.append((job, awaited))

    def perform(self, job):
        """Perform `job`, ACTIVE first, the way that a worker does."""
        job._begin(1)
        transaction.commit()
        return self.begun(job)

    def begun(self, job, token=None):
        """Perform a job whose ACTIVE is committed."""
        outer = local.surroundings
        local.surroundings = Surroundings(observer=self)
        try:
            return Performance(job, token=token, tell_agent=False).begun()
        finally:
            local.surroundings = outer


CALLS = []  # what has been called, in order


def nothing(*args, **kwargs):
    """Do nothing."""


def answer():
    CALLS.append("answer")
    return 42


def note(*args):
    """Remember the arguments; return the last one."""
    CALLS.append(args)
    return args[-1] if args else None


def fail(*args):
    CALLS.append(("fail", *args))
    raise RuntimeError("on purpose")


def multiply(first, second, third=1):
    return first * second * third


class Counter(Persistent):
    """A persistent object with methods to call."""

    count = 0

    def increase(self, value=1):
        self.count += value
        return self.count

    def increase_and_fail(self, *ignored):
        self.count += 1
        raise RuntimeError("after a change")

    @classmethod
    def named(cls):
        return cls.__name__

    @staticmethod
    def plain(value):
        return value

    def __call__(self, *args):
        self.count += 1
        return ("called", *args)


class AnswerLostError(StorageError, TransientError):
    """Looks like ZEO's ClientDisconnected."""


AnswerLostError.__module__ = "ZEO.Exceptions"
AnswerLostError.__qualname__ = AnswerLostError.__name__ = "ClientDisconnected"


class LossyStorage(DemoStorage):
    """Commits, and raises instead of saying so, for the transactions to come."""

    to_lose = ()  # one truth value for each coming commit

    def tpc_finish(self, transaction, func=lambda tid: None):
        tid = super().tpc_finish(transaction, func)
        lose, *self.to_lose = self.to_lose or (False,)
        if lose:
            raise AnswerLostError
        return tid
