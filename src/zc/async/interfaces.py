# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The contracts of zc.async, each stated once.

Persistent objects (`IJob`, `IQueue`, `IAgent` and what they hold) belong to one
ZODB connection and so to one thread at a time.  They do not commit unless the
method says so.  Times are aware datetimes in UTC, durations are timedeltas.
"""

from zope.interface import Attribute, Interface
from zope.interface.common.mapping import IEnumerableMapping

from .errors import (
    AbortedError,
    AsyncError,
    BadStatusError,
    ReassignedError,
    TimeoutError,
)
from .events import (
    DatabaseOpened,
    DispatcherActivated,
    DispatcherDeactivated,
    DispatcherReactivated,
    DispatcherRegistered,
    DispatcherUnregistered,
    IDatabaseOpenedEvent,
    IDispatcherActivated,
    IDispatcherDeactivated,
    IDispatcherEvent,
    IDispatcherReactivated,
    IDispatcherRegistered,
    IDispatcherUnregistered,
    IObjectAdded,
    IObjectEvent,
    ObjectAdded,
)
from .status import ACTIVE, ASSIGNED, CALLBACKS, COMPLETED, NEW, PENDING

__all__ = [
    "ACTIVE", "ASSIGNED", "CALLBACKS", "COMPLETED", "KEY", "NEW", "PENDING",
    "AbortedError", "AsyncError", "BadStatusError", "DatabaseOpened",
    "DispatcherActivated", "DispatcherDeactivated", "DispatcherReactivated",
    "DispatcherRegistered", "DispatcherUnregistered", "IAgent",
    "ICallbackProxy", "ICompletedCollection", "IDatabaseOpenedEvent",
    "IDispatcherActivated", "IDispatcherAgents", "IDispatcherDeactivated",
    "IDispatcherEvent", "IDispatcherReactivated", "IDispatcherRegistered",
    "IDispatcherUnregistered", "IDispatchers", "IFailure", "IFilterAgent",
    "IJob", "IObjectAdded", "IObjectEvent", "IQueue", "IQueues", "IQuota",
    "IQuotas", "IReactor", "IRetryPolicy", "IUUID", "ObjectAdded",
    "ReassignedError", "TimeoutError",
]  # fmt: skip

#: Where the mapping of queues stands in the root of the database.
KEY = "zc.async"


class IReactor(Interface):
    """The part of a Twisted reactor that a dispatcher needs."""

    def callFromThread(callable, *args, **kw):
        """Have `callable` called soon in the reactor's thread; from any thread."""

    def callInThread(callable, *args, **kw):
        """Have `callable` called soon in a thread of its own."""

    def callLater(seconds, callable, *args, **kw):
        """Have `callable` called in the reactor's thread, `seconds` from now.

        Only from the reactor's own thread.
        """

    def addSystemEventTrigger(phase, event, callable, *args, **kw):
        """Have `callable` called in `phase` ('before') of `event` ('shutdown')."""

    def callWhenRunning(callable, *args, **kw):
        """Call `callable` now if the reactor runs, else when it starts."""


class IUUID(Interface):
    """The identity of this process: compares and hashes like its `uuid.UUID`."""


class IFailure(Interface):
    """An error as a value: see `failure.Failure`, a Twisted Failure.

    A job whose result provides this has failed.
    """

    def getTraceback(elideFrameworkCode=0, detail="default"):
        """The traceback as text."""

    def printTraceback(file=None):
        """Write the traceback to `file`, by default to the log of Twisted."""

    def check(*errorTypes):
        """The first of `errorTypes` (classes or dotted names) it is, or None."""

    def trap(*errorTypes):
        """Like `check`, but raise the failure when it is none of them."""


class IRetryPolicy(Interface):
    """What to do when a job could not be performed: made by `factory(job)`.

    The first three answer False (give up), True (once more, now), or a
    timedelta or datetime (put the job back into its queue for then; an empty
    timedelta means at once and ahead of all others).  A policy never sleeps
    and never commits.  An error of the policy itself, or an answer that is none
    of these, counts as False; so does a later time for a job without a queue.
    """

    def jobError(failure, data_cache):
        """The callable, or `setUp`, raised `failure`.

        That is an `IFailure`: ask it with `check`, since its `value` is a copy, or
        a stand-in for an exception that cannot be pickled.
        """

    def commitError(failure, data_cache):
        """The call succeeded and its commit raised `failure`."""

    def interrupted():
        """The dispatcher died, or stopped, while the job was active."""

    def updateData(data_cache):
        """Called just before a commit: store what is worth remembering.

        `data_cache` is a dictionary that lives over the attempts of one
        performance and starts empty.
        """


class _ICallbackSource(Interface):
    status = Attribute("One of the six statuses.  Read-only.")
    result = Attribute(
        "The end result: a value, or an `IFailure`, also in the place of a value that "
        "cannot be loaded any more.  Read-only."
    )
    parent = Attribute("The job, queue or agent that holds this; or None.")
    callbacks = Attribute("The callbacks, in the order in which they were added.")

    def addCallback(callback, failure_log_level=None, retry_policy_factory=None):
        """Have `callback(result)` performed after this job; return its `IJob`.

        `callback` is anything that adapts to `IJob`.  If this job is already
        completed the callback is performed now, in this thread, *with
        commits*.  The caller's commit can raise a ConflictError when the job
        finishes at the same moment; try again then.
        """

    def addCallbacks(
        success=None, failure=None, failure_log_level=None, retry_policy_factory=None
    ):
        """Have `success` called with a value or `failure` with a Failure.

        Returns an `ICallbackProxy` that stands for the one that is chosen.
        Otherwise like `addCallback`.
        """


class ICallbackProxy(_ICallbackSource):
    """Stands for the one of two callbacks that the job's result will choose."""

    success = Attribute("The `IJob` for a value, or None.")
    failure = Attribute("The `IJob` for a Failure, or None.")
    job = Attribute("The one that was chosen; None until then.")


class IJob(_ICallbackSource):
    """A call to be performed, its arguments, and its result.

    Written by its putter, then by the dispatcher that claims it, then by the
    worker that performs it: a hand-over, so that two who write it at once
    conflict, and that is the fence against performing it twice.
    """

    callable = Attribute(
        "What is called.  Can be set until the job is active.  Reading raises "
        "UnloadableCallableError when the code no longer has it."
    )
    args = Attribute("A list of the positional arguments; changes are stored.")
    kwargs = Attribute("A dict of the keyword arguments; changes are stored.")
    annotations = Attribute(
        "A dict for the application, outside of the job's own record: others "
        "may write it while the job is performed."
    )
    begin_after = Attribute("When the job is due.  Set by `IQueue.put`.")
    begin_by = Attribute(
        "A timedelta after `begin_after` until which it must have begun, or None."
    )
    quota_names = Attribute("A tuple of names of quotas of the queue.")
    queue = Attribute("The `IQueue` that the job came from, or None.  Read-only.")
    agent = Attribute("The `IAgent` that holds the job, or None.  Read-only.")
    assignerUUID = Attribute("The identity of the process that put the job.")
    active_start = Attribute("When the latest attempt began, or None.  Read-only.")
    active_end = Attribute("When the result was known, or None.  Read-only.")
    initial_callbacks_end = Attribute(
        "When the callbacks had been performed for the first time.  Read-only."
    )
    first_active = Attribute("When the first attempt began, or None.  Read-only.")
    attempts = Attribute("How often the callable was begun.  Read-only.")
    interruptions = Attribute("How often an attempt was interrupted.  Read-only.")
    failure_log_level = Attribute(
        "The logging level of a failure; None for ERROR, of a callback CRITICAL."
    )
    retry_policy_factory = Attribute(
        "A callable, or the name of an adapter from IJob to IRetryPolicy; None "
        "for the adapter with the empty name or, without one, the default."
    )

    alone = Attribute(
        "True if it must not share a round, that is a transaction, with others."
    )

    def __call__(*args, **kwargs):
        """Perform the job in this thread: *commits*, as described in `performance`.

        The arguments are added to those of the job.  Returns the result, or
        the job, Deferred or awaitable that the result will come from.
        BadStatusError unless the job is NEW or ASSIGNED.
        """

    def fail(e=None):
        """End the job with the exception `e`, by default an AbortedError.

        *Commits*, and performs the callbacks.  BadStatusError when the job
        already has a result.
        """

    def resumeCallbacks():
        """Go on with the callbacks of a job whose process died among them.

        Those not begun are performed, those that were active are asked what
        an interruption means to them.  *Commits*.
        """

    def handleInterrupt():
        """The job was active when its dispatcher died: reschedule or end it.

        *Commits.*
        """

    def handleCallbackInterrupt(caller):
        """The same for a callback of the job `caller`.  *Commits.*"""

    def getRetryPolicy():
        """The job's `IRetryPolicy`."""

    def setUp():
        """Called before the callable; what it returns is given to `tearDown`.

        For subclasses.  An error here is an error of the job.
        """

    def tearDown(info):
        """Called after commit or abort of each attempt that called `setUp`.

        Before the callbacks are performed.  An error here is only logged.
        """

    def surroundings():
        """What `setUp` makes, as a hashable value; None to be performed alone.

        Neighbours in a round whose values are equal share one `setUp` and
        `tearDown`.  A subclass that overrides these and not this is alone.
        """


class IQuota(Interface):
    """How many of the jobs that name it may be active at once.

    Written by dispatchers, when they claim and when they reap.
    """

    name = Attribute("Its name among the queue's quotas.")
    parent = Attribute("The `IQuotas`.")
    size = Attribute("The limit, an integer of at least 1.  Can be set.")
    filled = Attribute("True if there is no room.  Read-only.")

    def clean():
        """Forget jobs that have ended, wait for others, or have gone."""

    def add(job):
        """Count `job`; ValueError when the job does not name this quota."""

    def __iter__():
        """The jobs that count, in the order in which they were claimed."""

    def __len__():
        """How many jobs count."""


class IQuotas(IEnumerableMapping):
    """The quotas of a queue by name."""

    def create(name, size=1):
        """Make a quota; ValueError if there is one of that name."""

    def remove(name):
        """Remove a quota; jobs that name it are no longer limited by it."""


class IQueue(Interface):
    """Jobs that wait, and the dispatchers that take them."""

    name = Attribute("The key in the mapping of queues.")
    parent = Attribute("The `IQueues`.")
    dispatchers = Attribute("The `IDispatchers`.")
    quotas = Attribute("The `IQuotas`.")
    default_begin_by = Attribute(
        "The `begin_by` of jobs that have none, a timedelta, or None for no limit."
    )
    paused = Attribute("True if nothing is claimed.  See `pause` and `resume`.")

    def put(
        item,
        begin_after=None,
        begin_by=None,
        failure_log_level=None,
        retry_policy_factory=None,
    ):
        """Put a job, or what adapts to `IJob`, into the queue; return the job.

        Due at `begin_after`, an aware datetime, or now.  Part of the caller's
        transaction, and never in conflict with other puts or with claims.
        A job that has failed can be put again, and begins anew; its callbacks
        have been performed and are not performed again.
        Refused at once: a time without a zone (ValueError), an unknown quota
        (ValueError), a callable or argument that could not be loaded
        again (UnpicklableError), a job that is not NEW (BadStatusError).
        """

    def putBack(job):
        """Return a claimed job to the very front, ahead of everything."""

    def claim(filter=None, default=None):
        """Take the first due job that passes `filter`, or return `default`.

        Jobs of a full quota are passed by.  The job leaves the queue and
        belongs to the caller.  For a job that is past its `begin_by` a job is
        returned that makes it fail.
        """

    def pull(index=0):
        """Remove and return the job at `index`; IndexError when there is none."""

    def remove(job):
        """Remove this job; LookupError when it is not in the queue."""

    def pause():
        """Have nothing claimed until `resume`; jobs can be put."""

    def resume():
        """End a `pause`."""

    def __len__():
        """How many jobs wait; the cost does not grow with the number."""

    def __iter__():
        """The waiting jobs in the order of their due times."""

    def __getitem__(index):
        """The job at `index` in that order."""

    def __bool__():
        """True if any job waits."""


class IQueues(IEnumerableMapping):
    """The queues by name; `root[KEY]`.  Only queues can be inserted."""


class IDispatchers(IEnumerableMapping):
    """The dispatchers of a queue, by UUID."""

    def register(UUID):
        """Make a dispatcher known: notifies `IDispatcherRegistered`.

        ValueError when it is registered already.
        """

    def unregister(UUID):
        """Remove a dispatcher that is not activated; return it.

        Its jobs are handed back first.  ValueError when it is activated.
        """

    def ping(UUID):
        """Note that this dispatcher lives, if the last note is old enough.

        Also buries siblings that died: they are deactivated.
        """


class IDispatcherAgents(IEnumerableMapping):
    """One dispatcher as the queue knows it: its agents by name, its pings."""

    UUID = Attribute("Which dispatcher.")
    parent = Attribute("The `IQueue`.")
    activated = Attribute("Since when it claims, or None.")
    last_ping = Attribute("When it last said that it lives, or None.")
    ping_interval = Attribute("How often it says so, a timedelta.")
    ping_death_interval = Attribute("After how long a silence it counts as dead.")
    dead = Attribute("True if it is activated and silent for longer.  Read-only.")

    def activate():
        """Begin to claim: cleans up what a former life left, notifies.

        ValueError when it is activated already.
        """

    def deactivate():
        """Stop: hands all jobs back, notifies.  ValueError when not activated."""

    def reactivate():
        """Activate again after it was declared dead by mistake; notifies."""


class IAgent(Interface):
    """Claims jobs of one queue for one dispatcher, and holds them."""

    name = Attribute("The key in the `IDispatcherAgents`.")
    parent = Attribute("The `IDispatcherAgents`.")
    queue = Attribute("The `IQueue`.  Read-only.")
    size = Attribute("How many jobs it may hold, at least 1.  Can be set.")
    completed = Attribute("An `ICompletedCollection` of the jobs it has done.")

    def claimJob():
        """Take one job from the queue and return it, or None."""

    def jobCompleted(job):
        """Move `job` to the completed ones; called when it is done."""

    def remove(job):
        """Give up `job`; LookupError when the agent does not hold it."""

    def pull():
        """Remove and return the first job; IndexError when there is none."""

    def __len__():
        """How many jobs it holds."""

    def __iter__():
        """The jobs it holds, in the order in which it took them."""


class IFilterAgent(IAgent):
    """An agent that can say which waiting jobs it would take."""

    filter = Attribute("A predicate of the job that changes nothing, or None.")


class ICompletedCollection(Interface):
    """Completed jobs, the newest first; old ones are dropped after a while."""

    def add(job):
        """Add a job as the newest."""

    def first():
        """The newest job; ValueError when there is none."""

    def last():
        """The oldest job; ValueError when there is none."""

    def iter(start=None, stop=None):
        """The jobs from the newest to the oldest, between two datetimes."""

    def __iter__():
        """All, the newest first."""

    def __len__():
        """How many."""
