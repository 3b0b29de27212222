# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The dispatchers that a queue knows, their pings, and what they leave behind.

A dispatcher writes its own record and its own agents.  Its `last_ping` is an
object by itself, so that saying "I live" never conflicts with anything.  A
dead dispatcher's record is written by the sibling that buries it; if two do
so at once, one of them conflicts and finds the work done.
"""

import datetime
import uuid
from collections.abc import Callable
from typing import Any

import zope.event
from persistent import Persistent
from zope.interface import implementer

from . import clock
from .callbacks import unfinished
from .containers import Mapping
from .events import (
    DispatcherActivated,
    DispatcherDeactivated,
    DispatcherReactivated,
    DispatcherRegistered,
    DispatcherUnregistered,
)
from .interfaces import (
    ACTIVE,
    CALLBACKS,
    COMPLETED,
    IAgent,
    IDispatcherAgents,
    IDispatchers,
    IQueue,
)
from .interruption import note_interruption
from .transactions import raise_if_passing
from .utils import log

#: After how long a silence a dispatcher that has ended is forgotten.
FORGET_AFTER = datetime.timedelta(days=1)


class Ping(Persistent):
    """When a dispatcher last said that it lives.  Written by it alone."""

    at: datetime.datetime | None = None


@implementer(IDispatcherAgents)
class DispatcherAgents(Mapping):
    """See `IDispatcherAgents`."""

    activated: datetime.datetime | None = None
    ping_interval = datetime.timedelta(seconds=30)
    ping_death_interval = datetime.timedelta(seconds=60)

    def __init__(self, UUID: uuid.UUID):
        super().__init__()
        self.UUID = UUID
        self.ping_record = Ping()

    def _check(self, key: Any, value: Any) -> None:
        if not IAgent.providedBy(value):
            raise ValueError("value must be IAgent")

    @property
    def last_ping(self) -> datetime.datetime | None:
        """See `IDispatcherAgents`."""
        return self.ping_record.at

    @last_ping.setter
    def last_ping(self, value: datetime.datetime | None) -> None:
        self.ping_record.at = value

    @property
    def dead(self) -> bool:
        """See `IDispatcherAgents`.  By this machine's wall clock.

        Dispatchers judge each other by `siblings`, without trust in clocks.
        """
        if self.activated is None:
            return False
        seen = max(self.activated, self.last_ping or self.activated)
        return seen + self.ping_death_interval < clock.utcnow()

    def ping(self) -> bool:
        """Note that this dispatcher lives, if it is time; whether it was."""
        now, last = clock.utcnow(), self.last_ping
        if last is not None and last <= now < last + self.ping_interval:
            return False
        # Setting our own attribute, even a property, would write this record too.
        self.ping_record.at = now
        return True

    def activate(self) -> None:
        """See `IDispatcherAgents`."""
        self._activate(DispatcherActivated)

    def reactivate(self) -> None:
        """See `IDispatcherAgents`."""
        self._activate(DispatcherReactivated)

    def _activate(self, event: Callable) -> None:
        if self.activated is not None:
            raise ValueError(
                f"dispatcher {self.UUID} is activated already, since {self.activated}"
            )
        self.hand_back()
        if self.parent is not None:
            self.parent.bring_back()  # we may have code that others lacked
        self.activated = clock.utcnow()
        zope.event.notify(event(self))

    def deactivate(self, died: bool = True) -> None:
        """See `IDispatcherAgents`.  `died` is False when it was asked to stop."""
        if self.activated is None:
            raise ValueError(f"dispatcher {self.UUID} is not activated")
        self.activated = None
        self.hand_back(died)
        zope.event.notify(DispatcherDeactivated(self))

    def hand_back(self, died: bool = True) -> None:
        """Return the jobs of all agents to the queue, each as its status asks."""
        for agent in self.values():
            for job in list(agent):
                hand_back_job(self.parent, agent, job, died)

    def _forget(self, value: Any) -> None:
        _empty(self.parent, value)
        super()._forget(value)


def _empty(queue: Any, agent: Any) -> None:
    """Take all jobs from an agent that is about to be removed."""
    if queue is None:
        return
    for job in list(agent):
        hand_back_job(queue, agent, job, died=False)
    for job in list(getattr(agent, "waiting", tuple)()):
        agent.release(job)
        job._parent = queue  # whence it goes on when it has a result


def hand_back_job(queue: Any, agent: Any, job: Any, died: bool = True) -> None:
    """Take `job` from `agent` and do what its status asks.  Does not commit.

    Claimed and not begun: back to the front.  ACTIVE: interrupted.  CALLBACKS:
    a job resumes them.  COMPLETED: among the agent's completed ones.  One that
    belongs to a queue or another agent by now, and only was not reaped: dropped.
    One that cannot be loaded: set aside.
    """
    try:
        status = job.status
    except Exception as error:
        raise_if_passing(error)
        log.exception("queue %r sets a job aside that cannot be loaded", queue.name)
        agent.abandon(job)
        queue.set_aside(job)
        return
    if job.parent is not agent and _is_holder(job.parent):
        _let_go(agent, job)
    elif status == COMPLETED:
        # Not ours to pull: it only was not reaped.
        agent.jobCompleted(job)
        _remove_from_stub(agent, job)
        if unfinished(job.callbacks):
            queue.put_later(job.substitute(job.resumeCallbacks))
    elif job.waiting:
        agent.jobWaits(job)
    else:
        agent.remove(job)
        give_back(queue, job, died)


def give_back(queue: Any, job: Any, died: bool) -> None:
    """Have a job that nobody holds any more go on as its status asks."""
    if job.queue is None:
        job._parent = queue  # its agent has gone meanwhile
    if job.status == ACTIVE:
        _interrupt(queue, job, died)
    elif job.status == CALLBACKS:
        queue.put_later(job.substitute(job.resumeCallbacks))
    elif job.status != COMPLETED:
        queue.putBack(job)


def _is_holder(parent: Any) -> bool:
    return IQueue.providedBy(parent) or IAgent.providedBy(parent)


def _let_go(agent: Any, job: Any) -> None:
    # Of an agent of somebody else's we know less.
    getattr(agent, "release", agent.remove)(job)


def _remove_from_stub(agent: Any, job: Any) -> None:
    # An agent of somebody else's may leave the removal to its caller.
    if job in agent:
        agent.remove(job)


def _interrupt(queue: Any, job: Any, died: bool) -> None:
    error = note_interruption(job, died)
    if error is not None:
        log.error("giving up %r: %s", job, error)
        queue.put_later(job.substitute(job.fail), args=(error,))


@implementer(IDispatchers)
class Dispatchers(Mapping):
    """See `IDispatchers`.  `queue` is the parent of what it holds."""

    def __init__(self, queue: Any = None):
        super().__init__()
        self.queue = queue

    def _parent_of_values(self) -> Any:
        return self.queue

    def _key(self, key: Any) -> Any:
        data = getattr(key, "bytes", None)
        return key if data is None else uuid.UUID(bytes=data)

    def _check(self, key: Any, value: Any) -> None:
        if not IDispatcherAgents.providedBy(value):
            raise ValueError("value must be IDispatcherAgents")

    def _forget(self, value: Any) -> None:
        for agent in value.values():
            _empty(self.queue, agent)
        super()._forget(value)

    def register(self, UUID: uuid.UUID) -> None:
        """See `IDispatchers`."""
        if UUID in self:
            raise ValueError(f"dispatcher {UUID} is registered already")
        key = self._key(UUID)
        self[key] = DispatcherAgents(key)
        zope.event.notify(DispatcherRegistered(self[key]))

    def unregister(self, UUID: uuid.UUID) -> DispatcherAgents:
        """See `IDispatchers`."""
        agents = self[UUID]
        if agents.activated is not None:
            raise ValueError(
                f"dispatcher {UUID} is activated, since {agents.activated}; expected "
                "one that is not"
            )
        del self[UUID]
        zope.event.notify(DispatcherUnregistered(agents, self.queue))
        return agents

    def ping(
        self, UUID: uuid.UUID, is_dead: Callable[[Any], bool] | None = None
    ) -> None:
        """See `IDispatchers`.  `is_dead` judges a sibling, by default its clock."""
        self[UUID].ping()
        self.bury_dead(UUID, is_dead or _is_silent)

    def bury_dead(self, UUID: uuid.UUID, is_dead: Callable[[Any], bool]) -> None:
        """Deactivate each activated dispatcher but `UUID` that `is_dead` says is."""
        mine = self[UUID]
        for sibling in self.values():
            if sibling is not mine and sibling.activated and is_dead(sibling):
                bury(sibling)

    def forget_old(self) -> None:
        """Unregister dispatchers that ended more than a day ago and hold nothing.

        Jobs that they have completed and that are still listed keep them.
        """
        limit = clock.utcnow() - FORGET_AFTER
        for agents in self.values():
            last = agents.last_ping
            old = last is not None and last < limit
            if old and not agents.activated and not any(map(_holds, agents.values())):
                log.info("forgetting dispatcher %s, last ping %s", agents.UUID, last)
                self.unregister(agents.UUID)


def _holds(agent: Any) -> bool:
    """Whether an agent has jobs, also completed ones that are not too old."""
    if len(agent) or any(True for _ in getattr(agent, "waiting", list)()):
        return True
    max_age = getattr(agent.completed, "max_age", None)
    if max_age is None:
        return len(agent.completed) > 0
    oldest = clock.utcnow() - datetime.timedelta(seconds=max_age)
    return any(True for _ in agent.completed.iter(stop=oldest))


def _is_silent(agents: Any) -> bool:
    return agents.dead


def bury(agents: Any) -> None:
    """Deactivate a dispatcher that died; its jobs go back.  Does not commit."""
    log.error(
        "dispatcher %s is dead: last ping %s; handing back its jobs",
        agents.UUID,
        agents.last_ping,
    )
    agents.deactivate()
