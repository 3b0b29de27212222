# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Retry policies: what happens to a job that could not be performed.

A policy lives for one performance of one job.  It answers questions; it does
not sleep, commit, or touch the queue.  What it wants to know at the next
performance it keeps in `data`, a dictionary stored with the job.
"""

import datetime
import random
from collections.abc import Callable
from typing import Any

import zope.component
import zope.interface
from zope.component import adapter
from zope.interface import implementer

from . import clock
from .errors import ReassignedError
from .interfaces import IJob, IRetryPolicy
from .transactions import is_lost_connection, is_transient
from .utils import as_utc, log

Answer = bool | datetime.timedelta | datetime.datetime

_SECOND = datetime.timedelta(seconds=1)
NOW = datetime.timedelta()


def ask(make_policy: Callable, question: str, job: Any, *args: Any) -> Answer:
    """The answer of a policy; False when it raises or answers nonsense.

    A datetime is returned in UTC.
    """
    try:
        return _understood(getattr(make_policy(), question)(*args))
    except BaseException:
        # Neither it nor the SystemExit that it raised may end the thread.
        log.exception("the retry policy of %r failed in %s", job, question)
        return False


def _understood(answer: Any) -> Answer:
    if answer is None or isinstance(answer, bool):
        return bool(answer)
    if isinstance(answer, datetime.datetime):
        return as_utc(answer)
    if isinstance(answer, datetime.timedelta):
        clock.utcnow() + answer  # OverflowError
        return answer
    raise TypeError(f"found {answer!r}, expected a bool, timedelta or datetime")


def lies_ahead(answer: Answer) -> bool:
    """Whether a policy that does not give up asks for a time that is to come."""
    if isinstance(answer, datetime.datetime):
        return answer > clock.utcnow()
    return isinstance(answer, datetime.timedelta) and answer > NOW


def may_repeat(job: Any) -> bool:
    """Whether the policy of `job` allows that an attempt without effect is repeated.

    Asks the factory, without making a policy: its `may_repeat`.
    """
    factory = job.retry_policy_factory
    if factory is None or isinstance(factory, str):
        registry = zope.component.getSiteManager().adapters
        factory = registry.lookup1(
            zope.interface.providedBy(job), IRetryPolicy, factory or ""
        )
        if factory is None:
            return job.retry_policy_factory is None  # the default
    factory = getattr(factory, "func", factory)  # functools.partial
    return getattr(factory, "may_repeat", False)


class _Policy:
    """What the policies share: the job, and data that is stored with it.

    `may_repeat` says whether an attempt that left no trace in the database may
    be repeated without asking.  `settings` names the attributes that can be set,
    in a subclass or with ``functools.partial(Policy, name=value)`` as the factory.
    """

    may_repeat = False
    settings: tuple[str, ...] = ()

    def __init__(self, job: Any, **settings: Any):
        self.parent = job
        for name, value in settings.items():
            if name not in self.settings:
                raise TypeError(
                    f"found setting {name!r} of {type(self).__name__}, expected one "
                    f"of {', '.join(self.settings) or 'none'}"
                )
            setattr(self, name, _checked(name, value, getattr(self, name)))

    @property
    def data(self) -> dict:
        """What was stored at an earlier performance; a copy."""
        return dict(self.parent.retry_data)

    def jobError(self, failure: Any, data_cache: dict) -> Answer:
        """See `IRetryPolicy`."""
        return False

    def commitError(self, failure: Any, data_cache: dict) -> Answer:
        """See `IRetryPolicy`."""
        return False

    def interrupted(self) -> Answer:
        """See `IRetryPolicy`."""
        return False

    def updateData(self, data_cache: dict) -> None:
        """See `IRetryPolicy`."""
        stored = self.parent.retry_data
        changed = {**stored, **data_cache}
        if changed != stored:
            self.parent.retry_data = changed

    def _count(self, kind: str, data_cache: dict) -> int:
        """How often `kind` has happened, this time included."""
        seen = data_cache.get(kind, self.parent.retry_data.get(kind, 0)) + 1
        data_cache[kind] = seen
        return seen


def _checked(name: str, value: Any, default: Any) -> Any:
    if isinstance(default, datetime.timedelta):
        good, wanted = isinstance(value, datetime.timedelta), "a timedelta"
    elif isinstance(default, tuple):
        value = value if isinstance(value, tuple) else (value,)
        good = all(isinstance(one, (type, str)) for one in value)
        wanted = "exception classes or their dotted names"
    else:
        good = value is None or type(value) is int
        wanted = "an integer, or None for no limit"
    if not good:
        raise TypeError(f"found {name}={value!r}, expected {wanted}")
    return value


@adapter(IJob)
@implementer(IRetryPolicy)
class RetryCommonFourTimes(_Policy):
    """The default: repeats what the database asks to repeat, nothing else.

    Transient errors: five attempts in all.  A lost connection: without limit,
    after 5, 10 ... 60 seconds.  Interruptions: nine are retried, at the front
    of the queue.  Anything else is final.
    """

    may_repeat = True
    settings = ("max_attempts", "max_interruptions", "wait_increment", "max_wait")
    max_attempts: int | None = 5
    max_interruptions: int | None = 9
    wait_increment, max_wait = 5 * _SECOND, 60 * _SECOND

    def jobError(self, failure: Any, data_cache: dict) -> Answer:
        """See `IRetryPolicy`."""
        return self._databaseError(failure, data_cache)

    def commitError(self, failure: Any, data_cache: dict) -> Answer:
        """See `IRetryPolicy`."""
        return self._databaseError(failure, data_cache)

    def _databaseError(self, error: Any, data_cache: dict) -> Answer:
        if is_lost_connection(error):
            return self._wait(self._count("lost connections", data_cache))
        if is_transient(error):
            return self._transientError(self._count("transient errors", data_cache))
        return False

    def _transientError(self, count: int) -> Answer:
        return _is_below(count, self.max_attempts)

    def _wait(self, count: int) -> datetime.timedelta:
        return min(count * self.wait_increment, self.max_wait)

    def interrupted(self) -> Answer:
        """See `IRetryPolicy`."""
        if _is_below(self.parent.interruptions - 1, self.max_interruptions):
            return NOW
        return False


def _is_below(count: int, limit: int | None) -> bool:
    return limit is None or count < limit


@adapter(IJob)
@implementer(IRetryPolicy)
class RetryCommonForever(RetryCommonFourTimes):
    """For callbacks: tries harder, since a lost callback leaves work undone.

    Transient errors: `max_at_once` attempts, then others after growing waits, up to
    `max_attempts` in all.  Lost connections and interruptions: without limit.
    Other errors of the commit: after growing waits, each with a CRITICAL log entry,
    `max_commit_errors` attempts in all.  None stands for no limit.  What another
    thread has taken over is looked at again later.
    """

    settings = (*RetryCommonFourTimes.settings, "max_at_once", "max_commit_errors")
    max_attempts = 200
    max_at_once: int | None = 20
    max_interruptions = None
    max_commit_errors: int | None = 20

    def _transientError(self, count: int) -> Answer:
        if not _is_below(count, self.max_attempts):
            return False
        if self.max_at_once is None or count < self.max_at_once:
            return True
        return self._wait(count - self.max_at_once + 1)

    def jobError(self, failure: Any, data_cache: dict) -> Answer:
        """See `IRetryPolicy`."""
        if failure.check(ReassignedError):
            # Another thread does what we were to do; see later whether it has.
            return self._wait(self._count("reassigned", data_cache))
        return super().jobError(failure, data_cache)

    def commitError(self, failure: Any, data_cache: dict) -> Answer:
        """See `IRetryPolicy`."""
        answer = self._databaseError(failure, data_cache)
        if answer is not False or is_transient(failure):
            return answer
        count = self._count("other commit errors", data_cache)
        log.critical(
            "commit of %r failed (attempt %d): %s",
            self.parent,
            count,
            failure.getErrorMessage(),
        )
        return _is_below(count, self.max_commit_errors) and self._wait(count)


@adapter(IJob)
@implementer(IRetryPolicy)
class NeverRetry(_Policy):
    """Everything is final: for work outside of the database.

    An interruption ends the job with an AbortedError.
    """


@adapter(IJob)
@implementer(IRetryPolicy)
class RetryWithBackoff(RetryCommonFourTimes):
    """Exponential back-off with full jitter for the application's own errors.

    `errors` are the exception classes (or their dotted names) that are worth another
    try, `max_tries` the attempts in all, None for no limit; the waits are timedeltas.
    Errors of the database are treated as in `RetryCommonFourTimes` first.  Each wait
    is a reschedule: slot and quota are free meanwhile.  Source: M. Brooker,
    "Exponential Backoff And Jitter", 2015.
    """

    settings = (
        *RetryCommonFourTimes.settings,
        *("errors", "max_tries", "first_wait", "longest_wait"),
    )
    errors: tuple[type[BaseException] | str, ...] = (Exception,)
    max_tries: int | None = 8
    first_wait, longest_wait = 1 * _SECOND, 3600 * _SECOND

    def jobError(self, failure: Any, data_cache: dict) -> Answer:
        """See `IRetryPolicy`."""
        answer = super().jobError(failure, data_cache)
        if answer is not False or not failure.check(*self.errors):
            return answer
        count = self._count("errors", data_cache)
        return _is_below(count, self.max_tries) and self._random_wait(count)

    def _random_wait(self, count: int) -> datetime.timedelta:
        longest = self.longest_wait.total_seconds()
        # Beyond 2**64 every wait is the longest one, and a float overflows.
        grown = self.first_wait.total_seconds() * 2.0 ** min(count - 1, 64)
        wait = random.random() * min(grown, longest) * _SECOND
        return max(_SECOND / 1000, wait)  # zero means the front
