# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Queues: where clients put jobs and dispatchers take them.

What waits is kept by `pending`; this module decides who may be put, `selection`
who may be claimed.  A put writes the job, its companion and what `pending` says; a
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
from .callables import reference
from .claiming import NO_LANE, Due, Lane
from .containers import Mapping
from .errors import BadStatusError, NotInQueueError, UnpicklableError
from .failure import is_failure
from .interfaces import COMPLETED, IUUID, KEY, NEW, PENDING, IJob, IQueue, IQueues
from .job import Job
from .keys import front_key, new_key
from .membership import Dispatchers, give_back
from .pending import Pending
from .quota import Quotas
from .selection import SUSPECT, Selection
from .storable import check_storable
from .transactions import raise_if_passing
from .utils import as_utc


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
        job = _as_job(item)
        if job.status == COMPLETED and is_failure(job.result):
            job._renew()
        self._check_new(job)
        lane = self._lane(job)
        now = clock.micros(clock.utcnow())
        if begin_after is not None:
            job.begin_after = begin_after
            due = max(now, job._begin_after)
        else:
            if job._begin_after is None:
                job._begin_after = now
            due = job._begin_after  # one that was here before keeps its place
        if begin_by is not None:
            job.begin_by = begin_by
        elif job.begin_by is None and self.default_begin_by is not None:
            job.begin_by = self.default_begin_by
        if failure_log_level is not None:
            job.failure_log_level = failure_log_level
        if retry_policy_factory is not None:
            job.retry_policy_factory = retry_policy_factory
        if isinstance(job, Job):
            job._prepare()
        check_storable(job, self._p_jar)
        job.assignerUUID = zope.component.queryUtility(IUUID)
        self._add(job, due, now, lane)
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
        return _lane_of(job, names)

    def _add(self, job: Any, due: int, now: int, lane: Lane) -> None:
        self._adopt(job)
        key = new_key(max(due, 0))  # negative ones are in front
        self._pending.put(key, job, lane, dated=due != now)

    def _add_to_front(self, job: Any) -> None:
        self._adopt(job)
        key = front_key(clock.micros(clock.utcnow()))
        self._pending.put(key, job, _lane_of(job, job.quota_names))

    def _adopt(self, job: Any) -> None:
        if self._p_jar is not None and job._p_jar is None:
            # Here and not where something else may refer to it first.
            self._p_jar.add(job)
        job.parent = self

    def putBack(self, job: Any) -> None:
        """See `IQueue`."""
        self._return(job)
        self._add_to_front(job)

    def reschedule(self, job: Any, when: datetime.timedelta | datetime.datetime | bool):
        """Return a job to be performed at `when`; at the front if that is now.

        `when` is a timedelta from now, a datetime, or True for now.  The caller
        takes it from the agent.  Does not commit.
        """
        now = clock.utcnow()
        due = _moment(when, now)
        if due <= now:
            self.putBack(job)
            return
        self._return(job)
        job.begin_after = due
        # Quotas that were removed meanwhile limit nothing.
        lane = _lane_of(job, job.quota_names)
        self._add(job, job._begin_after, clock.micros(now), lane)

    def _return(self, job: Any) -> None:
        if job.status == PENDING:
            raise BadStatusError("the job waits in a queue already", job=job)
        if job.status != NEW:
            job._step(PENDING)

    def put_later(
        self,
        function: Callable,
        when: datetime.timedelta | datetime.datetime | None = None,
        args: tuple = (),
    ) -> Any:
        """Put a job of the machinery's own, without a deadline; return it.

        It goes on with something that was begun, so if `when` is now it goes ahead
        of what waits.
        """
        now = clock.utcnow()
        job = IJob(function)
        job.alone = True  # it commits
        job.args.extend(args)
        job.begin_after = due = _moment(when, now)
        job.assignerUUID = zope.component.queryUtility(IUUID)
        if due <= now:
            self._add_to_front(job)
        else:
            self._add(job, job._begin_after, clock.micros(now), NO_LANE)
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
            if not self.more_to_claim:
                return default

    @property
    def more_to_claim(self) -> bool:
        """Whether the last claim stopped early, and more may be due behind."""
        return self._pending.more_to_file

    def claim_some(
        self,
        count: int,
        filter: Callable[[Any], Any] | None = None,
        agent: Any = None,
        chains: Any = None,
    ) -> list:
        """Take up to `count` due jobs that pass `filter`, first ones first.

        With an `agent`, at most one job under which a process has died is
        handed to its dispatcher at a time: so a job that kills its process is
        told from those that happened to be there.  `chains` tells which jobs may
        follow others of a full quota: see `batches`.
        """
        if self.paused or count < 1:
            return []
        return Selection(self, filter, agent, chains).take(count)

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
        self._pending.relane(job, _lane_of(job, quota_names))

    def bring_back(self) -> int:
        """Have the jobs go on that were set aside and can be loaded by now.

        How many: the code may have changed, or differ from that of others.
        """
        return sum(map(self._bring_back, self._pending.aside.items()))

    def _bring_back(self, item: tuple[int, Any]) -> bool:
        due = Due(*item, self._pending.aside)
        try:
            status = due.job.status
        except Exception as error:
            raise_if_passing(error)
            return False
        if status == PENDING:
            self._pending.bring_back(due)
        else:
            self._pending.aside.remove(due.key)
            give_back(self, due.job, died=False)
        return True

    def set_aside(self, job: Any) -> None:
        """Keep a job that an agent held and that cannot be loaded."""
        self._pending.aside.add(new_key(clock.micros(clock.utcnow())), job)

    def next_due(
        self, after: datetime.datetime | None = None
    ) -> datetime.datetime | None:
        """When the first job due later than `after` will be; None if none is known.

        `after` is when the caller last looked for due jobs, by default now.
        """
        after = clock.utcnow() if after is None else after
        due = self._pending.next_due(clock.micros(after))
        return None if due is None else clock.from_micros(due)

    def __len__(self) -> int:
        return len(self._pending)

    def __bool__(self) -> bool:
        return len(self) > 0

    def __iter__(self) -> Iterator[Any]:
        return iter(self._pending)

    def __getitem__(self, index: int) -> Any:
        return self._pending[index]


def _as_job(item: Any) -> Any:
    job = IJob(item, None)
    if job is None:
        reference(item)  # says what is wrong with it, if it is no callable
        raise UnpicklableError(
            f"found {item!r}, expected a job or what adapts to IJob; "
            "configure.base() registers adapters for functions and methods",
            culprit=item,
        )
    return job


def _lane_of(job: Any, quota_names: tuple[str, ...]) -> Lane:
    lane = tuple(sorted(set(quota_names)))
    return (*lane, SUSPECT) if job.deaths else lane


def _moment(
    when: datetime.timedelta | datetime.datetime | bool | None, now: datetime.datetime
) -> datetime.datetime:
    """What is meant by an answer of a retry policy; None and True are now."""
    if when is None or isinstance(when, bool):
        return now
    return now + when if isinstance(when, datetime.timedelta) else as_utc(when)


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
