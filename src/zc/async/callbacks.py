# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Callbacks: how they are added, and which of two a result chooses.

A proxy stands for the one of a success and a failure callback that will be
chosen.  What has been added lives in the job's `companion`; how callbacks are
performed is the matter of `callingback`.
"""

from collections.abc import Iterator
from typing import Any

from persistent import Persistent
from zope.interface import implementer

from .callables import identity
from .compact import Compact, OwnedList
from .failure import is_failure
from .interfaces import COMPLETED, NEW, ICallbackProxy, IJob


@implementer(ICallbackProxy)
class CallbackProxy(Compact):
    """See `ICallbackProxy`.

    Written by whoever adds callbacks to it, and once by the worker that
    chooses: an adder that comes at the same moment conflicts, looks again, and
    finds the chosen job.
    """

    _stored_ = ("parent", "success", "failure", "job", "_callbacks", "_passed")
    parent: Any = None
    success: Any = None
    failure: Any = None
    job: Any = None
    _to_state_ = {"_callbacks": tuple}  # noqa: RUF012
    _callbacks: Any = ()
    _passed = False

    def __init__(self, parent: Any, success: Any = None, failure: Any = None):
        self.parent = parent
        self.success = _adopt(success, self)
        self.failure = _adopt(failure, self)

    @property
    def callbacks(self) -> OwnedList:
        """Callbacks that wait for the choice, or those of the chosen job."""
        if self.job is not None:
            return self.job.callbacks
        if not isinstance(self._callbacks, OwnedList):
            self.__dict__["_callbacks"] = OwnedList(self, self._callbacks)
        return self._callbacks

    @property
    def status(self) -> str:
        """NEW before the choice, then the status of the chosen job."""
        if self.job is not None:
            return self.job.status
        return COMPLETED if self._passed else NEW

    @property
    def result(self) -> Any:
        """The chosen job's; the parent's where there was nothing to choose."""
        if self.job is not None:
            return self.job.result
        return self.parent.result if self._passed else None

    @property
    def queue(self) -> Any:
        """See `IJob`."""
        return self.parent.queue

    @property
    def agent(self) -> Any:
        """See `IJob`."""
        return self.parent.agent

    def choose(self, result: Any) -> list:
        """The jobs that `result` calls for.  Does not commit.

        The chosen job with the callbacks given to the proxy, or, when there is
        none for such a result, those callbacks themselves: the result passes
        through.
        """
        if self.job is None and not self._passed:
            self.job = self.failure if is_failure(result) else self.success
            if self.job is None:
                self._passed = True
            else:
                self._hand_over()
        return list(self.callbacks) if self.job is None else [self.job]

    def _hand_over(self) -> None:
        for callback in self._callbacks:
            callback.parent = self.job
            self.job.callbacks.append(callback)
        self._callbacks = ()

    def addCallback(
        self,
        callback: Any,
        failure_log_level: int | None = None,
        retry_policy_factory: Any = None,
    ) -> Any:
        """See `IJob`."""
        if self.job is not None:
            return self.job.addCallback(
                callback, failure_log_level, retry_policy_factory
            )
        added = prepared(callback, failure_log_level, retry_policy_factory)
        if self._passed:
            return self.parent.addCallback(added)
        self._append(added)
        return added

    def addCallbacks(
        self,
        success: Any = None,
        failure: Any = None,
        failure_log_level: int | None = None,
        retry_policy_factory: Any = None,
    ) -> Any:
        """See `IJob`."""
        source = self.parent if self._passed else self.job
        if source is not None:
            return source.addCallbacks(
                success, failure, failure_log_level, retry_policy_factory
            )
        options = (failure_log_level, retry_policy_factory)
        proxy = CallbackProxy(
            self, prepared(success, *options), prepared(failure, *options)
        )
        self._append(proxy)
        return proxy

    def _append(self, callback: Any) -> None:
        callback.parent = self
        self.callbacks.append(callback)

    def __repr__(self) -> str:
        cls = type(self)
        return (
            f"<{cls.__module__}.{cls.__qualname__} {identity(self)} "
            f"success: {self.success!r}, failure: {self.failure!r}>"
        )


def _adopt(job: Any, parent: Persistent) -> Any:
    if job is not None:
        job.parent = parent
    return job


def prepared(
    callback: Any,
    failure_log_level: int | None = None,
    retry_policy_factory: Any = None,
) -> Any:
    """`callback` as an `IJob` with these options, or None for None."""
    if callback is None:
        return None
    job = IJob(callback)
    if failure_log_level is not None:
        job.failure_log_level = failure_log_level
    if retry_policy_factory is not None:
        job.retry_policy_factory = retry_policy_factory
    return job


def due_callbacks(callbacks: Any, result: Any) -> Iterator[Any]:
    """The jobs that a result calls for, in order; proxies choose.  No commit."""
    for callback in callbacks:
        if ICallbackProxy.providedBy(callback):
            yield from due_callbacks(callback.choose(result), result)
        else:
            yield callback


def unfinished(callbacks: Any) -> bool:
    """Tell whether one of `callbacks` has not been begun."""
    for callback in callbacks:
        if callback.status == NEW:
            return True
        if ICallbackProxy.providedBy(callback) and callback.job is None:
            if unfinished(callback.callbacks):
                return True
    return False


def has_ended(callback: Any) -> bool:
    """Tell whether nobody need perform `callback` any further.

    One that waits for other jobs is completed by them.
    """
    return callback.status == COMPLETED or callback.waiting


def all_ended(callbacks: Any) -> bool:
    """Tell whether all that a result has chosen have ended.  Chooses nothing."""
    return all(map(_has_chosen_and_ended, callbacks))


def _has_chosen_and_ended(callback: Any) -> bool:
    if not ICallbackProxy.providedBy(callback):
        return has_ended(callback)
    if callback.job is not None:
        return has_ended(callback.job)
    return callback.status == COMPLETED and all_ended(callback.callbacks)
