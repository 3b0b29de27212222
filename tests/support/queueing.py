# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""A queue seen through several connections, under a clock that stands still.

What the jobs of these tests call stands here, since it has to be found by name.
"""

import datetime
import uuid

import transaction
from ZODB.DB import DB
from ZODB.DemoStorage import DemoStorage
from ZODB.POSException import ConflictError

from zc.async_ import clock, registrations
from zc.async_.agent import Agent
from zc.async_.interfaces import KEY
from zc.async_.job import Job
from zc.async_.queue import Queue, Queues

START = datetime.datetime(2026, 1, 5, 9, tzinfo=datetime.UTC)
SECOND = datetime.timedelta(seconds=1)
MINUTE = datetime.timedelta(minutes=1)
HOUR = datetime.timedelta(hours=1)


def nothing(*args):
    """The smallest job."""


def number(value):
    """A job that can be told from others."""
    return value


def numbers(jobs):
    """What `number` was given, in jobs or in one that makes one of them fail."""
    return [job.args[0] for job in jobs]


class Seat:
    """One connection with a transaction manager of its own: another process."""

    def __init__(self, db):
        self.manager = transaction.TransactionManager()
        self.connection = db.open(self.manager)
        self.begin, self.commit = self.manager.begin, self.manager.commit
        self.abort = self.manager.abort

    @property
    def root(self):
        return self.connection.root()

    @property
    def queue(self):
        return self.root[KEY][""]

    @property
    def pending(self):
        return self.queue._pending

    def put(self, *values, quota_names=(), **options):
        """Put a `number` for each; return the jobs."""
        jobs = []
        for value in values:
            job = Job(number, value)
            job.quota_names = quota_names
            jobs.append(self.queue.put(job, **options))
        return jobs

    def tries(self, step):
        """Do `step` and commit; False after a conflict."""
        try:
            step()
            self.commit()
        except ConflictError:
            self.abort()
            return False
        return True

    def waiting(self):
        """The numbers that wait, in order."""
        return numbers(self.queue)

    def claim_all(self):
        """Claim by hand until nothing is due; return the numbers."""
        found = []
        while (job := self.queue.claim()) is not None:
            found.append(job.args[0])
        return found

    def agent(self, UUID=None, size=3, **options):
        """A new activated dispatcher's agent."""
        UUID = UUID or uuid.uuid4()
        self.queue.dispatchers.register(UUID)
        agents = self.queue.dispatchers[UUID]
        agents.activate()
        agents["main"] = Agent(size=size, **options)
        return agents["main"]

    def find_agent(self, UUID):
        """The agent in another connection."""
        return self.queue.dispatchers[UUID]["main"]

    def housekeep(self):
        """As a dispatcher does, without the commit."""
        return self.pending.housekeep(clock.micros(clock.utcnow()))


class World:
    """A database with one queue.  A context manager."""

    def __init__(self, storage=None):
        registrations.register(uuid.uuid4())
        self.clock = clock.MovableClock(START)
        clock.install(self.clock)
        self.db = DB(DemoStorage() if storage is None else storage)
        self.seats = []
        self.seat = self.open()
        self.seat.root[KEY] = Queues()
        self.seat.root[KEY][""] = Queue()
        self.seat.commit()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for seat in self.seats:
            seat.abort()
            seat.connection.close()
        self.db.close()
        clock.uninstall()

    def open(self):
        """One more connection."""
        seat = Seat(self.db)
        self.seats.append(seat)
        return seat

    def sync(self):
        """Have all connections see the present; lose what is not committed."""
        for seat in self.seats:
            seat.abort()
            seat.begin()

    def advance(self, *args, **kwargs):
        """Let time pass."""
        self.clock.advance(datetime.timedelta(*args, **kwargs))
