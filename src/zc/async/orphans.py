# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Jobs that an agent holds and its dispatcher knows nothing of.

The storage may be lost between a commit and its answer.  Then the database says
that jobs were claimed, or begun, and nobody works on them; whoever repeats such a
commit looks for them.
"""

from collections.abc import Callable
from typing import Any

from .interfaces import ACTIVE, ASSIGNED
from .membership import hand_back_job


def adopt(
    queue: Any, agent: Any, assigned: Any, is_known: Callable[[Any], bool]
) -> None:
    """Append what was claimed to `assigned`; put back what was begun by nobody.

    `is_known` tells whether a job that is under way has a ticket.  Does not commit.
    """
    found = set(map(id, assigned))
    for key, job in agent.active_items() if hasattr(agent, "active_items") else ():
        if job.parent is not agent:
            agent.forget(key, job)
        elif job.status == ASSIGNED:
            if id(job) not in found:
                found.add(id(job))
                assigned.append(job)
        elif is_known(job):
            continue
        elif job.status == ACTIVE and not (job.waiting or job._awaits):
            take_back(queue, agent, job)
        else:
            hand_back_job(queue, agent, job, died=False)


def take_back(queue: Any, agent: Any, job: Any, called: bool = False) -> None:
    """Return a job whose ACTIVE was committed, and that no thread has begun.

    Or one that was `called`, and is not to wait for the others of its round: it has
    begun in time, whatever its deadline.
    """
    start = job._active_start
    agent.remove(job)
    job._unbegin()
    if called:
        job._active_start = start
    queue.putBack(job)
