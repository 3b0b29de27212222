# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Guards of stand-ins; that of real dispatchers is tested with the installers."""

import signal
import threading
import types

import pytest

from zc.async_ import shutdown
from zc.async_.shutdown import Guard


class Reactor:
    """Stops its dispatcher's thread when it is asked to."""

    running = True

    def __init__(self):
        self.stopping = threading.Event()

    def callFromThread(self, function, *args):
        function(*args)

    def stop(self):
        self.running = False
        self.stopping.set()


class Dispatcher:
    UUID = "some UUID"
    grace = 1

    def __init__(self, db):
        self.db = db
        self.deactivated = 0
        self.reactor = Reactor()
        self.thread = threading.Thread(target=self.reactor.stopping.wait, args=[20])

    def deactivate(self):
        self.deactivated += 1


class Database:
    def __init__(self):
        self.closed = 0

    def close(self):
        self.closed += 1


@pytest.fixture
def db():
    return Database()


@pytest.fixture
def guard(db):
    guard = Guard(Dispatcher(db))
    guard.dispatcher.thread.start()
    guard.start(signals=False)
    yield guard
    guard.stop()
    guard.dispatcher.thread.join(20)


@pytest.fixture(autouse=True)
def nothing_is_left():
    # What ended in another thread in an earlier test could not restore them.
    shutdown._restore_handlers()
    handlers = {number: signal.getsignal(number) for number in shutdown._SIGNALS}
    yield
    assert shutdown._guards == []
    found = {number: signal.getsignal(number) for number in shutdown._SIGNALS}
    assert found == handlers


def test_closing_stops_first(guard, db):
    order = []
    guard.dispatcher.reactor.stop = lambda: order.append(db.closed) or stopped()
    stopped = guard.dispatcher.reactor.stopping.set
    db.close()
    assert (order, db.closed) == ([0], 1)
    assert not guard.dispatcher.thread.is_alive()


def test_the_database_gets_its_close_back(guard, db):
    assert "close" in vars(db)
    guard.stop()
    assert "close" not in vars(db)
    db.close()
    assert db.closed == 1


def test_a_close_that_somebody_else_put_there_is_called_and_put_back(db):
    calls = []
    db.close = theirs = lambda: calls.append("theirs")
    guard = Guard(Dispatcher(db))
    guard.start(signals=False)
    db.close()
    assert calls == ["theirs"]
    assert db.close is theirs


def test_a_close_that_was_wrapped_once_more_still_works(guard, db):
    ours = db.close
    db.close = lambda: ours()
    db.close()
    assert db.closed == 1
    assert not guard.dispatcher.thread.is_alive()


def test_stopping_twice_stops_once(guard):
    guard.stop()
    guard.stop()
    assert not guard.dispatcher.thread.is_alive()
    guard.forget()


def test_one_that_ended_by_itself_is_only_deactivated(db):
    guard = Guard(Dispatcher(db))
    guard.start(signals=False)
    guard.stop()
    assert guard.dispatcher.deactivated == 1
    assert guard.dispatcher.reactor.running


def test_one_that_does_not_end_is_given_up_after_its_grace(guard, monkeypatch, caplog):
    monkeypatch.setattr(shutdown, "MARGIN", 0)
    guard.dispatcher.grace = 0.01
    guard.dispatcher.reactor.stop = lambda: None
    guard.stop()
    assert "did not end within 0.01 seconds" in caplog.text
    guard.dispatcher.reactor.stopping.set()


def test_who_comes_second_returns_when_the_first_has_stopped_it(guard):
    reactor, begun = guard.dispatcher.reactor, threading.Event()
    reactor.stop = begun.set
    first = threading.Thread(target=guard.stop)
    first.start()
    assert begun.wait(20)
    second = threading.Thread(target=guard.stop)
    second.start()
    second.join(0.05)
    assert second.is_alive()
    reactor.stopping.set()
    first.join(20)
    second.join(20)
    assert not first.is_alive() and not second.is_alive()


def test_a_fork_stops_nothing(guard, monkeypatch):
    monkeypatch.setattr(shutdown.os, "getpid", lambda: guard._pid + 1)
    guard.stop()
    assert guard.dispatcher.thread.is_alive()


# Signals


@pytest.fixture
def handled(db):
    """A guard that also watches signals."""
    guard = Guard(Dispatcher(db))
    guard.dispatcher.thread.start()
    guard.start(signals=True)
    yield guard
    guard.stop()
    guard.dispatcher.thread.join(20)


@pytest.mark.parametrize(
    "name, previous, error",
    [
        ("SIGINT", signal.SIG_DFL, KeyboardInterrupt),
        ("SIGTERM", signal.SIG_DFL, SystemExit),
        ("SIGTERM", lambda number, frame: [][number], IndexError),
    ],
)
def test_after_stopping_a_handler_does_what_was_done_before(
    handled, name, previous, error
):
    number = getattr(signal, name)
    with pytest.raises(error) as caught:
        shutdown.Handler(number, previous)(number, None)
    assert not handled.dispatcher.thread.is_alive()
    assert getattr(caught.value, "code", 0) == 0


def test_a_second_signal_does_not_wait_for_the_first(handled):
    """It comes in the same thread, in the midst of the first one's wait."""
    number, order = signal.SIGTERM, []
    second = shutdown.Handler(number, lambda *args: order.append("second"))
    reactor = handled.dispatcher.reactor

    def stop():
        second(number, None)
        order.append("stopping")
        reactor.stopping.set()

    reactor.stop = stop
    first = shutdown.Handler(number, lambda *args: order.append("first"))
    first(number, None)
    assert order == ["second", "stopping", "first"]


def test_handlers_are_given_back_when_the_last_guard_stops(handled, db):
    installed = signal.getsignal(signal.SIGTERM)
    assert isinstance(installed, shutdown.Handler)
    other = Guard(Dispatcher(Database()))
    other.start(signals=True)
    assert signal.getsignal(signal.SIGTERM) is installed
    other.stop()
    assert signal.getsignal(signal.SIGTERM) is installed
    handled.stop()
    assert signal.getsignal(signal.SIGTERM) is installed.previous


def test_handlers_that_nobody_can_call_are_left_alone(db, monkeypatch):
    monkeypatch.setattr(shutdown.signal, "getsignal", lambda number: None)
    monkeypatch.setattr(shutdown.signal, "signal", None)
    guard = Guard(Dispatcher(db))
    guard.start(signals=True)
    guard.stop()


def test_a_reactor_that_has_stopped_is_not_stopped_again():
    shutdown.stop_reactor(types.SimpleNamespace(running=False))
