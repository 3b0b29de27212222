# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Whatever jobs do, they end as they do when each is performed alone.

Histories of jobs are generated, and performed twice: in rounds of random lengths
and budgets, and each by itself.  What is in the database afterwards, and what
data managers and hooks have done, is the same.  One thread, no clocks.
"""

import asyncio
import collections

import transaction
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from persistent import Persistent
from transaction.interfaces import TransientError
from ZODB.POSException import ConflictError

from tests.support.rounds import RoundsCase
from zc.async_ import local
from zc.async_.failure import is_failure
from zc.async_.interfaces import COMPLETED
from zc.async_.job import Job
from zc.async_.performer import NOTHING, Batch
from zc.async_.retry import NeverRetry, RetryWithBackoff
from zc.async_.shared import may_share

#: What happened outside of the database, for good: (number, what) -> how often.
OUTSIDE: collections.Counter = collections.Counter()

#: (number, what) of things that happen only once.
ONCE: set = set()


def first_time(number, what):
    """Whether this did not happen before, in another attempt for instance."""
    found = (number, what) not in ONCE
    ONCE.add((number, what))
    return found


class Effect(Persistent):
    """What one job has done."""

    count = 0

    def happen(self, value=1):
        self.count += value


class Outside:
    """A data manager for something outside of the database."""

    transaction_manager = transaction.manager

    def __init__(self, number, refuses=False):
        self.number = number
        self.refuses = refuses
        self.pending = 1

    def sortKey(self):
        return f"~{self.number}"

    def abort(self, transaction):
        self.pending = 0

    def tpc_begin(self, transaction):
        pass

    def commit(self, transaction):
        pass

    def tpc_vote(self, transaction):
        if self.refuses:
            raise RuntimeError("refused")

    def tpc_finish(self, transaction):
        OUTSIDE[self.number, "outside"] += self.pending

    def tpc_abort(self, transaction):
        self.pending = 0


class Undoing(Outside):
    def savepoint(self):
        return self

    def rollback(self):
        """Nothing was done after a savepoint."""


def join(manager):
    transaction.get().join(manager)


def change_elsewhere(obj, value):
    """Change an effect in another transaction, and commit that."""
    manager = transaction.TransactionManager()
    connection = obj._p_jar.db().open(manager)
    connection.get(obj._p_oid).happen(value)
    manager.commit()
    connection.close()


# What jobs do: `number` tells one from the other, `effect` is theirs.


def succeed(number, effect, shared):
    effect.happen()
    return number


def change_what_others_change(number, effect, shared):
    shared.happen()


def fail(number, effect, shared):
    effect.happen()
    shared.happen()
    raise LookupError(f"job {number}")


def end_the_thread(number, effect, shared):
    effect.happen()
    raise SystemExit(number)


def conflict(number, effect, shared):
    """The commit fails, once."""
    effect.happen()
    if first_time(number, "conflict"):
        change_elsewhere(effect, 100)
    return number


def raise_a_conflict(number, effect, shared):
    effect.happen()
    if first_time(number, "raise"):
        raise ConflictError
    return number


def conflict_for_ever(number, effect, shared):
    effect.happen()
    raise TransientError(number)


def commit(number, effect, shared):
    effect.happen()
    transaction.commit()
    effect.happen(10)
    return number


def commit_and_fail(number, effect, shared):
    commit(number, effect, shared)
    raise LookupError(f"job {number}")


def abort(number, effect, shared):
    effect.happen()
    transaction.abort()
    effect.happen(10)
    return number


def abort_and_fail(number, effect, shared):
    abort(number, effect, shared)
    raise LookupError(f"job {number}")


def begin(number, effect, shared):
    effect.happen()
    transaction.begin()
    effect.happen(10)


def doom(number, effect, shared):
    effect.happen()
    transaction.doom()


def publish(number, effect, shared):
    """Commit by itself, again after a conflict."""
    for _ in range(2):
        effect.happen()
        if first_time(number, "publish"):
            change_elsewhere(effect, 100)
        try:
            transaction.commit()
        except ConflictError:
            transaction.abort()
        else:
            return number


def ignore_a_failed_commit(number, effect, shared):
    effect.happen()
    join(Outside(number, refuses=True))
    try:
        transaction.commit()
    except RuntimeError:
        return number


def use_savepoints(number, effect, shared):
    effect.happen()
    savepoint = transaction.savepoint(optimistic=True)
    effect.happen(10)
    savepoint.rollback()
    return number


def go_outside(number, effect, shared):
    effect.happen()
    join(Outside(number))


def go_outside_and_fail(number, effect, shared):
    join(Outside(number))
    raise LookupError(f"job {number}")


def go_outside_with_savepoints(number, effect, shared):
    effect.happen()
    join(Undoing(number))


def be_refused_outside(number, effect, shared):
    effect.happen()
    join(Outside(number, refuses=True))


def add_a_hook(number, effect, shared):
    transaction.get().addAfterCommitHook(happen_outside, (number,))
    return number


def add_a_hook_and_fail(number, effect, shared):
    add_a_hook(number, effect, shared)
    raise LookupError(f"job {number}")


def happen_outside(succeeded, number):
    OUTSIDE[number, "hook"] += succeeded


def put(number, effect, shared):
    effect.happen()
    local.getQueue().put(Job(succeed, number, effect, shared))


def put_and_fail(number, effect, shared):
    put(number, effect, shared)
    raise LookupError(f"job {number}")


def return_a_job(number, effect, shared):
    effect.happen()
    return local.getQueue().put(Job(succeed, number, effect, shared))


def return_a_failing_job(number, effect, shared):
    effect.happen()
    return local.getQueue().put(Job(fail, number, effect, shared))


async def await_something(number, effect, shared):
    return number


def return_what_cannot_be_stored(number, effect, shared):
    effect.happen()
    return lambda: number


def spoil(number, effect, shared):
    effect.count = lambda: number


def call_a_job(number, effect, shared):
    """Perform another one, by hand: with commits."""
    effect.happen()
    other = effect.other = Job(succeed, number, effect, shared)
    transaction.savepoint(optimistic=True)
    return other()


KINDS = (
    succeed, change_what_others_change, fail, end_the_thread, conflict,
    raise_a_conflict, conflict_for_ever, commit, commit_and_fail, abort,
    abort_and_fail, begin, doom, publish, ignore_a_failed_commit, use_savepoints,
    go_outside, go_outside_and_fail, go_outside_with_savepoints, be_refused_outside,
    add_a_hook, add_a_hook_and_fail, put, put_and_fail, return_a_job,
    return_a_failing_job, await_something, return_what_cannot_be_stored, spoil,
    call_a_job,
)  # fmt: skip

#: What can be added to a job.
EXTRAS = ("", "callback", "failing callback", "later", "never", "alone")

histories = st.lists(
    st.tuples(st.sampled_from(KINDS), st.sampled_from(EXTRAS)), min_size=1, max_size=10
)
#: Lengths of rounds, used one after the other, and again.
lengths = st.lists(st.integers(1, 8), min_size=1, max_size=4)
#: Their budgets: none, so that a round ends after each call, or enough.
budgets = st.lists(st.sampled_from((-1.0, 60.0, 60.0)), min_size=1, max_size=3)


class Performed(RoundsCase):
    """One database in which a history is performed."""

    def __init__(self, history, lengths=(1,), budgets=(60.0,)):
        super().__init__()
        self.history = history
        self.lengths, self.budgets = lengths, budgets
        self.rounds = 0

    def found(self):
        """Perform the history; return what is there afterwards, as plain data."""
        ONCE.clear()
        OUTSIDE.clear()
        self.setUp()
        try:
            self.fill()
            self.drain()
            return self.snapshot()
        finally:
            transaction.abort()
            self.doCleanups()

    def fill(self):
        self.shared = self.root["shared"] = Effect()
        self.effects = self.root["effects"] = [Effect() for _ in self.history]
        self.jobs = self.root["jobs"] = [
            self.make(number, *one) for number, one in enumerate(self.history)
        ]
        transaction.commit()

    def make(self, number, kind, extra):
        job = Job(kind, number, self.effects[number], self.shared)
        if "callback" in extra:
            function = fail if extra.startswith("failing") else succeed
            job.addCallback(Job(as_callback, function, number, self.effects[number]))
        if extra == "later":
            job.retry_policy_factory = RetryWithBackoff
        if extra == "never":
            job.retry_policy_factory = NeverRetry
        job.alone = extra == "alone"
        return job

    def drain(self):
        self.perform_all(self.jobs)
        while jobs := self.due():
            self.perform_all(jobs)

    def due(self):
        transaction.begin()
        return [job for job in self.queue if job.retry_policy_factory is None]

    def perform_all(self, jobs):
        sharing = [job for job in jobs if may_share(job)]
        tickets = self.claimed(*jobs)
        batches = collections.deque(self.batches(jobs, tickets, sharing))
        while batches:
            batch = batches.popleft()
            done = self.performer.perform_batch(batch, self.connection)
            transaction.begin()
            batches.extend(done.again)
            if done.rest:
                batches.append(batch._replace(tickets=list(done.rest)))
            self.resume()

    def batches(self, jobs, tickets, sharing):
        """Neighbours that may share, as long as the next length says."""
        batch = None
        for job, ticket in zip(jobs, tickets, strict=True):
            if job not in sharing:
                yield Batch([ticket], 60.0)
            elif batch is None:
                batch = Batch([ticket], self.budgets[self.rounds % len(self.budgets)])
            else:
                batch.tickets.append(ticket)
            if batch and len(batch.tickets) >= self.length():
                self.rounds += 1
                yield batch
                batch = None
        if batch:
            yield batch

    def length(self):
        return self.lengths[self.rounds % len(self.lengths)]

    def resume(self):
        """Give jobs the values that they await."""
        while self.dispatcher.awaited:
            awaited, resume = self.dispatcher.awaited.pop()
            tickets = []
            self.dispatcher.resume = tickets.append
            resume(asyncio.run(awaited))
            assert tickets[0].value is not NOTHING
            self.performer.perform_batch(Batch(tickets), self.connection)
            transaction.begin()

    def snapshot(self):
        transaction.begin()
        return {
            "jobs": [described(job) for job in self.jobs],
            "effects": [effect.count for effect in self.effects],
            "shared": self.shared.count,
            "waiting": sorted(described(job) for job in self.queue),
            "outside": {what: count for what, count in OUTSIDE.items() if count},
            "held": sorted(
                described(job) for job in self.agent if job.status != COMPLETED
            ),
        }


def as_callback(function, number, effect, result):
    function(number, effect, Effect())
    return outcome(result)


def outcome(result):
    if is_failure(result):
        return result.type.__name__
    return result


def described(job):
    kind = getattr(job.callable, "__name__", None)
    history = f"{job.attempts} attempts, {job.retry_data}"
    if kind in ("conflict", "raise_a_conflict"):
        history = "one or two attempts"  # one that was lost with a round is not counted
    return (
        str(kind), job.status, str(outcome(job.result)), history, job.interruptions,
        tuple((one.status, str(outcome(one.result))) for one in job.callbacks),
    )  # fmt: skip


def every_kind(extra):
    return [(kind, extra) for kind in KINDS]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
@given(histories, lengths, budgets)
@example(every_kind(""), [100], [60.0])
@example(every_kind("callback"), [100], [60.0])
@example(every_kind("later")[::-1], [4], [60.0])
@example(every_kind("failing callback")[::-1], [7, 3], [60.0, -1.0])
def test_jobs_end_in_rounds_as_they_end_alone(history, lengths, budgets):
    together = Performed(history, lengths, budgets).found()
    alone = Performed(history).found()
    assert together == alone


def test_the_histories_are_performed_in_rounds():
    performed = Performed([(succeed, "")] * 6, [3])
    performed.found()
    assert performed.rounds == 2
