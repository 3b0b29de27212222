# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The callable and the arguments of a job: looked at, changed, stored."""

import functools

import transaction

from tests.support.jobs import CALLS, Counter, JobsCase, multiply, note, nothing
from zc.async_.errors import BadStatusError, UnpicklableError
from zc.async_.interfaces import ACTIVE, CALLBACKS, COMPLETED
from zc.async_.job import Job


class Fragile:
    """Can be told to fail when it is pickled or loaded."""

    pickled = loaded = True

    def __getstate__(self):
        if not Fragile.pickled:
            raise ZeroDivisionError("not to be pickled")
        return {"kept": True}

    def __setstate__(self, state):
        if not Fragile.loaded:
            raise ZeroDivisionError("not to be loaded")
        self.__dict__.update(state)


class CallTests(JobsCase):
    def setUp(self):
        super().setUp()
        self.addCleanup(setattr, Fragile, "pickled", True)
        self.addCleanup(setattr, Fragile, "loaded", True)

    # Arguments

    def test_arguments_of_the_call_follow_those_of_the_job(self):
        job = self.stored(note, 1, 2)
        job(3, 4)
        self.assertEqual(job.result, 4)
        self.assertEqual(CALLS, [(1, 2, 3, 4)])

    def test_keywords_of_the_call_win_over_those_of_the_job(self):
        job = self.stored(multiply, 2, 3, third=5)
        job(third=7)
        self.assertEqual(job.result, 42)

    def test_args_and_kwargs_look_like_a_list_and_a_dict(self):
        job = Job(multiply, 5, 3, third=1)
        self.assertEqual(repr(job.args), "[5, 3]")
        self.assertEqual(job.kwargs, {"third": 1})
        self.assertEqual(Job(nothing).args, [])
        self.assertEqual(Job(nothing).kwargs, {})

    def changed(self, job, change):
        """Apply `change` to a stored job in one transaction; return it elsewhere."""
        self.assertFalse(job._p_changed)
        change(job)
        self.assertTrue(job._p_changed)
        transaction.commit()
        return self.fetch(job)

    def test_every_change_of_args_is_stored(self):
        for change, result in (
            (lambda job: job.args.append(4), [1, 2, 3, 4]),
            (lambda job: job.args.put(4), [1, 2, 3, 4]),
            (lambda job: job.args.extend([4, 5]), [1, 2, 3, 4, 5]),
            (lambda job: job.args.insert(0, 0), [0, 1, 2, 3]),
            (lambda job: job.args.pop(), [1, 2]),
            (lambda job: job.args.remove(2), [1, 3]),
            (lambda job: job.args.clear(), []),
            (lambda job: job.args.reverse(), [3, 2, 1]),
            (lambda job: job.args.sort(reverse=True), [3, 2, 1]),
            (lambda job: job.args.__setitem__(0, 9), [9, 2, 3]),
            (lambda job: job.args.__delitem__(slice(0, 2)), [3]),
            (lambda job: job.args.__iadd__([4]), [1, 2, 3, 4]),
            (lambda job: job.args.__imul__(2), [1, 2, 3, 1, 2, 3]),
            (lambda job: setattr(job, "args", (7,)), [7]),
            (lambda job: job.args.append([4]), [1, 2, 3, [4]]),
        ):
            with self.subTest(result=result):
                job = self.stored(note, 1, 2, 3)
                self.assertEqual(self.changed(job, change).args, result)

    def test_every_change_of_kwargs_is_stored(self):
        for change, result in (
            (lambda job: job.kwargs.update(b=2), {"a": 1, "b": 2}),
            (lambda job: job.kwargs.pop("a"), {}),
            (lambda job: job.kwargs.popitem(), {}),
            (lambda job: job.kwargs.clear(), {}),
            (lambda job: job.kwargs.setdefault("b", 2), {"a": 1, "b": 2}),
            (lambda job: job.kwargs.__setitem__("a", [2]), {"a": [2]}),
            (lambda job: job.kwargs.__delitem__("a"), {}),
            (lambda job: job.kwargs.__ior__({"b": 2}), {"a": 1, "b": 2}),
            (lambda job: setattr(job, "kwargs", {"c": 3}), {"c": 3}),
        ):
            with self.subTest(result=result):
                job = self.stored(nothing, a=1)
                self.assertEqual(self.changed(job, change).kwargs, result)

    def test_in_place_addition_keeps_the_list(self):
        job = self.stored(note, 1)
        args = job.args
        args += [2]
        self.assertIs(args, job.args)
        transaction.commit()
        self.assertEqual(self.changed(job, lambda j: args.append(3)).args, [1, 2, 3])

    def test_changes_of_loaded_arguments_that_are_not_plain_are_stored(self):
        job = self.fetch(self.stored(note, [1], key={"a": 1}))
        job.args.append(2)
        job.kwargs["other"] = {3}
        job._p_jar.transaction_manager.commit()
        job = self.fetch(job)
        self.assertEqual(job.args, [[1], 2])
        self.assertEqual(job.kwargs, {"key": {"a": 1}, "other": {3}})

    def test_a_change_inside_of_an_argument_is_stored_with_the_job(self):
        job = self.fetch(self.stored(note, [1]))
        job.args[0].append(2)
        job._p_changed = True
        job._p_jar.transaction_manager.commit()
        self.assertEqual(self.fetch(job).args, [[1, 2]])

    def test_persistent_arguments_are_references(self):
        counter = self.root["counter"] = Counter()
        job = self.stored(note, counter, [counter], key=counter)
        self.assertIs(job.args[0], counter)
        found = self.fetch(job)
        self.assertEqual(found.args[0]._p_oid, counter._p_oid)
        self.assertIs(found.args[0], found.args[1][0])
        self.assertIs(found.args[0], found.kwargs["key"])

    def test_plain_arguments_are_part_of_the_record(self):
        self.assertIn(b"a plain text", self.record(self.stored(note, "a plain text")))

    # What cannot be loaded or written any more

    def test_an_argument_that_cannot_be_loaded_is_the_failure_of_the_job(self):
        job = self.stored(nothing, 1, Fragile())
        Fragile.loaded = False
        job = self.fetch(job)
        self.assertIn("not readable: UnloadableCallableError", repr(job))
        job()
        self.assertEqual(job.status, COMPLETED)
        self.assertIn("not to be loaded", job.result.getErrorMessage())

    def test_a_job_can_be_written_though_its_arguments_cannot_be_pickled_again(self):
        job = self.fetch(self.stored(nothing, Fragile(), key=Fragile()))
        self.assertTrue(job.args[0].kept)
        self.assertTrue(job.kwargs["key"].kept)
        Fragile.pickled = False
        job()
        self.assertEqual((job.status, job.result), (COMPLETED, None))
        self.assertTrue(self.fetch(job).args[0].kept)

    def test_changed_arguments_that_cannot_be_pickled_are_an_error_of_the_commit(self):
        job = self.fetch(self.stored(nothing, Fragile()))
        job.args.append(1)
        Fragile.pickled = False
        with self.assertRaises(ZeroDivisionError):
            job._p_jar.transaction_manager.commit()

    # The callable

    def test_the_callable_can_be_changed_before_the_job_is_active(self):
        counter = self.root["counter"] = Counter()
        job = self.stored(multiply, 2)
        self.assertIs(job.callable, multiply)
        job.callable = counter.increase
        self.assertEqual(job.callable, counter.increase)
        transaction.commit()
        job()
        self.assertEqual(counter.count, 2)

    def test_the_callable_cannot_be_changed_later(self):
        job = Job(nothing)
        for status in (ACTIVE, CALLBACKS, COMPLETED):
            job._status = status
            with self.assertRaises(BadStatusError) as caught:
                job.callable = multiply
            self.assertEqual(
                str(caught.exception),
                "can only set the callable of a job with NEW, PENDING, or ASSIGNED "
                "status",
            )

    def test_a_bad_callable_leaves_the_old_one(self):
        job = Job(nothing)
        with self.assertRaises(UnpicklableError):
            job.callable = lambda: None
        self.assertIs(job.callable, nothing)

    def test_callables_that_are_not_plain_survive_several_writes(self):
        job = self.stored(functools.partial(multiply, 2), 3)
        for _ in range(2):
            job = self.fetch(job)
            job._p_changed = True
            job._p_jar.transaction_manager.commit()
        self.assertEqual(self.fetch(job)._call(), 6)
