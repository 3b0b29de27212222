# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The callbacks of a job, and the job as a callback of another.

A callback may be added at any time, by any process: see `_add` for how that meets
the worker that performs the job.
"""

from typing import Any

from . import status
from .callbacks import CallbackProxy, prepared
from .callingback import (
    add_to_settled,
    finish_caller,
    perform_callbacks,
    perform_postponed,
    resume_callbacks,
)
from .compact import OwnedList
from .interfaces import (
    CALLBACKS,
    COMPLETED,
    IAgent,
    ICallbackProxy,
    IJob,
    IQueue,
)
from .transactions import read_current


class WithCallbacks:
    """The part of a job that knows its callbacks and its caller."""

    @property
    def callbacks(self) -> OwnedList:
        """See `IJob`."""
        return self._companion.callbacks

    def addCallback(
        self,
        callback: Any,
        failure_log_level: int | None = None,
        retry_policy_factory: Any = None,
    ) -> Any:
        """See `IJob`."""
        if callback is None:
            raise TypeError("found None, expected a callable or a job as callback")
        job = prepared(callback, failure_log_level, retry_policy_factory)
        self._add(job)
        return job

    def addCallbacks(
        self,
        success: Any = None,
        failure: Any = None,
        failure_log_level: int | None = None,
        retry_policy_factory: Any = None,
    ) -> Any:
        """See `IJob`."""
        options = (failure_log_level, retry_policy_factory)
        proxy = CallbackProxy(
            self, prepared(success, *options), prepared(failure, *options)
        )
        self._add(proxy)
        return proxy

    def _add(self, callback: Any) -> None:
        callback.parent = self
        if self._status == CALLBACKS:
            # Conflict with the commit that says that all have been performed;
            # nothing but that commit is repeated for it.
            self._p_changed = True
        else:
            # The worker must not finish unseen; nor may it be disturbed.
            read_current(self)
        self.callbacks.append(callback)
        if self._status == COMPLETED:
            add_to_settled(self, callback)

    def resumeCallbacks(self) -> None:
        """See `IJob`."""
        status.require(self, "resume callbacks on", (CALLBACKS, COMPLETED))
        resume_callbacks(self)

    def _perform_callbacks(self, tell_agent: bool = True) -> None:
        perform_callbacks(self, tell_agent)

    def _perform_postponed(self) -> None:
        perform_postponed(self)

    def _finish_caller(self) -> None:
        finish_caller(self)

    @property
    def is_callback(self) -> bool:
        """Whether another job is to perform this one, with its result."""
        parent = self._parent
        if parent is None or IQueue.providedBy(parent) or IAgent.providedBy(parent):
            return False
        # The parent of a job that has expired calls its `fail`.
        target = getattr(parent, "_target", None)
        return not (isinstance(target, tuple) and target[0] is self)

    @property
    def is_substitute(self) -> bool:
        """Whether it calls a method of another job, such as `resumeCallbacks`."""
        target = self._target
        return (
            isinstance(target, tuple)
            and target[0] is not self
            and IJob.providedBy(target[0])
        )

    @property
    def caller(self) -> Any:
        """The job that performs this callback, proxies left out."""
        caller = self._parent
        while ICallbackProxy.providedBy(caller):
            caller = caller.parent
        return caller
