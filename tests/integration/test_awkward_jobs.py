# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Jobs that try to harm the system: each has a defined outcome, nobody else suffers.

Those that end the whole process are in `tests.crash.test_lethal_jobs`, those that
hold on past the stop in `test_dispatcher`.
"""

import threading

import pytest
import transaction
from ZODB.FileStorage import FileStorage
from ZODB.interfaces import IBroken

from tests.support import awkward
from tests.support.gates import gate, pass_gate
from tests.support.scenario import MILLISECONDS, Effect
from tests.support.site import Site
from tests.support.waking import wait_until
from zc.async_.errors import (
    AbortedError,
    BadStatusError,
    UnloadableCallableError,
)
from zc.async_.failure import is_failure
from zc.async_.interfaces import COMPLETED
from zc.async_.job import Job
from zc.async_.retry import RetryCommonForever


@pytest.fixture
def place(site):
    """A site with a dispatcher of one thread, and an effect to count."""
    site.root["effect"] = Effect()
    transaction.commit()
    made = site.dispatcher()
    site.agent(made).threads = 1
    transaction.commit()
    wait_until(lambda: len(workers()) == 1, "one thread")
    site.made = made
    return site


def workers():
    return [one for one in threading.enumerate() if one.name.startswith("zc.async /")]


def perform(place, function, *args):
    """Perform a job with the effect; return it, completed."""
    job = Job(function, place.root["effect"], *args)
    job.failure_log_level = 10
    place.put(job)
    place.wait(job)
    return job


def assert_unharmed(place):
    """The thread goes on, and the agent holds nothing."""
    (thread,) = workers()
    assert place.wait(place.put(threading.get_ident)) == thread.ident
    place.wait_until(lambda: not list(place.agent(place.made)), "an empty agent")
    assert workers() == [thread]


def assert_failed(place, function, cls, *args, count=0):
    before = workers()
    job = perform(place, function, *args)
    assert is_failure(job.result), job.result
    assert job.result.check(cls), job.result.getTraceback()
    assert place.root["effect"].count == count
    assert job.attempts == 1
    assert workers() == before
    assert_unharmed(place)
    return job


# What they raise.


@pytest.mark.parametrize(
    "cls",
    [SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError, awkward.Outrage],
)
def test_what_is_no_exception_is_a_failure_of_the_job_all_the_same(place, cls):
    assert_failed(place, awkward.raise_it, cls, cls)


def test_exiting_ends_the_job_and_not_the_thread(place):
    job = assert_failed(place, awkward.exit_the_usual_way, SystemExit)
    assert "sys.exit(2)" in job.result.getTraceback()


def test_endless_recursion_is_a_failure(place):
    assert_failed(place, awkward.recurse, RecursionError)


def test_an_exception_that_cannot_be_stored_is_stored_as_text(place):
    job = assert_failed(place, awkward.raise_it, awkward.Unpicklable,
                        awkward.Unpicklable, "some text")  # fmt: skip
    assert "some text" in job.result.getErrorMessage()


def test_an_exception_of_a_class_that_has_no_name_is_stored_as_text(place):
    job = perform(place, awkward.raise_local)
    assert "Local" in job.result.getTraceback()
    assert "defined inside of a function" in job.result.getErrorMessage()
    assert place.root["effect"].count == 0
    assert_unharmed(place)


def test_an_exception_that_cannot_be_shown_is_a_failure(place):
    assert_failed(place, awkward.raise_it, awkward.Mute, awkward.Mute)


# What they return.


@pytest.mark.parametrize(
    "function",
    [
        awkward.return_lock,
        awkward.return_lambda,
        awkward.return_generator,
        awkward.return_local_class,
        awkward.recurse_in_data,
        awkward.return_touchy,
    ],
)
def test_a_result_that_cannot_be_stored_is_a_failure(place, function):
    job = perform(place, function)
    assert is_failure(job.result)
    assert place.root["effect"].count == 0
    assert job.attempts == 1
    assert_unharmed(place)


def test_a_result_that_cannot_be_shown_is_stored(place):
    job = perform(place, awkward.return_shy)
    assert isinstance(job.result, awkward.Shy)
    assert place.root["effect"].count == 1
    assert_unharmed(place)


def test_a_large_result_is_not_kept_in_memory(place):
    job = perform(place, awkward.return_much)
    assert len(job.result) == 3_000_000
    (ids,) = [ids for poll in place.made.polls for ids in poll[""]["main"]["new jobs"]]
    wait_until(lambda: place.made.getJobInfo(*ids)["completed"], "the record")
    assert len(place.made.getJobInfo(*ids)["result"]) < 20_000


def test_a_job_cannot_wait_for_itself(place):
    assert_failed(place, awkward.return_itself, BadStatusError)


def test_a_callback_result_that_cannot_be_stored_is_its_failure_in_the_end(
    place, monkeypatch
):
    # Callbacks are tried hard, with pauses, but not for ever.
    monkeypatch.setattr(RetryCommonForever, "max_commit_errors", 3)
    monkeypatch.setattr(RetryCommonForever, "wait_increment", 10 * MILLISECONDS)
    job = Job(place.root["effect"].happen)
    callback = job.addCallback(awkward.return_lock_as_callback)
    last = callback.addCallback(is_failure)
    place.put(job)
    assert place.wait(job) == 1
    assert is_failure(place.wait(callback)) and callback.attempts == 3
    assert place.wait(last) is True
    assert place.root["effect"].count == 1
    assert_unharmed(place)


def test_a_callback_that_exits_is_the_callbacks_failure(place):
    job = Job(place.root["effect"].happen)
    callback = job.addCallback(exit_as_callback)
    place.put(job)
    assert place.wait(job) == 1
    assert place.wait(callback).check(SystemExit)
    assert_unharmed(place)


def exit_as_callback(result):
    raise SystemExit(3)


# What they do to the transaction.


def test_something_that_cannot_be_stored_is_a_failure_of_the_job(place):
    assert_failed(place, awkward.store_touchy, ZeroDivisionError)


def test_a_connection_that_was_closed_is_a_failure_of_the_job(place):
    job = perform(place, awkward.close_connection)
    # Nothing can be stored then, so it counts as interrupted, each time.
    assert job.result.check(AbortedError) and job.attempts == 10
    assert_unharmed_with_another_thread(place)


def test_a_connection_that_was_changed_and_closed_is_a_failure_of_the_job(place):
    job = perform(place, awkward.change_and_close_connection)
    assert is_failure(job.result)
    assert place.root["effect"].count == 0
    assert_unharmed_with_another_thread(place)


def assert_unharmed_with_another_thread(place):
    place.wait(place.put(threading.get_ident))
    place.wait_until(lambda: not list(place.agent(place.made)), "an empty agent")
    assert len(workers()) == 1


def test_an_abort_undoes_what_was_done_and_nothing_else(place):
    job = perform(place, awkward.abort)
    assert job.result == "aborted"
    assert place.root["effect"].count == 0
    job = perform(place, awkward.abort_and_change)
    assert place.root["effect"].count == 1
    assert_unharmed(place)


def test_beginning_a_transaction_is_aborting_the_one_before(place):
    perform(place, awkward.begin)
    assert place.root["effect"].count == 1
    assert_unharmed(place)


def test_what_a_job_commits_itself_is_committed(place):
    job = perform(place, awkward.commit)
    assert job.result == "committed" and job.status == COMPLETED
    assert place.root["effect"].count == 1
    perform(place, awkward.commit_several_times)
    assert place.root["effect"].count == 5
    assert_unharmed(place)


def test_a_failure_after_a_commit_undoes_what_came_after_it(place):
    assert_failed(place, awkward.commit_and_fail, LookupError, count=1)


def test_a_doomed_transaction_is_a_failure(place):
    job = perform(place, awkward.doom)
    assert is_failure(job.result)
    assert "doomed" in job.result.getErrorMessage().lower()
    assert place.root["effect"].count == 0
    assert_unharmed(place)


def test_another_database_that_cannot_commit_is_a_failure(place):
    assert_failed(place, awkward.join_with_a_manager_that_fails, OSError)


def test_a_hook_that_fails_before_the_commit_is_a_failure(place):
    assert_failed(place, awkward.add_hook_that_fails, LookupError)


def test_a_hook_that_fails_after_the_commit_changes_nothing(place):
    job = perform(place, awkward.add_late_hook_that_fails)
    assert job.result is None and place.root["effect"].count == 1
    assert_unharmed(place)


# What they do to their surroundings.


def test_a_thread_that_outlives_its_job_does_no_harm(place):
    perform(place, awkward.start_thread, "outliving")
    gate("outliving").wait_for()
    assert place.root["effect"].count == 1
    assert_unharmed(place)
    gate("outliving").open()


def test_a_job_may_change_its_queue(place):
    place.queue.pause()
    transaction.commit()
    job = place.put(awkward.change_the_queue, place.root["effect"])
    place.queue.resume()
    transaction.commit()
    assert place.wait(job) == 2
    assert list(place.queue.quotas) == ["new"] and not len(place.queue)
    assert_unharmed(place)


@pytest.mark.parametrize(
    "function",
    [
        awkward.call_itself,
        awkward.put_itself_again,
        awkward.put_itself_back,
        awkward.deactivate_its_dispatcher,
        awkward.remove_its_agent,
    ],
)
def test_a_job_cannot_be_called_or_given_away_while_it_is_performed(place, function):
    assert_failed(place, function, BadStatusError)


def test_a_job_that_fails_itself_has_failed(place):
    job = perform(place, awkward.fail_itself)
    assert job.result.check(LookupError)
    assert_unharmed(place)


def test_a_job_that_leaves_its_agent_is_completed(place):
    job = perform(place, awkward.remove_itself_from_its_agent)
    assert job.status == COMPLETED and place.root["effect"].count == 1
    assert_unharmed(place)


def test_a_job_that_changes_its_arguments_is_completed(place):
    job = perform(place, awkward.change_its_own_arguments, 1)
    assert job.status == COMPLETED
    assert list(job.args[1:]) == [1, 5] and job.kwargs == {"name": 6}
    assert_unharmed(place)


# What is not there any more.


@pytest.fixture
def vanishing(make_site, tmp_path, monkeypatch):
    """Puts jobs, and performs them when code is gone, as after a restart."""

    def put_and_perform(make_jobs, *names):
        path = str(tmp_path / "data.fs")
        first = Site(FileStorage(path))
        for number, job in enumerate(make_jobs()):
            first.put(job)
            first.root[number] = job
            transaction.commit()
        first.close()
        for name in names:
            monkeypatch.delattr(awkward, name)
        site = make_site(FileStorage(path))
        site.dispatcher()
        sound = site.put(pass_gate, "sound", 5)
        gate("sound").open()
        assert site.wait(sound) == 5
        return site

    return put_and_perform


def result_of(site, number=0):
    return site.wait(site.root[number])


def assert_gone(site, name, number=0):
    result = result_of(site, number)
    assert result.check(UnloadableCallableError)
    assert name in result.getErrorMessage()


def test_a_function_that_is_gone_is_a_failure_that_names_it(vanishing):
    site = vanishing(lambda: [Job(awkward.vanish)], "vanish")
    assert_gone(site, "tests.support.awkward.vanish")


def test_a_callable_object_whose_class_is_gone_is_a_failure_that_names_it(vanishing):
    site = vanishing(
        lambda: [Job(awkward.Vanishing()), Job(awkward.Vanishing().tell)], "Vanishing"
    )
    assert_gone(site, "tests.support.awkward.Vanishing ", 0)
    assert_gone(site, "tests.support.awkward.Vanishing.tell", 1)


def test_an_argument_whose_class_is_gone_is_a_failure_that_names_it(vanishing):
    site = vanishing(
        lambda: [
            Job(awkward.take, awkward.Plain()),
            Job(awkward.take, keyword=[awkward.Plain()]),
        ],
        "Plain",
    )
    assert_gone(site, "tests.support.awkward.Plain", 0)
    assert_gone(site, "tests.support.awkward.Plain", 1)


def test_a_stored_object_as_argument_whose_class_is_gone_is_a_failure(vanishing):
    site = vanishing(lambda: [Job(awkward.take, awkward.Vanishing())], "Vanishing")
    assert_gone(site, "tests.support.awkward.Vanishing")


def test_a_callback_that_is_gone_is_the_callbacks_failure(vanishing):
    def make():
        job = Job(awkward.take)
        job.addCallback(awkward.vanish)
        return [job]

    site = vanishing(make, "vanish")
    assert result_of(site) == "taken"
    (callback,) = site.root[0].callbacks
    assert site.wait(callback).check(UnloadableCallableError)


def test_a_retry_policy_that_is_gone_is_a_failure_before_the_call(vanishing):
    def make():
        job = Job(awkward.take)
        job.retry_policy_factory = awkward.Policy
        return [job]

    site = vanishing(make, "Policy")
    assert_gone(site, "tests.support.awkward.Policy")


def test_a_job_whose_own_class_is_gone_is_set_aside_and_not_lost(vanishing):
    site = vanishing(lambda: [awkward.OwnJob(awkward.take)], "OwnJob")
    job = site.root[0]
    assert IBroken.providedBy(job)
    assert list(site.queue._pending.aside.values()) == [job]
    assert len(site.queue) == 0


# In the midst of others: short jobs share a transaction.


def raise_system_exit(effect):
    awkward.raise_it(effect, SystemExit, 3)


def raise_unpicklable(effect):
    awkward.raise_it(effect, awkward.Unpicklable, "some text")


@pytest.mark.parametrize(
    "function",
    [
        raise_system_exit,
        raise_unpicklable,
        awkward.raise_local,
        awkward.recurse,
        awkward.return_lock,
        awkward.return_local_class,
        awkward.return_touchy,
        awkward.return_shy,
        awkward.return_itself,
        awkward.store_touchy,
        awkward.change_and_close_connection,
        awkward.abort,
        awkward.abort_and_change,
        awkward.commit,
        awkward.commit_and_fail,
        awkward.commit_several_times,
        awkward.begin,
        awkward.doom,
        awkward.join_with_a_manager_that_fails,
        awkward.add_hook_that_fails,
        awkward.add_late_hook_that_fails,
        awkward.call_itself,
        awkward.fail_itself,
        awkward.put_itself_again,
        awkward.put_itself_back,
        awkward.remove_itself_from_its_agent,
        awkward.change_its_own_arguments,
        awkward.deactivate_its_dispatcher,
        awkward.remove_its_agent,
    ],
)
def test_it_is_the_same_among_others_who_do_not_suffer(place, function):
    effects = place.root["effects"] = [Effect() for _ in range(12)]
    place.agent(place.made).size = 32
    transaction.commit()
    alone = outcome(perform(place, function), place.root["effect"])
    place.wait(*[place.put(Effect().happen) for _ in range(3)])  # short, as is known
    place.queue.pause()
    place.root["effect"] = Effect()
    transaction.commit()
    jobs = [place.put(effect.happen) for effect in effects]
    awkward_one = Job(function, place.root["effect"])
    awkward_one.failure_log_level = 10
    place.sync()
    place.queue.putBack(awkward_one)  # ahead of all others
    place.queue.putBack(place.queue.pull(5))  # but for some
    place.queue.putBack(place.queue.pull(6))
    place.queue.resume()
    transaction.commit()
    assert place.wait(*jobs) == [1] * 12
    place.wait(awkward_one)
    assert [effect.count for effect in effects] == [1] * 12
    assert outcome(awkward_one, place.root["effect"]) == alone
    assert_unharmed(place)


def outcome(job, effect):
    """What can be said of a job and of what it has stored."""
    kind = job.result.type if is_failure(job.result) else type(job.result)
    return kind.__qualname__, effect.count


def test_jobs_as_those_above_do_share_a_transaction(place):
    effects = place.root["effects"] = [Effect() for _ in range(5)]
    place.agent(place.made).size = 32
    transaction.commit()
    place.wait(place.put(Effect().happen))
    place.queue.pause()
    transaction.commit()
    jobs = [place.put(effect.happen) for effect in effects]
    place.queue.resume()
    transaction.commit()
    place.wait(*jobs)
    ids = [(int.from_bytes(job._p_oid), "unnamed") for job in jobs]
    wait_until(lambda: not place.made.getActiveJobIds(), "the records")
    assert any("round" in place.made.getJobInfo(*each) for each in ids)
    assert len({job._p_serial for job in jobs}) < 5


def test_others_are_performed_beside_a_job_that_hangs(site):
    site.dispatcher()
    hanging = site.put(pass_gate, "hanging")
    gate("hanging").wait_for()
    others = [site.put(pass_gate, "others", number) for number in range(6)]
    gate("others").open()
    assert site.wait(*others) == list(range(6))
    gate("hanging").open()
    site.wait(hanging)
