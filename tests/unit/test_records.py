# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
import datetime
import sys
import threading
import tracemalloc

import pytest

from zc.async_ import clock, polls, records

START = datetime.datetime(2006, 8, 10, 15, 44, 22, 211)
AWARE = START.replace(tzinfo=clock.UTC)
SECOND = datetime.timedelta(seconds=1)
JOB = (17, "unnamed")


@pytest.fixture
def kept():
    kept = records.Records()
    kept.begin_poll(START)
    return kept


def start(kept, job_id=JOB, queue="", agent="main", call="call", quota_names=()):
    kept.job_started(job_id, queue, agent, call, quota_names, 4711, AWARE)
    return job_id


# Jobs


def test_an_active_job_is_described(kept):
    start(kept, quota_names=["catalog"])
    assert kept.getJobInfo(*JOB) == {
        "call": "call",
        "completed": None,
        "failed": False,
        "poll id": kept.current.key,
        "quota names": ("catalog",),
        "result": None,
        "started": START,
        "thread": 4711,
        "queue": "",
        "agent": "main",
        "reassigned": False,
    }


@pytest.mark.parametrize("failed", [True, False])
def test_a_settled_job_is_described(kept, failed):
    start(kept)
    before = kept.getJobInfo(*JOB)
    kept.job_settled(JOB, "42", failed, AWARE + SECOND)
    changes = {"completed": START + SECOND, "failed": failed, "result": "42"}
    assert kept.getJobInfo(*JOB) == {**before, **changes}


def test_a_reassigned_job_says_so(kept):
    start(kept)
    before = kept.getJobInfo(*JOB)
    kept.job_reassigned(JOB)
    assert kept.getJobInfo(*JOB) == {**before, "reassigned": True, "thread": None}


def test_a_rescheduled_job_has_no_thread_and_is_not_completed(kept):
    start(kept)
    before = kept.getJobInfo(*JOB)
    kept.job_rescheduled(JOB, AWARE)
    assert kept.getJobInfo(*JOB) == {**before, "thread": None}


def test_a_waiting_job_has_no_thread_until_it_is_settled(kept):
    start(kept)
    before = kept.getJobInfo(*JOB)
    kept.job_waits(JOB)
    assert kept.getJobInfo(*JOB) == {**before, "thread": None}
    kept.job_settled(JOB, "42", False, AWARE)
    assert kept.getJobInfo(*JOB)["thread"] == 4711
    assert kept.getJobInfo(*JOB)["completed"] == START


def test_a_job_belongs_to_the_poll_in_which_it_started(kept):
    poll = kept.current
    start(kept)
    kept.begin_poll(START + 5 * SECOND)
    kept.job_settled(JOB, "42", False, AWARE + 6 * SECOND)
    assert kept.getJobInfo(*JOB)["poll id"] == poll.key


def test_a_job_may_start_before_the_first_poll():
    kept = records.Records()
    assert kept.current is None
    start(kept)
    assert kept.current is kept.polls.first()
    assert kept.getJobInfo(*JOB)["poll id"] == kept.current.key
    assert kept.getStatistics()["started"] == 1


def test_only_the_database_name_can_be_left_out(kept):
    start(kept)
    assert kept.getJobInfo(17) == kept.getJobInfo(*JOB)
    with pytest.raises(KeyError, match=r"\(18, 'unnamed'\)"):
        kept.getJobInfo(18, "unnamed")
    with pytest.raises(KeyError, match="18"):
        kept.getJobInfo(18)


def test_what_is_told_of_unknown_jobs_changes_nothing(kept):
    before = kept.getStatistics()
    kept.job_settled(JOB, "42", False, AWARE)
    kept.job_reassigned(JOB)
    kept.job_rescheduled(JOB, AWARE)
    kept.job_waits(JOB)
    assert kept.getStatistics() == before
    with pytest.raises(KeyError):
        kept.getJobInfo(*JOB)


def test_ended_jobs_are_bounded_and_active_ones_are_not():
    kept = records.Records(jobs_size=10)
    for oid in range(50):
        start(kept, (oid, "unnamed"))
    assert len(kept.active_ids()) == 50
    for oid in range(50):
        kept.job_settled((oid, "unnamed"), "42", False, AWARE)
    assert kept.getJobInfo(40, "unnamed")["result"] == "42"
    with pytest.raises(KeyError):
        kept.getJobInfo(39, "unnamed")


def test_long_texts_lose_their_middle(kept):
    text = "first" + "." * 50_000 + "last"
    start(kept, call=text)
    kept.job_settled(JOB, text, True, AWARE)
    for key in "call", "result":
        shown = kept.getJobInfo(*JOB)[key]
        assert len(shown) < records.TEXT_KEPT + 100
        assert shown.startswith("first") and shown.endswith("last")
        assert "... 40009 characters ..." in shown


def test_texts_up_to_the_limit_are_kept_whole(kept):
    text = "x" * records.TEXT_KEPT
    start(kept, call=text)
    assert kept.getJobInfo(*JOB)["call"] == text


# What threads do now


def test_active_jobs_are_listed_newest_first(kept):
    ids = [start(kept, (oid, "unnamed")) for oid in range(4)]
    assert kept.active_ids() == ids[::-1]
    kept.job_settled(ids[0], "42", False, AWARE)
    kept.job_waits(ids[1])
    kept.job_reassigned(ids[2])
    assert kept.active_ids() == [ids[3]]
    kept.job_rescheduled(ids[3], AWARE)
    assert kept.active_ids() == []


def test_a_job_that_is_performed_again_is_the_newest(kept):
    first, second = start(kept, (1, "unnamed")), start(kept, (2, "unnamed"))
    kept.job_rescheduled(first, AWARE)
    start(kept, first)
    assert kept.active_ids() == [first, second]


def test_active_jobs_can_be_those_of_a_queue_or_an_agent(kept):
    mine = start(kept, (1, "unnamed"))
    mail = start(kept, (2, "unnamed"), queue="mail")
    other = start(kept, (3, "unnamed"), agent="other")
    assert kept.active_ids(queue="") == [other, mine]
    assert kept.active_ids(agent="main") == [mail, mine]
    assert kept.active_ids("mail", "other") == []


# Polls


def test_the_current_poll_is_the_newest(kept):
    first = kept.current
    second = kept.begin_poll(AWARE + SECOND)
    assert kept.current is kept.polls.first() is second
    assert kept.polls.last() is first
    assert second == {}


def test_polls_are_bounded():
    kept = records.Records(polls_size=3)
    for number in range(5):
        kept.begin_poll(START + number * SECOND)
    assert len(kept.polls) == 3


def test_a_poll_tells_of_its_agents(kept):
    poll = kept.current
    kept.agent_polled(poll, "", "main", iter([JOB]), 2, 3)
    kept.jobs_claimed(poll, "", "main", [(18, "unnamed")])
    kept.jobs_claimed(poll, "", "main", [(19, "unnamed")])
    assert poll == {
        "": {
            "main": {
                "active jobs": [JOB],
                "error": None,
                "len": 2,
                "new jobs": [(18, "unnamed"), (19, "unnamed")],
                "size": 3,
            }
        }
    }


def test_a_later_look_in_the_same_interval_keeps_claims_and_errors(kept):
    poll, error = kept.current, object()
    kept.jobs_claimed(poll, "", "main", [JOB])
    kept.agent_polled(poll, "", "main", [], 0, 3)
    kept.agent_failed(poll, "", "main", error)
    kept.agent_polled(poll, "", "main", [JOB], 1, 5)
    assert poll[""]["main"] == {
        "active jobs": [JOB],
        "error": error,
        "len": 1,
        "new jobs": [JOB],
        "size": 5,
    }


def test_lists_of_ids_are_bounded(kept):
    ids = [(oid, "unnamed") for oid in range(1000)]
    kept.agent_polled(kept.current, "", "main", ids, 1000, 1000)
    for job_id in ids:
        kept.jobs_claimed(kept.current, "", "main", [job_id])
    record = kept.current[""]["main"]
    assert record["active jobs"] == record["new jobs"] == ids[-records.IDS_KEPT :]
    assert record["len"] == 1000


def test_a_copy_of_a_poll_does_not_change(kept):
    kept.jobs_claimed(kept.current, "", "main", [JOB])
    copy = kept.copied(kept.current)
    assert copy == kept.current
    assert type(copy) is dict
    kept.jobs_claimed(kept.current, "", "main", [JOB])
    kept.jobs_claimed(kept.current, "", "other", [JOB])
    assert list(copy[""]) == ["main"]
    assert copy[""]["main"]["new jobs"] == [JOB]


def test_polls_are_found_by_moment(kept):
    first = kept.current
    second = kept.begin_poll(START + SECOND)
    assert kept.getPollInfo() is second
    assert kept.getPollInfo(at=first.key) is first
    assert kept.getPollInfo(at=first.utc_timestamp) is first
    assert kept.getPollInfo(before=second.key) is first
    assert kept.getPollInfo(before=first.key - 16) is first
    assert kept.getPollInfo(before=first.key) is None


def test_without_polls_none_is_found():
    assert records.Records().getPollInfo() is None
    assert list(records.Records().iterPolls()) == []


def test_polls_are_iterated_newest_first_within_limits(kept):
    for number in range(1, 6):
        kept.begin_poll(START + number * SECOND)

    def found(**limits):
        polls = kept.iterPolls(**limits)
        return [(poll.utc_timestamp - START).seconds for poll in polls]

    assert found() == [5, 4, 3, 2, 1, 0]
    assert found(count=2) == [5, 4]
    assert found(at=START + 3 * SECOND, count=2) == [3, 2]
    assert found(before=START + 3 * SECOND, since=START + SECOND) == [2, 1]


def test_bad_limits_are_refused_before_iteration(kept):
    with pytest.raises(ValueError, match="found both"):
        kept.iterPolls(at=1, before=1)
    with pytest.raises(TypeError, match="found 'x'"):
        kept.iterPolls(since="x")


# Metrics


def test_the_queue_counts_all_its_jobs(kept):
    for oid, failed in enumerate([False, False, True]):
        kept.job_settled(start(kept, (oid, "unnamed")), "42", failed, AWARE)
    kept.job_rescheduled(start(kept), AWARE)
    kept.job_rescheduled(JOB, AWARE)  # not active any more
    start(kept, queue="mail")
    kept.jobs_interrupted("mail", 2)
    counts = kept.metrics()["counts"]
    assert counts[""] == {
        "failed": 1,
        "interrupted": 0,
        "retried": 1,
        "started": 4,
        "succeeded": 2,
    }
    assert (counts["mail"]["started"], counts["mail"]["interrupted"]) == (1, 2)


def test_counts_do_not_go_with_their_period(kept):
    kept.job_settled(start(kept), "42", False, AWARE)
    kept.begin_poll(START + 3600 * SECOND)
    assert kept.getStatistics()["started"] == 0
    assert kept.metrics()["counts"][""]["started"] == 1
    start(kept)
    assert kept.metrics()["counts"][""]["started"] == 2


def test_times_are_observed(kept):
    kept.observe("", "main", 0.002, 1.5, True)
    data = kept.metrics()
    assert data["latency"]["", "main", True]["sum"] == 0.002
    assert data["duration"]["", "main", True]["sum"] == 1.5


# Bounds and threads


def test_memory_does_not_grow_with_the_number_of_jobs():
    kept = records.Records()

    def work(polls, first):
        for number in range(first, first + polls):
            poll = kept.begin_poll(START + number * 5 * SECOND)
            for oid in range(number * 1000, number * 1000 + 1000):
                job_id = (oid, "unnamed")
                kept.jobs_claimed(poll, "", "main", [job_id])
                start(kept, job_id)
                kept.job_settled(job_id, str(oid), False, AWARE)

    tracemalloc.start()
    try:
        work(10, 0)
        before = tracemalloc.get_traced_memory()[0]
        work(40, 10)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    # A poll may keep IDS_KEPT ids of about 150 bytes, and we made 40 of 1000.
    assert grown < 40 * records.IDS_KEPT * 200


class CountingLock:
    """Tells how often it was taken."""

    def __init__(self):
        self.lock = threading.RLock()
        self.taken = 0

    def __enter__(self):
        self.lock.acquire()
        self.taken += 1

    def __exit__(self, *error):
        self.lock.release()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("begin_poll", (START,)),
        ("agent_polled", (polls.PollInfo(START), "", "main", [], 0, 3)),
        ("agent_failed", (polls.PollInfo(START), "", "main", None)),
        ("queue_polled", (polls.PollInfo(START), "")),
        ("jobs_claimed", (polls.PollInfo(START), "", "main", [])),
        ("copied", (polls.PollInfo(START),)),
        ("job_started", (JOB, "", "main", "call", (), 1, AWARE)),
        ("job_settled", (JOB, "42", False, AWARE)),
        ("job_reassigned", (JOB,)),
        ("job_rescheduled", (JOB, AWARE)),
        ("job_waits", (JOB,)),
        ("jobs_interrupted", ("",)),
        ("observe", ("", "main", 1, 1, False)),
        ("getJobInfo", (1, "unnamed")),
        ("active_ids", ()),
        ("getStatistics", ()),
        ("metrics", ()),
    ],
)
def test_every_method_takes_the_lock(kept, name, arguments):
    start(kept, (1, "unnamed"))
    kept._lock = CountingLock()
    getattr(kept, name)(*arguments)
    assert kept._lock.taken


@pytest.mark.parametrize(
    "use",
    [
        list,
        lambda kept: kept.first(),
        lambda kept: kept.last(),
        lambda kept: kept.at(START),
        lambda kept: kept.before(START),
        lambda kept: list(kept.iter()),
        lambda kept: kept.periods(),
        lambda kept: kept.add(polls.PollInfo(START)),
    ],
)
def test_everybody_who_uses_the_polls_takes_the_lock(use):
    lock = CountingLock()
    kept = polls.Polls(lock=lock)
    kept.add(polls.PollInfo(START))
    before = lock.taken
    use(kept)
    assert lock.taken > before


def test_the_polls_share_the_lock(kept):
    assert kept.polls._lock is kept._lock


def test_many_threads_lose_nothing():
    kept = records.Records(jobs_size=50, polls_size=20)
    kept.begin_poll(START)
    stop = threading.Event()
    problems = []

    def guarded(function, *args):
        try:
            function(*args)
        except Exception as problem:
            problems.append(problem)

    def perform(worker):
        for number in range(2000):
            job_id = start(kept, (worker * 10_000 + number, "unnamed"), f"q{worker}")
            kept.job_settled(job_id, "42", number % 2 == 0, AWARE)

    def poll():
        number = 0
        while not stop.is_set():
            number += 1
            record = kept.begin_poll(
                START + number * datetime.timedelta(microseconds=1)
            )
            for queue in "abc":
                kept.agent_polled(record, queue, "main", [JOB], 1, 3)
                kept.jobs_claimed(record, queue, "main", [JOB])

    def look():
        while not stop.is_set():
            kept.getStatistics(since=kept.polls.first().key)
            for record in kept.iterPolls(count=5):
                kept.copied(record)
            for job_id in kept.active_ids():
                try:
                    kept.getJobInfo(*job_id)
                except KeyError:
                    pass  # ended, and forgotten

    workers = [threading.Thread(target=guarded, args=(perform, n)) for n in range(4)]
    others = [threading.Thread(target=guarded, args=(each,)) for each in (poll, look)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in workers + others:
            thread.start()
        for thread in workers:
            thread.join(60)
    finally:
        stop.set()
        sys.setswitchinterval(interval)
    for thread in others:
        thread.join(60)
    assert not problems
    assert kept.active_ids() == []
    found = kept.getStatistics()
    assert found["started"] == 8000
    assert found["successful"] == found["failed"] == 4000
