# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""What the poller does with one agent, with a stand-in for its threads."""

import datetime

import transaction

from tests.support.jobs import AnswerLostError, JobsCase, answer, nothing
from tests.support.lossy import LossyManager
from zc.async_ import clock
from zc.async_.durations import Durations
from zc.async_.holding import AHEAD, Holding
from zc.async_.interfaces import ACTIVE, ASSIGNED, COMPLETED, PENDING
from zc.async_.job import Job
from zc.async_.performer import AWAITS, BACK, BROKEN, DONE, LOST, UNBEGUN, WAITS
from zc.async_.retry import NeverRetry

HOUR = datetime.timedelta(hours=1)


class StubPool:
    """Keeps tickets until the test says what became of them."""

    def __init__(self, test, size):
        self.test = test
        self.size = size
        self.hungry = False
        self.tickets = []
        self.stuck_tickets = []
        self._finished = []

    def resize(self, size):
        self.size = size

    def submit(self, batches):
        for batch in batches:
            for ticket in batch.tickets:
                self.test.check_committed(ticket)
                self.tickets.append(ticket)

    def outstanding(self):
        return len(self.tickets)

    def stuck(self):
        return list(self.stuck_tickets)

    def leave(self, tickets):
        self.stuck_tickets = []

    def finish(self, ticket, outcome):
        self.tickets.remove(ticket)
        self._finished.append((ticket, outcome))

    def take_finished(self):
        finished, self._finished = self._finished, []
        return finished

    def give_back(self, finished):
        self._finished[:0] = finished

    @property
    def has_finished(self):
        return bool(self._finished)


class HoldingTests(JobsCase):
    threads = 2

    def setUp(self):
        super().setUp()
        self.agent = self.make_agent(size=4)
        self.agent.threads = self.threads
        transaction.commit()
        self.pool = StubPool(self, self.threads)
        self.holding = Holding(
            self.queue, self.agent, self.pool, transaction.manager, Durations()
        )

    def check_committed(self, ticket):
        """Nothing is handed out before another connection sees it ACTIVE."""
        job = self.new_connection().get(ticket.oid)
        self.assertEqual((job.status, job._active_start), (ACTIVE, ticket.token))

    def put_some(self, count, function=nothing, **options):
        return [self.put(Job(function), **options) for _ in range(count)]

    def job_of(self, ticket):
        return self.connection.get(ticket.oid)

    def complete(self, ticket):
        self.job_of(ticket)._settle(42)
        transaction.commit()

    def finish(self, outcome, *tickets):
        for ticket in tickets:
            self.pool.finish(ticket, outcome)
        self.holding.step()

    def test_what_a_thread_could_not_begin_waits_again(self):
        [job] = self.put_some(1)
        self.holding.step()
        self.queue.pause()
        transaction.commit()
        self.finish(UNBEGUN, *self.pool.tickets)
        self.assertEqual((job.status, list(self.queue)), (PENDING, [job]))
        self.assertEqual((job.attempts, job.interruptions), (0, 0))

    # Rounds that do not end.

    def test_what_a_round_holds_up_goes_back_to_be_performed_elsewhere(self):
        [job] = self.put_some(1)
        self.holding.step()
        [ticket] = self.pool.tickets
        self.assertFalse(self.holding.wants_step())
        self.pool.stuck_tickets = [ticket]
        self.assertTrue(self.holding.wants_step())
        self.queue.pause()
        transaction.commit()
        self.holding.step()
        self.assertEqual((job.status, list(self.queue)), (PENDING, [job]))
        self.assertEqual((job.attempts, job.interruptions), (0, 0))
        self.assertFalse(self.holding.wants_step())
        self.assertEqual(len(self.agent), 0)

    def test_its_deadline_has_been_met(self):
        [job] = self.put_some(1, begin_by=datetime.timedelta(seconds=5))
        self.holding.step()
        [ticket] = self.pool.tickets
        self.pool.stuck_tickets = [ticket]
        self.queue.pause()
        transaction.commit()
        self.holding.step()
        moving = clock.MovableClock(clock.utcnow() + datetime.timedelta(seconds=9))
        clock.install(moving)
        self.addCleanup(clock.uninstall)
        self.queue.resume()
        self.assertIs(self.queue.claim(), job)

    def test_one_that_ended_meanwhile_stays(self):
        self.put_some(1)
        self.holding.step()
        [ticket] = self.pool.tickets
        self.complete(ticket)
        self.pool.stuck_tickets = [ticket]
        self.holding.step()
        self.assertEqual(self.job_of(ticket).status, COMPLETED)
        self.assertEqual(len(self.queue), 0)

    # Claiming and beginning.

    def test_it_claims_and_begins_and_tells_which(self):
        [job] = self.put_some(1)
        [(oid, name)] = self.holding.step()
        self.assertEqual((oid.to_bytes(8, "big"), name), (job._p_oid, "unnamed"))
        [ticket] = self.pool.tickets
        self.assertIs(self.job_of(ticket), job)
        self.assertEqual((ticket.queue_name, ticket.agent_name), ("", "main"))
        self.assertEqual(self.holding.step(), [])

    def test_it_holds_as_many_as_the_agents_size_and_begins_some_ahead(self):
        self.agent.size = 8
        jobs = self.put_some(9)
        self.assertEqual(len(self.holding.step()), 8)
        begun = self.threads * (1 + AHEAD)
        self.assertEqual(len(self.pool.tickets), begun)
        statuses = [ACTIVE] * begun + [ASSIGNED] * (8 - begun) + [PENDING]
        self.assertEqual([job.status for job in jobs], statuses)
        self.assertTrue(self.pool.hungry)

    def test_what_must_not_be_begun_twice_is_begun_for_a_free_thread_only(self):
        self.put_some(4, retry_policy_factory=NeverRetry)
        self.holding.step()
        self.assertEqual(len(self.pool.tickets), self.threads)

    def test_it_wants_a_step_when_there_is_something_to_reap_or_to_begin(self):
        self.assertFalse(self.holding.wants_step())
        self.put_some(1)
        self.holding.step()
        self.assertFalse(self.holding.wants_step())
        [ticket] = self.pool.tickets
        self.pool.finish(ticket, AWAITS)
        self.assertTrue(self.holding.wants_step())

    def test_a_claimed_job_that_was_taken_away_is_not_begun(self):
        self.agent.threads = self.pool.size = 1
        jobs = self.put_some(4)
        self.holding.step()
        first, *_, last = jobs
        self.assertEqual(last.status, ASSIGNED)
        self.agent.remove(last)
        self.queue.putBack(last)
        self.agent.size = 3
        transaction.commit()
        for ticket in list(self.pool.tickets):
            self.finish(AWAITS, ticket)
        self.assertEqual(last.status, PENDING)
        self.assertNotIn(last._p_oid, [one.oid for one in self.pool.tickets])

    def test_an_error_of_the_chooser_keeps_nothing_from_being_reaped(self):
        self.put_some(1)
        self.holding.step()
        [ticket] = self.pool.tickets
        self.complete(ticket)
        self.agent.chooser = choose_badly
        transaction.commit()
        with self.assertLogs("zc.async.events", "ERROR"):
            self.finish(DONE, ticket)
        self.assertTrue(self.holding.error.check(ZeroDivisionError))
        self.assertEqual(len(self.agent), 0)
        self.agent.chooser = None
        self.agent.filter = accept
        transaction.commit()
        self.holding.step()
        self.assertIsNone(self.holding.error)

    def test_the_pool_has_as_many_threads_as_the_agent_asks_for(self):
        self.agent.threads = 3
        self.holding.resize()
        self.assertEqual(self.pool.size, 3)
        self.assertEqual(self.holding.threads, 3)

    # Reaping.

    def test_a_job_that_is_done_is_among_the_completed(self):
        [job] = self.put_some(1)
        self.holding.step()
        [ticket] = self.pool.tickets
        self.complete(ticket)
        self.finish(DONE, ticket)
        self.assertEqual(len(self.agent), 0)
        self.assertEqual(list(self.agent.completed), [job])

    def test_its_quota_is_free_and_the_next_is_claimed_at_once(self):
        self.queue.quotas.create("one")
        transaction.commit()
        first, second = Job(answer), Job(answer)
        first.quota_names = second.quota_names = ("one",)
        self.put(first), self.put(second)
        self.holding.step()
        [ticket] = self.pool.tickets
        self.complete(ticket)
        self.finish(DONE, ticket)
        self.assertEqual(list(self.queue.quotas["one"]), [second])
        self.assertEqual([one.oid for one in self.pool.tickets], [second._p_oid])

    def test_a_job_that_awaits_a_value_keeps_its_slot(self):
        [job] = self.put_some(1)
        self.holding.step()
        self.finish(AWAITS, *self.pool.tickets)
        self.assertEqual(list(self.agent), [job])

    def test_a_job_that_waits_for_others_leaves_its_slot(self):
        [job] = self.put_some(1)
        self.holding.step()
        [ticket] = self.pool.tickets
        job._accept(Job(nothing))
        transaction.commit()
        self.finish(WAITS, ticket)
        self.assertEqual(list(self.agent), [])
        self.assertEqual(list(self.agent.waiting()), [job])
        self.assertTrue(self.holding.more)

    def test_a_job_that_went_back_is_let_go(self):
        [job] = self.put_some(1)
        self.holding.step()
        [ticket] = self.pool.tickets
        self.queue.reschedule(job, HOUR)
        transaction.commit()
        self.finish(BACK, ticket)
        self.assertEqual(list(self.agent), [])
        self.assertEqual(list(self.queue), [job])

    def test_a_job_that_went_back_and_was_claimed_again_is_held_once(self):
        self.queue.quotas.create("one")
        transaction.commit()
        job = Job(nothing)
        job.quota_names = ("one",)
        self.put(job)
        self.holding.step()
        [first] = self.pool.tickets
        self.queue.putBack(job)
        transaction.commit()
        self.holding.step()  # before the first one was reaped
        second = self.pool.tickets[-1]
        self.assertEqual([first.oid, second.oid], [job._p_oid] * 2)
        self.finish(BACK, first)
        self.assertEqual(list(self.agent), [job])
        self.assertEqual(list(self.queue.quotas["one"]), [job])
        self.complete(second)
        self.finish(DONE, second)
        self.assertEqual(list(self.agent), [])
        self.assertEqual(list(self.queue.quotas["one"]), [])

    def test_a_job_that_another_has_by_now_is_let_go(self):
        [job] = self.put_some(1)
        self.holding.step()
        [ticket] = self.pool.tickets
        self.agent.remove(job)
        self.queue.putBack(job)
        other = self.make_agent()
        self.assertIs(other.claimJob(), job)
        transaction.commit()
        self.finish(LOST, ticket)
        self.assertEqual(list(other), [job])
        self.assertEqual((job.status, job.parent), (ASSIGNED, other))

    def test_a_job_that_a_blind_worker_took_for_lost_is_performed_again(self):
        [job] = self.put_some(1)
        self.holding.step()
        [ticket] = self.pool.tickets
        self.finish(LOST, ticket)
        self.assertEqual((job.interruptions, job.deaths), (1, 0))
        [again] = self.pool.tickets
        self.assertEqual(again.oid, job._p_oid)
        self.assertNotEqual(again.token, ticket.token)

    def test_a_job_that_was_broken_off_is_asked_what_that_means(self):
        [job] = self.put_some(1, retry_policy_factory=NeverRetry)
        self.holding.step()
        self.finish(BROKEN, *self.pool.tickets)
        [ending] = self.pool.tickets  # a job that makes it fail
        self.assertNotEqual(ending.oid, job._p_oid)
        self.assertEqual(list(self.agent.completed), [])

    # Commits whose answers are lost.

    def test_what_a_lost_commit_has_claimed_and_begun_is_not_lost(self):
        self.agent.size = 8
        jobs = self.put_some(8)
        self.holding.manager = LossyManager(transaction.manager)
        self.holding.step()
        begun = {ticket.oid for ticket in self.pool.tickets}
        self.assertEqual(len(begun), self.threads * (1 + AHEAD))
        held = {job._p_oid for job in [*self.holding.assigned]} | begun
        self.assertEqual(held, {job._p_oid for job in jobs})
        self.assertEqual({job.attempts for job in jobs}, {0, 1})

    def test_nor_when_it_comes_to_nothing_for_a_while(self):
        [job] = self.put_some(1)
        self.holding.manager = LossyManager(transaction.manager, losses=1000)
        with self.assertLogs("zc.async.events", "ERROR"):
            with self.assertRaises(AnswerLostError):
                self.holding.step()
        self.assertEqual(self.pool.tickets, [])
        self.holding.manager.losses = 0
        self.holding.step()
        [ticket] = self.pool.tickets
        self.assertEqual((ticket.oid, job.attempts), (job._p_oid, 1))

    def test_what_is_under_way_meanwhile_is_left_alone(self):
        [job] = self.put_some(1)
        self.holding.step()
        [ticket] = self.pool.tickets
        self.put_some(1)
        self.holding.manager = LossyManager(transaction.manager)
        self.holding.step()
        self.assertEqual(job._active_start, ticket.token)
        self.assertEqual(len(self.pool.tickets), 2)

    def test_what_was_reaped_by_a_lost_commit_is_reaped_once(self):
        [job] = self.put_some(1)
        self.holding.step()
        [ticket] = self.pool.tickets
        self.complete(ticket)
        self.holding.manager = LossyManager(transaction.manager)
        self.finish(DONE, ticket)
        self.assertEqual(list(self.agent.completed), [job])

    # The end.

    def test_what_was_not_begun_goes_back_and_is_no_interruption(self):
        jobs = self.put_some(4)
        self.holding.step()
        tickets = list(self.pool.tickets)
        self.complete(tickets[0])
        self.pool.finish(tickets[0], DONE)
        self.holding.hand_back_unbegun(tickets[1:])
        self.assertEqual(jobs[0].status, COMPLETED)
        self.assertEqual(list(self.agent.completed), [jobs[0]])
        begun = len(tickets)
        for job in jobs[1:begun]:
            self.assertEqual((job.status, job.interruptions), (PENDING, 0))
            self.assertEqual((job.attempts, job.active_start), (0, None))

    def test_what_was_taken_away_meanwhile_is_left_alone(self):
        [job] = self.put_some(1)
        self.holding.step()
        [ticket] = self.pool.tickets
        job._active_start += 1  # another attempt, by somebody else
        transaction.commit()
        self.holding.hand_back_unbegun([ticket])
        self.assertEqual(job.status, ACTIVE)


def choose_badly(agent):
    return 1 / 0


def accept(job):
    return True


class ClockTests(HoldingTests):
    """The same when no time passes."""

    def setUp(self):
        clock.install(clock.MovableClock())
        self.addCleanup(clock.uninstall)
        super().setUp()
