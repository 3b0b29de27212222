# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Records of single jobs: the last performance of each that is remembered.

Nothing here has a lock: `records.Records` calls it under its own.
"""

import datetime
import itertools
from collections import OrderedDict
from collections.abc import Iterable, Iterator

from .polls import PollInfo, naive
from .stats import ZERO, JobId, Tally

ACTIVE = "active"
WAITING = "waiting"
COMPLETED = "completed"
RESCHEDULED = "rescheduled"
REASSIGNED = "reassigned"


class JobInfo:
    """One performance of a job, from its start in a thread of this dispatcher.

    `state` is one of the constants of this module; `ended` tells when the dispatcher
    was done with it, if it knows.  Times are aware.
    """

    __slots__ = (
        "agent", "call", "ended", "failed", "id", "poll", "queue", "quota_names",
        "result", "round", "started", "state", "tally", "thread",
    )  # fmt: skip

    def __init__(
        self,
        job_id: JobId,
        queue: str,
        agent: str,
        call: str,
        quota_names: tuple[str, ...],
        thread: int | None,
        started: datetime.datetime,
        poll: PollInfo,
        tally: Tally,
        round: int | None = None,
    ) -> None:
        self.round = round
        self.id = job_id
        self.queue = queue
        self.agent = agent
        self.call = call
        self.quota_names = quota_names
        self.thread = thread
        self.started = started
        self.poll = poll
        self.tally = tally
        self.state = ACTIVE
        self.ended: datetime.datetime | None = None
        self.failed = False
        self.result: str | None = None

    @property
    def completed(self) -> datetime.datetime | None:
        return self.ended if self.state == COMPLETED else None

    def count(self, tally: Tally) -> None:
        """Count how it ended, if it has."""
        if self.completed is not None:
            duration = max(self.completed - self.started, ZERO)  # clocks are set back
            end = tally.fail if self.failed else tally.succeed
            end(duration, self.id)
        elif self.state in (RESCHEDULED, REASSIGNED):
            tally.unknown += 1

    def as_dict(self) -> dict:
        """Return what `getJobInfo` shows; times are naive there.

        The number of the round only when the job shared one.
        """
        completed = self.completed
        shown = {
            "call": self.call,
            "completed": None if completed is None else naive(completed),
            "failed": self.failed,
            "poll id": self.poll.key,
            "quota names": self.quota_names,
            "result": self.result,
            "started": naive(self.started),
            "thread": self.thread if self.state in (ACTIVE, COMPLETED) else None,
            "queue": self.queue,
            "agent": self.agent,
            "reassigned": self.state == REASSIGNED,
        }
        if self.round is not None:
            shown["round"] = self.round
        return shown


class Jobs:
    """The last performance of each job, as far as it is remembered.

    Those that threads work on are all kept.  Of those that wait, and of those that
    ended, the last `size` each.  Used by `Records`, under its lock.
    """

    def __init__(self, size: int) -> None:
        if size < 0:
            raise ValueError(f"expected how many ended jobs to keep, found {size!r}")
        self.size = size
        self._active: dict[JobId, JobInfo] = {}
        self._waiting: OrderedDict[JobId, JobInfo] = OrderedDict()
        self._ended: OrderedDict[JobId, JobInfo] = OrderedDict()

    def start(self, info: JobInfo) -> None:
        job_id = info.id
        if job_id in self._active:
            self.end(job_id, RESCHEDULED)  # nobody told how that one ended
        earlier = self._ended.pop(job_id, None) or self._waiting.pop(job_id, None)
        if earlier is not None:
            self._forget(earlier)
        self._active[job_id] = info

    def leave_round(self, job_id: JobId, thread: int | None) -> None:
        info = self._active.get(job_id)
        if info is not None:
            info.round = None
            info.thread = thread

    def wait(self, job_id: JobId) -> None:
        info = self._active.pop(job_id, None)
        if info is not None:
            info.state = WAITING
            self._waiting[job_id] = info
            if len(self._waiting) > self.size:
                self._forget(self._waiting.popitem(last=False)[1])

    def end(
        self,
        job_id: JobId,
        state: str,
        ended: datetime.datetime | None = None,
        failed: bool = False,
        result: str | None = None,
    ) -> JobInfo | None:
        """Note how an unsettled performance ended, and return it; None without one."""
        info = self._active.pop(job_id, None) or self._waiting.pop(job_id, None)
        if info is None:
            return None
        info.state = state
        info.ended = ended
        info.failed = failed
        info.result = result
        info.count(info.tally)
        self._ended[job_id] = info
        if len(self._ended) > self.size:
            self._forget(self._ended.popitem(last=False)[1])
        return info

    def active(self) -> Iterable[JobInfo]:
        """Those that threads work on, newest first."""
        return reversed(self._active.values())

    def unsettled(self) -> Iterable[JobInfo]:
        return itertools.chain(self._active.values(), self._waiting.values())

    def __iter__(self) -> Iterator[JobInfo]:
        return itertools.chain(self.unsettled(), self._ended.values())

    def get(self, oid: int, database_name: str | None) -> JobInfo:
        """See `Records.getJobInfo`."""
        if database_name is None:
            names = sorted(info.id[1] for info in self if info.id[0] == oid)
            if len(names) != 1:
                raise KeyError(oid, f"expected in one database, found in {names}")
            database_name = names[0]
        job_id = (oid, database_name)
        for known in (self._active, self._waiting, self._ended):
            if job_id in known:
                return known[job_id]
        raise KeyError(job_id)

    def _forget(self, info: JobInfo) -> None:
        info.poll.period.incomplete = True
        if info.state == WAITING:  # Nobody will know how it ended.
            info.tally.unknown += 1
