# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The job: a call, its arguments, its status and its result, as one record.

What the methods promise stands in `interfaces.IJob`; how a job is performed,
with its commits, in `performance`.
"""

import datetime
import logging
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import zope.component
from zope.interface import implementer

from . import callables, clock, status
from .adapters import METHOD_WRAPPER_TYPE  # noqa: F401 - published here as well
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
from .failure import Failure, sanitize
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
from .performance import Performance
from .retry import RetryCommonForever, RetryCommonFourTimes
from .utils import as_utc
from .waiting import Waiting


def _stored_datetime(name: str, doc: str) -> property:
    """A read-only datetime that is kept as microseconds since the epoch."""

    def get(self):
        value = getattr(self, name)
        return None if value is None else clock.from_micros(value)

    return property(get, doc=doc)


@implementer(IJob)
class Job(Waiting, Compact):
    """See `IJob`.

    Times are kept as microseconds, since an aware datetime takes 90 bytes of
    each record and a job is written three times.  `_stored_` may only grow.
    """

    _stored_ = (
        "_status", "_parent", "_companion", "_target", "_args", "_kwargs",
        "_result", "_begin_after", "_begin_by", "_quota_names", "_assigner",
        "_active_start", "_active_end", "_callbacks_end", "_first_active",
        "_attempts", "interruptions", "deaths", "_awaited", "_awaits",
        "_postponed", "failure_log_level", "retry_policy_factory", "retry_data",
        "alone", "stop_requested",
    )  # fmt: skip

    _status = NEW
    _parent: Any = None
    _companion: Any = None
    _target: Any = None
    _args: Any = ()
    _kwargs: Any = ()
    _result: Any = None
    _begin_after: int | None = None
    _begin_by: datetime.timedelta | None = None
    _quota_names: tuple[str, ...] = ()
    _assigner: Any = None
    _active_start: int | None = None
    _active_end: int | None = None
    _callbacks_end: int | None = None
    _first_active: int | None = None
    _attempts = 0
    interruptions = 0
    deaths = 0
    failure_log_level: int | None = None
    retry_policy_factory: Any = None
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
        if name == "_status":
            return status.ORDER.index(value)
        if name == "_args":
            return tuple(value)
        if name == "_kwargs":
            return dict(value)
        if name == "_begin_by":
            return None if value is None else value // clock.MICROSECOND
        if isinstance(value, uuid.UUID) and name == "_assigner":
            return value.bytes
        return value

    def _decode(self, name: str, value: Any) -> Any:
        if name == "_status":
            return status.ORDER[value]
        if name == "_begin_by" and value is not None:
            return value * clock.MICROSECOND
        if name == "_assigner" and isinstance(value, bytes):
            return uuid.UUID(bytes=value)
        return value

    # The call.

    @property
    def callable(self) -> Callable:
        """See `IJob`."""
        return callables.resolve(self._target)

    @callable.setter
    def callable(self, value: Callable) -> None:
        if self._status not in (NEW, PENDING, ASSIGNED):
            raise BadStatusError(
                "can only set the callable of a job with NEW, PENDING, or ASSIGNED "
                "status",
                job=self,
                expected=(NEW, PENDING, ASSIGNED),
            )
        self._target = callables.reference(value)

    @property
    def args(self) -> OwnedList:
        """See `IJob`."""
        if not isinstance(self._args, OwnedList):
            self.__dict__["_args"] = OwnedList(self, self._args)
        return self._args

    @args.setter
    def args(self, value: Iterable) -> None:
        self._args = OwnedList(self, value)

    @property
    def kwargs(self) -> OwnedDict:
        """See `IJob`."""
        if not isinstance(self._kwargs, OwnedDict):
            self.__dict__["_kwargs"] = OwnedDict(self, self._kwargs)
        return self._kwargs

    @kwargs.setter
    def kwargs(self, value: Any) -> None:
        self._kwargs = OwnedDict(self, value)

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
        return self._result

    @property
    def callbacks(self) -> OwnedList:
        """See `IJob`."""
        return self._companion.callbacks

    @property
    def annotations(self) -> OwnedDict:
        """See `IJob`."""
        return self._companion.annotations

    # When.

    @property
    def begin_after(self) -> datetime.datetime | None:
        """See `IJob`."""
        value = self._begin_after
        return None if value is None else clock.from_micros(value)

    @begin_after.setter
    def begin_after(self, value: datetime.datetime | None) -> None:
        self._begin_after = None if value is None else clock.micros(as_utc(value))

    @property
    def begin_by(self) -> datetime.timedelta | None:
        """See `IJob`."""
        return self._begin_by

    @begin_by.setter
    def begin_by(self, value: datetime.timedelta | None) -> None:
        if not isinstance(value, (datetime.timedelta, type(None))):
            raise TypeError(f"found begin_by {value!r}, expected a timedelta or None")
        self._begin_by = value

    active_start = _stored_datetime("_active_start", "See `IJob`.")
    active_end = _stored_datetime("_active_end", "See `IJob`.")

    @property
    def initial_callbacks_end(self) -> datetime.datetime | None:
        """See `IJob`."""
        end = self._callbacks_end
        if end is None and self._status == COMPLETED:
            end = self._active_end  # there were no callbacks
        return None if end is None else clock.from_micros(end)

    @property
    def first_active(self) -> datetime.datetime | None:
        """See `IJob`."""
        first = self._first_active
        return self.active_start if first is None else clock.from_micros(first)

    @property
    def attempts(self) -> int:
        """See `IJob`."""
        return self._attempts

    # Under which conditions.

    @property
    def assignerUUID(self) -> Any:
        """See `IJob`."""
        return self._assigner

    @assignerUUID.setter
    def assignerUUID(self, value: Any) -> None:
        self._assigner = None if value is None else uuid.UUID(bytes=value.bytes)

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

    def _begin(self, now: int) -> int:
        """Become ACTIVE: the mark that an attempt began.

        Returns the microsecond of it, later than any before: by this an attempt
        is told from others.
        """
        self._step(ACTIVE)
        before = self._active_start
        if before is not None:
            now = max(now, before + 1)
            if self._first_active is None:
                self._first_active = before
        self._active_start = now
        self._attempts += 1
        self._forget_waiting()
        self._forget_postponement()
        return now

    def _disown(self) -> int | None:
        """Have whoever performs this job now find that it is not theirs any more."""
        if self._active_start is not None:
            self._active_start += 1
        return self._active_start

    def _unbegin(self) -> None:
        """Undo `_begin` for an attempt that no thread has taken up."""
        self._attempts -= 1
        self._active_start = self._first_active if self._attempts else None

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
            call = callables.describe_call(self._target, self._args, self._kwargs)
        except Exception as error:
            call = f"not readable: {type(error).__name__}"
        return f"<{name} ``{call}``>"


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
