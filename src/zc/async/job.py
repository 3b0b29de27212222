# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The job: a call, its arguments, its status and its result, as one record.

What the methods promise stands in `interfaces.IJob`; how a job is performed,
with its commits, in `performance`.  `serial` and `parallel` of `composition` are
published here as well.
"""

import importlib
from collections.abc import Callable
from typing import Any

from zope.interface import implementer

from . import callables, clock, status
from .adapters import METHOD_WRAPPER_TYPE  # noqa: F401 - published here as well
from .call import Call
from .compact import Compact, OwnedDict, OwnedList
from .companion import Companion
from .errors import AbortedError, UnloadableCallableError, UnpicklableError
from .failure import Failure, sanitize
from .frozen import Frozen
from .interfaces import (
    ACTIVE,
    ASSIGNED,
    CALLBACKS,
    COMPLETED,
    NEW,
    PENDING,
    IAgent,
    IJob,
    IQueue,
)
from .interruption import handle_callback_interrupt, handle_interrupt
from .jobcallbacks import WithCallbacks
from .jobpolicy import Conditions
from .jobstate import FROM_STATE, TO_STATE
from .jobtimes import Times
from .performance import Performance
from .retry import RetryCommonForever
from .threadlocal import local
from .waiting import Waiting


@implementer(IJob)
class Job(Call, Times, Conditions, WithCallbacks, Waiting, Compact):
    """See `IJob`.  `_stored_` may only grow."""

    _stored_ = (
        "_status", "_parent", "_companion", "_target", "_args", "_kwargs",
        "_result", "_begin_after", "_begin_by", "_quota_names", "_assigner",
        "_active_start", "_active_end", "_callbacks_end", "_first_active",
        "_attempts", "interruptions", "deaths", "_awaited", "_awaits",
        "_postponed", "failure_log_level", "_retry_policy_factory", "retry_data",
        "alone", "stop_requested",
    )  # fmt: skip

    _to_state_ = TO_STATE
    _from_state_ = FROM_STATE

    _status = NEW
    _parent: Any = None
    _companion: Any = None
    _result: Any = None
    interruptions = 0
    deaths = 0
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

    # The call.

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """See `IJob`."""
        return Performance(self).by_hand(args, kwargs)

    def _take_value(self, token: int, value: Any) -> None:
        """The value that the attempt `token` awaited is there.  Commits."""
        Performance(self, token=token).with_value(value)

    def _prepare(self) -> None:
        """Called when the job is about to be put; for subclasses."""

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
        """See `IJob`.  One that cannot be loaded any more appears as a Failure."""
        result = self._result
        if type(result) is not Frozen:
            return result
        if not hasattr(self, "_v_result"):
            try:
                self._v_result = result.thaw()
            except UnloadableCallableError as error:
                self._v_result = sanitize(error)
        return self._v_result

    @property
    def annotations(self) -> OwnedDict:
        """See `IJob`."""
        return self._companion.annotations

    # Steps.  None of these commits; `performance` does.

    def _step(self, new: str) -> None:
        status.check_step(self, self._status, new)
        self._status = new

    def _renew(self) -> None:
        """Forget the result and how it came, so that the job can be put again."""
        kept = ("_companion", "_target", "_args", "_kwargs", "_begin_by",
                "_quota_names", "failure_log_level", "_retry_policy_factory",
                "alone")  # fmt: skip
        for name in self._stored_:
            if name not in kept:
                self.__dict__.pop(name, None)
        self._p_changed = True

    def _settle(self, result: Any, expect_callbacks: bool = False) -> None:
        """Take `result` as the end result."""
        expect_callbacks = expect_callbacks or self._companion.has_callbacks
        self._step(CALLBACKS if expect_callbacks else COMPLETED)
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
            self.queue.put_later(self.substitute(self._perform_postponed), when)
            return
        if tell_agent:
            self._leave_agent()
        self.queue.reschedule(self, when)

    def _leave_agent(self) -> None:
        agent = self._parent
        if IAgent.providedBy(agent) and self in agent:
            agent.remove(self)

    def substitute(self, method: Callable) -> "Job":
        """A job of the machinery's own that calls a method of this one.

        Whatever adapters and policies an application has, only the database can
        keep it from that.
        """
        job = Job(method)
        job.retry_policy_factory = RetryCommonForever
        return job

    # Ends.

    def fail(self, e: BaseException | type | None = None) -> None:
        """See `IJob`."""
        if self._was_being_failed():
            self.resumeCallbacks()
            return
        status.require(self, "call fail on", (NEW, PENDING, ASSIGNED, ACTIVE))
        if self._status == PENDING and IQueue.providedBy(self._parent):
            self._parent.withdraw(self)
        Performance(self).end(_failure_of(e))

    def _was_being_failed(self) -> bool:
        """Whether the job in hand is to fail this one, and was interrupted at that."""
        job = local.getJob()
        return (
            job is not None
            and job.is_substitute
            and job._target == (self, "fail")
            and job.attempts > 1
            and self._status in (CALLBACKS, COMPLETED)
        )

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


#: Published here since release 1.5, and made of jobs: the modules by name.
_MADE_OF_JOBS = {"serial": "composition", "parallel": "composition"}


def __getattr__(name: str) -> Any:
    """Import what is made of jobs when it is asked for, since it imports `Job`."""
    if name not in _MADE_OF_JOBS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f".{_MADE_OF_JOBS[name]}", __package__)
    return getattr(module, name)
