# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Who is told what happens to a job while it is performed.

A `Performance` speaks to one observer: by hand to one that logs and waits for
values by itself, in a worker to one that also keeps the dispatcher's records.
"""

import asyncio
import functools
import logging
import threading
from typing import Any

import transaction
from twisted.internet.defer import Deferred
from ZODB.utils import u64

from .callables import describe
from .errors import ReassignedError
from .interfaces import IFailure
from .utils import log, tracelog


class Observer:
    """Told what happens to a job, in the thread that performs it.

    This one logs.  `is_worker` tells whether the thread is a dispatcher's: there
    nothing that a job raises may end it.
    """

    is_worker = False

    def settled(self, job: Any) -> None:
        """The result of `job` is committed; its callbacks are still to come."""
        thread = threading.get_ident()
        if not IFailure.providedBy(job.result):
            if tracelog.isEnabledFor(logging.INFO):
                tracelog.info(
                    "%r succeeded in thread %d with result:\n%s",
                    job, thread, describe(job.result),
                )  # fmt: skip
            return
        level = job.effective_failure_log_level()
        text = job.result.getTraceback()
        for logger in (log, tracelog):
            logger.log(
                level, "%r failed in thread %d with result:\n%s", job, thread, text
            )

    def retrying(self, job: Any, problem: Any, answer: Any) -> None:
        """`job` is performed again: now (True), or when `answer` says."""
        when = "now" if answer is True else answer
        tracelog.warning(
            "%r is retried (%s) after: %s", job, when, problem.getErrorMessage()
        )

    def awaiting(self, job: Any, awaited: Any) -> None:
        """`job` is ACTIVE and committed; its result comes from `awaited`."""
        raise NotImplementedError


class ByHand(Observer):
    """Used where no dispatcher is."""

    def awaiting(self, job: Any, awaited: Any) -> None:
        """`job` is ACTIVE and committed; its result comes from `awaited`."""
        token, jar = job._active_start, job._p_jar
        if jar is None:
            as_deferred(awaited).addBoth(functools.partial(job._take_value, token))
            return
        db, oid = jar.db(), job._p_oid

        def resume(value: Any) -> None:
            settle_elsewhere(db, oid, token, value)

        as_deferred(awaited).addBoth(resume)


BY_HAND = ByHand()


def as_deferred(awaited: Any) -> Deferred:
    """A Deferred of anything that can be awaited."""
    if isinstance(awaited, Deferred):
        return awaited
    if asyncio.isfuture(awaited):
        return Deferred.fromFuture(awaited)
    return Deferred.fromCoroutine(_wait_for(awaited))


async def _wait_for(awaited: Any) -> Any:
    return await awaited


def settle_elsewhere(db: Any, oid: bytes, token: int, value: Any) -> None:
    """Give the job `oid` of `db` its result, in a connection of its own.

    Commits, and never raises: who fired the Deferred could do nothing about it.
    """
    manager = transaction.TransactionManager()
    try:
        connection = db.open(transaction_manager=manager)
        try:
            connection.get(oid)._take_value(token, value)
        finally:
            manager.abort()
            connection.close()
    except ReassignedError as error:
        tracelog.warning("a late result is discarded: %s", error)
    except Exception:
        log.exception("the result of job %d got lost", u64(oid))
