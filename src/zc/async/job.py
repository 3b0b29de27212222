# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The job: a call, its arguments, its status and its result, as one record.

What the methods promise stands in `interfaces.IJob`; how a job is performed,
with its commits, in `performance`.
"""

import logging
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import zope.component
from zope.interface import implementer

from . import callables, clock, status
from .adapters import METHOD_WRAPPER_TYPE  # noqa: F401 - published here as well
from .call import Call, arguments_to_state, target_from_state, target_to_state
from .callbacks import CallbackProxy, prepared
from .callingback import (
    add_to_settled,
    finish_caller,
    perform_callbacks,
    perform_postponed,
    resume_callbacks,
)
from .compact import Compact, OwnedDict, OwnedList
from .companion import Companion
from .errors import AbortedError, BadStatusError, UnpicklableError
from .failure import Failure, is_failure, sanitize
from .frozen import Frozen, from_state, to_state
from .interfaces import (
    ACTIVE,
    ASSIGNED,
    CALLBACKS,
    COMPLETED,
    NEW,
    PENDING,
    IAgent,
    ICallbackProxy,
    IJob,
    IQueue,
    IRetryPolicy,
)
from .interruption import handle_callback_interrupt, handle_interrupt
from .jobtimes import Times
from .performance import Performance
from .retry import RetryCommonForever, RetryCommonFourTimes
from .waiting import Waiting


@implementer(IJob)
class Job(Call, Times, Waiting, Compact):
    """See `IJob`.  `_stored_` may only grow."""

    _stored_ = (
        "_status", "_parent", "_companion", "_target", "_args", "_kwargs",
        "_result", "_begin_after", "_begin_by", "_quota_names", "_assigner",
        "_active_start", "_active_end", "_callbacks_end", "_first_active",
        "_attempts", "interruptions", "deaths", "_awaited", "_awaits",
        "_postponed", "failure_log_level", "_retry_policy_factory", "retry_data",
        "alone", "stop_requested",
    )  # fmt: skip

    _status = NEW
    _parent: Any = None
    _companion: Any = None
    _result: Any = None
    _quota_names: tuple[str, ...] = ()
    _assigner: Any = None
    interruptions = 0
    deaths = 0
    failure_log_level: int | None = None
    _retry_policy_factory: Any = None
    retry_data: dict = {}  # replaced, never changed  # noqa: RUF012
    alone = False
    stop_requested = False

    def __init__(self, *args: Any, **kwargs: Any):
        if not args:
            raise TypeError("a job needs a callable as its first argument")
        self._companion = Companion()
        self.callable = args[0]
        if len(args) > 1:
            self._args = OwnedList(self, args[1:])
        if kwargs:
            self._kwargs = OwnedDict(self, kwargs)

    @classmethod
    def bind(cls, *args: Any, **kwargs: Any) -> "Job":
        """A job that passes itself as the first argument to the callable."""
        job = cls(*args, **kwargs)
        job.args.insert(0, job)
        return job

    # What is stored.

    def _encode(self, name: str, value: Any) -> Any:
        encode = _TO_STATE.get(name)
        return value if encode is None else encode(value)

    def _decode(self, name: str, value: Any) -> Any:
        decode = _FROM_STATE.get(name)
        return value if decode is None else decode(value)

    # The call.

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """See `IJob`."""
        return Performance(self).by_hand(args, kwargs)

    def setUp(self) -> Any:
        """See `IJob`."""

    def tearDown(self, info: Any) -> None:
        """See `IJob`."""

    def surroundings(self) -> Any:
        """See `IJob`."""
        cls = type(self)
        plain = cls.setUp is Job.setUp and cls.tearDown is Job.tearDown
        return () if plain else None

    # Where it is, and its status.

    @property
    def parent(self) -> Any:
        """See `IJob`.  A queue makes the job PENDING, an agent ASSIGNED."""
        return self._parent

    @parent.setter
    def parent(self, value: Any) -> None:
        self._parent = value
        if self._status in (NEW, PENDING, ASSIGNED):
            if value is None:
                self._status = NEW
            elif IAgent.providedBy(value):
                self._status = ASSIGNED
            elif IQueue.providedBy(value):
                self._status = PENDING

    @property
    def agent(self) -> Any:
        """See `IJob`."""
        return _nearest(self._parent, IAgent)

    @property
    def queue(self) -> Any:
        """See `IJob`."""
        return _nearest(self._parent, IQueue)

    @property
    def status(self) -> str:
        """See `IJob`."""
        return self._status

    @property
    def result(self) -> Any:
        """See `IJob`."""
        result = self._result
        if type(result) is not Frozen:
            return result
        if not hasattr(self, "_v_result"):
            self._v_result = result.thaw()
        return self._v_result

    @property
    def callbacks(self) -> OwnedList:
        """See `IJob`."""
        return self._companion.callbacks

    @property
    def annotations(self) -> OwnedDict:
        """See `IJob`."""
        return self._companion.annotations

    # Under which conditions.

    @property
    def assignerUUID(self) -> Any:
        """See `IJob`."""
        return self._assigner

    @assignerUUID.setter
    def assignerUUID(self, value: Any) -> None:
        self._assigner = None if value is None else uuid.UUID(bytes=value.bytes)

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
    def is_callback(self) -> bool:
        """Whether another job is to perform this one, with its result."""
        parent = self._parent
        if parent is None or IQueue.providedBy(parent) or IAgent.providedBy(parent):
            return False
        # The parent of a job that has expired calls its `fail`.
        target = getattr(parent, "_target", None)
        return not (isinstance(target, tuple) and target[0] is self)

    @property
    def caller(self) -> Any:
        """The job that performs this callback, proxies left out."""
        caller = self._parent
        while ICallbackProxy.providedBy(caller):
            caller = caller.parent
        return caller

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

    # Steps.  None of these commits; `performance` does.

    def _step(self, new: str) -> None:
        status.check_step(self, self._status, new)
        self._status = new

    def _settle(self, result: Any, expect_callbacks: bool = False) -> None:
        """Take `result` as the end result."""
        self._step(CALLBACKS if expect_callbacks or self.callbacks else COMPLETED)
        self._result = result
        self._active_end = clock.micros(clock.utcnow())
        self._forget_waiting()

    def _complete(self) -> None:
        """Note that all callbacks known have been performed."""
        if self._status == CALLBACKS:
            self._step(COMPLETED)
        if self._callbacks_end is None:
            self._callbacks_end = clock.micros(clock.utcnow())
        self._forget_postponement()

    def _take_back(self) -> None:
        """Undo `_begin`: the job is to be performed again, later."""
        self._step(NEW)

    def _postpone(self, when: Any, tell_agent: bool = False) -> None:
        """Have this ACTIVE job performed again at `when`, by way of its queue.

        A callback belongs to its caller, so a job of its own performs it.
        """
        self.deaths = 0
        self._forget_waiting()
        if self.is_callback:
            self._take_back()
            self._postponed = True
            self.queue.put_later(self._internal(self._perform_postponed), when)
            return
        if tell_agent:
            self._leave_agent()
        self.queue.reschedule(self, when)

    def _leave_agent(self) -> None:
        agent = self._parent
        if IAgent.providedBy(agent) and self in agent:
            agent.remove(self)

    def _internal(self, method: Callable) -> "Job":
        """A job of the machinery's own, which nothing but the database can stop."""
        job = Job(method)
        job.retry_policy_factory = RetryCommonForever
        return job

    # Callbacks and ends.

    def addCallback(
        self,
        callback: Any,
        failure_log_level: int | None = None,
        retry_policy_factory: Any = None,
    ) -> Any:
        """See `IJob`."""
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
        elif self._p_jar is not None and self._p_oid is not None:
            # The worker must not finish unseen; nor may it be disturbed.
            self._p_jar.readCurrent(self)
        self.callbacks.append(callback)
        if self._status == COMPLETED:
            add_to_settled(self, callback)

    def fail(self, e: BaseException | type | None = None) -> None:
        """See `IJob`."""
        allowed = (NEW, PENDING, ASSIGNED, ACTIVE)
        if self._status not in allowed:
            raise BadStatusError(
                "can only call fail on a job with NEW, PENDING, ASSIGNED, or ACTIVE "
                "status",
                job=self,
                expected=allowed,
            )
        if self._status == PENDING and IQueue.providedBy(self._parent):
            self._parent.withdraw(self)
        Performance(self).end(_failure_of(e))

    def resumeCallbacks(self) -> None:
        """See `IJob`."""
        if self._status not in (CALLBACKS, COMPLETED):
            raise BadStatusError(
                "can only resume callbacks on a job with CALLBACKS or COMPLETED status",
                job=self,
                expected=(CALLBACKS, COMPLETED),
            )
        resume_callbacks(self)

    def _perform_callbacks(self, tell_agent: bool = True) -> None:
        perform_callbacks(self, tell_agent)

    def _perform_postponed(self) -> None:
        perform_postponed(self)

    def _finish_caller(self) -> None:
        finish_caller(self)

    def handleInterrupt(self) -> None:
        """See `IJob`."""
        handle_interrupt(self)

    def handleCallbackInterrupt(self, caller: Any) -> None:
        """See `IJob`."""
        handle_callback_interrupt(self, caller)

    def __repr__(self) -> str:
        cls = type(self)
        name = f"{cls.__module__}.{cls.__qualname__} {callables.identity(self)}"
        try:
            call = self._describe_call()
        except Exception as error:
            call = f"not readable: {type(error).__name__}"
        return f"<{name} ``{call}``>"


class _Gone:
    """In the place of a retry policy's factory that could not be loaded."""

    def __init__(self, error: Exception):
        self.error = error

    def __call__(self, job: Any) -> Any:
        raise self.error


# How attributes are stored that are not stored as they are.


def _result_to_state(value: Any) -> Any:
    if type(value) is Frozen:
        return value.state
    return value if is_failure(value) else to_state(value)


def _uuid_to_state(value: Any) -> Any:
    return value.bytes if isinstance(value, uuid.UUID) else value


def _uuid_from_state(value: Any) -> Any:
    return uuid.UUID(bytes=value) if isinstance(value, bytes) else value


def _timedelta_to_state(value: Any) -> Any:
    return None if value is None else value // clock.MICROSECOND


def _timedelta_from_state(value: Any) -> Any:
    return None if value is None else value * clock.MICROSECOND


_TO_STATE = {
    "_status": status.ORDER.index,
    "_target": target_to_state,
    "_args": arguments_to_state,
    "_kwargs": arguments_to_state,
    "_result": _result_to_state,
    "_retry_policy_factory": _result_to_state,
    "_assigner": _uuid_to_state,
    "_begin_by": _timedelta_to_state,
}
_FROM_STATE = {
    "_status": status.ORDER.__getitem__,
    "_target": target_from_state,
    "_args": from_state,
    "_kwargs": from_state,
    "_result": from_state,
    "_retry_policy_factory": from_state,
    "_assigner": _uuid_from_state,
    "_begin_by": _timedelta_from_state,
}


def _failure_of(error: BaseException | type | None) -> Failure:
    if error is None:
        error = AbortedError()
    elif isinstance(error, type) and issubclass(error, BaseException):
        error = error()
    elif not isinstance(error, BaseException) and not hasattr(error, "trap"):
        raise UnpicklableError(
            f"found {error!r}, expected an exception or a failure", culprit=error
        )
    return sanitize(error)


def _nearest(parent: Any, interface: Any) -> Any:
    while parent is not None and not interface.providedBy(parent):
        parent = getattr(parent, "parent", None)
    return parent
