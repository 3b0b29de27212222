# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""A database with queues, and real dispatchers, for tests of the runtime."""

import threading
import uuid

import transaction
import zope.component
from ZODB.DB import DB
from ZODB.DemoStorage import DemoStorage
from zope.processlifetime import DatabaseOpened

from zc.async_ import configure, dispatcher
from zc.async_.interfaces import COMPLETED, KEY
from zc.async_.job import Job
from zc.async_.subscribers import AgentInstaller, QueueInstaller

from .gates import open_all
from .waking import PATIENCE, wait_until, woken_by


def runtime_threads():
    """The threads of dispatchers that live now."""
    return [one for one in threading.enumerate() if one.name.startswith("zc.async")]


def open_connections(db):
    """How many connections of `db` are in use."""
    infos = db.connectionDebugInfo()
    return len([info for info in infos if info["opened"] is not None])


class Site:
    """The database; `connection` and `root` belong to the test's thread.

    `close` stops the dispatchers that were started here, and fails when threads or
    connections are left over.
    """

    def __init__(
        self, storage=None, queue_names=("",), size=3, threads=None, **options
    ):
        configure.base(uuid.uuid4())
        zope.component.provideHandler(
            AgentInstaller("main", size=size, threads=threads)
        )
        self.db = DB(DemoStorage() if storage is None else storage, **options)
        self.dispatchers = []
        if queue_names is not None:
            QueueInstaller(queue_names)(DatabaseOpened(self.db))
        transaction.abort()
        self.connection = self.db.open()

    @property
    def root(self):
        return self.connection.root()

    @property
    def queues(self):
        return self.root[KEY]

    @property
    def queue(self):
        return self.queues[""]

    def sync(self):
        """Begin a transaction that sees the present."""
        transaction.abort()
        transaction.begin()

    def put(self, *args, quota_names=(), queue_name="", **options):
        """Put a call, and commit; return the job.  `options` are those of `put`."""
        self.sync()
        job = args[0] if isinstance(args[0], Job) else Job(*args)
        job.quota_names = quota_names
        self.queues[queue_name].put(job, **options)
        transaction.commit()
        return job

    def dispatcher(self, start=True, **options):
        """A dispatcher, activated in the queue unless told otherwise."""
        options.setdefault("poll_interval", 60)
        options.setdefault("uuid", uuid.uuid4())
        options.setdefault("grace", 5)
        made = dispatcher.Dispatcher(options.pop("db", self.db), **options)
        self.dispatchers.append(made)
        if start:
            self.start(made)
        return made

    def start(self, made, seconds=PATIENCE):
        """Start a dispatcher, and wait until it claims."""
        made.start()
        self.wait_until(lambda: self.is_activated(made), "activation", seconds)
        self.wait_until(
            lambda: made.getStatusInfo()["status"] == "RUNNING", "the first poll"
        )

    def is_activated(self, made, queue_name=""):
        agents = self.queues[queue_name].dispatchers.get(made.UUID)
        return agents is not None and agents.activated is not None

    def agents(self, made, queue_name=""):
        """What the queue knows of a dispatcher."""
        return self.queues[queue_name].dispatchers[made.UUID]

    def agent(self, made, queue_name=""):
        return self.agents(made, queue_name)["main"]

    def wait_until(self, test, what, seconds=PATIENCE):
        """Like the function, but looks in new transactions, after each commit."""

        def look():
            self.sync()
            return test()

        with woken_by(self.db) as signal:
            return wait_until(look, what, seconds, signal)

    def wait(self, *jobs, seconds=PATIENCE):
        """Wait for jobs to be completed; return the result, or the results."""
        for job in jobs:
            self.wait_until(
                lambda job=job: job.status == COMPLETED,
                lambda job=job: f"{job!r}, which is {job.status}",
                seconds,
            )
        return jobs[0].result if len(jobs) == 1 else [job.result for job in jobs]

    def close(self):
        """Stop everything; fail when something is left over."""
        open_all()
        for made in self.dispatchers:
            made.stop()
            if dispatcher.get(made.UUID) is made:
                dispatcher.pop(made.UUID)
        transaction.abort()
        self.connection.close()
        try:
            wait_until(lambda: not runtime_threads(), "threads to end", 6)
            wait_until(lambda: not open_connections(self.db), "connections to close", 6)
        finally:
            self.db.close()
