# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""What a running job can ask about its surroundings: `zc.async.local`.

The values belong to the thread that performs the job and are set by whoever
performs it.  The live annotations look at the job from another connection, so
that they see, and show, the present while the job's own transaction is open.
"""

import datetime
import threading
import time
from typing import Any, NamedTuple

from .transactions import elsewhere

_MISSING = object()


class Surroundings(NamedTuple):
    """What is set around a job: see the getters of `local`.

    `also_settled` gathers other jobs that get their results in the transaction of
    this one.
    """

    job: Any = None
    dispatcher: Any = None
    observer: Any = None
    also_settled: Any = None


NOWHERE = Surroundings()


class Local(threading.local):
    """The functions of `zc.async.local`; each answers for the calling thread."""

    surroundings = NOWHERE

    def getJob(self) -> Any:
        """The job, or callback, that this thread performs, or None."""
        return self.surroundings.job

    def getQueue(self) -> Any:
        """The queue that the job came from, or None."""
        job = self.surroundings.job
        return None if job is None else job.queue

    def getAgent(self) -> Any:
        """The agent that holds the job, or None."""
        job = self.surroundings.job
        return None if job is None else job.agent

    def getDispatcher(self) -> Any:
        """The dispatcher of this worker thread, or None."""
        return self.surroundings.dispatcher

    def getReactor(self) -> Any:
        """The reactor of this thread's dispatcher, or None."""
        dispatcher = self.surroundings.dispatcher
        return None if dispatcher is None else dispatcher.reactor

    def setLiveAnnotation(self, name: str, value: Any, job: Any = None) -> None:
        """Set an annotation of `job`, by default of this one, for all to see now.

        Commits in a connection of its own, and repeats that after a conflict.
        `value` is a plain, immutable value: not persistent, not changed later.
        """

        def write(there: Any) -> None:
            there.annotations[name] = value

        elsewhere(self._subject(job), write, f"live annotation {name!r}")

    def getLiveAnnotation(
        self,
        name: str,
        default: Any = None,
        timeout: float = 0,
        poll: float = 1,
        job: Any = None,
    ) -> Any:
        """The annotation `name` of `job`, by default of this one, as it is now.

        Waits up to `timeout` seconds until there is one, looking every `poll`
        seconds, and returns `default` if none appeared.
        """

        def read(there: Any) -> Any:
            return there.annotations.get(name, _MISSING)

        subject = self._subject(job)
        deadline = time.monotonic() + _seconds(timeout)
        while True:
            value = elsewhere(subject, read, f"live annotation {name!r}")
            if value is not _MISSING:
                return value
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return default
            # There is no event for another process's commit in general.
            threading.Event().wait(min(max(_seconds(poll), 0.005), remaining))

    def _subject(self, job: Any) -> Any:
        subject = self.surroundings.job if job is None else job
        if subject is None:
            raise LookupError("no job is performed in this thread; pass job=...")
        if subject._p_jar is None or subject._p_oid is None:
            raise ValueError(
                f"{subject!r} is not stored, so no other connection has it"
            )
        return subject


def _seconds(value: float | datetime.timedelta) -> float:
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    return float(value)


local = Local()
