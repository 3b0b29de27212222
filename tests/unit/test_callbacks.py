# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Proxies choose one of two callbacks, and stand for it."""

import logging

import transaction
from ZODB.POSException import ConflictError
from zope.interface.verify import verifyClass, verifyObject

from tests.support.jobs import CALLS, JobsCase, fail, multiply, note, nothing
from zc.async_.callbacks import CallbackProxy, all_ended, due_callbacks, unfinished
from zc.async_.failure import is_failure
from zc.async_.interfaces import COMPLETED, NEW, ICallbackProxy, IJob
from zc.async_.job import Job
from zc.async_.retry import NeverRetry


def handled(failure):
    CALLS.append("handled")
    return 0


class ChoiceTests(JobsCase):
    def test_it_provides_its_interface(self):
        self.assertTrue(verifyClass(ICallbackProxy, CallbackProxy))
        proxy = Job(nothing).addCallbacks(nothing)
        self.assertTrue(verifyObject(ICallbackProxy, proxy))
        self.assertFalse(IJob.providedBy(proxy))

    def test_before_the_choice(self):
        job = Job(nothing)
        proxy = job.addCallbacks(Job(note, 1), Job(note, 2))
        self.assertEqual((proxy.status, proxy.result, proxy.job), (NEW, None, None))
        self.assertIs(proxy.parent, job)
        self.assertIs(job.callbacks[0], proxy)
        self.assertIs(proxy.success.parent, proxy)
        self.assertIs(proxy.failure.parent, proxy)
        self.assertEqual((proxy.queue, proxy.agent), (None, None))

    def test_success_is_called_with_a_value(self):
        job = self.stored(multiply, 6, 7)
        proxy = job.addCallbacks(Job(note, "success"), Job(note, "failure"))
        transaction.commit()
        job()
        self.assertEqual(CALLS, [("success", 42)])
        self.assertIs(proxy.job, proxy.success)
        self.assertEqual((proxy.status, proxy.result), (COMPLETED, 42))
        self.assertEqual(proxy.failure.status, NEW)

    def test_failure_is_called_with_a_failure(self):
        job = self.stored(fail)
        proxy = job.addCallbacks(Job(note, "success"), Job(note, "failure"))
        transaction.commit()
        job()
        self.assertEqual(CALLS[1:], [("failure", job.result)])
        self.assertIs(proxy.job, proxy.failure)
        self.assertEqual(proxy.status, COMPLETED)

    def test_nothing_is_logged_or_stored_for_the_choice_itself(self):
        job = self.stored(nothing)
        job.addCallbacks(failure=Job(note))
        transaction.commit()
        with self.assertLogs("zc.async", logging.DEBUG) as logs:
            job()
        self.assertEqual(len(logs.records), 1)

    def test_where_there_is_nothing_to_choose_the_result_passes_through(self):
        job = self.stored(multiply, 6, 7)
        proxy = job.addCallbacks(failure=Job(note, "failure"))
        after = proxy.addCallback(Job(note, "after"))
        transaction.commit()
        job()
        self.assertEqual(CALLS, [("after", 42)])
        self.assertEqual((proxy.status, proxy.result), (COMPLETED, 42))
        self.assertIsNone(proxy.job)
        self.assertEqual(job.status, COMPLETED)
        self.assertEqual(after.caller, job)

    def test_a_failure_passes_through_to_the_one_that_handles_it(self):
        job = self.stored(fail)
        last = (
            job.addCallbacks(Job(note, "not called"))
            .addCallbacks(failure=Job(handled))
            .addCallbacks(Job(note, "success"), Job(note, "failure"))
        )
        transaction.commit()
        job()
        self.assertEqual(CALLS[1:], ["handled", ("success", 0)])
        self.assertEqual((last.status, last.result), (COMPLETED, 0))
        self.assertTrue(is_failure(job.result))

    def test_a_chain_passes_each_result_on(self):
        job = self.stored(multiply, 5, 3)
        last = job.addCallbacks(Job(multiply, 4)).addCallbacks(Job(note))
        transaction.commit()
        job()
        self.assertEqual((CALLS, last.result), ([(60,)], 60))

    def test_a_failing_callback_of_a_chain_is_a_failure_to_the_next(self):
        job = self.stored(nothing)
        last = job.addCallbacks(Job(fail)).addCallbacks(failure=Job(handled))
        transaction.commit()
        job()
        self.assertEqual((CALLS[1:], last.result), (["handled"], 0))

    def test_neither_success_nor_failure_is_a_place_to_add_to(self):
        job = self.stored(nothing)
        job.addCallbacks().addCallback(Job(note, "called"))
        transaction.commit()
        job()
        self.assertEqual((CALLS, job.status), ([("called", None)], COMPLETED))

    def test_callbacks_given_to_the_proxy_go_to_the_chosen_job(self):
        job = self.stored(nothing)
        proxy = job.addCallbacks(Job(note, "success"))
        before = proxy.addCallback(Job(note, "before"))
        transaction.commit()
        self.assertEqual(list(proxy.callbacks), [before])
        job()
        self.assertEqual(list(proxy.success.callbacks), [before])
        self.assertEqual(list(proxy.callbacks), [before])
        self.assertIs(before.parent, proxy.success)
        after = proxy.addCallback(Job(note, "after"))
        self.assertEqual(list(proxy.success.callbacks), [before, after])
        self.assertEqual(CALLS, [("success", None), ("before", None), ("after", None)])

    def test_callbacks_added_after_a_pass_are_performed_at_once(self):
        job = self.stored(nothing)
        proxy = job.addCallbacks(failure=Job(note, "failure"))
        transaction.commit()
        job()
        added = proxy.addCallback(Job(note, "late"))
        self.assertEqual((CALLS, added.status), ([("late", None)], COMPLETED))
        chosen = proxy.addCallbacks(Job(note, "later"))
        self.assertEqual((chosen.status, len(CALLS)), (COMPLETED, 2))

    def test_a_proxy_under_the_proxy_of_a_chosen_job(self):
        job = self.stored(nothing)
        proxy = job.addCallbacks(Job(note, "success"))
        transaction.commit()
        job()
        self.assertEqual(proxy.addCallbacks(Job(note, "late")).status, COMPLETED)
        self.assertEqual(CALLS, [("success", None), ("late", None)])

    def test_options_are_given_to_both(self):
        proxy = Job(nothing).addCallbacks(Job(nothing), nothing, 10, NeverRetry)
        for one in (proxy.success, proxy.failure):
            self.assertEqual(one.failure_log_level, 10)
            self.assertIs(one.retry_policy_factory, NeverRetry)
        below = proxy.addCallbacks(nothing, None, 20).success
        self.assertEqual(below.failure_log_level, 20)
        self.assertEqual(proxy.addCallback(nothing, 30).failure_log_level, 30)

    def test_its_repr_names_both(self):
        proxy = Job(nothing).addCallbacks(Job(note, 1))
        self.assertIn("<zc.async.callbacks.CallbackProxy (oid ?, db ?)", repr(proxy))
        self.assertIn("success: <zc.async.job.Job", repr(proxy))
        self.assertIn("note(1)``>, failure: None>", repr(proxy))

    def test_it_survives_the_database(self):
        job = self.stored(nothing)
        job.addCallbacks(Job(note, "success"), Job(note, "failure"))
        transaction.commit()
        job = self.fetch(job)
        (proxy,) = job.callbacks
        self.assertEqual(proxy.success.args, ["success"])
        self.assertIs(proxy.failure.caller, job)
        proxy.addCallback(Job(note, "below"))
        job._p_jar.transaction_manager.commit()
        self.assertEqual(len(self.fetch(job).callbacks[0].callbacks), 1)

    def test_an_addition_at_the_moment_of_the_choice_is_a_conflict(self):
        job = self.stored(nothing)
        proxy = job.addCallbacks(Job(note, "success"))
        transaction.commit()
        there = self.fetch(proxy)
        there.addCallback(Job(note, "added"))
        job()
        with self.assertRaises(ConflictError):
            there._p_jar.transaction_manager.commit()
        there._p_jar.transaction_manager.abort()
        there.addCallback(Job(note, "added"))
        self.assertEqual(CALLS, [("success", None), ("added", None)])

    def test_an_addition_before_the_choice_is_seen(self):
        job = self.stored(nothing)
        proxy = job.addCallbacks(Job(note, "success"))
        transaction.commit()
        there = self.fetch(proxy)
        proxy.status  # noqa: B018 - loaded before the other adds
        there.addCallback(Job(note, "added"))
        there._p_jar.transaction_manager.commit()
        job()
        self.assertEqual(CALLS, [("success", None), ("added", None)])


class FinishedTests(JobsCase):
    """What the predicates say, without choosing."""

    def make(self):
        job = self.stored(nothing)
        return job, job.addCallbacks(failure=Job(note)), job.addCallback(Job(note))

    def test_before(self):
        job, *_ = self.make()
        self.assertTrue(unfinished(job.callbacks))
        self.assertFalse(all_ended(job.callbacks))

    def test_after(self):
        job, *_ = self.make()
        transaction.commit()
        job()
        self.assertFalse(unfinished(job.callbacks))
        self.assertTrue(all_ended(job.callbacks))

    def test_below_a_proxy_that_passed(self):
        job, proxy, callback = self.make()
        below = proxy.addCallback(Job(note))
        list(due_callbacks(job.callbacks, None))
        callback._status = COMPLETED
        self.assertTrue(unfinished(job.callbacks))
        self.assertFalse(all_ended(job.callbacks))
        below._status = COMPLETED
        self.assertFalse(unfinished(job.callbacks))
        self.assertTrue(all_ended(job.callbacks))

    def test_the_chosen_one_of_a_proxy_counts(self):
        job = Job(nothing)
        proxy = job.addCallbacks(Job(note))
        list(due_callbacks(job.callbacks, None))
        self.assertTrue(unfinished(job.callbacks))
        self.assertFalse(all_ended(job.callbacks))
        proxy.success._status = COMPLETED
        self.assertFalse(unfinished(job.callbacks))
        self.assertTrue(all_ended(job.callbacks))
