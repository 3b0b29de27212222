# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Jobs that are made of other jobs, performed one after the other or at once.

`serial` and `parallel` are published by `job` as well.  The composed job puts its
parts into its own queue and waits for a final job, which the callback of the last
part puts there.  So a part has the retries, quotas and times of any job, nobody
holds a thread for the others, and what is finished is not repeated after an
interruption.
"""

from collections.abc import Callable
from typing import Any

from .errors import AsyncError
from .failure import sanitize
from .interfaces import NEW, IJob
from .job import Job
from .retry import RetryCommonForever
from .threadlocal import local
from .waiting import first_without_result, has_result


def serial(*jobs: Any, postprocess: Any = None) -> Job:
    """Return a job that performs `jobs` one after the other, then `postprocess`.

    Each is a job, or what adapts to one.  ``postprocess(*jobs)`` is called with the
    jobs themselves, after its own arguments if it is a job; its value is the result
    of the whole, by default the list of the jobs' results, a Failure for each that
    failed.  A job that fails does not keep those after it from being performed.

    Put the returned job into a queue; one that is called without a queue fails.
    """
    return _composed(_begin_serial, jobs, postprocess)


def parallel(*jobs: Any, postprocess: Any = None) -> Job:
    """Like `serial`, but the jobs are performed at the same time.

    That is, as many at once as agents and quotas allow.
    """
    return _composed(_begin_parallel, jobs, postprocess)


def _composed(begin: Callable, jobs: tuple, postprocess: Any) -> Job:
    parts = [_as_job(job) for job in jobs]
    final = Job(_results) if postprocess is None else _as_job(postprocess)
    final.args.extend(parts)
    return Job(begin, final, *parts)


def _as_job(item: Any) -> Any:
    job = IJob(item, None)
    return Job(item) if job is None else job


def _results(*jobs: Any) -> list:
    return [job.result for job in jobs]


# What the composed job does, once, in one transaction.


def _begin_serial(final: Any, *parts: Any) -> Any:
    queue = _queue_in_hand()
    chain = [part for part in parts if not has_result(part)] + [final]
    for part, following in zip(chain, chain[1:], strict=False):
        part.addCallback(_dependable(_put_next, queue, following))
    _put(queue, chain[0])
    return final


def _begin_parallel(final: Any, *parts: Any) -> Any:
    queue = _queue_in_hand()
    missing = [part for part in parts if not has_result(part)]
    for part in missing:
        part.addCallback(_dependable(_put_if_last, queue, local.getJob()))
    for part in missing or [final]:
        _put(queue, part)
    return final


def _queue_in_hand() -> Any:
    queue = local.getQueue()
    if queue is None:
        raise LookupError(
            "found no queue; expected that a serial or parallel job is put into one"
        )
    return queue


def _dependable(function: Callable, *args: Any) -> Job:
    """A callback that only the database can keep from its work."""
    job = Job(function, *args)
    job.retry_policy_factory = RetryCommonForever
    return job


def _put(queue: Any, job: Any) -> None:
    """Put `job`, unless somebody has done so before us."""
    if job.status == NEW and job.parent is None:
        queue.put(job)


# Callbacks of the parts.


def _put_next(queue: Any, following: Any, result: Any) -> None:
    _put_or_fail(queue, following)


def _put_if_last(queue: Any, composed: Any, result: Any) -> None:
    final, *parts = composed.args
    if first_without_result(parts) is None:
        _put_or_fail(queue, final)


def _put_or_fail(queue: Any, job: Any) -> None:
    """What the queue refuses has failed: the others must not wait for it."""
    try:
        _put(queue, job)
    except (AsyncError, ValueError, TypeError) as error:
        job._settle_within(sanitize(error))
