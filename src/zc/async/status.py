# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The statuses of a job, and the legal steps between them.

The values are stored in databases and shown in JSON: they never change.
"""

from collections.abc import Iterable

from .errors import BadStatusError

NEW = "new-status"
PENDING = "pending-status"
ASSIGNED = "assigned-status"
ACTIVE = "active-status"
CALLBACKS = "callback-status"
COMPLETED = "completed-status"

ORDER = (NEW, PENDING, ASSIGNED, ACTIVE, CALLBACKS, COMPLETED)

NAMES = {
    NEW: "NEW",
    PENDING: "PENDING",
    ASSIGNED: "ASSIGNED",
    ACTIVE: "ACTIVE",
    CALLBACKS: "CALLBACKS",
    COMPLETED: "COMPLETED",
}

# `fail` ends a job from any status before CALLBACKS.
_ENDS = {CALLBACKS, COMPLETED}

STEPS: dict[str, frozenset[str]] = {
    # Into a queue, straight to an agent, or called by hand.
    NEW: frozenset({PENDING, ASSIGNED, ACTIVE} | _ENDS),
    # Claimed, or pulled from the queue.
    PENDING: frozenset({ASSIGNED, NEW} | _ENDS),
    # Started, or handed back by its agent.
    ASSIGNED: frozenset({ACTIVE, PENDING, NEW} | _ENDS),
    # Done; or retried or interrupted, back into its queue (NEW without one).
    ACTIVE: frozenset({PENDING, NEW} | _ENDS),
    CALLBACKS: frozenset({COMPLETED}),
    COMPLETED: frozenset(),
}


def either(statuses: Iterable[str]) -> str:
    """Return the names of the statuses as prose: ``NEW, PENDING, or ACTIVE``."""
    names = [NAMES.get(status, repr(status)) for status in statuses]
    if len(names) <= 2:
        return " or ".join(names)
    return ", ".join(names[:-1]) + f", or {names[-1]}"


def require(job: object, action: str, allowed: tuple[str, ...]) -> None:
    """Raise BadStatusError unless `job.status` is one of `allowed`.

    `action` is what somebody wants to do, up to the words "a job": "call",
    "call fail on".
    """
    if job.status not in allowed:  # type: ignore[attr-defined]
        raise BadStatusError(
            f"can only {action} a job with {either(allowed)} status", job, allowed
        )


def check_step(job: object, old: str, new: str) -> None:
    """Raise BadStatusError unless a job may go from status `old` to `new`.

    `job` is for the error only and may be None.
    """
    legal = STEPS.get(old, frozenset())
    if new in legal:
        return
    expected = tuple(status for status in ORDER if status in legal)
    raise BadStatusError(
        f"a job cannot go from {either([old])} to {either([new])} status;"
        f" expected {either(expected) or 'no further step'}",
        job,
        expected,
    )
