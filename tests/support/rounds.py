# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Rounds in the thread of the test: what a worker does, without one.

Jobs are put, claimed and begun by hand and given to a performer.  What they call
has to be found by name, so it is here too.
"""

import transaction

from zc.async_ import clock
from zc.async_.agent import Agent
from zc.async_.durations import Durations
from zc.async_.job import Job
from zc.async_.membership import DispatcherAgents
from zc.async_.performer import Batch, Performer, Ticket
from zc.async_.records import Records

from .jobs import CALLS, JobsCase


class NoDispatcher:
    """What a performer asks of a dispatcher."""

    def __init__(self):
        self.durations = Durations()
        self.records = Records()
        self.loops = self
        self.awaited = []

    def watch(self, awaited, resume):
        """As a dispatcher's loops do, but nobody waits."""
        self.awaited.append((awaited, resume))

    def resume(self, ticket):
        raise AssertionError(f"nothing was awaited, found {ticket}")


class RoundsCase(JobsCase):
    """`perform` has jobs performed in one round, and then what that leaves.

    `outcomes` is what became of them, by the ids of their objects.
    """

    def setUp(self):
        super().setUp()
        self.dispatcher = NoDispatcher()
        self.performer = Performer(self.dispatcher, self.dispatcher.records)
        queue = self.make_queue()
        queue.dispatchers["worker"] = agents = DispatcherAgents("worker")
        agents.activated = clock.utcnow()
        self.agent = agents["main"] = Agent(size=1000)
        transaction.commit()
        self.outcomes = {}

    @property
    def durations(self):
        return self.dispatcher.durations

    @property
    def records(self):
        return self.dispatcher.records

    def claimed(self, *jobs):
        """Put these, have them claimed and begun; return the tickets."""
        for job in jobs:
            if job.parent is None:
                self.queue.put(job)
        transaction.commit()
        self.agent.claim_some(len(jobs))
        keys = {job._p_oid: key for key, job in self.agent.active_items()}
        tickets = []
        for job in jobs:
            token = job._begin(clock.micros(clock.utcnow()))
            tickets.append(
                Ticket(
                    job._p_oid, self.db.database_name, token, keys[job._p_oid],
                    "", "main", job.quota_names, type(job),
                )
            )  # fmt: skip
        transaction.commit()
        return tickets

    def batch(self, *jobs, seconds=60.0):
        """A batch of these, claimed and begun."""
        return Batch(self.claimed(*jobs), seconds)

    def round(self, *jobs, seconds=60.0):
        """Perform one round; return what is done and what remains."""
        return self.perform_batch(self.batch(*jobs, seconds=seconds))

    def perform_batch(self, batch):
        done = self.performer.perform_batch(batch, self.connection)
        for ticket, outcome in done.outcomes:
            assert ticket.oid not in self.outcomes, "an outcome for each, once"
            self.outcomes[ticket.oid] = outcome
        transaction.begin()
        return done

    def perform(self, *jobs, seconds=60.0):
        """Perform these to their ends; return how many performances that took."""
        batches = [self.batch(*jobs, seconds=seconds)]
        count = 0
        while batches:
            batch = batches.pop(0)
            count += 1
            done = self.perform_batch(batch)
            batches.extend(done.again)
            if done.rest:
                batches.append(batch._replace(tickets=list(done.rest)))
        return count

    def counting_commits(self):
        """A context manager whose `count` is the number of commits within."""
        return _Commits(self.db.storage)


class _Commits:
    """See `RoundsCase.counting_commits`."""

    def __init__(self, storage):
        self.storage = storage
        self.count = 0

    def __enter__(self):
        self._finish = self.storage.tpc_finish

        def finish(*args, **kw):
            self.count += 1
            return self._finish(*args, **kw)

        self.storage.tpc_finish = finish
        return self

    def __exit__(self, *error):
        self.storage.tpc_finish = self._finish


def jobs_of(function, count, *args):
    return [Job(function, *args) for _ in range(count)]


class Manager:
    """A data manager that cannot undo a part of a transaction.

    `log` tells what was asked of it.
    """

    def __init__(self, log, fails=False):
        self.transaction_manager = transaction.manager
        self.log = log
        self.fails = fails

    def sortKey(self):
        return "~rounds"

    def abort(self, transaction):
        self.log.append("abort")

    def tpc_begin(self, transaction):
        self.log.append("begin")

    def commit(self, transaction):
        pass

    def tpc_vote(self, transaction):
        if self.fails:
            raise RuntimeError("refused to vote")

    def tpc_finish(self, transaction):
        self.log.append("finish")

    def tpc_abort(self, transaction):
        self.log.append("abort")


class UndoingManager(Manager):
    """One that can: it has savepoints."""

    def savepoint(self):
        manager, length = self, len(self.log)

        class Savepoint:
            def rollback(self):
                del manager.log[length:]

        return Savepoint()


class StubbornManager(Manager):
    """One that says that it can undo, and does not."""

    def savepoint(self):
        return self

    def rollback(self):
        raise RuntimeError("no way back")


def note_and_join(manager_class, name, fails=False):
    """Call with a data manager; what that is asked is in `CALLS`."""
    transaction.get().join(manager_class(CALLS, fails))
    CALLS.append(name)
    return name
