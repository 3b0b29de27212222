# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Rounds, performed in the thread of the test: see `tests.support.rounds`.

A number of performances tells whether jobs shared: one for a round, one more for
each job that had to be performed alone.
"""

import datetime
import functools
import warnings
from unittest import mock

import transaction
from ZODB.POSException import ConflictError

from tests.support.jobs import CALLS, Counter, answer, fail, multiply, note
from tests.support.rounds import (
    Manager,
    RoundsCase,
    StubbornManager,
    UndoingManager,
    jobs_of,
    note_and_join,
)
from zc.async_ import clock, local
from zc.async_.failure import is_failure
from zc.async_.interfaces import ACTIVE, COMPLETED, PENDING
from zc.async_.job import Job
from zc.async_.performer import AWAITS, BACK, BROKEN, DONE, LOST, WAITS
from zc.async_.retry import RetryCommonFourTimes, RetryWithBackoff
from zc.async_.rounds import Round

MOVING = clock.MovableClock()

# What jobs call.


def who_am_i():
    job = local.getJob()
    CALLS.append(job._p_oid)
    return repr(job)


def change_elsewhere(counter):
    """Change `counter` in a transaction of another's, and commit it."""
    manager = transaction.TransactionManager()
    connection = counter._p_jar.db().open(manager)
    connection.get(counter._p_oid).increase(100)
    manager.commit()
    connection.close()


def conflict_at_first(counter):
    """Conflict when called for the first time."""
    CALLS.append("conflict")
    counter.increase()
    if CALLS.count("conflict") == 1:
        change_elsewhere(counter)


def raise_conflict_at_first():
    CALLS.append("raise")
    if CALLS.count("raise") == 1:
        raise ConflictError


def commit(counter):
    counter.increase()
    transaction.commit()
    counter.increase(10)


def commit_and_fail(counter):
    commit(counter)
    raise RuntimeError("after a commit")


def commit_twice(counter):
    commit(counter)
    transaction.commit()


def abort(counter):
    CALLS.append("abort")
    counter.increase()
    transaction.abort()
    counter.increase(10)


def begin(counter):
    counter.increase()
    transaction.begin()
    counter.increase(10)


def abort_and_fail(counter):
    abort(counter)
    raise RuntimeError("after an abort")


def doom(counter):
    counter.increase()
    transaction.doom()


def doom_and_fail(counter):
    doom(counter)
    raise RuntimeError("after a doom")


def publish(counter):
    """What a publisher does: try, and once more after a conflict."""
    CALLS.append("publish")
    for _ in range(2):
        try:
            counter.increase()
            if CALLS.count("conflicting") < 1:
                CALLS.append("conflicting")
                change_elsewhere(counter)
            transaction.commit()
            return "published"
        except ConflictError:
            transaction.abort()


def leave_it_failed(counter):
    """Catch the error of a commit, and do nothing about it."""
    counter.increase()
    change_elsewhere(counter)
    try:
        transaction.commit()
    except ConflictError:
        return "all is well"


def refuse():
    raise RuntimeError("a hook refuses")


def catch_what_a_hook_raises(counter):
    """The transaction stays as it is, but its hooks are gone."""
    counter.increase()
    transaction.get().addBeforeCommitHook(refuse)
    try:
        transaction.commit()
    except RuntimeError:
        return "caught"


def hook(succeeded, what):
    CALLS.append((what, succeeded))


def add_hook_and_fail():
    CALLS.append("add hook")
    transaction.get().addAfterCommitHook(hook, ("hook of a failure",))
    raise RuntimeError("after adding a hook")


def add_hook():
    transaction.get().addAfterCommitHook(hook, ("hook",))


def describe(text):
    transaction.get().note(text)
    transaction.get().setUser(text)
    transaction.get().setExtendedInfo(text, 1)


def describe_and_fail(text):
    describe(text)
    raise RuntimeError("after a note")


def exit_by_force():
    raise SystemExit("ending the thread")


class Budget:
    """The clock that the budget of a round goes by."""

    now = 0.0


def wait(seconds):
    """Take long, by that clock."""
    CALLS.append("wait")
    Budget.now += seconds


def advance(seconds):
    """Take long, by the clock of the package."""
    MOVING.advance(datetime.timedelta(seconds=seconds))


def put_another():
    local.getQueue().put(answer)


def put_and_fail():
    put_another()
    raise RuntimeError("after a put")


def add_callback_to(job):
    job.addCallback(note)


def join_and_fail(manager_class):
    transaction.get().join(manager_class(CALLS))
    raise RuntimeError("after joining")


def use_savepoint():
    transaction.savepoint().rollback()
    return "rolled back"


def spoil(counter):
    """Change it into something that cannot be stored."""
    counter.count = lambda: None


def take_away(job):
    """As another process does that believes that this one is dead."""
    if "taken" not in CALLS:
        CALLS.append("taken")
        manager = transaction.TransactionManager()
        connection = job._p_jar.db().open(manager)
        connection.get(job._p_oid)._active_start += 1
        manager.commit()
        connection.close()


def take_over_the_rest():
    """As another thread does when a round takes long."""
    round = local.surroundings.observer.round
    CALLS.append(len(round.take_over()))


def give_up_at_once(job):
    return RetryWithBackoff(job, max_tries=1)


give_up_at_once.may_repeat = True


class Furious(RetryCommonFourTimes):
    def jobError(self, failure, data_cache):
        raise ValueError("a policy's own error")


async def coroutine():
    return 42


def unstorable():
    return functools.partial(lambda: None)


class Surrounded(Job):
    """Jobs with surroundings that they can share."""

    where = "here"

    def setUp(self):
        CALLS.append(("set up", self.where, local.getJob()._p_oid == self._p_oid))
        return "info"

    def tearDown(self, info):
        CALLS.append(("tear down", info, transaction.get().status))

    def surroundings(self):
        return (self.where,)


class BadlySurrounded(Surrounded):
    def setUp(self):
        raise LookupError("the user is gone")


class EndingSurroundings(Surrounded):
    def setUp(self):
        transaction.abort()
        transaction.begin()


def status_of(job, result):
    CALLS.append(("callback", job.status))


class RoundsTest(RoundsCase):
    """What a round is when all goes well."""

    def test_jobs_of_a_round_are_completed_by_one_commit(self):
        jobs = [Job(multiply, 6, 7), Job(multiply, 3, 4), Job(note, "x")]
        batch = self.batch(*jobs)
        with self.counting_commits() as commits:
            done = self.perform_batch(batch)
        self.assertEqual(commits.count, 1)
        self.assertEqual([job.result for job in jobs], [42, 12, "x"])
        self.assertEqual({job.status for job in jobs}, {COMPLETED})
        self.assertEqual([outcome for _, outcome in done.outcomes], [DONE] * 3)
        self.assertEqual((list(done.again), list(done.rest)), ([], []))

    def test_what_they_change_is_in_that_commit(self):
        counter = self.root["counter"] = Counter()
        self.round(*[Job(counter.increase) for _ in range(5)])
        self.assertEqual(counter.count, 5)
        there = self.new_connection().root()["counter"]
        self.assertEqual(there.count, 5)

    def test_they_are_called_in_order_and_see_what_the_earlier_ones_did(self):
        counter = self.root["counter"] = Counter()
        jobs = [Job(counter.increase) for _ in range(4)]
        self.round(*jobs)
        self.assertEqual([job.result for job in jobs], [1, 2, 3, 4])

    def test_each_has_begun_once(self):
        jobs = jobs_of(answer, 3)
        self.round(*jobs)
        self.assertEqual([job.attempts for job in jobs], [1, 1, 1])
        self.assertEqual([job.interruptions for job in jobs], [0, 0, 0])

    def test_each_sees_itself_as_the_job_that_is_performed(self):
        jobs = jobs_of(who_am_i, 3)
        self.round(*jobs)
        self.assertEqual(CALLS, [job._p_oid for job in jobs])
        self.assertIsNone(local.getJob())

    def test_a_job_ends_when_its_call_ends_and_not_with_the_commit(self):
        clock.install(MOVING)
        self.addCleanup(clock.uninstall)
        jobs = [Job(advance, 1), Job(advance, 2)]
        before = clock.utcnow()
        self.round(*jobs)
        ends = [(job.active_end - before).total_seconds() for job in jobs]
        self.assertEqual(ends, [1, 3])

    def test_one_ticket_is_performed_without_a_round(self):
        job = Job(answer)
        self.round(job)
        self.assertEqual(job.result, 42)
        self.assertNotIn("round", self.info(job))

    def test_records_tell_which_round_it_was(self):
        jobs, others = jobs_of(answer, 2), jobs_of(answer, 2)
        self.round(*jobs)
        self.round(*others)
        first, second = (self.info(job)["round"] for job in jobs)
        self.assertEqual(first, second)
        self.assertNotEqual(first, self.info(others[0])["round"])

    def info(self, job):
        return self.records.getJobInfo(
            int.from_bytes(job._p_oid, "big"), self.db.database_name
        )

    def test_the_rest_of_a_batch_is_a_round_of_its_own(self):
        jobs = jobs_of(answer, 2)
        batch = self.batch(*jobs, seconds=-1)
        done = self.perform_batch(batch)
        self.perform_batch(batch._replace(tickets=[*done.rest]))
        self.assertNotIn("round", self.info(jobs[1]))
        self.assertEqual([job.result for job in jobs], [42, 42])

    def test_jobs_that_a_job_puts_wait_when_the_round_is_over(self):
        jobs = jobs_of(put_another, 3)
        self.round(*jobs)
        self.assertEqual(len(self.queue), 3)
        self.assertEqual({job.status for job in self.queue}, {PENDING})

    def test_callbacks_are_performed_after_the_commit(self):
        jobs = jobs_of(answer, 3)
        callbacks = [job.addCallback(note) for job in jobs]
        seen = jobs[2].addCallback(Job(status_of, jobs[0]))
        self.assertEqual(self.perform(*jobs), 1)
        self.assertEqual([one.result for one in callbacks], [42, 42, 42])
        self.assertEqual(seen.status, COMPLETED)
        self.assertIn(("callback", COMPLETED), CALLS)
        self.assertEqual({job.status for job in jobs}, {COMPLETED})

    def test_the_whole_round_is_committed_before_the_first_callback(self):
        jobs = jobs_of(answer, 2)
        jobs[0].addCallback(Job(status_of, jobs[1]))
        self.perform(*jobs)
        self.assertEqual(CALLS, ["answer", "answer", ("callback", COMPLETED)])

    def test_a_callback_that_fails_stops_nobody(self):
        jobs = jobs_of(answer, 2)
        failing = jobs[0].addCallback(fail)
        self.perform(*jobs)
        self.assertTrue(is_failure(failing.result))
        self.assertEqual({job.status for job in jobs}, {COMPLETED})

    def test_a_job_that_another_job_of_the_round_gives_a_callback_performs_it(self):
        first = Job(answer)
        jobs = [first, Job(add_callback_to, first)]
        self.perform(*jobs)
        self.assertEqual(first.callbacks[0].result, 42)
        self.assertEqual(first.status, COMPLETED)

    def test_a_returned_job_is_waited_for(self):
        inner = Job(answer)
        outer = Job(note, inner)
        jobs = [outer, Job(answer)]
        batch = self.batch(*jobs)
        self.queue.put(inner)
        self.perform_batch(batch)
        self.assertEqual(outer.status, ACTIVE)
        self.assertTrue(outer.waiting)
        self.assertEqual(self.outcomes[outer._p_oid], WAITS)
        self.assertEqual(self.outcomes[jobs[1]._p_oid], DONE)

    def test_a_returned_job_of_the_same_round_gives_its_result_at_once(self):
        inner = Job(answer)
        outer = Job(note, inner)
        self.perform(inner, outer)
        self.assertEqual((inner.result, outer.result), (42, 42))

    def test_a_returned_job_that_comes_later_in_the_round_gives_its_result(self):
        inner = Job(answer)
        outer = Job(note, inner)
        self.perform(outer, inner)
        self.assertEqual((inner.result, outer.result), (42, 42))
        self.assertEqual(outer.status, COMPLETED)

    def test_what_is_awaited_is_awaited_after_the_commit(self):
        job = Job(coroutine)
        self.round(job, Job(answer))
        self.assertEqual(self.outcomes[job._p_oid], AWAITS)
        self.assertEqual(job.status, ACTIVE)
        [(awaited, _)] = self.dispatcher.awaited
        awaited.close()


class TimeTest(RoundsCase):
    """The budget."""

    def setUp(self):
        super().setUp()
        Budget.now = 0.0
        patcher = mock.patch("zc.async.rounds.time.monotonic", lambda: Budget.now)
        patcher.start()
        self.addCleanup(patcher.stop)

    def test_after_the_budget_the_round_commits_and_leaves_the_rest(self):
        jobs = jobs_of(wait, 6, 0.008)
        done = self.round(*jobs, seconds=0.02)
        self.assertEqual(CALLS, ["wait"] * 3)
        self.assertEqual([job.status for job in jobs], [COMPLETED] * 3 + [ACTIVE] * 3)
        self.assertEqual([one.oid for one in done.rest], [j._p_oid for j in jobs[3:]])

    def test_all_are_performed_within_the_budget(self):
        jobs = jobs_of(wait, 6, 0.001)
        self.assertEqual(self.perform(*jobs, seconds=0.02), 1)

    def test_each_round_has_the_whole_budget(self):
        jobs = jobs_of(wait, 9, 0.008)
        self.assertEqual(self.perform(*jobs, seconds=0.02), 3)
        self.assertEqual({job.status for job in jobs}, {COMPLETED})


class FailureTest(RoundsCase):
    """Jobs that fail among others."""

    def test_a_failing_job_is_undone_and_its_neighbours_do_not_notice(self):
        first, second = Counter(), Counter()
        self.root["counters"] = [first, second]
        failing = Job(second.increase_and_fail)
        jobs = [Job(first.increase), failing, Job(second.increase, 5)]
        batch = self.batch(*jobs)
        with self.counting_commits() as commits:
            self.perform_batch(batch)
        self.assertEqual(commits.count, 1)
        self.assertTrue(failing.result.check(RuntimeError))
        self.assertEqual((first.count, second.count), (1, 5))
        self.assertEqual([job.status for job in jobs], [COMPLETED] * 3)
        self.assertEqual(failing.attempts, 1)

    def test_it_is_called_once(self):
        self.round(Job(answer), Job(fail), Job(answer))
        self.assertEqual(CALLS, ["answer", ("fail",), "answer"])

    def test_a_failure_may_come_first_or_last_or_be_all_there_is(self):
        jobs = [Job(fail), Job(answer), Job(fail)]
        self.assertEqual(self.perform(*jobs), 1)
        self.assertEqual([is_failure(job.result) for job in jobs], [True, False, True])

    def test_what_it_put_is_not_in_the_queue(self):
        self.round(Job(put_and_fail), Job(put_another))
        self.assertEqual(len(self.queue), 1)

    def test_its_callbacks_get_the_failure(self):
        job = Job(fail)
        callback = job.addCallback(note)
        self.perform(Job(answer), job)
        self.assertTrue(callback.result.check(RuntimeError))

    def test_an_exit_is_a_failure_and_does_not_end_the_thread(self):
        job = Job(exit_by_force)
        self.assertEqual(self.perform(Job(answer), job, Job(answer)), 1)
        self.assertTrue(job.result.check(SystemExit))

    def test_a_hook_that_a_failing_job_added_is_not_called(self):
        jobs = [Job(answer), Job(add_hook_and_fail), Job(add_hook)]
        self.perform(*jobs)
        self.assertTrue(is_failure(jobs[1].result))
        hooks = [call for call in CALLS if isinstance(call, tuple)]
        self.assertEqual(hooks, [("hook", True)])
        self.assertEqual(jobs[0].result, 42)

    def test_hooks_of_jobs_that_succeed_are_called_once(self):
        self.assertEqual(self.perform(*jobs_of(add_hook, 3), Job(fail)), 1)
        self.assertEqual(CALLS.count(("hook", True)), 3)

    def test_its_description_of_the_transaction_is_gone(self):
        self.round(Job(describe, "good"), Job(describe_and_fail, "bad"), Job(answer))
        *_, last = self.db.storage.iterator()
        self.assertEqual(last.description, b"good")
        self.assertEqual(last.user, b"/ good")
        self.assertEqual(last.extension, {"good": 1})

    def test_a_policy_that_retries_at_once_is_heard(self):
        job = Job(raise_conflict_at_first)
        self.assertEqual(self.perform(Job(answer), job), 1)
        self.assertFalse(is_failure(job.result))
        self.assertEqual(CALLS, ["answer", "raise", "raise"])
        self.assertEqual(job.attempts, 2)

    def test_a_policy_that_retries_later_is_heard_without_another_call(self):
        job = Job(fail)
        job.retry_policy_factory = RetryWithBackoff
        neighbour = Job(answer)
        self.perform(job, neighbour)
        self.assertEqual(CALLS, [("fail",), "answer"])
        self.assertEqual(job.status, PENDING)
        self.assertIs(self.queue[0], job)
        self.assertEqual(job.retry_data, {"errors": 1})
        self.assertEqual(self.outcomes[job._p_oid], BACK)
        self.assertEqual(neighbour.status, COMPLETED)

    def test_what_a_policy_remembers_of_a_last_failure_is_stored(self):
        job = Job(fail)
        job.retry_policy_factory = give_up_at_once
        self.perform(job, Job(answer))
        self.assertTrue(is_failure(job.result))
        self.assertEqual(job.retry_data, {"errors": 1})

    def test_a_policy_that_fails_makes_a_failure(self):
        job = Job(fail)
        job.retry_policy_factory = Furious
        self.perform(Job(answer), job)
        self.assertTrue(job.result.check(RuntimeError))

    def test_data_managers_that_can_undo_do_it(self):
        jobs = [
            Job(note_and_join, UndoingManager, "first"),
            Job(join_and_fail, UndoingManager),
            Job(answer),
        ]
        self.assertEqual(self.perform(*jobs), 1)
        self.assertEqual(CALLS.count("finish"), 1)
        self.assertEqual(jobs[0].result, "first")
        self.assertTrue(is_failure(jobs[1].result))

    def test_a_data_manager_without_savepoints_ends_the_round(self):
        jobs = [Job(answer), Job(note_and_join, Manager, "first"), Job(fail)]
        self.assertEqual(self.perform(*jobs), 2)
        self.assertEqual(CALLS, ["answer", "first", "begin", "finish", ("fail",)])
        self.assertEqual([job.attempts for job in jobs], [1, 1, 1])

    def test_so_later_jobs_can_use_savepoints(self):
        jobs = [Job(note_and_join, Manager, "first"), Job(use_savepoint)]
        self.perform(*jobs)
        self.assertEqual(jobs[1].result, "rolled back")

    def test_without_a_way_back_each_is_performed_alone(self):
        jobs = [Job(note_and_join, StubbornManager, "first"), Job(fail), Job(answer)]
        self.assertEqual(self.perform(*jobs), 4)
        self.assertEqual(CALLS.count("finish"), 1)
        self.assertEqual(CALLS.count("first"), 2)
        self.assertEqual([is_failure(job.result) for job in jobs], [False, True, False])
        self.assertEqual([job.attempts for job in jobs], [1, 1, 1])

    def test_a_failing_job_takes_its_own_data_manager_with_it(self):
        jobs = [Job(answer), Job(join_and_fail, Manager), Job(answer)]
        self.assertEqual(self.perform(*jobs), 1)
        self.assertEqual(CALLS, ["answer", "abort", "answer"])

    def test_a_data_manager_is_not_aborted_after_a_commit(self):
        self.round(Job(answer), Job(note_and_join, Manager, "x"))
        self.assertEqual(CALLS, ["answer", "x", "begin", "finish"])


class BreakUpTest(RoundsCase):
    """Commits that fail."""

    def setUp(self):
        super().setUp()
        self.counter = self.root["counter"] = Counter()
        transaction.commit()

    def test_after_a_conflict_each_is_performed_alone(self):
        jobs = [Job(answer), Job(conflict_at_first, self.counter), Job(note, "x")]
        self.assertEqual(self.perform(*jobs), 4)
        self.assertEqual([job.result for job in jobs], [42, None, "x"])
        self.assertEqual(self.counter.count, 101)

    def test_the_lost_attempt_counts_for_nobody(self):
        jobs = [Job(answer), Job(conflict_at_first, self.counter)]
        self.perform(*jobs)
        self.assertEqual([job.attempts for job in jobs], [1, 1])
        self.assertEqual([job.retry_data for job in jobs], [{}, {}])

    def test_records_say_that_they_were_performed_alone(self):
        jobs = [Job(answer), Job(conflict_at_first, self.counter)]
        self.perform(*jobs)
        for job in jobs:
            info = self.records.getJobInfo(int.from_bytes(job._p_oid, "big"))
            self.assertNotIn("round", info)
            self.assertIsNotNone(info["completed"])

    def test_each_start_is_counted_once(self):
        self.perform(Job(answer), Job(conflict_at_first, self.counter))
        counts = self.records.getStatistics()
        self.assertEqual((counts["started"], counts["successful"]), (2, 2))

    def test_the_culprit_is_kept_out_and_its_neighbours_are_not(self):
        culprit, other = Job(conflict_at_first, self.counter), Job(answer)
        self.learn(culprit, other)
        self.perform(other, culprit)
        self.assertTrue(self.is_kept_out(culprit))
        self.assertFalse(self.is_kept_out(other))

    def learn(self, *jobs):
        for job in jobs:
            self.durations.note(job._target, 0.001)

    def is_kept_out(self, job):
        return self.durations.expected(job._target) is None

    def test_when_the_culprit_is_not_known_all_are_kept_out_for_a_moment(self):
        jobs = [Job(answer), Job(note_and_join, Manager, "x", True)]
        self.learn(*jobs)
        self.round(*jobs)
        self.assertTrue(self.is_kept_out(jobs[0]))
        self.assertTrue(self.is_kept_out(jobs[1]))

    def test_a_job_whose_commit_fails_for_good_fails_alone(self):
        jobs = [Job(answer), Job(note_and_join, Manager, "x", True)]
        self.perform(*jobs)
        self.assertEqual(jobs[0].result, 42)
        self.assertTrue(jobs[1].result.check(RuntimeError))

    def test_a_result_that_cannot_be_stored_fails_alone(self):
        jobs = [Job(answer), Job(unstorable), Job(note, "x")]
        self.perform(*jobs)
        self.assertEqual(jobs[0].result, 42)
        self.assertTrue(is_failure(jobs[1].result))
        self.assertEqual(jobs[2].result, "x")

    def test_a_change_that_cannot_be_stored_is_found_before_the_next_call(self):
        jobs = [Job(spoil, self.counter), Job(answer), Job(answer)]
        self.perform(*jobs)
        self.assertEqual(CALLS.count("answer"), 2)
        self.assertTrue(is_failure(jobs[0].result))
        self.assertEqual([jobs[1].result, jobs[2].result], [42, 42])

    def test_a_job_that_was_taken_away_is_left_and_the_others_commit(self):
        taken = Job(answer)
        jobs = [Job(note, "x"), Job(take_away, taken), taken]
        self.perform(*jobs)
        self.assertEqual([jobs[0].result, jobs[1].result], ["x", None])
        self.assertEqual(self.outcomes[taken._p_oid], LOST)
        self.assertEqual(taken.status, ACTIVE)
        self.assertEqual([job.attempts for job in jobs], [1, 1, 1])

    def test_one_that_was_taken_away_before_is_not_called(self):
        taken = Job(answer)
        batch = self.batch(Job(note, "x"), taken)
        taken._active_start += 1
        transaction.commit()
        self.perform_batch(batch)
        self.assertEqual(self.outcomes[taken._p_oid], LOST)
        self.assertEqual(CALLS, [("x",)])

    def test_nobody_is_blamed_for_one_that_was_taken_away(self):
        taken = Job(answer)
        jobs = [Job(note, "x"), Job(take_away, taken), taken]
        self.learn(*jobs)
        self.perform(*jobs)
        self.assertFalse(any(self.is_kept_out(job) for job in jobs))

    def test_coroutines_that_are_lost_are_closed(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            jobs = [Job(coroutine), Job(conflict_at_first, self.counter)]
            self.perform(*jobs)
        [(awaited, _)] = self.dispatcher.awaited
        awaited.close()

    def test_a_job_that_cannot_be_loaded_is_broken_off_and_the_others_are_not(self):
        jobs = jobs_of(answer, 3)
        batch = self.batch(*jobs)
        batch.tickets[1] = batch.tickets[1]._replace(oid=b"\0" * 7 + b"\xff")
        done = self.perform_batch(batch)
        for one in done.again:
            self.perform_batch(one)
        self.perform_batch(batch._replace(tickets=[*done.rest]))
        self.assertEqual(self.outcomes[b"\0" * 7 + b"\xff"], BROKEN)
        self.assertEqual([jobs[0].result, jobs[2].result], [42, 42])


class EndingTest(RoundsCase):
    """Callables that end the transaction themselves."""

    def setUp(self):
        super().setUp()
        self.counter = self.root["counter"] = Counter()
        self.before = self.root["before"] = Counter()
        self.after = self.root["after"] = Counter()
        transaction.commit()

    def around(self, function, *args):
        """Perform a job between two others; return it."""
        job = Job(function, self.counter, *args)
        first, last = Job(self.before.increase), Job(self.after.increase)
        self.perform(first, job, last)
        for neighbour, counter in ((first, self.before), (last, self.after)):
            self.assertEqual(counter.count, 1, "the effect of a neighbour, once")
            self.assertEqual(neighbour.result, 1)
            self.assertEqual(neighbour.attempts, 1)
            self.assertEqual(neighbour.status, COMPLETED)
        self.assertEqual(job.status, COMPLETED)
        self.assertEqual(job.attempts, 1)
        return job

    def assert_is_alone_from_now_on(self, job):
        self.durations.note(job._target, 0.001)
        self.assertIsNone(self.durations.expected(job._target))

    def test_what_a_callable_commits_counts_once(self):
        job = self.around(commit)
        self.assertEqual(self.counter.count, 11)
        self.assert_is_alone_from_now_on(job)

    def test_a_callable_may_commit_more_than_once(self):
        self.around(commit_twice)
        self.assertEqual(self.counter.count, 11)

    def test_what_was_committed_before_an_error_stays(self):
        job = self.around(commit_and_fail)
        self.assertEqual(self.counter.count, 1)
        self.assertTrue(job.result.check(RuntimeError))

    def test_what_a_callable_aborts_is_performed_again(self):
        job = self.around(abort)
        self.assertEqual(self.counter.count, 10)
        self.assertEqual(CALLS, ["abort"])
        self.assert_is_alone_from_now_on(job)

    def test_a_callable_may_begin_another_transaction(self):
        job = self.around(begin)
        self.assertEqual(self.counter.count, 10)
        self.assert_is_alone_from_now_on(job)

    def test_an_error_after_an_abort_is_a_failure(self):
        job = self.around(abort_and_fail)
        self.assertEqual(self.counter.count, 0)
        self.assertTrue(job.result.check(RuntimeError))
        self.assertEqual(CALLS, ["abort"])

    def test_a_callable_that_dooms_fails_alone(self):
        job = self.around(doom)
        self.assertEqual(self.counter.count, 0)
        self.assertTrue(job.result.check("transaction.interfaces.DoomedTransaction"))
        self.assert_is_alone_from_now_on(job)

    def test_an_error_after_a_doom_is_the_failure(self):
        job = self.around(doom_and_fail)
        self.assertTrue(job.result.check(RuntimeError))

    def test_a_publisher_that_repeats_after_a_conflict_has_its_effect_once(self):
        job = self.around(publish)
        self.assertEqual(job.result, "published")
        self.assertEqual(self.counter.count, 101)
        self.assertEqual(CALLS.count("publish"), 1)
        self.assert_is_alone_from_now_on(job)

    def test_a_transaction_that_is_left_failed_is_noticed_at_once(self):
        job = self.around(leave_it_failed)
        self.assertTrue(is_failure(job.result))
        self.assert_is_alone_from_now_on(job)

    def test_a_commit_that_a_hook_refused_is_noticed(self):
        job = self.around(catch_what_a_hook_raises)
        self.assertEqual(job.result, "caught")
        self.assertEqual(self.counter.count, 1)
        self.assert_is_alone_from_now_on(job)

    def test_it_goes_on_after_the_surroundings_are_left(self):
        job = Surrounded(commit, self.counter)
        job.addCallback(note)
        self.perform(Surrounded(answer), job)
        names = [call[0] if isinstance(call, tuple) else call for call in CALLS]
        self.assertEqual(names, ["set up", "answer", "tear down", None])

    def test_one_that_commits_first_leaves_the_rest_for_another_round(self):
        jobs = [Job(commit, self.counter), *jobs_of(answer, 3)]
        self.assertEqual(self.perform(*jobs), 2)
        self.assertEqual({job.status for job in jobs}, {COMPLETED})


class SurroundingsTest(RoundsCase):
    """`setUp` and `tearDown`."""

    def test_they_are_entered_once_for_neighbours_and_left_after_the_commit(self):
        self.round(*[Surrounded(answer) for _ in range(3)])
        self.assertEqual(
            CALLS,
            [
                ("set up", "here", True),
                *["answer"] * 3,
                ("tear down", "info", "Active"),
            ],
        )

    def test_tear_down_comes_after_an_abort_too(self):
        counter = self.root["counter"] = Counter()
        self.round(Surrounded(answer), Surrounded(conflict_at_first, counter))
        self.assertEqual(CALLS[-1], ("tear down", "info", "Active"))

    def test_tear_down_comes_before_callbacks(self):
        job = Surrounded(answer)
        job.addCallback(note)
        self.round(job, Surrounded(answer))
        self.assertEqual(CALLS[-2:], [("tear down", "info", "Active"), (42,)])

    def test_set_up_that_fails_is_the_failure_of_each(self):
        jobs = [BadlySurrounded(answer) for _ in range(3)]
        self.perform(*jobs)
        self.assertNotIn("answer", CALLS)
        for job in jobs:
            self.assertTrue(job.result.check(LookupError))
            self.assertEqual(job.attempts, 1)

    def test_each_of_those_is_in_the_records(self):
        jobs = [BadlySurrounded(answer) for _ in range(3)]
        self.perform(*jobs)
        for job in jobs:
            info = self.records.getJobInfo(int.from_bytes(job._p_oid, "big"))
            self.assertTrue(info["failed"])

    def test_set_up_that_ends_the_transaction_is_for_jobs_alone(self):
        jobs = [EndingSurroundings(answer) for _ in range(3)]
        self.perform(*jobs)
        self.assertEqual([job.result for job in jobs], [42, 42, 42])

    def test_tear_down_that_fails_is_logged_and_changes_nothing(self):
        jobs = [BadlyLeft(answer) for _ in range(2)]
        with self.assertLogs("zc.async.events", "CRITICAL") as logged:
            self.perform(*jobs)
        self.assertIn("tearDown", logged.output[0])
        self.assertEqual([job.result for job in jobs], [42, 42])


class BadlyLeft(Surrounded):
    def tearDown(self, info):
        raise LookupError("the request is closed")


class TakingOverTest(RoundsCase):
    """What others do with what a round has not begun."""

    def test_each_ticket_is_taken_once(self):
        tickets = list(range(5))
        round = Round(tickets, None, None, self.durations, 1.0)
        self.assertEqual(round.take_over(), tickets)
        self.assertEqual(round.take_over(), [])
        self.assertEqual(list(round.rest), [])

    def test_what_was_taken_over_in_the_midst_is_not_performed(self):
        jobs = [Job(take_over_the_rest), *jobs_of(answer, 3)]
        batch = self.batch(*jobs)
        done = self.perform_batch(batch)
        self.assertEqual(list(done.rest), [])
        self.assertEqual(CALLS, [3])
        self.assertEqual([job.status for job in jobs], [COMPLETED] + [ACTIVE] * 3)
