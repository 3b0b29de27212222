# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Stopping a dispatcher before its database, or its process, ends.

Without this nothing is lost: the next start, or another process, takes over what
was left.  It only takes longer.  What can end, and how it is noticed:

* the database is closed: its `close` stops the dispatcher first;
* SIGINT or SIGTERM: a handler stops the dispatcher, then calls the one that was
  there before, or ends the process with SystemExit(0) or KeyboardInterrupt;
* the process ends in another orderly way: `atexit`.

A second signal does not wait for what the first has begun.
"""

import atexit
import os
import signal
import threading
from typing import Any

from .utils import log

_SIGNALS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGBREAK")
    if hasattr(signal, name)
]

#: Seconds beyond the dispatcher's grace in which it should have ended.
MARGIN = 5


class Guard:
    """Stops `dispatcher` in time, once.

    Any thread may call any method, also a signal's handler in the midst of another
    call.  So there is no lock: who is first to do something is told by `_claim`.
    """

    def __init__(self, dispatcher: Any) -> None:
        self.dispatcher = dispatcher
        self._pid = os.getpid()
        self._claims: dict[str, tuple[int, object]] = {}
        self._ended = threading.Event()

    def start(self, signals: bool) -> None:
        """Begin to watch.  `signals` are watched from the main thread only."""
        self._wrap_close()
        atexit.register(self.stop)
        _guards.append(self)
        if signals and threading.current_thread() is threading.main_thread():
            _install_handlers()

    def stop(self) -> None:
        """Stop the dispatcher; return when it has ended or its grace is over.

        Called again meanwhile, it returns with the first call, or at once when it
        interrupts that.  Does nothing in a fork, which has no dispatcher.
        """
        if self._pid != os.getpid():
            return
        owner = self._claim("stop")
        if owner is None:
            try:
                self._stop()
            finally:
                self.forget()
                _restore_handlers()
        elif owner != threading.get_ident():
            self._ended.wait(self._patience)

    def forget(self) -> None:
        """Watch no more: the dispatcher has ended.  May be called twice."""
        if self._claim("forget") is None:
            self._unwrap_close()
            atexit.unregister(self.stop)
            _guards.remove(self)
            self._ended.set()

    @property
    def _patience(self) -> float:
        return self.dispatcher.grace + MARGIN

    def _claim(self, what: str) -> int | None:
        """None for the first who calls this, for others the first one's thread."""
        mine = threading.get_ident(), object()
        owner = self._claims.setdefault(what, mine)
        return None if owner is mine else owner[0]

    def _stop(self) -> None:
        dispatcher = self.dispatcher
        thread = dispatcher.thread
        if thread is None or not thread.is_alive():
            dispatcher.deactivate()
            return
        # Not dispatcher.stop(): it may wait for ever, and we hold up the process.
        dispatcher.reactor.callFromThread(stop_reactor, dispatcher.reactor)
        if thread is threading.current_thread():
            dispatcher.deactivate()
            return
        thread.join(self._patience)
        if thread.is_alive():
            log.error(
                "dispatcher %s did not end within %s seconds",
                dispatcher.UUID,
                self._patience,
            )

    # The database.

    def _wrap_close(self) -> None:
        db = self.dispatcher.db
        self._close_before = vars(db).get("close")
        original = db.close

        def close() -> None:
            """Stop the dispatcher, then close."""
            self.stop()
            original()

        self._close = db.close = close

    def _unwrap_close(self) -> None:
        attributes = vars(self.dispatcher.db)
        # Unless somebody has wrapped it once more.
        if attributes.get("close") is self._close:
            if self._close_before is None:
                del attributes["close"]
            else:
                attributes["close"] = self._close_before


#: Those that watch now.
_guards: list[Guard] = []


def stop_reactor(reactor: Any) -> None:
    """Stop a reactor that may have stopped already.  In its own thread."""
    if reactor.running:
        reactor.stop()


class Handler:
    """Handles one signal: stops all dispatchers, then does what was done before."""

    def __init__(self, number: int, previous: Any) -> None:
        self.number = number
        self.previous = previous

    def __call__(self, number: int, frame: Any) -> Any:
        log.info("signal %s: stopping", signal.Signals(number).name)
        for guard in list(_guards):
            guard.stop()
        if callable(self.previous):
            return self.previous(number, frame)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(0)


def _install_handlers() -> None:
    for number in _SIGNALS:
        previous = signal.getsignal(number)
        # None is one that was not installed from Python, and cannot be called.
        if previous not in (None, signal.SIG_IGN) and not isinstance(previous, Handler):
            signal.signal(number, Handler(number, previous))


def _restore_handlers() -> None:
    """Undo `_install_handlers` when there is nothing left to stop."""
    if _guards or threading.current_thread() is not threading.main_thread():
        return
    for number in _SIGNALS:
        handler = signal.getsignal(number)
        if isinstance(handler, Handler):
            signal.signal(number, handler.previous)
