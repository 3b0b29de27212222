# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Where the Deferreds and coroutines that jobs return are waited for.

Deferreds are touched in the reactor's thread only.  Coroutines run on the
reactor's asyncio loop, or, where the reactor has none, on one of our own that is
started when first needed.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from .failure import sanitize

#: Seconds for coroutines to end that are cancelled.
PATIENCE = 1.0


class Loops:
    """The reactor of a dispatcher, and perhaps a loop beside it."""

    def __init__(self, reactor: Any):
        self._reactor = reactor
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def watch(self, awaited: Any, resume: Callable[[Any], None]) -> None:
        """Have `resume(value or Failure)` called when `awaited` is there.

        From any thread; `resume` is called in the reactor's or the loop's.
        """
        if isinstance(awaited, Deferred):
            self._reactor.callFromThread(awaited.addBoth, resume)
            return
        future = asyncio.run_coroutine_threadsafe(_await(awaited), self._asyncio_loop())
        future.add_done_callback(lambda done: resume(_value(done)))

    def _asyncio_loop(self) -> asyncio.AbstractEventLoop:
        loop = getattr(self._reactor, "_asyncioEventloop", None)
        if loop is not None:
            return loop
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_run, args=(self._loop,), name="zc.async loop", daemon=True
                )
                self._thread.start()
            return self._loop

    def stop(self) -> None:
        """End the loop of our own.  May be called twice."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    end_loop(loop)


def end_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what is not done on a loop that was stopped, and close it.

    In the loop's thread.  What does not end within `PATIENCE` seconds is left.
    """
    loop.run_until_complete(asyncio.sleep(0))  # what was about to begin, begins
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=PATIENCE))
    loop.close()


async def _await(awaited: Any) -> Any:
    return await awaited


def _value(done: Any) -> Any:
    try:
        return done.result()
    except BaseException as error:  # also a cancellation: it is the job's result
        return sanitize(error)
