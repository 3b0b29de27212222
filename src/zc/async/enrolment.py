# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""How a dispatcher becomes, stays and ends being a member of its queues."""

from typing import Any

from . import transactions
from .interfaces import KEY
from .siblings import Watch
from .utils import log


class Enrolment:
    """The membership of one dispatcher in all queues of its database.

    Belongs to the poller's thread and uses its connection.  `owns_identity`
    says that no other process can have this UUID, since we hold the lock on it:
    then an activated record is what a former life of ours left.
    """

    def __init__(self, connection: Any, manager: Any, UUID: Any, owns_identity: bool):
        self.connection = connection
        self.manager = manager
        self.UUID = UUID
        self.owns_identity = owns_identity
        self._activated: set[bytes] = set()
        self._tried: dict[bytes, Any] = {}
        self._warned: set[bytes] = set()
        self._watch = Watch()

    def queues(self) -> list[Any]:
        """The queues there are.  Call it within a transaction."""
        queues = self.connection.root().get(KEY)
        return [] if queues is None else list(queues.values())

    def agents_of(self, queue: Any, ping: bool) -> Any:
        """Our agents in `queue`, activated, or None while another has our UUID.

        Commits when something changes.  Buries siblings that died; also pings
        when `ping` is true.
        """

        def enrol() -> Any:
            agents = self._register(queue)
            if not self._activate(queue, agents):
                return None
            if ping:
                agents.ping()
            queue.dispatchers.bury_dead(self.UUID, self._watch.is_dead)
            queue.dispatchers.forget_old()
            return agents

        what = f"enrolment in {queue.name!r}"
        agents = transactions.attempt(enrol, what, self.manager)
        if agents is not None:
            self._activated.add(queue._p_oid)
        return agents

    def _register(self, queue: Any) -> Any:
        if self.UUID not in queue.dispatchers:
            queue.dispatchers.register(self.UUID)
        return queue.dispatchers[self.UUID]

    def _activate(self, queue: Any, agents: Any) -> bool:
        known = queue._p_oid in self._activated
        if known and not agents.activated:
            log.warning(
                "dispatcher %s was declared dead in queue %r, but lives",
                self.UUID,
                queue.name,
            )
            agents.reactivate()
            agents.ping()
        elif not known and not self._has_succeeded(queue, agents):
            if agents.activated and not self._take_over(queue, agents):
                return False
            agents.activate()
            agents.ping()
            self._tried[queue._p_oid] = agents.activated
        return True

    def _has_succeeded(self, queue: Any, agents: Any) -> bool:
        """Whether it was us who activated, in a commit whose answer was lost."""
        activated = agents.activated
        return activated is not None and activated == self._tried.get(queue._p_oid)

    def _take_over(self, queue: Any, agents: Any) -> bool:
        """End a former life of this UUID; False if it may be another process."""
        if not (self.owns_identity or self._watch.is_dead(agents)):
            if queue._p_oid not in self._warned:
                self._warned.add(queue._p_oid)
                log.error(
                    "UUID %s is already activated in queue %r: another process?  "
                    "Waiting until it is silent for %s",
                    self.UUID, queue.name, agents.ping_death_interval,
                )  # fmt: skip
            return False
        log.warning(
            "dispatcher %s did not end properly; taking over its jobs in queue %r",
            self.UUID,
            queue.name,
        )
        agents.deactivate()
        return True

    def leave(self) -> None:
        """Deactivate in all queues; what our agents hold goes back.  Commits."""

        def deactivate() -> None:
            for queue in self.queues():
                if queue._p_oid in self._activated:
                    agents = queue.dispatchers.get(self.UUID)
                    if agents is not None and agents.activated:
                        agents.deactivate(died=False)

        transactions.attempt(deactivate, "deactivation", self.manager)
        self._activated.clear()
