# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""What the dispatcher remembers of its polls and jobs, in memory only.

`Records` is the whole of it.  It is bounded by number and age, whatever the
throughput, except for the jobs that threads perform just now.
"""

import datetime
import itertools
import threading
from collections.abc import Iterable, Iterator

from .failure import Failure
from .jobinfo import COMPLETED, REASSIGNED, RESCHEDULED, JobInfo, Jobs
from .polls import Moment, PollInfo, Polls, Span
from .stats import JobId, Statistics
from .totals import Totals

#: So many ids stay in each list of a poll record, the last of them.
IDS_KEPT = 200
#: Longer texts of calls and results lose their middle.
TEXT_KEPT = 10_000


class Records:
    """The memory of one dispatcher.  Any thread may call any method.

    `_lock` guards everything, the records of polls and their contents too; it is held
    for microseconds (milliseconds in `getStatistics`), and nothing else is awaited
    under it.  It is reentrant.  Times that come in are aware, unless a method says
    otherwise; times that go out are naive UTC.
    """

    def __init__(self, jobs_size: int = 200, polls_size: int = 400) -> None:
        self._lock = threading.RLock()
        self._current: PollInfo | None = None
        self._jobs = Jobs(jobs_size)
        self._totals = Totals()
        self.polls = Polls(polls_size, self._lock)
        self._statistics = Statistics(self.polls, self._jobs, self._totals)

    # The poller tells.

    @property
    def current(self) -> PollInfo | None:
        """The poll of the present interval; None before the first."""
        return self._current

    def begin_poll(self, now: datetime.datetime) -> PollInfo:
        """Make a record for the interval that begins now (naive UTC, or aware)."""
        poll = PollInfo(now)
        with self._lock:
            self._current = self.polls.add(poll)
        return poll

    def agent_polled(
        self,
        poll: PollInfo,
        queue_name: str,
        agent_name: str,
        active: Iterable[JobId],
        length: int,
        size: int,
    ) -> None:
        """Note what the database said of an agent."""
        active = list(active)[-IDS_KEPT:]
        with self._lock:
            record = self._record(poll, queue_name, agent_name)
            record["active jobs"] = active
            record["len"] = length
            record["size"] = size

    def queue_polled(self, poll: PollInfo, queue_name: str) -> None:
        """Note that there is a queue, with agents of ours or without."""
        with self._lock:
            poll.setdefault(queue_name, {})

    def agent_failed(
        self, poll: PollInfo, queue_name: str, agent_name: str, error: Failure
    ) -> None:
        """Note that an agent could not claim."""
        with self._lock:
            self._record(poll, queue_name, agent_name)["error"] = error

    def jobs_claimed(
        self, poll: PollInfo, queue_name: str, agent_name: str, ids: Iterable[JobId]
    ) -> None:
        """Note the ids of jobs that an agent claimed in the interval of `poll`."""
        with self._lock:
            new = self._record(poll, queue_name, agent_name)["new jobs"]
            new.extend(ids)
            del new[:-IDS_KEPT]

    def copied(self, poll: PollInfo) -> dict:
        """Return the contents of `poll` as plain data that nobody changes."""
        with self._lock:
            return {
                queue_name: {
                    agent_name: {
                        key: list(value) if isinstance(value, list) else value
                        for key, value in record.items()
                    }
                    for agent_name, record in agents.items()
                }
                for queue_name, agents in poll.items()
            }

    # The workers tell.

    def job_started(
        self,
        job_id: JobId,
        queue_name: str,
        agent_name: str,
        call: str,
        quota_names: Iterable[str],
        thread: int | None,
        now: datetime.datetime,
        round: int | None = None,
    ) -> None:
        """A thread begins to perform a job; it counts for the current poll.

        `call` is the text that shows the job, `thread` the thread's ident, `round`
        the number of the round that it shares with others.
        """
        call, quota_names = _shortened(call), tuple(quota_names)
        with self._lock:
            poll = self._current
            if poll is None:
                poll = self.begin_poll(now)
            tally = self._statistics.tally(poll, queue_name, agent_name)
            tally.started += 1
            tally.counts.started += 1
            self._jobs.start(
                JobInfo(
                    job_id, queue_name, agent_name, call, quota_names, thread, now,
                    poll, tally, round,
                )
            )  # fmt: skip

    def job_left_round(self, job_id: JobId, thread: int | None) -> None:
        """The round of a job was broken off; `thread` performs it alone."""
        with self._lock:
            self._jobs.leave_round(job_id, thread)

    def job_settled(
        self, job_id: JobId, result_text: str, failed: bool, now: datetime.datetime
    ) -> None:
        """The job has its result.  Without effect when it was not unsettled."""
        result_text = _shortened(result_text)
        with self._lock:
            info = self._jobs.end(job_id, COMPLETED, now, failed, result_text)
            if info is not None and failed:
                info.tally.counts.failed += 1
            elif info is not None:
                info.tally.counts.succeeded += 1

    def job_reassigned(self, job_id: JobId) -> None:
        """The job was taken away meanwhile; how it ended is not known here."""
        with self._lock:
            self._jobs.end(job_id, REASSIGNED)

    def job_rescheduled(self, job_id: JobId, now: datetime.datetime) -> None:
        """The job went back to its queue: neither successful nor failed.

        Counts as retried in the metrics.
        """
        with self._lock:
            info = self._jobs.end(job_id, RESCHEDULED, now)
            if info is not None:
                info.tally.counts.retried += 1

    def job_waits(self, job_id: JobId) -> None:
        """The job is still active in the database, but no thread works on it.

        It can be settled later.  Those of which nothing is heard are forgotten, the
        oldest first, and count as unknown.
        """
        with self._lock:
            self._jobs.wait(job_id)

    def jobs_interrupted(self, queue_name: str, count: int = 1) -> None:
        """Count jobs of the queue whose dispatcher died, for the metrics."""
        with self._lock:
            self._totals.of(queue_name).interrupted += count

    def observe(
        self,
        queue: str,
        agent: str,
        latency_seconds: float | None,
        duration_seconds: float,
        failed: bool,
    ) -> None:
        """See `stats.Totals`: the time a job waited and took, for the metrics."""
        with self._lock:
            self._totals.observe(
                queue, agent, latency_seconds, duration_seconds, failed
            )

    # Others ask.

    def getJobInfo(self, oid: int, database_name: str | None = None) -> dict:
        """Return what is known of a job's last performance here.

        Without a name the only job with this oid is meant.  KeyError with the id when
        it is not remembered, or not the only one.  'completed' and 'result' are None
        until it is settled; 'thread' is None while it waits, and after it went back
        or was taken away.
        """
        with self._lock:
            return self._jobs.get(oid, database_name).as_dict()

    def active_ids(
        self, queue: str | None = None, agent: str | None = None
    ) -> list[JobId]:
        """Return the ids of the jobs that threads perform now, newest first."""
        with self._lock:
            return [
                info.id
                for info in self._jobs.active()
                if queue in (None, info.queue) and agent in (None, info.agent)
            ]

    def getPollInfo(
        self, at: Moment | None = None, before: Moment | None = None
    ) -> PollInfo | None:
        """Return the newest poll (at or before a moment), or None."""
        return next(self.iterPolls(at, before), None)

    def iterPolls(
        self,
        at: Moment | None = None,
        before: Moment | None = None,
        since: Moment | None = None,
        count: int | None = None,
    ) -> Iterator[PollInfo]:
        """Iterate over the polls of a `Span`, newest first, `count` at most."""
        return itertools.islice(self.polls.within(Span(at, before, since)), count)

    def getStatistics(
        self,
        at: Moment | None = None,
        before: Moment | None = None,
        since: Moment | None = None,
        queue: str | None = None,
        agent: str | None = None,
    ) -> dict:
        """See `stats.Statistics`."""
        with self._lock:
            return self._statistics.getStatistics(at, before, since, queue, agent)

    def metrics(self) -> dict[str, dict]:
        """See `stats.Totals.as_dict`: counts and histograms since the beginning."""
        with self._lock:
            return self._totals.as_dict()

    def _record(self, poll: PollInfo, queue_name: str, agent_name: str) -> dict:
        agents = poll.setdefault(queue_name, {})
        if agent_name not in agents:
            agents[agent_name] = {
                "active jobs": [], "error": None, "len": 0, "new jobs": [], "size": 0,
            }  # fmt: skip
        return agents[agent_name]


def _shortened(text: str) -> str:
    if len(text) <= TEXT_KEPT:
        return text
    half = TEXT_KEPT // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters ...\n{text[-half:]}"
