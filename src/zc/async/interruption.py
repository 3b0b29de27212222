# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""What becomes of a job whose dispatcher died, or stopped, while it was active.

Its policy decides, within two limits that protect the system: a job under which
the process died three times in a row is quarantined, and a policy that raises
has given up.
"""

from typing import Any

from . import status
from .callingback import retry_as_callback
from .errors import AbortedError, QuarantinedError
from .failure import sanitize
from .interfaces import ACTIVE
from .performance import Performance
from .retry import ask, lies_ahead
from .utils import tracelog

#: After how many deaths of the process in a row a job is not tried again.
MAX_DEATHS = 3


def note_interruption(job: Any, died: bool = True) -> AbortedError | None:
    """Count an interruption and reschedule the job as its policy says.

    Does not commit.  `died` tells that the process ended under the job, and
    was not asked to stop.  Returns the error to end the job with when it is
    not to be performed again, else None.
    """
    job.interruptions += 1
    if died:
        job.deaths += 1
        # A job that performs another's work leaves it to that one to end first.
        limit = MAX_DEATHS + 1 if job.is_substitute else MAX_DEATHS
        if job.deaths >= limit:
            return _quarantine(job)
    answer = ask(job.getRetryPolicy, "interrupted", job)
    if answer is False or job.queue is None:
        return _not_retried(job)
    tracelog.warning("%r was interrupted; retrying (%s)", job, answer)
    job.queue.reschedule(job, answer)
    return None


def _not_retried(job: Any) -> AbortedError:
    times = "once" if job.interruptions == 1 else f"{job.interruptions} times"
    return AbortedError(f"interrupted {times}, and not retried", job=job)


def _quarantine(job: Any) -> QuarantinedError:
    return QuarantinedError(
        f"the process died {job.deaths} times in a row while it performed this job; "
        "it will not be tried again by itself",
        job=job,
        interruptions=job.interruptions,
    )


def handle_interrupt(job: Any) -> None:
    """See `IJob.handleInterrupt`."""
    _require_active(job)
    if job.waiting:
        return  # for other jobs, in no process
    job._leave_agent()
    error = note_interruption(job)
    if error is None:
        Performance(job).manager.commit()
    else:
        Performance(job).end(sanitize(error))


def handle_callback_interrupt(job: Any, caller: Any) -> None:
    """See `IJob.handleCallbackInterrupt`."""
    _require_active(job)
    job.interruptions += 1
    job.deaths += 1
    if job.deaths >= MAX_DEATHS:
        Performance(job).end(sanitize(_quarantine(job)))
        return
    answer = ask(job.getRetryPolicy, "interrupted", job)
    if answer is False:
        Performance(job).end(sanitize(_not_retried(job)))
        return
    tracelog.warning("callback %r was interrupted; retrying (%s)", job, answer)
    if job.queue is None or not lies_ahead(answer):
        retry_as_callback(job, caller.result)
    else:
        job._postpone(answer)
        Performance(job).manager.commit()


def _require_active(job: Any) -> None:
    status.require(job, "handle the interruption of", (ACTIVE,))
