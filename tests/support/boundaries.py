# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""A storage that calls a hook at each boundary of a commit, and names the commit.

Three moments of each commit are boundaries:

before    nothing is written yet
between   the storage has voted: written, but not valid
after     the commit is done, and nobody has gone on

The name of a commit tells what it means for jobs.  It is read from the records it
writes and from the thread that commits, so that the product needs no hooks.
"""

import collections
import io
import threading

from ZODB.FileStorage import FileStorage
from zodbpickle import pickle

from zc.async_ import agent, callbacks, job, membership, status

BEFORE, BETWEEN, AFTER = MOMENTS = ("before", "between", "after")

#: The dispatcher's threads, by the beginning of their names.
ROLES = {
    "zc.async polls": "poller",
    "zc.async pings": "pinger",
    "zc.async reactor": "reactor",
    "zc.async loop": "loop",
    "zc.async ": "worker",
}


class BoundaryStorage(FileStorage):
    """Calls `hook(number, moment, name)`, in the committing thread.

    Commits are counted from 0; the storage lets one happen at a time.
    """

    def __init__(self, path, hook):
        self._hook = hook
        self._number = -1
        self._records = []
        super().__init__(path)

    def tpc_begin(self, transaction, *args, **kw):
        super().tpc_begin(transaction, *args, **kw)
        self._records = []

    def store(self, oid, serial, data, version, transaction):
        result = super().store(oid, serial, data, version, transaction)
        self._records.append(data)
        return result

    def tpc_vote(self, transaction):
        if not self._records:
            return super().tpc_vote(transaction)
        self._number += 1
        self._name = name_of(threading.current_thread().name, self._records)
        self._hook(self._number, BEFORE, self._name)
        result = super().tpc_vote(transaction)
        self._hook(self._number, BETWEEN, self._name)
        return result

    def tpc_finish(self, transaction, f=None):
        written, number = bool(self._records), self._number

        def finished(tid):
            if f is not None:
                f(tid)

        tid = super().tpc_finish(transaction, finished)
        if written:
            self._hook(number, AFTER, self._name)
        return tid


def role_of(thread_name):
    """What kind of thread it is; "main" for those that are not a dispatcher's."""
    for beginning, role in ROLES.items():
        if thread_name.startswith(beginning):
            return role
    return "main"


def name_of(thread_name, records):
    """The name of a commit: its role and the steps that it makes, sorted."""
    role = role_of(thread_name)
    steps = collections.Counter()
    for data in records:
        steps.update(_steps(role, *_loaded(data)))
    if role == "worker" and steps["job result"] > 1:
        steps["round"] += 1
    return f"{role}: {' + '.join(sorted(steps)) or 'other'}"


def points_of(name):
    """The named points of a commit: "claim", and "poller: claim", say."""
    role, _, steps = name.partition(": ")
    for step in steps.split(" + "):
        yield step
        yield f"{role}: {step}"


def _loaded(data):
    """Class and state of a record; references as (oid, class)."""
    unpickler = pickle.Unpickler(io.BytesIO(data))
    unpickler.persistent_load = lambda reference: reference
    found = unpickler.load()
    cls = found[0] if isinstance(found, tuple) else found
    return cls, unpickler.load()


def _steps(role, cls, state):
    if cls is membership.Ping:
        yield "ping"
    elif cls is membership.DispatcherAgents:
        yield "activate" if state.get("activated") else "deactivate"
    elif cls is agent.Completed or cls.__name__ == "Chunk":
        yield "reap"
    elif cls is callbacks.CallbackProxy:
        if role != "main":
            yield "choose"
    elif issubclass(cls, job.Job):
        yield from _job_steps(role, _named(cls, state))


def _job_steps(role, state):
    found = status.ORDER[state.get("_status", 0)]
    parent = state.get("_parent")
    is_callback = isinstance(parent, tuple) and parent[1] in (
        job.Job,
        callbacks.CallbackProxy,
    )
    kind = "callback" if is_callback else "job"
    if found == status.PENDING:
        yield "put" if role == "main" else "put back"
    elif found == status.ASSIGNED:
        yield "claim"
    elif found == status.ACTIVE and state.get("_awaited") is not None:
        yield f"{kind} waits"
    elif found == status.ACTIVE:
        # A worker has no other reason than a value that is still to come.
        awaits = role == "worker" and kind == "job"
        yield "job awaits" if awaits else f"{kind} active"
    elif found == status.CALLBACKS:
        yield f"{kind} result"
    elif found == status.COMPLETED:
        ended = "_callbacks_end" in state
        yield f"{kind} callbacks done" if ended else f"{kind} result"


def _named(cls, state):
    """The values of a compact record, as they are stored."""
    if not isinstance(state, tuple):
        return state
    mask, *values = state
    names = [name for at, name in enumerate(cls._stored_) if mask >> at & 1]
    return dict(zip(names, values, strict=False))
