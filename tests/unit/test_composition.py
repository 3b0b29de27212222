# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Jobs made of jobs: one after the other, or all at once."""

import itertools

import transaction
import zope.component

import zc.async_.job
from tests.support.jobs import CALLS, JobsCase, Worker, answer, fail, multiply, note
from zc.async_ import composition
from zc.async_.composition import parallel, serial
from zc.async_.errors import AbortedError
from zc.async_.interfaces import (
    ACTIVE,
    CALLBACKS,
    COMPLETED,
    NEW,
    PENDING,
    IJob,
    IRetryPolicy,
)
from zc.async_.job import Job
from zc.async_.retry import NeverRetry


def total(*jobs):
    CALLS.append(("total", [job.status for job in jobs]))
    return sum(job.result for job in jobs)


def scaled(factor, *jobs):
    return factor * sum(job.result for job in jobs)


def exit_once(*args):
    CALLS.append("exit")
    if CALLS.count("exit") == 1:
        raise SystemExit
    return "survived"


def first():
    CALLS.append("first")
    return 1


def second():
    CALLS.append("second")
    return 2


class CompositionCase(JobsCase):
    def performed(self, job):
        """Put and perform; return the result as another connection sees it."""
        self.put(job)
        self.perform_due()
        found = self.fetch(job)
        self.assertEqual(found.status, COMPLETED)
        self.assertEqual(len(self.queue), 0)
        return found.result


class NamesTests(CompositionCase):
    def test_they_are_published_with_the_job(self):
        self.assertIs(zc.async_.job.serial, serial)
        self.assertIs(zc.async_.job.parallel, parallel)
        self.assertIs(composition.serial, serial)

    def test_other_names_are_missing_as_ever(self):
        with self.assertRaisesRegex(AttributeError, "zc.async.job.*'sequential'"):
            zc.async_.job.sequential  # noqa: B018

    def test_they_make_jobs(self):
        for compose in (serial, parallel):
            job = compose(answer)
            self.assertIs(type(job), Job)
            self.assertEqual(job.status, NEW)
            self.assertIn("zc.async.composition._begin_", repr(job))


class BothTests(CompositionCase):
    """What serial and parallel have in common."""

    def each(self, *args, **options):
        for compose in (serial, parallel):
            CALLS.clear()
            with self.subTest(compose=compose.__name__):
                yield compose

    def test_the_result_is_the_list_of_results(self):
        for compose in self.each():
            job = compose(Job(multiply, 2, 3), answer)
            self.assertEqual(self.performed(job), [6, 42])

    def test_postprocess_gets_the_completed_jobs(self):
        for compose in self.each():
            job = compose(first, second, postprocess=total)
            self.assertEqual(self.performed(job), 3)
            self.assertEqual(CALLS[-1], ("total", [COMPLETED] * 2))

    def test_postprocess_may_be_a_job_with_arguments(self):
        for compose in self.each():
            job = compose(first, second, postprocess=Job(scaled, 10))
            self.assertEqual(self.performed(job), 30)

    def test_without_jobs_there_are_no_results(self):
        for compose in self.each():
            self.assertEqual(self.performed(compose()), [])
            self.assertEqual(self.performed(compose(postprocess=total)), 0)

    def test_one_job_is_enough(self):
        for compose in self.each():
            self.assertEqual(self.performed(compose(answer)), [42])

    def test_a_failing_job_is_a_failure_in_the_list(self):
        for compose in self.each():
            failure, result = self.performed(compose(fail, answer))
            self.assertEqual((failure.type, result), (RuntimeError, 42))

    def test_a_failing_postprocess_is_the_failure_of_the_whole(self):
        for compose in self.each():
            result = self.performed(compose(answer, postprocess=fail))
            self.assertEqual(result.type, RuntimeError)

    def test_callbacks_of_the_whole_are_performed_in_the_end(self):
        for compose in self.each():
            job = compose(first, second, postprocess=total)
            callback = job.addCallback(Job(note, "callback"))
            self.performed(job)
            self.assertEqual(CALLS[-1], ("callback", 3))
            self.assertEqual(callback.status, COMPLETED)

    def test_callbacks_of_the_parts_are_performed(self):
        for compose in self.each():
            part = Job(answer)
            part.addCallback(Job(note, "callback"))
            self.performed(compose(part))
            self.assertIn(("callback", 42), CALLS)

    def test_compositions_can_be_nested(self):
        for compose in self.each():
            job = compose(
                parallel(first, second), serial(answer, parallel()), serial(first)
            )
            self.assertEqual(self.performed(job), [[1, 2], [42, []], [1]])

    def test_the_whole_holds_no_slot_while_it_waits(self):
        for compose in self.each():
            agent = self.make_agent(size=1)
            job = self.put(compose(first, second))
            self.assertIs(agent.claimJob(), job)
            transaction.commit()
            job()
            self.assertEqual((job.status, job.waiting), (ACTIVE, True))
            agent.jobWaits(job)
            transaction.commit()
            self.perform_due()
            self.assertEqual(job.result, [1, 2])

    def test_parts_that_have_results_are_not_repeated(self):
        for compose in self.each():
            done = self.stored(first)
            done()
            self.assertEqual(self.performed(compose(done, second)), [1, 2])
            self.assertEqual(CALLS, ["first", "second"])
            self.assertEqual(self.performed(compose(done)), [1])

    def test_parts_that_wait_in_the_queue_are_not_put_again(self):
        for compose in self.each():
            part = self.queue.put(first)
            self.assertEqual(self.performed(compose(part, second)), [1, 2])
            self.assertEqual(sorted(CALLS), ["first", "second"])

    def test_a_job_may_be_a_part_twice(self):
        for compose in self.each():
            part = Job(first)
            self.assertEqual(self.performed(compose(part, part)), [1, 1])
            self.assertEqual(CALLS, ["first"])

    def test_without_a_queue_it_fails_and_says_so(self):
        for compose in self.each():
            job = self.stored(compose(answer))
            job()
            self.assertEqual((job.result.type, CALLS), (LookupError, []))
            self.assertIn("put into one", job.result.getErrorMessage())

    def test_an_interruption_of_the_beginning_repeats_nothing(self):
        for compose in self.each():
            job = self.put(compose(first, second))
            agent = self.make_agent()
            agent.claimJob()._begin(1)
            transaction.commit()
            job.handleInterrupt()
            self.perform_due()
            self.assertEqual((job.result, sorted(CALLS)), ([1, 2], ["first", "second"]))

    def test_an_interruption_of_a_part_repeats_only_that_part(self):
        for compose in self.each():
            job = self.put(compose(first, exit_once, second))
            with self.assertRaises(SystemExit):
                self.perform_due()
            self.perform_due()
            self.assertEqual(job.result, [1, "survived", 2])
            self.assertEqual(sorted(CALLS), ["exit", "exit", "first", "second"])

    def test_an_interruption_between_the_parts_repeats_nothing(self):
        for compose in self.each():
            one, other = Job(first), Job(second)
            job = self.put(compose(one, other))
            self.perform_due(limit=1)
            agent = self.make_agent()
            agent.claimJob()._begin(1)
            one._settle(1)  # and the process dies
            transaction.commit()
            self.assertEqual(one.status, CALLBACKS)
            agent.parent.deactivate()
            transaction.commit()
            self.perform_due()
            self.assertEqual((job.result, CALLS), ([1, 2], ["second"]))

    def test_a_part_that_is_failed_by_somebody_lets_the_others_go_on(self):
        for compose in self.each():
            part = Job(first)
            job = self.put(compose(part, second))
            self.perform_due(limit=1)
            part.fail()
            self.perform_due()
            self.assertEqual(job.result[0].type, AbortedError)
            self.assertEqual(job.result[1], 2)

    def test_quotas_of_parts_hold(self):
        self.queue.quotas.create("one")
        transaction.commit()
        for compose in self.each():
            parts = [Job(first), Job(second)]
            for part in parts:
                part.quota_names = ["one"]
            self.assertEqual(self.performed(compose(*parts)), [1, 2])

    def test_policies_and_adapters_of_applications_cannot_stop_it(self):
        zope.component.provideAdapter(NeverRetry, (IJob,), IRetryPolicy, "callback")
        for compose in self.each():
            self.assertEqual(self.performed(compose(first, second)), [1, 2])

    def test_what_is_not_callable_is_refused_at_once(self):
        for compose in self.each():
            for options in ({"args": ["text"]}, {"args": [], "postprocess": 1}):
                with self.assertRaisesRegex(TypeError, "is not callable"):
                    compose(*options.pop("args"), **options)

    def test_a_queue_that_refuses_the_first_part_fails_the_whole(self):
        for compose in self.each():
            part = Job(first)
            part.quota_names = ["unknown"]
            failure = self.performed(compose(part))
            self.assertIn("unknown quota name", failure.getErrorMessage())


class SerialTests(CompositionCase):
    def test_each_begins_after_the_one_before_has_ended(self):
        parts = [Job(first), Job(second), Job(answer)]
        self.put(serial(*parts))
        for count in range(3):
            self.perform_due(limit=1)
            statuses = [part.status for part in parts]
            self.assertEqual(statuses[:count], [COMPLETED] * count)
            self.assertEqual(statuses[count], PENDING)
            self.assertEqual(set(statuses[count + 1 :]) - {NEW}, set())

    def test_a_part_that_waits_for_others_is_waited_for(self):
        inner = self.stored(answer)
        job = self.put(serial(Job(note, inner), first))
        self.perform_due()
        self.assertEqual(CALLS[1:], [])
        inner()
        self.perform_due()
        self.assertEqual(job.result, [42, 1])

    def test_a_queue_that_refuses_a_later_part_fails_that_part(self):
        self.queue.quotas.create("going")
        part = Job(second)
        part.quota_names = ["going"]
        job = self.put(serial(first, part, answer))
        self.perform_due(limit=1)
        self.queue.quotas.remove("going")
        transaction.commit()
        self.perform_due()
        self.assertEqual([job.result[0], job.result[2]], [1, 42])
        self.assertIn("unknown quota name", job.result[1].getErrorMessage())
        self.assertEqual(part.status, COMPLETED)


class ParallelTests(CompositionCase):
    def test_all_parts_wait_in_the_queue_together(self):
        parts = [Job(first), Job(second), Job(answer)]
        self.put(parallel(*parts))
        self.perform_due(limit=1)
        self.assertEqual(list(self.queue), parts)

    def test_the_final_job_follows_the_last_in_whatever_order(self):
        for order in itertools.permutations(range(3)):
            parts = [Job(multiply, 2, number) for number in range(3)]
            job = self.put(parallel(*parts))
            self.perform_due(limit=1)
            for position in order:
                self.assertEqual(job.status, ACTIVE)
                self.queue.remove(parts[position])
                transaction.commit()
                parts[position]()
            self.perform_due()
            self.assertEqual(job.result, [0, 2, 4])

    def test_when_the_last_two_end_at_once_the_final_job_is_put_once(self):
        parts = [Job(multiply, 2, number) for number in range(2)]
        job = self.put(parallel(*parts, postprocess=total))
        self.perform_due(limit=1)
        for part in parts:
            self.queue.remove(part)
            part._begin(1)
            part._settle(part.args[1])
        transaction.commit()
        # Both callbacks see that all are done, in two connections at once.
        there = self.fetch(parts[0])
        there.callbacks[0].status  # noqa: B018 - its view begins here
        parts[1].resumeCallbacks()
        there.resumeCallbacks()
        transaction.begin()
        self.assertEqual(len(self.queue), 1)
        self.perform_due()
        self.assertEqual((job.result, len(CALLS)), (1, 1))

    def test_a_part_performed_by_a_worker_counts(self):
        part = Job(first)
        job = self.put(parallel(part))
        self.perform_due(limit=1)
        self.queue.remove(part)
        transaction.commit()
        Worker().perform(part)
        self.perform_due()
        self.assertEqual(job.result, [1])
