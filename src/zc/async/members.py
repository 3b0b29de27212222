# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The jobs of a round: what becomes of each, and the way back from its call."""

import enum
from collections.abc import Callable
from typing import Any

from .durations import callable_name
from .shared import Shared


class Fate(enum.Enum):
    """What is to be done with a job after its round: a method of `Shared`."""

    AGAIN = ""  # none: it is to be performed alone
    LOST = "-"  # none: it belongs to somebody else
    FINISH = "finish"
    ANSWERED = "do_as_answered"
    CONCLUDE = "conclude"


class Member:
    """One job of a round, and what has become of it.

    `fate` holds after the round, `hoped` if its commit succeeds.  `begun` tells
    whether the observer knows of it.
    """

    __slots__ = (
        "begun", "ended", "fate", "hoped", "job", "name", "performance", "ticket",
        "value",
    )  # fmt: skip

    def __init__(self, ticket: Any):
        self.ticket = ticket
        self.job: Any = None
        self.name = ""
        self.performance: Any = None
        self.value: Any = None
        self.ended = 0
        self.begun = False
        self.fate = Fate.AGAIN
        self.hoped = Fate.FINISH

    def load(self, load: Callable[[Any], Any], observer: Any) -> None:
        """Find the job; raises what the database raises."""
        self.job = load(self.ticket)
        self.name = callable_name(self.job)
        self.performance = Shared(
            self.job, observer=observer, token=self.ticket.token, tell_agent=False
        )

    def go_on(self) -> None:
        """Do what its fate asks for; commits as often as that takes."""
        getattr(self.performance, self.fate.value)()


class Mark:
    """Where a transaction stands before a call, to go back to when that fails."""

    def __init__(self, transaction: Any):
        self.savepoint = transaction.savepoint(optimistic=True)
        self.hooks = _count_hooks(transaction)
        self.user, self.description = transaction.user, transaction.description
        self.extension = dict(transaction.extension)

    def go_back(self, transaction: Any) -> None:
        """Undo all since; raises what data managers raise that cannot undo."""
        self.savepoint.rollback()
        if _count_hooks(transaction) != self.hooks:
            raise TypeError("hooks of a transaction cannot be taken back")
        transaction.user, transaction.description = self.user, self.description
        transaction.extension = self.extension


def _count_hooks(transaction: Any) -> tuple[int, ...]:
    return (
        len(list(transaction.getBeforeCommitHooks())),
        len(list(transaction.getAfterCommitHooks())),
        len(list(transaction.getBeforeAbortHooks())),
        len(list(transaction.getAfterAbortHooks())),
    )
