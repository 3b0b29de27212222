# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Having the jobs performed: start a dispatcher, watch, stop it.

This is what an application that embeds zc.async has to do.  It is not much.
"""

import os
import signal
import threading
from types import FrameType
from typing import Any

import zope.component

from zc.async_ import configure
from zc.async_.interfaces import KEY, IQueue
from zc.async_.subscribers import AgentInstaller

from .progress import Display, Figures, View, what_it_does

GLANCE = 0.2  # seconds between two looks


def start(db: Any, threads: int, size: int) -> Any:
    """Start to perform jobs; return the dispatcher.

    Its agent holds `size` jobs and has `threads` of them performed at once.
    """
    _resize(db, threads, size)
    zope.component.provideHandler(AgentInstaller("main", size=size, threads=threads))
    return configure.start(db)


def _resize(db: Any, threads: int, size: int) -> None:
    """Agents are stored: those of an earlier start get the new sizes."""
    with db.transaction() as connection:
        for queue in connection.root().get(KEY, {}).values():
            for agents in queue.dispatchers.values():
                for agent in agents.values():
                    agent.size, agent.threads = size, threads


def begin(db: Any) -> None:
    """Put the first job, unless that has been done.  Commits.

    A build that was interrupted needs nothing: what is to be done is in the queue.
    """
    with db.transaction() as connection:
        root = connection.root()
        if root["wordindex"].started is None:
            root["wordindex"].start(IQueue(root))


def watch(db: Any, dispatcher: Any, display: Display, stopping: "Stopping") -> Figures:
    """Show how it goes until it is finished, or someone wants to stop."""
    view = View(db)
    try:
        while True:
            figures = view.look()
            display.show(figures, what_it_does(dispatcher, figures.folders))
            if figures.finished or figures.trouble or stopping.wait(GLANCE):
                return figures
    finally:
        view.close()


class Stopping:
    """Notes SIGINT (Ctrl-C) and SIGTERM while it is the context.

    The second one ends the process at once.  There is nothing that this could break.
    """

    def __init__(self) -> None:
        self.status = 0
        self._event = threading.Event()
        self._former: dict[int, Any] = {}

    def __enter__(self) -> "Stopping":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._former[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.status:
            os._exit(self.status)
        self.status = 128 + number
        self._event.set()

    def wait(self, seconds: float) -> bool:
        """Whether there was a signal, now or within so many seconds."""
        return self._event.wait(seconds)
