# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Which of the due jobs a claim takes.

`pending` offers the due jobs in order.  Left out are jobs whose quotas are full,
and those that the agent's filter refuses, unless they are past their `begin_by`:
these are taken to fail.

Filters.  While few jobs are refused, each claim looks at all that are due.  When
they are more than `LOOK_AT_ONCE`, a claim looks at those that are new to it, and
again at some of the others, so that its cost has a bound.

Dispatchers.  Each has a share of the jobs, by their keys, and takes these first, so
that two rarely want the same; then it helps the others.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

from . import clock
from .claiming import Due, Lane, Place
from .errors import TimeoutError, UnloadableCallableError
from .keys import share
from .transactions import raise_if_passing
from .utils import log

#: In the lane of a job under which a process has died: see `Queue.claim_some`.
SUSPECT = "\0suspect"

#: How many jobs a filter refuses before the claim leaves the rest to the next one.
LOOK_AT_ONCE = 250

#: How many jobs that a filter has refused are shown to it again in each second.
LOOK_AGAIN = 1000

#: How many jobs of others a dispatcher steps over to find its own.
STEP_OVER = 64


class Blocked:
    """Tells `pending` which lanes have no room, during one claim.

    Called with a lane; quotas are cleaned once, when first met filled.
    """

    def __init__(self, queue: Any, agent: Any):
        self.queue = queue
        self.agent = agent
        self._cleaned: set[str] = set()
        self._suspect_held: bool | None = None

    def __call__(self, lane: Lane) -> bool:
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

    def note(self, lane: Lane) -> None:
        """A job of `lane` was taken."""
        if SUSPECT in lane:
            self._suspect_held = True


class Places:
    """Where an agent's filter has looked: volatile, in one connection."""

    def __init__(self, filter: Callable):
        self.filter = filter
        #: None while all that is due can be looked at each time.
        self.fresh: Place | None = None
        self.again = Place()
        self._passed = 0
        self._left = LOOK_AGAIN
        self._since = clock.monotonic()

    def budget(self) -> int:
        """How many jobs may be looked at again now."""
        now = clock.monotonic()
        if now - self._since >= 1:
            self._since, self._left = now, LOOK_AGAIN
        return self._left

    def looked_again(self, refused: int, to_the_end: bool) -> None:
        """Note a look at old jobs; the next one goes on there."""
        self._left -= refused
        self._passed += refused
        if to_the_end:
            if self._passed <= LOOK_AT_ONCE:
                self.fresh = None
            self.again, self._passed = Place(), 0


class Selection:
    """One claim, of `agent` or by hand (None)."""

    def __init__(
        self, queue: Any, filter: Callable | None, agent: Any, chains: Any = None
    ):
        self.queue = queue
        self.chains = chains
        self.pending = queue._pending
        self.filter = filter
        self.agent = agent
        self.blocked = Blocked(queue, agent)
        self.now = clock.micros(clock.utcnow())
        self.jobs: list = []
        self.refused = 0
        self.limit: int | None = None
        self._complained = False

    def take(self, count: int) -> list:
        """Take up to `count` jobs out of `pending`; return them."""
        if self.filter is None:
            self._walk(count, None)
        elif self.agent is None:
            self._walk(count, Place())
        else:
            self._take_filtered(count, self._places())
        return self.jobs

    def _places(self) -> Places:
        assert self.filter is not None
        places = getattr(self.agent, "_v_places", None)
        if places is None or places.filter != self.filter:
            places = self.agent._v_places = Places(self.filter)
        return places

    def _take_filtered(self, count: int, places: Places) -> None:
        fresh = places.fresh or Place()
        if not self._walk(count, fresh, LOOK_AT_ONCE):
            places.fresh = fresh
            return
        if places.fresh is None or len(self.jobs) == count:
            return
        more = self.pending.more_to_file
        to_the_end = self._walk(count, places.again, places.budget())
        places.looked_again(self.refused, to_the_end)
        self.pending.stop_early(more)

    def _walk(self, count: int, place: Place | None, limit: int | None = None) -> bool:
        """Take what can be taken; False if `limit` jobs were refused before."""
        self.refused, self.limit = 0, limit
        walk = self.pending.iter_due(self.now, self.blocked, self._overdue, place)
        with closing(walk) as dues:
            for due in dues if place is not None else self._own_first(dues):
                self._consider(due)
                if len(self.jobs) == count:
                    return True
                if limit is not None and self.refused >= limit:
                    self.pending.stop_early()
                    return False
        return True

    def _own_first(self, dues: Iterator[Due]) -> Iterator[Due]:
        """The same, those in the share of this dispatcher first.

        Quotas and jobs that were put back keep their order.
        """
        mine, shares = self._share()
        others: list[Due] = []
        for due in dues:
            if shares == 1 or due.lane or due.key < 0 or share(due.key, shares) == mine:
                yield due
            else:
                others.append(due)
                if len(others) >= STEP_OVER:
                    break
        yield from others
        yield from dues

    def _share(self) -> tuple[int, int]:
        """The number of this dispatcher among the active ones, and theirs."""
        if self.agent is None:
            return 0, 1
        mine = self.agent.parent
        active = [one for one in self.queue.dispatchers.values() if one.activated]
        if mine not in active:
            return 0, 1
        return active.index(mine), len(active)

    def _overdue(self, job: Any) -> bool:
        """Whether a job of a full quota is to be considered all the same."""
        try:
            return _is_expired(job, self.now) or (
                self.chains is not None and self.chains.admits(job)
            )
        except Exception:
            return True  # `_consider` sees to it

    def _consider(self, due: Due) -> None:
        """Take the job, or leave it where it is."""
        try:
            expired = _is_expired(due.job, self.now)
        except Exception as error:
            raise_if_passing(error)
            # Broken for good, or for this process: out of the way, not lost.
            log.exception(
                "queue %r sets a job aside that cannot be loaded", self.queue.name
            )
            self.pending.set_aside(due)
            return
        if not (expired or self._passes(due.job)):
            self.refused += 1
            return
        self.pending.take(due)
        self.blocked.note(due.lane)
        self.jobs.append(self._taken(due.job, expired))

    def _passes(self, job: Any) -> bool:
        if self.filter is None:
            return True
        try:
            return bool(self.filter(job))
        except UnloadableCallableError:
            return True  # to fail, with an error that names what is missing
        except Exception as error:
            raise_if_passing(error)
            if not self._complained:
                self._complained = True
                log.exception("filter %r raised; it refuses %r", self.filter, job)
            return False

    def _taken(self, job: Any, expired: bool) -> Any:
        job.parent = None
        if expired:
            return _failing(job)
        for name in job.quota_names:
            quota = self.queue.quotas.get(name)
            if quota is not None:
                (quota.follow if quota.filled else quota.add)(job)
        if self.chains is not None:
            self.chains.note(job)
        return job


def _is_expired(job: Any, now: int) -> bool:
    if job._begin_by is None or job._active_start is not None:
        return False
    due = job._begin_after
    return due is not None and due + job._begin_by < now


def _failing(job: Any) -> Any:
    """A job that makes `job` fail, since it was not begun in time."""
    wrapper = job.substitute(job.fail)
    wrapper.alone = True  # it commits
    wrapper.args.append(TimeoutError)
    wrapper.begin_after = clock.utcnow()
    job._parent = wrapper
    return wrapper
