# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Who is told what happens to a job while it is performed.

A `Performance` speaks to one observer: by hand to one that logs, in a worker to
one that also keeps the dispatcher's records.
"""

import logging
import threading
from typing import Any

from .callables import describe
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
