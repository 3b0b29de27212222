# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Queues: where clients put jobs and dispatchers take them.

What waits is kept by `pending`; this module decides who may be put and who may
be claimed.  A put writes the job, its companion and what `pending` says; a
claim writes the job, `pending`, and the quotas that the job names.
"""

import datetime
from collections.abc import Callable, Iterator
from typing import Any

import zope.component
from persistent import Persistent
from persistent.interfaces import IPersistent
from ZODB.interfaces import IConnection
from zope.interface import implementer

from . import clock
from .containers import Mapping
from .errors import (
    BadStatusError,
    NotInQueueError,
    TimeoutError,
)
from .interfaces import KEY, NEW, PENDING, IJob, IQueue, IQueues, IUUID
from .keys import front_key, new_key
from .membership import Dispatchers
from .pending import Pending
from .quota import Quotas
from .storable import check_storable
from .utils import as_utc, log

#: In the lane of a job under which a process has died: see `Queue.claim_some`.
SUSPECT = "\0suspect"


@implementer(IQueue)
class Queue(Persistent):
    """See `IQueue`."""

    name: str | None = None
    parent: Any = None
    default_begin_by: datetime.timedelta | None = datetime.timedelta(hours=1)
    paused = False

    def __init__(self):
        self._pending = Pending()
        self.quotas = Quotas()
        self.quotas.parent = self
        self.dispatchers = Dispatchers(self)
        self.dispatchers.parent = self

    # Putting.

    def put(
        self,
        item: Any,
        begin_after: datetime.datetime | None = None,
        begin_by: datetime.timedelta | None = None,
        failure_log_level: int | None = None,
        retry_policy_factory: Any = None,
    ) -> Any:
        """See `IQueue`."""
        job = IJob(item)
        self._check_new(job)
        lane = self._lane(job)
        now = clock.micros(clock.utcnow())
        if begin_after is not None:
            job.begin_after = begin_after
            due = max(now, job._begin_after)
        else:
            # One that was here before keeps its place.
            due = job._begin_after = job._begin_after or now
        if begin_by is not None:
            job.begin_by = begin_by
        elif job.begin_by is None and self.default_begin_by is not None:
            job.begin_by = self.default_begin_by
        if failure_log_level is not None:
            job.failure_log_level = failure_log_level
        if retry_policy_factory is not None:
            job.retry_policy_factory = retry_policy_factory
        check_storable(job, self._p_jar)
        job.assignerUUID = zope.component.queryUtility(IUUID)
        self._add(job, due, lane)
        return job

    def _check_new(self, job: Any) -> None:
        if job.status != NEW:
            raise BadStatusError(
                "can only put a job with NEW status", job=job, expected=(NEW,)
            )
        if job.parent is not None:
            raise ValueError(f"{job!r} belongs to {job.parent!r}, expected nobody")

    def _lane(self, job: Any) -> tuple[str, ...]:
        names = job.quota_names
        for name in names:
            if name not in self.quotas:
                raise ValueError("unknown quota name", name)
        lane = tuple(sorted(set(names)))
        return (*lane, SUSPECT) if job.deaths else lane

    def _add(self, job: Any, due: int, lane: tuple[str, ...], front: bool = False):
        if self._p_jar is not None and job._p_jar is None:
            # Here and not where something else may refer to it first.
            self._p_jar.add(job)
        job.parent = self
        self._pending.put(front_key(due) if front else new_key(due), job, lane)

    def putBack(self, job: Any) -> None:
        """See `IQueue`."""
        self._return(job)
        self._add(job, clock.micros(clock.utcnow()), self._known_lane(job), front=True)

    def reschedule(self, job: Any, when: datetime.timedelta | datetime.datetime | bool):
        """Return a job to be performed at `when`; at the front if that is now.

        `when` is a timedelta from now, a datetime, or True for now.  The caller
        takes it from the agent.  Does not commit.
        """
        now = clock.utcnow()
        if when is True:
            when = datetime.timedelta()
        due = as_utc(when) if isinstance(when, datetime.datetime) else now + when
        if due <= now:
            self.putBack(job)
            return
        self._return(job)
        job.begin_after = due
        self._add(job, job._begin_after, self._known_lane(job))

    def _return(self, job: Any) -> None:
        if job.status == PENDING:
            raise BadStatusError("the job waits in a queue already", job=job)
        if job.status != NEW:
            job._step(PENDING)

    def _known_lane(self, job: Any) -> tuple[str, ...]:
        """The lane of a job that was here before; removed quotas are ignored."""
        lane = tuple(sorted(set(job.quota_names)))
        return (*lane, SUSPECT) if job.deaths else lane

    def put_later(
        self,
        function: Callable,
        when: datetime.timedelta | datetime.datetime | None = None,
        args: tuple = (),
    ) -> Any:
        """Put a job of the machinery's own, without a deadline; return it."""
        job = IJob(function)
        job.args.extend(args)
        if isinstance(when, datetime.timedelta):
            when = clock.utcnow() + when
        self.put(job, begin_after=when)
        job.begin_by = None
        return job

    # Claiming.

    def claim(
        self, filter: Callable[[Any], Any] | None = None, default: Any = None
    ) -> Any:
        """See `IQueue`."""
        while True:
            jobs = self.claim_some(1, filter)
            if jobs:
                return jobs[0]
            if not self._pending.more_to_file:
                return default

    def claim_some(
        self,
        count: int,
        filter: Callable[[Any], Any] | None = None,
        agent: Any = None,
    ) -> list:
        """Take up to `count` due jobs that pass `filter`, first ones first.

        With an `agent`, at most one job under which a process has died is
        handed to its dispatcher at a time: so a job that kills its process is
        told from those that happened to be there.
        """
        if self.paused or count < 1:
            return []
        jobs: list = []
        now = clock.micros(clock.utcnow())
        blocked = _Blocked(self, agent)
        for entry in self._pending.iter_due(now, blocked):
            taken = self._take(entry, now, filter)
            if taken is not None:
                blocked.note(entry.lane)
                jobs.append(taken)
                if len(jobs) == count:
                    break
        return jobs

    def _take(self, entry: Any, now: int, filter: Callable | None) -> Any:
        job = entry.job
        try:
            expired = _is_expired(job, now)
        except Exception:
            # Broken for good, or for this process: out of the way, not lost.
            log.exception("a job in queue %r cannot be loaded; set aside", self.name)
            self._pending.set_aside(entry)
            return None
        if not expired and filter is not None and not filter(job):
            return None
        self._pending.take(entry)
        job.parent = None
        if expired:
            return _failing(job)
        for name in job.quota_names:
            if name in self.quotas:
                self.quotas[name].add(job)
        return job

    def release(self, job: Any) -> None:
        """Give back the places of `job` in the quotas that it names."""
        for name in job.quota_names:
            quota = self.quotas.get(name)
            if quota is not None:
                quota.discard(job)

    def pause(self) -> None:
        """See `IQueue`."""
        self.paused = True

    def resume(self) -> None:
        """See `IQueue`."""
        self.paused = False

    # As a collection.

    def pull(self, index: int = 0) -> Any:
        """See `IQueue`."""
        job = self._pending.pull(index)
        job.parent = None
        return job

    def remove(self, job: Any) -> None:
        """See `IQueue`."""
        try:
            self._pending.remove(job)
        except LookupError:
            raise NotInQueueError(job=job, queue=self) from None
        job.parent = None

    def withdraw(self, job: Any) -> None:
        """Remove a job, if it is here, whose end is decided; it stays ours."""
        try:
            self._pending.remove(job)
        except LookupError:
            pass

    def refile(self, job: Any, quota_names: tuple[str, ...]) -> None:
        """The quota names of a waiting job are about to become these."""
        lane = tuple(sorted(set(quota_names)))
        self._pending.relane(job, (*lane, SUSPECT) if job.deaths else lane)

    def next_due(self) -> datetime.datetime | None:
        """When the first job that is not yet due will be; None if none is known."""
        due = self._pending.next_due(clock.micros(clock.utcnow()))
        return None if due is None else clock.from_micros(due)

    def __len__(self) -> int:
        return len(self._pending)

    def __bool__(self) -> bool:
        return len(self) > 0

    def __iter__(self) -> Iterator[Any]:
        return iter(self._pending)

    def __getitem__(self, index: int) -> Any:
        return self._pending[index]


class _Blocked:
    """Tells `pending` which lanes have no room, during one claim.

    Called with a lane; quotas are cleaned once, when first met filled.
    """

    def __init__(self, queue: Queue, agent: Any):
        self.queue = queue
        self.agent = agent
        self._cleaned: set[str] = set()
        self._suspect_held: bool | None = None

    def __call__(self, lane: tuple[str, ...]) -> bool:
        return any(map(self._is_full, lane))

    def _is_full(self, name: str) -> bool:
        if name == SUSPECT:
            return self._has_suspect()
        quota = self.queue.quotas.get(name)
        if quota is None:
            return False
        if quota.filled and name not in self._cleaned:
            self._cleaned.add(name)
            quota.clean()
        return quota.filled

    def _has_suspect(self) -> bool:
        if self.agent is None:
            return False
        if self._suspect_held is None:
            agents = self.agent.parent.values()
            self._suspect_held = any(job.deaths for agent in agents for job in agent)
        return self._suspect_held

    def note(self, lane: tuple[str, ...]) -> None:
        """A job of `lane` was taken."""
        if SUSPECT in lane:
            self._suspect_held = True


def _is_expired(job: Any, now: int) -> bool:
    if job.begin_by is None or job._active_start is not None:
        return False
    return job._begin_after + job.begin_by // clock.MICROSECOND < now


def _failing(job: Any) -> Any:
    """A job that makes `job` fail, since it was not begun in time."""
    wrapper = IJob(job.fail)
    wrapper.args.append(TimeoutError)
    wrapper.begin_after = clock.utcnow()
    job._parent = wrapper
    return wrapper


@implementer(IQueues)
class Queues(Mapping):
    """See `IQueues`."""

    def _check(self, key: Any, value: Any) -> None:
        if not IQueue.providedBy(value):
            raise ValueError("value must be IQueue")


@zope.component.adapter(IPersistent)
@implementer(IQueue)
def getDefaultQueue(context: Any) -> Any:
    """The queue named '' of the database of a persistent object."""
    root = IConnection(context).root()
    try:
        return root[KEY][""]
    except KeyError:
        raise LookupError(
            f"found no queue: expected root[{KEY!r}][''] in database "
            f"{IConnection(context).db().database_name!r}; is a queue installed?"
        ) from None
