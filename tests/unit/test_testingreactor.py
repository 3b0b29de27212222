# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
import datetime
import threading

import pytest
import transaction
from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from zope.interface.verify import verifyObject

from zc.async_ import clock, testing
from zc.async_.interfaces import IReactor

UTC = datetime.UTC
HOUR = datetime.timedelta(hours=1)


def seconds(count):
    return testing.START + datetime.timedelta(seconds=count)


@pytest.fixture(autouse=True)
def machine_clock():
    yield
    testing.tearDownDatetime()


@pytest.fixture
def reactor():
    reactor = testing.Reactor()
    reactor.start()
    yield reactor
    reactor.stop()


class Calls(list):
    """Notes when it is called, and with what."""

    def __call__(self, *args, **kwargs):
        self.append((clock.utcnow(), args, kwargs))

    @property
    def times(self):
        return [when for when, args, kwargs in self]


# The clock


def test_the_clock_of_a_test_begins_where_documents_say():
    testing.setUpDatetime()
    found = clock.utcnow()
    assert found == datetime.datetime(2006, 8, 10, 15, 44, 22, 211, tzinfo=UTC)


def test_the_clock_can_begin_elsewhere():
    when = datetime.datetime(2030, 1, 1, tzinfo=UTC)
    testing.setUpDatetime(when)
    assert clock.utcnow() == when


def test_datetime_itself_is_not_touched():
    testing.setUpDatetime()
    assert datetime.datetime.now(UTC) - clock.utcnow() > 10_000 * HOUR


def test_the_clock_can_be_set_forwards_and_backwards():
    testing.setUpDatetime()
    testing.set_now(testing.START + HOUR)
    assert clock.utcnow() == testing.START + HOUR
    testing.set_now(testing.START - HOUR)
    assert clock.utcnow() == testing.START - HOUR


def test_a_naive_time_is_refused():
    testing.setUpDatetime()
    with pytest.raises(ValueError, match="aware"):
        testing.set_now(datetime.datetime(2006, 8, 10))
    assert clock.utcnow() == testing.START


def test_the_clock_of_the_machine_cannot_be_set():
    with pytest.raises(RuntimeError, match="setUpDatetime"):
        testing.set_now(testing.START)


def test_tear_down_gives_the_time_of_the_machine_back_and_may_be_repeated():
    testing.setUpDatetime()
    testing.tearDownDatetime()
    testing.tearDownDatetime()
    assert abs(clock.utcnow() - datetime.datetime.now(UTC)) < HOUR


def test_at_time_gives_the_clock_back_that_was_there():
    testing.setUpDatetime()
    with testing.at_time(testing.START + HOUR):
        assert clock.utcnow() == testing.START + HOUR
    assert clock.utcnow() == testing.START
    testing.set_now(testing.START + 2 * HOUR)
    assert clock.utcnow() == testing.START + 2 * HOUR


def test_at_time_gives_the_time_of_the_machine_back_after_an_error():
    with pytest.raises(KeyError):
        with testing.at_time(testing.START):
            raise KeyError
    assert clock.utcnow() > testing.START + HOUR


# The reactor


def test_it_is_what_a_dispatcher_needs():
    assert verifyObject(IReactor, testing.Reactor())
    assert testing.Reactor.hand_driven


def test_start_stops_the_clock_and_stop_gives_it_back():
    reactor = testing.Reactor()
    assert not reactor.running
    reactor.start()
    assert reactor.running
    assert clock.utcnow() == testing.START
    reactor.stop()
    reactor.stop()
    assert not reactor.running
    assert clock.utcnow() > testing.START + HOUR


def test_it_can_be_started_again_but_not_twice(reactor):
    with pytest.raises(RuntimeError, match="runs already"):
        reactor.start()
    reactor.stop()
    reactor.start(testing.START + HOUR)
    assert clock.utcnow() == testing.START + HOUR


def test_time_flies_exactly(reactor):
    for _ in range(10):
        assert reactor.time_flies(0.1) == 0
    assert clock.utcnow() == seconds(1)
    assert reactor.seconds() == seconds(1).timestamp()


def test_each_call_is_made_at_its_due_time(reactor):
    calls = Calls()
    reactor.callLater(3, calls, "late")
    reactor.callLater(1.5, calls, "early", key=1)
    reactor.callLater(8, calls, "too late")
    assert reactor.time_flies(5) == 2
    assert calls == [
        (seconds(1.5), ("early",), {"key": 1}),
        (seconds(3), ("late",), {}),
    ]
    assert clock.utcnow() == seconds(5)


def test_a_call_may_ask_for_more_calls(reactor):
    calls = Calls()

    def repeat():
        calls()
        reactor.callLater(2, repeat)

    reactor.callLater(0, repeat)
    assert reactor.time_flies(5) == 3
    assert calls.times == [seconds(0), seconds(2), seconds(4)]


def test_calls_that_are_due_at_once_are_made_in_their_order(reactor):
    calls = Calls()
    for number in range(5):
        reactor.callLater(1, calls, number)
    reactor.time_flies(1)
    assert [args for when, args, kwargs in calls] == [(n,) for n in range(5)]


def test_calls_that_the_clock_was_set_past_are_made_at_their_due_times(reactor):
    calls = Calls()

    def repeat():
        calls()
        reactor.callLater(600, repeat)

    reactor.callLater(600, repeat)
    testing.set_now(testing.START + HOUR)
    assert not calls
    assert reactor.time_flies(5) == 6
    assert calls.times == [seconds(600 * n) for n in range(1, 7)]
    assert clock.utcnow() == seconds(3605)


def test_an_overdue_call_is_due_now(reactor):
    calls = Calls()
    reactor.callLater(1, calls)
    testing.set_now(testing.START + HOUR)
    assert reactor.time_passes()
    assert calls.times == [seconds(1)]
    assert clock.utcnow() == seconds(3600)


def test_going_back_for_a_call_does_not_count_twice_on_the_monotonic_clock(reactor):
    before = clock.monotonic()
    for delay in (10, 20, 30):
        reactor.callLater(delay, Calls())
    testing.set_now(seconds(25))
    reactor.time_flies(10)
    assert clock.monotonic() - before == 35
    assert clock.utcnow() == seconds(35)


def test_a_call_may_set_the_clock(reactor):
    calls = Calls()
    reactor.callLater(1, testing.set_now, seconds(100))
    reactor.callLater(2, calls)
    assert reactor.time_flies(5) == 2
    assert calls.times == [seconds(2)]
    assert clock.utcnow() == seconds(100)


def test_time_passes_makes_one_call_that_is_due_now(reactor):
    calls = Calls()
    reactor.callFromThread(calls, 1)
    reactor.callFromThread(calls, 2)
    reactor.callLater(1, calls, 3)
    assert reactor.time_passes()
    assert len(calls) == 1
    assert reactor.time_passes()
    assert not reactor.time_passes()
    assert [args for when, args, kwargs in calls] == [(1,), (2,)]
    assert clock.utcnow() == testing.START


def test_a_negative_delay_is_refused(reactor):
    with pytest.raises(ValueError, match="-1"):
        reactor.callLater(-1, print)


def test_a_call_can_be_cancelled(reactor):
    calls = Calls()
    call = reactor.callLater(1, calls)
    assert call.active()
    assert call.getTime() == reactor.seconds() + 1
    call.cancel()
    assert not call.active()
    assert reactor.time_flies(2) == 0
    with pytest.raises(AlreadyCancelled):
        call.cancel()


def test_a_call_that_was_made_cannot_be_cancelled(reactor):
    call = reactor.callLater(1, Calls())
    reactor.time_flies(1)
    assert not call.active()
    with pytest.raises(AlreadyCalled):
        call.cancel()


def test_an_error_of_a_call_reaches_the_test_and_the_rest_is_not_lost(reactor):
    calls = Calls()

    def fail():
        raise KeyError

    reactor.callLater(1, fail)
    reactor.callLater(2, calls)
    with pytest.raises(KeyError):
        reactor.time_flies(5)
    assert clock.utcnow() == seconds(1)
    assert reactor.time_flies(1) == 1


def test_time_does_not_fly_before_the_start():
    with pytest.raises(RuntimeError, match=r"start\(\)"):
        testing.Reactor().time_flies(1)


def test_what_is_called_when_running_is_called_when_time_passes():
    reactor, calls = testing.Reactor(), Calls()
    reactor.callWhenRunning(calls, 1)
    reactor.start()
    reactor.callWhenRunning(calls, 2)
    assert not calls
    assert reactor.time_flies(1) == 2
    reactor.stop()
    assert calls == [(testing.START, (1,), {}), (testing.START, (2,), {})]


def test_the_caller_sees_what_was_done(reactor):
    with testing.environment() as env:
        env.root["value"] = 1
        transaction.commit()

        def change():
            manager = transaction.TransactionManager()
            connection = env.db.open(transaction_manager=manager)
            connection.root()["value"] += 1
            manager.commit()
            connection.close()

        reactor.callLater(1, change)
        reactor.time_flies(1)
        assert env.root["value"] == 2
        reactor.callFromThread(change)
        reactor.time_passes()
        assert env.root["value"] == 3


def test_what_the_caller_has_changed_is_kept(reactor):
    with testing.environment() as env:
        env.root["mine"] = 1
        reactor.callLater(1, print)
        reactor.time_flies(1)
        assert env.root["mine"] == 1


def test_other_threads_may_ask_for_calls(reactor):
    calls = Calls()

    def ask():
        for _ in range(200):
            reactor.callFromThread(calls)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    made = 0
    while any(thread.is_alive() for thread in threads):
        made += reactor.time_flies(0.001)
    made += reactor.time_flies(0.001)
    assert made == len(calls) == 800


def test_call_in_thread_uses_another_thread(reactor):
    found, done = [], threading.Event()

    def note(value):
        found.append((value, threading.current_thread()))
        done.set()

    reactor.callInThread(note, value=1)
    assert done.wait(5)
    assert found[0][0] == 1
    assert found[0][1] is not threading.current_thread()


def test_stop_waits_for_its_threads():
    reactor, gate, done = testing.Reactor(), threading.Event(), []

    def work():
        gate.wait(5)
        done.append(True)

    reactor.start()
    reactor.callInThread(work)
    reactor.addSystemEventTrigger("before", "shutdown", gate.set)
    reactor.stop()
    assert done


def test_triggers_are_run_at_stop_in_the_order_of_their_phases(reactor):
    found = []
    reactor.addSystemEventTrigger("after", "shutdown", found.append, "after")
    reactor.addSystemEventTrigger("before", "shutdown", found.append, "first")
    number = reactor.addSystemEventTrigger("before", "shutdown", found.append, "no")
    reactor.addSystemEventTrigger("before", "shutdown", found.append, "second")
    reactor.removeSystemEventTrigger(number)
    reactor.stop()
    reactor.stop()
    assert found == ["first", "second", "after"]


@pytest.mark.parametrize("phase, event", [("before", "startup"), ("later", "shutdown")])
def test_other_events_are_refused(reactor, phase, event):
    with pytest.raises(ValueError, match="expected one of"):
        reactor.addSystemEventTrigger(phase, event, print)


def test_the_clock_is_given_back_when_a_trigger_fails(reactor):
    reactor.addSystemEventTrigger("before", "shutdown", {}.__getitem__, 1)
    with pytest.raises(KeyError):
        reactor.stop()
    assert clock.utcnow() > testing.START + HOUR


def test_calls_are_forgotten_at_stop(reactor):
    calls = Calls()
    reactor.callLater(1, calls)
    reactor.stop()
    reactor.start()
    assert reactor.time_flies(5) == 0
