# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Quotas: strict limits of how many jobs of a name are active at once.

A quota is one small record, written by dispatchers when they claim and reap.
Two that take the last place at once conflict, and that is what makes the limit
strict.  Short jobs that a thread performs one after the other, in one transaction,
share a place: the first holds it, the others follow.  If a dispatcher dies, its
jobs are handed back, and a place whose job has ended or gone back is found empty by
the next `clean`.
"""

from collections.abc import Callable, Iterator
from typing import Any

from zope.interface import implementer

from .compact import Compact
from .containers import Mapping
from .interfaces import ACTIVE, ASSIGNED, NEW, IQuota, IQuotas
from .transactions import raise_if_passing


@implementer(IQuota)
class Quota(Compact):
    """See `IQuota`."""

    _stored_ = ("name", "parent", "_size", "_holders", "_followers")
    name: str | None = None
    parent: Any = None
    _size = 1
    _holders: tuple = ()
    _followers: tuple = ()

    def __init__(self, name: str, size: int = 1):
        self.name = name
        self.size = size

    @property
    def size(self) -> int:
        """See `IQuota`."""
        return self._size

    @size.setter
    def size(self, value: int) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(
                f"found size {value!r} for quota {self.name!r}, expected an integer "
                "of at least 1"
            )
        self._size = value

    @property
    def filled(self) -> bool:
        """See `IQuota`."""
        return len(self._holders) >= self._size

    def clean(self) -> None:
        """See `IQuota`."""
        self._keep(_counts)

    def add(self, job: Any) -> None:
        """See `IQuota`."""
        self._require_named(job)
        if job in self:
            # Another may be about to take away a place that the job did not
            # need for a while: it must not.
            self._p_changed = True
        else:
            self._holders += (job,)

    def follow(self, job: Any) -> None:
        """Have `job` take over the place of one that is performed before it.

        The caller sees to it that it is not performed before.
        """
        self._require_named(job)
        if job in self or self.follows(job):
            self._p_changed = True  # as in `add`
        else:
            self._followers += (job,)

    def follows(self, job: Any) -> bool:
        """Whether `job` waits for the place of another."""
        return any(one is job for one in self._followers)

    def _require_named(self, job: Any) -> None:
        if self.name not in job.quota_names:
            raise ValueError(
                f"found quota names {job.quota_names!r} at {job!r}, expected "
                f"{self.name!r} among them"
            )

    def discard(self, job: Any) -> None:
        """Count `job` no longer; nothing happens if it was not counted."""
        if job in self or self.follows(job):
            self._keep(lambda one: one is not job)

    def _keep(self, wanted: Callable[[Any], bool]) -> None:
        holders = tuple(filter(wanted, self._holders))
        followers = tuple(filter(wanted, self._followers))
        room = max(self._size - len(holders), 0)
        holders, followers = holders + followers[:room], followers[room:]
        if holders != self._holders:
            self._holders = holders
        if followers != self._followers:
            self._followers = followers

    def __contains__(self, job: Any) -> bool:
        return any(held is job for held in self._holders)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._holders)

    def __len__(self) -> int:
        return len(self._holders)

    def __bool__(self) -> bool:
        return True


def _counts(job: Any) -> bool:
    """Whether a holder still has its place: claimed, and not yet ended."""
    try:
        if job.status == NEW:
            return job.parent is None  # claimed by hand
        return job.status in (ASSIGNED, ACTIVE) and not job.waiting
    except Exception as error:
        raise_if_passing(error)
        # A job that cannot be loaded must not block others for ever.
        return False


@implementer(IQuotas)
class Quotas(Mapping):
    """See `IQuotas`."""

    def _check(self, key: Any, value: Any) -> None:
        if not IQuota.providedBy(value):
            raise ValueError("value must be IQuota")

    def create(self, name: str, size: int = 1) -> None:
        """See `IQuotas`."""
        if not isinstance(name, str):
            raise TypeError(f"found quota name {name!r}, expected a string")
        if name in self:
            raise ValueError(f"there is a quota named {name!r} already")
        quota = self[name] = Quota(name, size)
        for job in self._held():
            if _counts(job) and name in job.quota_names:
                quota.add(job)  # from before a quota of this name was removed

    def _held(self) -> Iterator[Any]:
        dispatchers = getattr(self.parent, "dispatchers", None)
        for agents in () if dispatchers is None else dispatchers.values():
            for agent in agents.values():
                yield from agent

    def remove(self, name: str) -> None:
        """See `IQuotas`."""
        del self[name]
