# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Whether other dispatchers live, judged without trust in anybody's clock.

A sibling is dead when its `last_ping` has not changed for its death interval,
as measured by the monotonic clock of the observer.  So clocks may differ and
jump, and a sibling is never buried before it was watched for that long.
"""

from typing import Any

from . import clock


class Watch:
    """What one dispatcher has seen of the others.  Belongs to one thread."""

    def __init__(self) -> None:
        self._seen: dict[Any, tuple[Any, float]] = {}

    def is_dead(self, agents: Any) -> bool:
        """Look at an activated sibling, an `IDispatcherAgents`; judge it."""
        sign_of_life = (agents.activated, agents.last_ping)
        now = clock.monotonic()
        before, since = self._seen.get(agents._p_oid, (None, now))
        if before != sign_of_life:
            self._seen[agents._p_oid] = (sign_of_life, now)
            return False
        return now - since > agents.ping_death_interval.total_seconds()
