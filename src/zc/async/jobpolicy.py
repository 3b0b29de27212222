# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Which retry policy a job has, and how loudly it fails."""

import logging
from typing import Any

import zope.component

from .frozen import Frozen
from .interfaces import IRetryPolicy
from .retry import RetryCommonForever, RetryCommonFourTimes


class Conditions:
    """The part of a job that knows what a failure means to it."""

    failure_log_level: int | None = None
    _retry_policy_factory: Any = None

    @property
    def retry_policy_factory(self) -> Any:
        """See `IJob`."""
        factory = self._retry_policy_factory
        if type(factory) is not Frozen:
            return factory
        try:
            return factory.thaw()
        except Exception as error:
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
