# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
import datetime
import logging
import operator
import zoneinfo

import pytest
import pytz
import zope.component
from persistent import Persistent
from zope.interface.verify import verifyObject

from benchmarks.jobs import no_op
from tests.support.queueing import (
    HOUR,
    MINUTE,
    SECOND,
    START,
    World,
    nothing,
    number,
    numbers,
)
from zc.async_ import clock, registrations
from zc.async_.errors import NotInQueueError, UnpicklableError
from zc.async_.interfaces import (
    ACTIVE,
    ASSIGNED,
    IUUID,
    KEY,
    NEW,
    PENDING,
    BadStatusError,
    IQueue,
    IQueues,
)
from zc.async_.job import Job
from zc.async_.queue import Queue, Queues, getDefaultQueue
from zc.async_.retry import NeverRetry


@pytest.fixture
def world():
    with World() as world:
        yield world


@pytest.fixture
def seat(world):
    return world.seat


@pytest.fixture
def queue(seat):
    return seat.queue


def test_queues_provide_their_interfaces(queue):
    assert verifyObject(IQueue, queue)
    assert verifyObject(IQueues, queue.parent)


# Putting.


def test_a_new_queue_is_empty(queue):
    assert len(queue) == 0 and not queue and list(queue) == []
    assert not queue.dispatchers and not queue.quotas and not queue.paused


def test_a_job_that_is_put_belongs_to_the_queue_and_is_due_now(queue):
    job = queue.put(nothing)
    assert isinstance(job, Job) and job.callable is nothing
    assert (job.status, job.parent, job.queue) == (PENDING, queue, queue)
    assert job.begin_after == START and job.begin_by == HOUR
    assert job.assignerUUID == zope.component.getUtility(IUUID)
    assert len(queue) == 1 and queue and queue[0] is job and list(queue) == [job]


@pytest.mark.parametrize("item", [nothing, operator.mul, [].append, Job(nothing)])
def test_what_can_be_called_can_be_put(queue, item):
    if isinstance(item, Job):
        assert queue.put(item) is item
    else:
        assert queue.put(item).callable == item


class Callable(Persistent):
    def __call__(self):
        return "called"

    def method(self):
        return "method"


def test_persistent_objects_and_their_methods_can_be_put(seat, queue):
    seat.root["callable"] = callable = Callable()
    for item in (callable, callable.method):
        queue.put(item)
    seat.commit()
    assert [job() for job in list(queue) if queue.remove(job) is None] == [
        "called",
        "method",
    ]


def test_options_of_put_are_those_of_the_job(queue):
    job = queue.put(
        nothing,
        begin_after=START + HOUR,
        begin_by=MINUTE,
        failure_log_level=logging.INFO,
        retry_policy_factory=NeverRetry,
    )
    assert (job.begin_after, job.begin_by) == (START + HOUR, MINUTE)
    assert job.failure_log_level == logging.INFO
    assert isinstance(job.getRetryPolicy(), NeverRetry)


def test_what_a_job_says_of_itself_stands(queue):
    job = Job(nothing)
    job.begin_after, job.begin_by = START + HOUR, 2 * HOUR
    job.failure_log_level = logging.INFO
    queue.put(job)
    assert (job.begin_after, job.begin_by) == (START + HOUR, 2 * HOUR)
    assert job.failure_log_level == logging.INFO


@pytest.mark.parametrize(
    "zone", [pytz.timezone("EST"), zoneinfo.ZoneInfo("Etc/GMT+5"), pytz.UTC]
)
def test_times_of_any_zone_are_kept_in_utc(queue, zone):
    job = queue.put(nothing, (START + HOUR).astimezone(zone))
    assert job.begin_after == START + HOUR
    assert job.begin_after.tzinfo is datetime.UTC


def test_a_put_that_is_aborted_leaves_nothing(world, seat):
    seat.put(1)
    seat.abort()
    world.sync()
    assert len(seat.queue) == 0 and list(seat.queue) == []


def test_a_savepoint_takes_a_put_back(seat):
    seat.put(1)
    savepoint = seat.manager.savepoint()
    seat.put(2)
    savepoint.rollback()
    assert seat.waiting() == [1]


def test_jobs_can_be_put_before_the_queue_is_stored(world):
    queue = Queue()
    jobs = [queue.put(Job(number, value)) for value in range(40)]
    seat = world.seat
    seat.root[KEY]["new"] = queue
    seat.commit()
    other = world.open()
    assert numbers(other.root[KEY]["new"]) == list(range(40))
    assert queue.claim() is jobs[0]


# Bad input: refused at once, and nothing has happened.


def refused(queue, error, match, *args, **kwargs):
    before = list(queue)
    with pytest.raises(error, match=match) as caught:
        queue.put(*args, **kwargs)
    assert list(queue) == before and len(queue) == len(before)
    return caught.value


def closure():
    def inside():
        pass

    return inside


def test_a_lambda_is_refused(queue):
    error = refused(queue, UnpicklableError, "lambda", lambda: None)
    assert error.culprit.__name__ == "<lambda>"


def test_a_closure_is_refused(queue):
    refused(queue, UnpicklableError, "inside of a function", closure())


def test_something_defined_in_main_is_refused(queue, monkeypatch):
    monkeypatch.setattr(nothing, "__module__", "__main__")
    refused(queue, UnpicklableError, "__main__", nothing)


@pytest.mark.parametrize("item", [42, "name", None])
def test_what_cannot_be_called_is_refused(queue, item):
    refused(queue, TypeError, repr(item), item)


def test_an_argument_that_cannot_be_stored_is_refused_by_name(queue):
    job = Job(number, {"a": [1, open]}, key=[{"lock": pytest}])
    error = refused(queue, UnpicklableError, r"kwargs\['key'\]\[0\]\['lock'\]", job)
    assert error.culprit is pytest and error.job is job


def test_naive_datetimes_are_refused(queue):
    naive = datetime.datetime(2026, 1, 5, 9)
    error = refused(queue, ValueError, "timezone-naive", nothing, naive)
    assert str(error) == "cannot use timezone-naive values"


@pytest.mark.parametrize("value", [datetime.date(2026, 1, 1), 5, "tomorrow", HOUR])
def test_a_begin_after_that_is_no_datetime_is_refused(queue, value):
    refused(queue, TypeError, "expected a datetime", nothing, value)


@pytest.mark.parametrize("value", [5, "1h", START])
def test_a_begin_by_that_is_no_timedelta_is_refused(queue, value):
    error = refused(queue, TypeError, "expected a timedelta", nothing, begin_by=value)
    assert repr(value) in str(error)


def test_an_unknown_quota_is_refused_by_name(queue):
    job = Job(nothing)
    job.quota_names = ("content catalog",)
    error = refused(queue, ValueError, "unknown quota name", job)
    assert error.args == ("unknown quota name", "content catalog")
    job = queue.put(nothing)
    with pytest.raises(ValueError, match="unknown quota name"):
        job.quota_names = ("content catalog",)
    assert job.quota_names == ()


@pytest.mark.parametrize("names", ["", "catalog"])
def test_a_string_is_no_list_of_quota_names(names):
    with pytest.raises(TypeError, match="provide an iterable of names"):
        Job(nothing).quota_names = names


def test_a_job_is_put_once(queue):
    job = queue.put(nothing)
    error = refused(queue, BadStatusError, "NEW status", job)
    assert (error.job, error.found, error.expected) == (job, PENDING, (NEW,))


@pytest.mark.parametrize("status", [ASSIGNED, ACTIVE])
def test_a_job_that_is_at_work_is_refused(queue, status):
    job = Job(nothing)
    job._status = status
    refused(queue, BadStatusError, "NEW status", job)


def test_a_callback_of_another_job_is_refused(queue):
    job = Job(nothing)
    callback = job.addCallback(nothing)
    error = refused(queue, ValueError, "belongs to", callback)
    assert repr(job) in str(error)


def test_a_claimed_job_that_was_not_given_back_can_be_put_again(queue):
    job = queue.put(nothing)
    assert queue.claim() is job
    assert queue.put(job) is job and list(queue) == [job]


# Order.


def test_jobs_are_ordered_by_when_they_are_due(world, seat):
    for minute in (2, 1, 0):
        seat.put(minute, begin_after=START + minute * MINUTE)
    assert seat.waiting() == [0, 1, 2]
    world.advance(minutes=3)
    seat.put(3)
    assert seat.waiting() == [0, 1, 2, 3]
    assert seat.claim_all() == [0, 1, 2, 3]


def test_a_job_pulled_and_put_again_keeps_its_place(world, seat, queue):
    seat.put(1, 2, 3)
    world.advance(seconds=1)
    seat.put(4)
    job = queue.pull(1)
    world.advance(seconds=1)
    queue.put(job)
    assert seat.waiting() == [1, 3, 2, 4]
    assert seat.claim_all() == [1, 3, 2, 4]


def test_a_job_put_with_a_date_in_the_past_is_due_now(world, seat):
    seat.put(1)
    (job,) = seat.put(2, begin_after=START - HOUR)
    seat.put(3)
    assert job.begin_after == START - HOUR
    assert seat.waiting() == seat.claim_all() == [1, 2, 3]


def test_a_job_of_long_ago_may_be_put(seat, queue):
    job = Job(number, 1)
    job.begin_after = datetime.datetime(1, 1, 1, tzinfo=datetime.UTC)
    seat.put(2)
    queue.putBack(queue.claim())
    queue.put(job)
    assert seat.waiting() == [2, 1]


@pytest.mark.parametrize("index", [0, 1, -1])
def test_pull_takes_a_job_without_claiming(seat, queue, index):
    jobs = seat.put(1, 2, 3)
    assert queue.pull(index) is jobs[index]
    assert (jobs[index].status, jobs[index].parent) == (NEW, None)
    assert len(queue) == 2


def test_pull_takes_the_first_by_default_also_when_it_is_not_due(seat, queue):
    (job,) = seat.put(1, begin_after=START + HOUR)
    assert queue.pull() is job
    with pytest.raises(IndexError):
        queue.pull()
    with pytest.raises(IndexError):
        queue[0]


def test_pull_does_not_care_about_quotas(seat, queue):
    queue.quotas.create("q")
    jobs = seat.put(1, 2, quota_names=("q",))
    assert [queue.pull(), queue.pull()] == jobs
    assert len(queue.quotas["q"]) == 0


def test_remove_takes_a_job_out(seat, queue):
    one, two = seat.put(1, 2)
    queue.remove(one)
    assert list(queue) == [two] and (one.status, one.parent) == (NEW, None)
    with pytest.raises(LookupError) as caught:
        queue.remove(one)
    assert isinstance(caught.value, NotInQueueError)
    assert caught.value.job is one and caught.value.queue is queue


def test_a_job_that_fails_while_it_waits_leaves_the_queue(seat, queue):
    (job,) = seat.put(1)
    seat.commit()
    job.fail()
    assert len(queue) == 0 and list(queue) == []


# Giving back.


def claimed(seat, *values, **options):
    seat.put(*values, **options)
    agent = seat.agent(size=len(values))
    jobs = agent.claim_some(len(values))
    for job in jobs:
        agent.remove(job)
    return jobs


def test_a_job_put_back_is_ahead_of_everything(world, seat, queue):
    one, two = claimed(seat, 1, 2)
    seat.put(3)
    queue.putBack(one)
    world.advance(seconds=1)
    queue.putBack(two)
    assert seat.waiting() == [2, 1, 3]
    assert one.status == two.status == PENDING and one.parent is queue
    assert seat.claim_all() == [2, 1, 3]


def test_a_job_that_waits_cannot_be_put_back(seat, queue):
    (job,) = seat.put(1)
    with pytest.raises(BadStatusError, match="waits in a queue already"):
        queue.putBack(job)
    with pytest.raises(BadStatusError, match="waits in a queue already"):
        queue.reschedule(job, HOUR)
    assert list(queue) == [job] and len(queue) == 1


@pytest.mark.parametrize("when", [HOUR, START + HOUR])
def test_a_job_rescheduled_is_due_then(world, seat, queue, when):
    (job,) = claimed(seat, 1)
    seat.put(2)
    queue.reschedule(job, when)
    assert job.begin_after == START + HOUR and job.status == PENDING
    assert seat.claim_all() == [2]
    world.advance(hours=1)
    job.begin_by = None
    assert seat.claim_all() == [1]


@pytest.mark.parametrize("when", [True, 0 * HOUR, -HOUR, START, START - HOUR])
def test_a_job_rescheduled_for_now_goes_to_the_front(seat, queue, when):
    (job,) = claimed(seat, 1)
    seat.put(2)
    queue.reschedule(job, when)
    assert seat.waiting() == [1, 2]
    assert job.begin_after == START


def test_quotas_that_were_removed_do_not_keep_a_job_from_coming_back(seat, queue):
    queue.quotas.create("q")
    (job,) = claimed(seat, 1, quota_names=("q",))
    queue.quotas.remove("q")
    queue.putBack(job)
    assert queue.claim() is job
    queue.reschedule(job, SECOND)
    assert list(queue) == [job]


@pytest.mark.parametrize("when", [None, True, 0 * HOUR, START])
def test_jobs_of_the_machinery_go_ahead_and_have_no_deadline(seat, queue, when):
    seat.put(2)
    job = queue.put_later(number, when, (1,))
    assert seat.waiting() == [1, 2]
    assert job.begin_by is None and job.status == PENDING and job.parent is queue


@pytest.mark.parametrize("when", [HOUR, START + HOUR])
def test_jobs_of_the_machinery_can_be_scheduled(world, seat, queue, when):
    queue.put_later(number, when, (1,))
    assert queue.claim() is None
    world.advance(hours=1)
    assert seat.claim_all() == [1]


def test_next_due_is_known_once_a_claim_has_looked(world, seat, queue):
    seat.put(1, begin_after=START + HOUR)
    seat.put(2, begin_after=START + MINUTE)
    assert queue.claim() is None
    assert queue.next_due() == START + MINUTE
    world.advance(minutes=1)
    assert queue.next_due() == START + HOUR
    assert queue.next_due(START) == START + MINUTE
    world.advance(hours=1)
    assert queue.next_due() is None


# Quotas of waiting jobs.


def test_a_waiting_job_can_change_its_quotas(seat, queue):
    queue.quotas.create("q")
    queue.quotas.create("r")
    one, two, three = seat.put(1, 2, 3, quota_names=("q",))
    assert queue.claim() is one
    assert queue.claim() is None
    three.quota_names = ("r",)
    assert queue.claim() is three and list(queue.quotas["r"]) == [three]
    two.quota_names = ()
    assert queue.claim() is two


# Queues.


def test_queues_are_a_mapping(seat, queue):
    queues = queue.parent
    assert isinstance(queues, Queues)
    assert (queue.name, queue.parent) == ("", queues)
    assert len(queues) == 1 and list(queues) == list(queues.keys()) == [""]
    assert list(queues.values()) == [queue] and list(queues.items()) == [("", queue)]
    assert queues.get("") is queues[""] is queue and "" in queues
    assert queues.get(2) is None and "foo" not in queues
    with pytest.raises(KeyError) as caught:
        queues["foo"]
    assert str(caught.value) == "'foo'"
    del queues[""]
    assert (queue.name, queue.parent) == (None, None) and len(queues) == 0
    queues["other"] = queue
    assert queue.name == "other"


@pytest.mark.parametrize("value", [None, object(), Job(nothing)])
def test_only_queues_can_be_inserted(queue, value):
    with pytest.raises(ValueError) as caught:
        queue.parent["foo"] = value
    assert str(caught.value) == "value must be IQueue"


def test_the_default_queue_is_found_from_any_stored_object(seat, queue):
    registrations.register_connection()
    zope.component.provideAdapter(getDefaultQueue)
    seat.root["thing"] = Callable()
    seat.commit()
    assert IQueue(seat.root["thing"]) is queue
    assert IQueue(seat.root) is queue


def test_without_a_queue_the_error_says_what_is_missing(seat):
    registrations.register_connection()
    zope.component.provideAdapter(getDefaultQueue)
    for remove in (lambda: seat.root[KEY].pop(""), lambda: seat.root.pop(KEY)):
        remove()
        with pytest.raises(LookupError, match="zc.async"):
            IQueue(seat.root)


# Cost.


def test_a_put_of_a_small_job_writes_four_small_records(world, seat):
    seat.put(0)
    seat.commit()
    sizes, records = [], []
    for _ in range(64):
        before = world.db.lastTransaction()
        seat.queue.put(no_op)
        seat.commit()
        written = [
            record.data
            for found in world.db.storage.iterator()
            if found.tid > before
            for record in found
        ]
        records.append(len(written))
        # What FileStorage adds to a transaction and to each record.
        sizes.append(31 + sum(42 + len(data) for data in written))
    assert sorted(records)[len(records) // 2] == 4
    assert sum(records) / len(records) <= 4.2
    assert sum(sizes) / len(sizes) <= 850


def test_scheduling_costs_no_more_than_putting(world, seat):
    seat.put(0, begin_after=START + HOUR)
    seat.commit()
    before = world.db.lastTransaction()
    seat.queue.put(nothing, begin_after=START + HOUR)
    seat.commit()
    (found,) = [one for one in world.db.storage.iterator() if one.tid > before]
    assert len(list(found)) == 4


def test_the_time_comes_from_the_clock(world, seat):
    world.advance(hours=5)
    assert seat.put(1)[0].begin_after == clock.utcnow() == START + 5 * HOUR


def test_what_is_no_job_is_refused_and_named(queue):
    with pytest.raises(UnpicklableError, match="42 is not callable"):
        queue.put(42)
    assert len(queue) == 0


def _failed():
    raise RuntimeError("once")


def test_a_job_that_failed_can_be_put_again(queue):
    job = queue.put(Job(_failed))
    assert queue.claim() is job
    job()
    assert isinstance(job.result.value, RuntimeError)
    assert queue.put(job) is job
    assert (job.status, job.result, job.attempts) == (PENDING, None, 0)
    assert list(queue) == [job] and queue.claim() is job
    job()
    assert job.attempts == 1


def test_a_job_that_succeeded_cannot(queue):
    job = queue.put(nothing)
    queue.claim()()
    with pytest.raises(BadStatusError):
        queue.put(job)
