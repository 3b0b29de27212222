# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Under which conditions a job is performed, and what its failures mean."""

import logging
import uuid
from collections.abc import Iterable
from typing import Any

import zope.component

from .errors import UnloadableCallableError
from .frozen import Frozen
from .interfaces import PENDING, IQueue, IRetryPolicy
from .retry import RetryCommonForever, RetryCommonFourTimes


class Conditions:
    """The part of a job that knows its quotas, its retry policy, its log level."""

    failure_log_level: int | None = None
    _retry_policy_factory: Any = None
    _quota_names: tuple[str, ...] = ()
    _assigner: Any = None

    @property
    def assignerUUID(self) -> Any:
        """See `IJob`."""
        assigner = self._assigner
        return None if assigner is None else uuid.UUID(bytes=assigner)

    @assignerUUID.setter
    def assignerUUID(self, value: Any) -> None:
        self._assigner = None if value is None else value.bytes

    @property
    def quota_names(self) -> tuple[str, ...]:
        """See `IJob`."""
        return self._quota_names

    @quota_names.setter
    def quota_names(self, value: Iterable[str]) -> None:
        if isinstance(value, str):
            raise TypeError("provide an iterable of names")
        names = tuple(value)
        if self._status == PENDING and IQueue.providedBy(self._parent):
            for name in names:
                if name not in self._parent.quotas:
                    raise ValueError("unknown quota name", name)
            self._parent.refile(self, names)
        self._quota_names = names

    @property
    def retry_policy_factory(self) -> Any:
        """See `IJob`."""
        factory = self._retry_policy_factory
        if type(factory) is not Frozen:
            return factory
        try:
            return factory.thaw()
        except UnloadableCallableError as error:
            return _Gone(error)

    @retry_policy_factory.setter
    def retry_policy_factory(self, value: Any) -> None:
        self._retry_policy_factory = value

    def effective_failure_log_level(self) -> int:
        """The level at which a failure of this job is logged."""
        if self.failure_log_level is not None:
            return self.failure_log_level
        return logging.CRITICAL if self.is_callback else logging.ERROR

    def getRetryPolicy(self) -> Any:
        """See `IJob`."""
        factory = self.retry_policy_factory
        if factory is not None and not isinstance(factory, str):
            return factory(self)
        name = factory or ("callback" if self.is_callback else "")
        policy = zope.component.queryAdapter(self, IRetryPolicy, name)
        if policy is not None:
            return policy
        if factory:
            raise LookupError(
                f"found no adapter from IJob to IRetryPolicy named {factory!r}, the "
                f"retry_policy_factory of {self!r}"
            )
        return (RetryCommonForever if name else RetryCommonFourTimes)(self)


class _Gone:
    """In the place of a retry policy's factory that could not be loaded."""

    def __init__(self, error: Exception):
        self.error = error

    def __call__(self, job: Any) -> Any:
        raise self.error
