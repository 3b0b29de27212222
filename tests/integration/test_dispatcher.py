# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""A dispatcher that runs: activation, claims, wake-ups, settings, records, its end."""

import datetime
import logging
import operator
import threading
import time
import uuid

import pytest
import transaction
import zope.component
from twisted.internet.selectreactor import SelectReactor
from ZODB.DB import DB
from ZODB.DemoStorage import DemoStorage
from zope.processlifetime import DatabaseOpened

from tests.support.gates import gate, pass_gate
from tests.support.site import runtime_threads
from tests.support.waking import wait_until
from zc.async_ import clock, dispatcher, instanceuuid, local
from zc.async_.agent import Agent
from zc.async_.interfaces import (
    COMPLETED,
    PENDING,
    IDispatcherActivated,
    IDispatcherDeactivated,
    IDispatcherRegistered,
)
from zc.async_.job import Job
from zc.async_.queue import Queue
from zc.async_.subscribers import AgentInstaller, QueueInstaller
from zc.async_.testing import Reactor, get_poll

SOON = 2.0  # seconds: generous, for busy machines; far below the interval of 60


def raise_error():
    raise LookupError("this job fails")


def thread_id():
    return threading.get_ident()


def surroundings():
    return (
        local.getDispatcher().UUID,
        local.getQueue().name,
        local.getAgent().name,
        local.getReactor() is local.getDispatcher().reactor,
        local.getJob().status,
    )


def events_of(*interfaces):
    """A list that gathers the events of these kinds."""
    found = []
    for interface in interfaces:

        def note(event, interface=interface):
            found.append((interface, event.object))

        zope.component.provideHandler(note, (interface,))
    return found


# Activation.


def test_it_registers_and_activates_in_each_queue_and_says_so(site):
    events = events_of(
        IDispatcherRegistered, IDispatcherActivated, IDispatcherDeactivated
    )
    made = site.dispatcher()
    agents = site.agents(made)
    assert agents.UUID == made.UUID
    assert agents.activated is not None
    assert agents.last_ping is not None
    assert list(agents) == ["main"]
    assert [kind for kind, _ in events] == [IDispatcherRegistered, IDispatcherActivated]
    assert {each._p_oid for _, each in events} == {agents._p_oid}
    made.stop()
    site.sync()
    assert site.agents(made).activated is None
    assert [kind for kind, _ in events][2:] == [IDispatcherDeactivated]


def test_it_is_found_by_its_identity(site):
    made = site.dispatcher(start=False)
    assert dispatcher.get(made.UUID) is made
    assert dispatcher.get(uuid.uuid4()) is None
    assert dispatcher.get() is None
    other = site.dispatcher(start=False, uuid=zope.component.getUtility(
        dispatcher.IUUID))  # fmt: skip
    assert dispatcher.get() is other
    assert dispatcher.pop(made.UUID) is made
    assert dispatcher.get(made.UUID) is None


def test_an_identity_works_once_at_a_time_in_a_process(site):
    made = site.dispatcher()
    with pytest.raises(ValueError, match="active in this process already"):
        dispatcher.Dispatcher(site.db, uuid=made.UUID)
    made.stop()
    again = site.dispatcher(uuid=made.UUID)
    assert dispatcher.get(made.UUID) is again


def test_it_joins_a_queue_that_is_made_later_at_once(site):
    made = site.dispatcher()
    site.queues["later"] = Queue()
    transaction.commit()
    site.wait_until(lambda: site.is_activated(made, "later"), "activation", SOON)
    assert site.wait(site.put(operator.mul, 2, 3, queue_name="later")) == 6


def test_an_agent_that_is_added_later_claims_at_once(site):
    made = site.dispatcher()
    del site.agents(made)["main"]
    transaction.commit()
    job = site.put(operator.mul, 2, 3)
    site.agents(made)["another"] = Agent(size=1)
    transaction.commit()
    assert site.wait(job, seconds=SOON) == 6
    assert job.agent.name == "another"


def test_the_status_tells_whether_it_runs(site):
    made = site.dispatcher(start=False, poll_interval=7)
    info = made.getStatusInfo()
    assert info == {
        "status": "STOPPED",
        "poll interval": datetime.timedelta(seconds=7),
        "time since last poll": None,
        "uptime": None,
        "uuid": made.UUID,
    }
    site.start(made)
    info = made.getStatusInfo()
    assert info["status"] == "RUNNING"
    assert datetime.timedelta() <= info["time since last poll"]
    assert datetime.timedelta() < info["uptime"] < datetime.timedelta(minutes=1)
    made.stop()
    assert made.getStatusInfo()["status"] == "STOPPED"


def test_a_poll_that_does_not_end_is_seen_in_the_status(site):
    made = site.dispatcher(poll_interval=0.05)
    site.agent(made).filter = wait_in_filter
    site.agent(made).chooser = None
    transaction.commit()
    site.put(operator.mul, 2, 3)
    gate("filter").wait_for()
    wait_until(lambda: made.getStatusInfo()["status"] == "STUCK", "the status STUCK")
    gate("filter").open()
    wait_until(lambda: made.getStatusInfo()["status"] == "RUNNING", "RUNNING again")


def wait_in_filter(job):
    gate("filter").enter()
    return True


# Pings.


def test_pings_do_not_wait_for_polls(site):
    made = site.dispatcher()
    agents, agent = site.agents(made), site.agent(made)
    agents.ping_interval = datetime.timedelta(milliseconds=50)
    agent.chooser, agent.filter = None, wait_in_filter
    transaction.commit()
    site.put(operator.mul, 2, 3)
    gate("filter").wait_for()  # from here on the poller does nothing
    site.sync()
    before = site.agents(made).last_ping
    site.wait_until(lambda: site.agents(made).last_ping > before, "a ping")
    assert not gate("filter").passed


# Jobs and their surroundings.


def test_jobs_are_performed_with_the_right_surroundings(site):
    made = site.dispatcher()
    assert site.wait(site.put(operator.mul, 14, 3)) == 42
    found = site.wait(site.put(surroundings))
    assert found == (made.UUID, "", "main", True, "active-status")
    assert local.getJob() is None and local.getDispatcher() is None


def test_threads_and_their_connections_are_kept(site):
    made = site.dispatcher()
    site.agent(made).threads = 1
    transaction.commit()
    wait_until(lambda: len(worker_threads()) == 1, "one thread")
    first, *others = [site.wait(site.put(thread_id)) for _ in range(4)]
    assert others == [first] * 3
    assert {made.getJobInfo(*ids)["thread"] for ids in claimed(made)} == {first}


def worker_threads():
    """The threads of agents: each is named after its queue and agent."""
    return [one for one in threading.enumerate() if one.name.startswith("zc.async /")]


def claimed(made):
    """The ids of all jobs that polls know as claimed."""
    return [
        ids
        for poll in made.polls
        for agents in poll.values()
        for record in agents.values()
        for ids in record["new jobs"]
    ]


def test_a_live_annotation_reaches_the_other_side_meanwhile(site):
    site.dispatcher()
    job = site.put(converse)
    site.wait_until(lambda: job.annotations.get("hello"), "the annotation")
    job.annotations["reply"] = "HIYA"
    transaction.commit()
    assert site.wait(job) == ("HIYA", "MISSING")


def converse():
    local.setLiveAnnotation("hello", "from thread!")
    reply = local.getLiveAnnotation("reply", timeout=10, poll=0.01)
    return reply, local.getJob().annotations.get("reply", "MISSING")


# Records.


def test_polls_and_jobs_are_on_record(site):
    made = site.dispatcher()
    job = site.put(operator.mul, 14, 3)
    site.wait(job)
    (ids,) = claimed(made)
    poll = made.polls.first()
    assert poll[""]["main"]["new jobs"] == [ids]
    assert poll[""]["main"]["size"] == 3
    assert poll[""]["main"]["error"] is None
    assert ids[1] == "unnamed" and isinstance(ids[0], int)
    info = wait_until(
        lambda: (info := made.getJobInfo(*ids))["completed"] and info, "the record"
    )
    assert info["call"] == repr(job)
    assert info["result"] == "42" and info["failed"] is False
    assert info["poll id"] == poll.key
    assert (info["queue"], info["agent"], info["quota names"]) == ("", "main", ())
    assert info["started"] <= info["completed"]
    assert info["reassigned"] is False
    with pytest.raises(KeyError):
        made.getJobInfo(0, "unnamed")


def test_a_failure_is_on_record_with_its_traceback(site):
    made = site.dispatcher()
    job = site.put(raise_error)
    result = site.wait(job)
    assert result.type is LookupError
    (ids,) = claimed(made)
    wait_until(lambda: not made.getActiveJobIds(), "the record")
    info = made.getJobInfo(*ids)
    assert info["failed"] is True
    assert "LookupError: this job fails" in info["result"]
    assert "raise_error" in info["result"]
    statistics = made.getStatistics()
    assert statistics["failed"] == 1 and statistics["longest failed"] == ids


def test_statistics_count_what_was_started_and_how_it_ended(site):
    made = site.dispatcher()
    site.wait(*[site.put(operator.mul, 2, number) for number in range(5)])
    running = site.put(pass_gate, "statistics")
    gate("statistics").wait_for()
    wait_until(lambda: len(made.getActiveJobIds()) == 1, "the other records")
    found = made.getStatistics()
    assert (found["started"], found["successful"], found["failed"]) == (6, 5, 0)
    assert found["longest active"] == found["shortest active"]
    assert made.getStatistics(queue="", agent="main")["started"] == 6
    assert made.getStatistics(queue="none")["started"] == 0
    gate("statistics").open()
    site.wait(running)
    wait_until(lambda: made.getStatistics()["successful"] == 6, "the sixth success")


def test_the_active_jobs_are_those_that_threads_work_on_now(site):
    made = site.dispatcher()
    assert made.getActiveJobIds() == []
    job = site.put(pass_gate, "active")
    gate("active").wait_for()
    (ids,) = made.getActiveJobIds()
    assert ids == claimed(made)[0]
    assert made.getActiveJobIds("", "main") == [ids]
    assert made.getActiveJobIds("another") == []
    gate("active").open()
    site.wait(job)
    wait_until(lambda: not made.getActiveJobIds(), "no active job")


def test_polls_are_found_by_key_and_by_time(site):
    made = site.dispatcher(poll_interval=0.05)
    wait_until(lambda: len(made.polls) >= 3, "three polls")
    newest, middle, *_ = made.iterPolls(count=3)
    assert made.getPollInfo(at=newest.key) is newest
    assert made.getPollInfo(at=middle.utc_timestamp) is middle
    assert made.getPollInfo(before=newest.key) is middle
    assert made.getPollInfo(before=middle.key - 16) is middle
    assert list(made.iterPolls(at=middle.key, since=middle.key)) == [middle]


def test_a_poll_record_stands_for_one_interval(site):
    made = site.dispatcher()
    site.wait(*[site.put(operator.mul, 2, number) for number in range(5)])
    assert len(made.polls) == 1
    assert len(claimed(made)) == 5


def test_what_an_agent_holds_is_shown_by_the_next_poll(site):
    made = site.dispatcher(poll_interval=0.05)
    job = site.put(pass_gate, "shown")
    gate("shown").wait_for()
    record = get_poll(made)[""]["main"]
    assert record["len"] == 1
    assert record["active jobs"] == made.getActiveJobIds()
    gate("shown").open()
    site.wait(job)


def test_a_chooser_that_raises_is_on_record_and_harms_no_running_job(site):
    made = site.dispatcher(poll_interval=0.05)
    running = site.put(pass_gate, "chooser")
    gate("chooser").wait_for()
    site.sync()
    site.agent(made).chooser = broken_chooser
    transaction.commit()

    def error():
        return made.polls.first()[""]["main"]["error"]

    assert wait_until(error, "the error").type is ZeroDivisionError
    gate("chooser").open()
    site.wait(running)
    waiting = site.put(operator.mul, 2, 3)
    site.sync()
    site.agent(made).chooser = choose
    transaction.commit()
    assert site.wait(waiting) == 6
    wait_until(lambda: error() is None, "no error")


def broken_chooser(agent):
    return 1 / 0


def choose(agent):
    return agent.queue.claim()


# The log.


def test_the_log_tells_of_activation_jobs_and_deactivation(site, caplog):
    caplog.set_level(logging.DEBUG, "zc.async")
    made = site.dispatcher()
    good, bad = site.put(operator.mul, 14, 3), site.put(raise_error)
    site.wait(good, bad)
    made.stop()
    events = messages(caplog, "zc.async.events")
    assert (logging.INFO, f"attempting to activate dispatcher {made.UUID}") in events
    assert (logging.INFO, f"deactivated dispatcher {made.UUID}") in events
    trace = messages(caplog, "zc.async.trace")
    assert any(text.startswith("poll ") for _, text in trace)
    (success,) = [text for _, text in trace if "succeeded" in text]
    assert success.startswith(f"{good!r} succeeded in thread ")
    assert success.endswith("with result:\n42")
    (error,) = [text for level, text in events if level == logging.ERROR]
    assert error.startswith(f"{bad!r} failed in thread ")
    assert "LookupError: this job fails" in error


def test_a_failure_is_logged_at_the_level_that_the_job_asks_for(site, caplog):
    caplog.set_level(logging.DEBUG, "zc.async")
    made = site.dispatcher()
    site.wait(site.put(raise_error, failure_log_level=logging.WARNING))
    made.stop()  # the outcome is logged after the commit that we have seen
    levels = [
        level for level, text in messages(caplog, "zc.async.events") if "failed" in text
    ]
    assert levels == [logging.WARNING]


def messages(caplog, name):
    return [
        (each.levelno, each.getMessage())
        for each in caplog.records
        if each.name == name
    ]


# The pool of connections.


def test_the_database_has_room_for_the_connections_of_poller_and_threads(site):
    before = site.db.getPoolSize()
    made = site.dispatcher()
    assert site.db.getPoolSize() == before + 1 + 3
    site.agent(made).size = 5
    transaction.commit()
    wait_until(lambda: site.db.getPoolSize() == before + 1 + 5, "two more")
    site.sync()
    del site.agents(made)["main"]
    transaction.commit()
    wait_until(lambda: site.db.getPoolSize() == before + 1, "those of the agent gone")
    made.stop()
    assert site.db.getPoolSize() == before


def test_there_is_room_before_the_threads_open_their_connections(site, caplog):
    made = site.dispatcher()
    site.agent(made).size = 40
    transaction.commit()
    jobs = [site.put(pass_gate, "room") for _ in range(40)]
    gate("room").wait_for(40)
    gate("room").open()
    site.wait(*jobs)
    assert "open connections" not in caplog.text


def test_it_looks_for_jobs_when_it_is_told_to(site):
    made = site.dispatcher()
    for listener in made._poller._listeners.values():
        listener.stop()  # as where a storage tells nobody of commits
    job = site.put(thread_id)
    made.wake()
    site.wait(job)


# Settings that change meanwhile.


def test_size_and_threads_can_be_changed_at_any_time(site):
    made = site.dispatcher()
    jobs = [site.put(pass_gate, "sizes") for _ in range(8)]
    gate("sizes").wait_for(3)
    site.sync()
    site.agent(made).size = 6
    transaction.commit()
    gate("sizes").wait_for(6)
    assert gate("sizes").arrived == 6
    site.sync()
    site.agent(made).threads = 1
    transaction.commit()
    gate("sizes").open()
    site.wait(*jobs)
    wait_until(lambda: len(worker_threads()) == 1, "one thread to be left")
    assert site.wait(site.put(operator.mul, 2, 3)) == 6


def test_an_agent_holds_more_than_its_threads_work_on(site):
    made = site.dispatcher()
    agent = site.agent(made)
    agent.size, agent.threads = 5, 2
    transaction.commit()
    wait_until(lambda: len(worker_threads()) == 2, "two threads")
    jobs = [site.put(pass_gate, "held") for _ in range(7)]
    gate("held").wait_for(2)
    site.wait_until(lambda: len(site.agent(made)) == 5, "five held")
    assert len(site.queue) == 2
    assert gate("held").arrived == 2
    gate("held").open()
    site.wait(*jobs)


def test_removing_an_agent_leaves_the_others_alone(site):
    made = site.dispatcher()
    site.agents(made)["another"] = Agent(filter=only_slow, size=1)
    transaction.commit()
    wait_until(lambda: len(worker_threads()) == 4, "the threads of both")
    main = [one for one in worker_threads() if one.name.endswith("/main")]
    running = site.put(pass_gate, "removal")
    gate("removal").wait_for()
    site.sync()
    holder = running.agent.name
    other = "main" if holder == "another" else "another"
    del site.agents(made)[other]
    transaction.commit()
    left = 4 - (3 if other == "main" else 1)
    wait_until(lambda: len(worker_threads()) == left, "the other's threads to end")
    assert running.status == "active-status"
    gate("removal").open()
    site.wait(running)
    if holder == "main":
        assert [one for one in worker_threads() if one in main] == main


def only_slow(job):
    return job.callable is pass_gate


def test_what_a_removed_agent_has_begun_is_done_by_another(site):
    site.root["count"] = 0
    transaction.commit()
    made = site.dispatcher()
    job = site.put(count_late, "removed")
    gate("removed").wait_for()
    site.sync()
    del site.agents(made)["main"]
    transaction.commit()
    assert job.status == PENDING and (job.interruptions, job.deaths) == (1, 0)
    site.agents(made)["another"] = Agent(size=1)
    transaction.commit()
    gate("removed").wait_for(2)
    gate("removed").open()
    site.wait(job)
    wait_until(lambda: len(worker_threads()) == 1, "the removed one's threads to end")
    site.sync()
    assert site.root["count"] == 1 and job.agent.name == "another"


def test_a_paused_queue_is_left_alone_until_it_is_resumed(site):
    site.dispatcher()
    site.queue.pause()
    transaction.commit()
    job = site.put(operator.mul, 2, 3)
    other = site.put(operator.mul, 2, 4)
    assert job.status == PENDING
    site.queue.resume()
    transaction.commit()
    assert site.wait(job, other, seconds=SOON) == [6, 8]


# Wake-ups, each far before the next poll.


def test_a_commit_wakes_it(site):
    site.dispatcher()
    began = time.monotonic()
    assert site.wait(site.put(operator.mul, 2, 3)) == 6
    assert time.monotonic() - began < SOON


def test_a_thread_that_comes_free_wakes_it(site):
    made = site.dispatcher()
    site.agent(made).size = 1
    transaction.commit()
    wait_until(lambda: len(worker_threads()) == 1, "one thread")
    first, second = site.put(pass_gate, "free"), site.put(operator.mul, 2, 3)
    gate("free").wait_for()
    site.sync()
    assert second.status != COMPLETED
    began = time.monotonic()
    gate("free").open()
    site.wait(first, second)
    assert time.monotonic() - began < SOON


def test_a_job_that_falls_due_wakes_it(site):
    site.dispatcher()
    due = clock.utcnow() + datetime.timedelta(milliseconds=300)
    job = site.put(operator.mul, 2, 3, begin_after=due)
    site.wait(job)
    assert datetime.timedelta() <= job.active_start - due
    assert job.active_start - due < datetime.timedelta(seconds=SOON)


def test_a_job_that_is_put_by_a_job_wakes_it(site):
    site.dispatcher()
    began = time.monotonic()
    assert site.wait(site.put(put_and_return)) == 42
    assert time.monotonic() - began < SOON


def put_and_return():
    return local.getQueue().put(Job(operator.mul, 21, 2))


def test_a_quota_that_comes_free_wakes_it(site):
    site.queue.quotas.create("one")
    transaction.commit()
    site.dispatcher()
    began = time.monotonic()
    jobs = [
        site.put(operator.mul, 2, number, quota_names=("one",)) for number in range(5)
    ]
    assert site.wait(*jobs) == [0, 2, 4, 6, 8]
    assert time.monotonic() - began < 2 * SOON


# The end.


def test_a_running_job_may_end_while_it_stops(site):
    made = site.dispatcher(grace=10)
    job = site.put(pass_gate, "grace", 5)
    gate("grace").wait_for()
    later = site.put(operator.mul, 2, 3, begin_after=in_an_hour())
    stopping = threading.Thread(target=made.stop)
    stopping.start()
    wait_until(lambda: made._poller is None, "the stop to begin")
    gate("grace").open()
    stopping.join(10)
    assert not stopping.is_alive()
    site.sync()
    assert job.status == COMPLETED and job.result == 5
    assert job.interruptions == 0
    assert later.status == PENDING
    assert list(site.queue) == [later]


def in_an_hour():
    return clock.utcnow() + datetime.timedelta(hours=1)


def test_what_holds_on_past_the_grace_is_handed_back_and_cannot_commit(site):
    site.root["count"] = 0
    transaction.commit()
    made = site.dispatcher(grace=0.1)
    job = site.put(count_late, "late")
    gate("late").wait_for()
    made.stop()
    site.sync()
    assert job.status == PENDING and list(site.queue) == [job]
    assert (job.interruptions, job.deaths) == (1, 0)
    assert len(site.agent(made)) == 0
    gate("late").open()
    wait_until(lambda: not worker_threads(), "the late thread to end")
    site.sync()
    assert job.status == PENDING and site.root["count"] == 0
    site.dispatcher()
    site.wait(job)
    assert site.root["count"] == 1


def count_late(name):
    root = local.getJob()._p_jar.root()
    gate(name).enter()
    root["count"] += 1


def test_jobs_that_no_thread_has_begun_go_back_without_being_interrupted(site):
    made = site.dispatcher(grace=0.1)
    agent = site.agent(made)
    agent.size, agent.threads = 6, 1
    transaction.commit()
    wait_until(lambda: len(worker_threads()) == 1, "one thread")
    jobs = [site.put(pass_gate, "unbegun") for _ in range(6)]
    gate("unbegun").wait_for()
    site.wait_until(lambda: len(site.agent(made)) == 6, "six held")
    made.stop()
    site.sync()
    assert len(site.queue) == 6
    assert sorted(job.interruptions for job in jobs) == [0, 0, 0, 0, 0, 1]
    assert sorted(job.attempts for job in jobs) == [0, 0, 0, 0, 0, 1]


def test_it_may_be_stopped_and_deactivated_twice(site):
    made = site.dispatcher()
    made.stop()
    made.stop()
    made.deactivate()
    assert made.activated is None


@pytest.mark.filterwarnings("error")
def test_a_database_that_was_closed_first_does_not_keep_it_from_ending(make_site):
    storage = DemoStorage()
    site = make_site()
    other = DB(storage, database_name="closed")
    QueueInstaller()(DatabaseOpened(other))
    made = site.dispatcher(start=False, db=other, grace=1)
    made.start()
    wait_until(lambda: made.getStatusInfo()["status"] == "RUNNING", "the first poll")
    wait_until(lambda: len(worker_threads()) == 3, "the threads")
    other.close()
    made.stop()
    assert made.activated is None
    made.join(5)
    assert not made.thread.is_alive()
    wait_until(lambda: not runtime_threads(), "all threads to end")


def test_it_can_be_started_again(site):
    made = site.dispatcher()
    assert site.wait(site.put(operator.mul, 2, 3)) == 6
    made.stop()
    made.join(5)
    job = site.put(operator.mul, 2, 4)
    assert job.status == PENDING
    site.start(made)
    assert site.wait(job) == 8


def test_a_job_can_stop_it(site):
    made = site.dispatcher(grace=0.2)
    site.put(stop_it)
    wait_until(lambda: made.activated is None, "the stop")
    made.join(5)
    assert not made.thread.is_alive()


def stop_it():
    made = local.getDispatcher()
    threading.Thread(target=made.stop, name="stopping").start()


def test_the_reactor_of_the_application_stops_it(site):
    reactor = SelectReactor()
    made = site.dispatcher(start=False, reactor=reactor)
    made.activate()
    thread = threading.Thread(
        target=reactor.run, kwargs={"installSignalHandlers": False}
    )
    thread.start()
    assert site.wait(site.put(operator.mul, 2, 3)) == 6
    reactor.callFromThread(reactor.stop)
    thread.join(10)
    assert not thread.is_alive()
    assert made.activated is None
    site.sync()
    assert site.agents(made).activated is None


# Its identity.


def test_a_ghost_of_this_instance_is_taken_over_at_once(site, tmp_path, monkeypatch):
    monkeypatch.setenv("ZC_ASYNC_UUID", str(tmp_path / "uuid.txt"))
    monkeypatch.setattr(instanceuuid, "UUID", instanceuuid.InstanceUUID())
    ghost = instanceuuid.UUID
    site.queue.dispatchers.register(ghost)
    agents = site.queue.dispatchers[ghost]
    agents.activate()
    transaction.commit()
    job = site.put(operator.mul, 2, 3)
    claimed_job = agents["main"].claimJob()
    assert claimed_job is job
    job._begin(clock.micros(clock.utcnow()))
    transaction.commit()
    began = time.monotonic()
    site.dispatcher(uuid=ghost)
    assert site.wait(job) == 6
    assert time.monotonic() - began < SOON
    assert (job.interruptions, job.deaths) == (1, 1)


def test_a_ghost_that_may_be_another_process_is_not_taken_over(site, caplog):
    other = uuid.uuid4()
    site.queue.dispatchers.register(other)
    site.queue.dispatchers[other].activate()
    transaction.commit()
    made = site.dispatcher(start=False, uuid=other, poll_interval=0.05)
    made.start()
    wait_until(lambda: len(made.polls) >= 3, "some polls")
    job = site.put(operator.mul, 2, 3)
    wait_until(lambda: len(made.polls) >= 6, "some more polls")
    site.sync()
    assert job.status == PENDING
    warnings = [text for _, text in messages(caplog, "zc.async.events")]
    assert len([text for text in warnings if "already activated" in text]) == 1
    made.stop()
    site.sync()
    assert site.agents(made).activated  # it is not ours to deactivate


# Driven by hand.


def test_driven_by_hand_it_polls_once_in_an_interval_and_never_otherwise(site):
    reactor = Reactor()
    made = site.dispatcher(start=False, reactor=reactor, poll_interval=5)
    reactor.start()
    try:
        made.activate()
        assert reactor.time_passes()
        assert len(made.polls) == 1
        job = site.put(operator.mul, 2, 3)
        assert reactor.time_flies(4.9) == 0
        assert job.status == PENDING and len(made.polls) == 1
        assert reactor.time_flies(0.1) == 1
        assert len(made.polls) == 2
        assert site.wait(job) == 6
        assert reactor.time_flies(50) == 10
        assert len(made.polls) == 12
    finally:
        reactor.stop()
    assert made.activated is None


def test_the_agent_installer_of_the_site_is_the_one_that_is_used(make_site):
    site = make_site(size=1)
    zope.component.provideHandler(AgentInstaller("second", size=2))
    made = site.dispatcher()
    assert {agent.name: agent.size for agent in site.agents(made).values()} == {
        "main": 1,
        "second": 2,
    }
