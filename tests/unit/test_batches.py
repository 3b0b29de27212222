# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""How claimed jobs are grouped for threads."""

import types

from tests.support.jobs import JobsCase, answer, note, nothing
from zc.async_.agent import Agent
from zc.async_.batches import LEAST_SHARE, Batches, Brevity, Chains
from zc.async_.durations import OVERHEAD, Durations
from zc.async_.job import Job
from zc.async_.retry import NeverRetry

NAMES = {
    function: f"tests.support.jobs:{function.__name__}"
    for function in (answer, nothing, note)
}


class Here(Job):
    def setUp(self):
        """Surroundings that can be shared."""

    def surroundings(self):
        return "here"


class There(Here):
    def surroundings(self):
        return "there"


def agent(round_size=32, round_seconds=0.02):
    return types.SimpleNamespace(round_size=round_size, round_seconds=round_seconds)


class BatchesCase(JobsCase):
    """`nothing` and `note` are known to take a millisecond, `answer` is not known."""

    def setUp(self):
        super().setUp()
        self.durations = Durations()
        self.know(nothing, 0.001)
        self.know(note, 0.001)

    def know(self, function, seconds):
        self.durations.note(NAMES[function], seconds - OVERHEAD)

    def brevity(self, **options):
        return Brevity(agent(**options), self.durations)

    def group(self, jobs, room=8, free=1, follows=(), **options):
        """How jobs are grouped: a list of lists; and those that are not begun."""
        batches = Batches(self.brevity(**options), jobs, room, free)
        kept = []
        for job in jobs:
            if batches.place(job, job in follows):
                batches.add(job, job)
            else:
                kept.append(job)
        return [batch.tickets for batch in batches.made()], kept

    def sizes(self, jobs, **options):
        groups, kept = self.group(jobs, **options)
        return [len(group) for group in groups]

    def quota_job(self, function=nothing, *names):
        job = Job(function)
        job.quota_names = names or ("one",)
        return job


class BrevityTest(BatchesCase):
    def test_a_short_job_takes_as_long_as_others_of_its_callable(self):
        self.assertAlmostEqual(self.brevity().of(Job(nothing)), 0.001)

    def test_an_unknown_callable_is_alone(self):
        self.assertIsNone(self.brevity().of(Job(answer)))

    def test_one_that_takes_half_of_the_budget_is_alone(self):
        self.know(note, 0.0101)
        self.assertIsNone(self.brevity().of(Job(note)))
        self.know(nothing, 0.0099)
        self.assertIsNotNone(self.brevity().of(Job(nothing)))

    def test_jobs_of_fifty_milliseconds_are_alone(self):
        self.know(note, 0.05)
        self.assertEqual(self.sizes([Job(note) for _ in range(3)]), [1, 1, 1])

    def test_the_budget_is_the_agents(self):
        self.know(note, 0.05)
        self.assertIsNotNone(self.brevity(round_seconds=0.2).of(Job(note)))

    def test_one_that_may_not_share_is_alone(self):
        job = Job(nothing)
        job.alone = True
        self.assertIsNone(self.brevity().of(job))

    def test_the_first_answer_stands_when_the_job_has_been_begun(self):
        brevity, job = self.brevity(), Job(nothing)
        expected = brevity.of(job)
        job._begin(1)
        self.assertEqual(brevity.of(job), expected)
        self.assertIsNone(self.brevity().of(job))

    def test_rounds_of_one_are_none(self):
        self.assertIsNone(self.brevity(round_size=1).of(Job(nothing)))

    def test_an_agent_that_is_alone_has_none(self):
        ours = Agent()
        self.assertIsNotNone(Brevity(ours, self.durations).of(Job(nothing)))
        ours.alone = True
        self.assertIsNone(Brevity(ours, self.durations).of(Job(nothing)))

    def test_an_agent_of_somebody_elses_has_none(self):
        brevity = Brevity(object(), self.durations)
        self.assertIsNone(brevity.of(Job(nothing)))


class BatchesTest(BatchesCase):
    def test_short_jobs_share_a_batch(self):
        jobs = [Job(nothing), Job(note), Job(nothing)]
        groups, kept = self.group(jobs)
        self.assertEqual((groups, kept), ([jobs], []))

    def test_with_rounds_of_one_none_do(self):
        self.assertEqual(
            self.sizes([Job(nothing) for _ in range(3)], round_size=1), [1, 1, 1]
        )

    def test_a_batch_is_not_larger_than_a_round(self):
        jobs = [Job(nothing) for _ in range(10)]
        self.assertEqual(self.sizes(jobs, round_size=4), [4, 4, 2])

    def test_a_batch_does_not_take_longer_than_a_round_may(self):
        self.know(nothing, 0.008)
        self.assertEqual(self.sizes([Job(nothing) for _ in range(5)]), [2, 2, 1])

    def test_what_is_there_is_divided_among_the_free_threads(self):
        self.know(nothing, 0.002)
        jobs = [Job(nothing) for _ in range(8)]
        self.assertEqual(self.sizes(jobs, free=4), [2, 2, 2, 2])

    def test_but_not_into_pieces_that_are_not_worth_it(self):
        self.assertLess(2 * OVERHEAD, LEAST_SHARE)
        self.know(note, LEAST_SHARE / 4)
        jobs = [Job(note) for _ in range(4)]
        self.durations._seconds[NAMES[note]] = LEAST_SHARE / 4 - OVERHEAD
        self.assertEqual(self.sizes(jobs, free=4), [4])

    def test_a_job_that_may_not_share_has_a_batch_of_its_own(self):
        alone = Job(answer)
        jobs = [Job(nothing), alone, Job(nothing)]
        groups, _ = self.group(jobs)
        self.assertEqual(groups, [[jobs[0], jobs[2]], [alone]])

    def test_surroundings_are_not_mixed(self):
        here, there = [Here(nothing), Here(note)], [There(nothing), There(note)]
        plain = [Job(nothing)]
        groups, _ = self.group([here[0], there[0], *plain, here[1], there[1]])
        self.assertEqual(groups, [here, there, plain])

    def test_no_more_batches_are_made_than_there_is_room_for(self):
        jobs = [Job(answer) for _ in range(5)]
        groups, kept = self.group(jobs, room=2)
        self.assertEqual((len(groups), kept), (2, jobs[2:]))

    def test_without_room_a_job_can_still_join(self):
        jobs = [Job(nothing), Job(answer), Job(nothing)]
        groups, kept = self.group(jobs, room=1)
        self.assertEqual((groups, kept), ([[jobs[0], jobs[2]]], [jobs[1]]))

    def test_what_must_not_be_repeated_is_begun_for_a_free_thread_only(self):
        jobs = [Job(answer), Job(answer), Job(answer)]
        for job in jobs:
            job.retry_policy_factory = NeverRetry
        groups, kept = self.group(jobs, room=8, free=2)
        self.assertEqual((groups, kept), ([[jobs[0]], [jobs[1]]], [jobs[2]]))

    def test_what_may_be_repeated_is_begun_ahead(self):
        jobs = [Job(answer), Job(answer), Job(answer)]
        self.assertEqual(self.sizes(jobs, room=8, free=0), [1, 1, 1])

    def test_a_batch_knows_how_long_its_round_may_take(self):
        batches = Batches(self.brevity(round_seconds=0.5), [], 8, 1)
        job = Job(nothing)
        self.assertTrue(batches.place(job))
        batches.add(job, job)
        [batch] = batches.made()
        self.assertEqual(batch.seconds, 0.5)
        self.assertFalse(batch.chained)


class ChainsTest(BatchesCase):
    """Jobs of full quotas."""

    def test_a_follower_joins_the_batch_of_the_first(self):
        jobs = [self.quota_job() for _ in range(3)]
        groups, kept = self.group(jobs, follows=jobs[1:])
        self.assertEqual((groups, kept), ([jobs], []))

    def test_a_follower_has_no_batch_of_its_own(self):
        jobs = [self.quota_job() for _ in range(3)]
        groups, kept = self.group(jobs, follows=jobs)
        self.assertEqual((groups, kept), ([], jobs))

    def test_followers_that_do_not_fit_wait(self):
        jobs = [self.quota_job() for _ in range(6)]
        groups, kept = self.group(jobs, follows=jobs[1:], round_size=4)
        self.assertEqual((groups, kept), ([jobs[:4]], jobs[4:]))

    def test_a_chain_is_not_divided(self):
        self.know(nothing, 0.004)
        jobs = [self.quota_job() for _ in range(4)]
        groups, kept = self.group(jobs, free=4, follows=jobs[1:])
        self.assertEqual((groups, kept), ([jobs], []))

    def test_quotas_are_not_mixed(self):
        ones = [self.quota_job(nothing, "one") for _ in range(2)]
        twos = [self.quota_job(nothing, "two") for _ in range(2)]
        both = [self.quota_job(nothing, "one", "two")]
        jobs = [ones[0], twos[0], both[0], ones[1], twos[1]]
        groups, _ = self.group(jobs)
        self.assertEqual(groups, [ones, twos, both])

    def test_its_batch_says_that_it_is_one(self):
        batches = Batches(self.brevity(), [], 8, 1)
        job = self.quota_job()
        self.assertTrue(batches.place(job))
        batches.add(job, job)
        self.assertTrue(batches.made()[0].chained)

    def admitted(self, function=nothing, first=None, count=100, **options):
        """How many jobs follow a first one."""
        chains = Chains(self.brevity(**options))
        chains.note(self.quota_job(first or function))
        admitted = 0
        for _ in range(count):
            job = self.quota_job(function)
            if not chains.admits(job):
                break
            chains.note(job)
            admitted += 1
        return admitted

    def test_so_many_follow_as_two_rounds_take(self):
        self.assertEqual(self.admitted(round_size=8, round_seconds=1), 15)

    def test_or_as_two_budgets_take(self):
        self.know(nothing, 0.0049)
        self.assertEqual(self.admitted(), 7)

    def test_nobody_follows_where_nobody_is(self):
        self.assertFalse(Chains(self.brevity()).admits(self.quota_job()))

    def test_nobody_follows_one_that_must_be_alone(self):
        self.assertEqual(self.admitted(first=answer), 0)

    def test_one_that_must_be_alone_follows_nobody(self):
        self.assertEqual(self.admitted(answer, first=nothing), 0)

    def test_nobody_follows_with_rounds_of_one(self):
        self.assertEqual(self.admitted(round_size=1), 0)

    def test_nobody_follows_one_that_goes_on_after_its_call(self):
        self.durations.note_awaiting(NAMES[note])
        self.assertEqual(self.admitted(nothing, first=note), 0)
        self.assertEqual(self.admitted(note, first=nothing), 0)
        self.assertEqual(self.sizes([Job(note), Job(note)]), [2])

    def test_one_of_another_quota_does_not_follow(self):
        chains = Chains(self.brevity())
        chains.note(self.quota_job(nothing, "one"))
        self.assertFalse(chains.admits(self.quota_job(nothing, "two")))
        self.assertFalse(chains.admits(self.quota_job(nothing, "one", "two")))

    def test_what_was_claimed_before_counts(self):
        waiting = [self.quota_job() for _ in range(4)]
        chains = Chains(self.brevity(round_size=2), waiting)
        self.assertFalse(chains.admits(self.quota_job()))
        chains = Chains(self.brevity(round_size=2), waiting[:2])
        self.assertTrue(chains.admits(self.quota_job()))

    def test_jobs_without_a_quota_follow_nobody(self):
        chains = Chains(self.brevity())
        chains.note(Job(nothing))
        self.assertFalse(chains.admits(Job(nothing)))
