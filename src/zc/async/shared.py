# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""One job among others that share a transaction: see `rounds`.

It is performed in pieces, since the commit is everybody's: called; its result
stored when the commit comes; what follows from the commit done after it.
"""

import functools
import time
from collections.abc import Callable
from typing import Any

from . import failure
from .performance import Performance
from .retry import Answer, ask, may_repeat
from .threadlocal import local


def may_share(job: Any) -> bool:
    """Whether a claimed job may be in a round at all.

    Not if its policy forbids repetition, if it or its class asks to be alone, or
    if it has a history.
    """
    cls: Any = type(job)
    return not (
        job.alone
        or job._attempts
        or job.interruptions
        or job.retry_data
        or not _names_its_surroundings(cls)
        or job.surroundings() is None
    ) and may_repeat(job)


@functools.lru_cache(maxsize=1000)
def _names_its_surroundings(cls: Any) -> bool:
    """Whether `surroundings` knows of the `setUp` and `tearDown` of a class.

    That is, no class overrides these and inherits that.
    """
    named = _height(cls, "surroundings")
    return named <= min(_height(cls, "setUp"), _height(cls, "tearDown"))


def _height(cls: type, name: str) -> int:
    """How far up in the bases of `cls` the method is defined."""
    return [name in vars(base) for base in cls.__mro__].index(True)


class Shared(Performance):
    """A performance that can be one of several in a transaction.

    `seconds` is how long the last call took, None without one; `commit_failed`
    tells whether a commit of this job alone has failed.
    """

    seconds: float | None = None
    commit_failed = False
    _problem: Any = None
    _question = "jobError"
    _answer: Answer | None = None

    # Alone.

    def _call(self) -> Any:
        return self._measured(super()._call)

    def _measured(self, function: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        try:
            return function()
        finally:
            self.seconds = time.perf_counter() - started

    def _failed(self, question: str, problem: Any) -> bool:
        self.commit_failed = self.commit_failed or question == "commitError"
        return super()._failed(question, problem)

    # In a round, before the commit.

    def enter(self) -> None:
        """Set up the surroundings, for this job and those that follow it."""
        self._set_up = True
        self._info = self._surrounded(self.job.setUp)

    def leave(self) -> None:
        """Undo `enter`."""
        self._surrounded(self._tear_down)

    def call(self) -> Any:
        """Only call the callable; raise what it raises."""
        self._also_settled = []
        return self._measured(lambda: self._surrounded(self.job._call))

    def _surrounded(self, function: Callable[[], Any]) -> Any:
        outer = local.surroundings
        local.surroundings = outer._replace(
            job=self.job, also_settled=self._also_settled
        )
        try:
            return function()
        finally:
            local.surroundings = outer

    def ask(self, problem: Any) -> bool:
        """Ask the policy about what the call raised; whether that is the result."""
        self._problem = problem
        self._answer = ask(
            self._get_policy, "jobError", self.job, problem, self._data_cache
        )
        return self._answer is False

    def is_done(self) -> bool:
        """Whether an earlier commit arrived; ReassignedError if it is not ours."""
        return self._is_done()

    def accept(self, value: Any, ended: int) -> None:
        """Store what the call gave, or its Failure.  Does not commit.

        `ended` is when it gave it, in microseconds.
        """
        self.value = value
        self._store()
        if self.job._active_end is not None:
            self.job._active_end = ended

    def close(self, value: Any, problem: Any = None) -> None:
        """Commit what a call left that has ended the round's transaction itself."""
        self.value, self._problem = value, problem
        if problem is None:
            try:
                self._commit()
                return
            except BaseException:
                self._problem, self._question = failure.current(), "commitError"
        self.manager.abort()

    # In a round, after the commit.

    def finish(self) -> None:
        """The result is committed: tell, wait, perform callbacks."""
        self._finish()

    def do_as_answered(self) -> None:
        """Nothing of the call is committed: retry, now or later, as was answered."""
        self.manager.begin()
        if self._is_done():
            self._finish()
        elif not self._answered(self._problem, self._answer):
            self.begun()

    def conclude(self) -> None:
        """Do what follows from `close`."""
        if self._problem is None:
            self._finish()
        elif not self._failed(self._question, self._problem):
            self.begun()
