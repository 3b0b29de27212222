# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Jobs that nobody would write on purpose.

Those that take `effect` raise its count first: whether that is stored tells whether
the transaction was.
"""

import sys
import threading

import transaction
from persistent import Persistent

from zc.async_ import local
from zc.async_.job import Job
from zc.async_.retry import RetryCommonFourTimes

from .gates import gate


class Outrage(BaseException):
    """Not an Exception."""


class Unpicklable(Exception):
    """Has something with it that cannot be stored."""

    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()


class Mute(Exception):
    """Neither its text nor its repr can be had."""

    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


class Shy:
    """Can be stored, but not shown."""

    def __repr__(self):
        raise RuntimeError("no repr")


class Touchy(Persistent):
    """Raises while it is stored."""

    def __getstate__(self):
        raise ZeroDivisionError("no state")


def raise_it(effect, cls, *args):
    effect.count += 1
    raise cls(*args)


def raise_local(effect):
    class Local(Exception):
        pass

    effect.count += 1
    raise Local("defined inside of a function")


def exit_the_usual_way(effect):
    effect.count += 1
    sys.exit(2)


def recurse(effect):
    effect.count += 1

    def deeper():
        return deeper()

    return deeper()


def recurse_in_data(effect):
    effect.count += 1
    data = []
    for _ in range(100_000):
        data = [data]
    return data


def return_lock(effect):
    effect.count += 1
    return threading.Lock()


def return_lambda(effect):
    effect.count += 1
    return lambda: 1


def return_generator(effect):
    effect.count += 1
    return (one for one in "abc")


def return_local_class(effect):
    class Local:
        pass

    effect.count += 1
    return Local()


def return_touchy(effect):
    effect.count += 1
    return Touchy()


def return_shy(effect):
    effect.count += 1
    return Shy()


def return_much(effect):
    effect.count += 1
    return "x" * 3_000_000


def return_itself(effect):
    effect.count += 1
    return local.getJob()


def return_lock_as_callback(result):
    return threading.Lock()


def store_touchy(effect):
    effect.count += 1
    effect.touchy = Touchy()


def close_connection(effect):
    effect._p_jar.close()


def change_and_close_connection(effect):
    effect.count += 1
    effect._p_jar.close()


def abort(effect):
    effect.count += 1
    transaction.abort()
    return "aborted"


def abort_and_change(effect):
    effect.count += 100
    transaction.abort()
    effect.count += 1


def commit(effect):
    effect.count += 1
    transaction.commit()
    return "committed"


def commit_and_fail(effect):
    effect.count += 1
    transaction.commit()
    effect.count += 100
    raise LookupError("after the commit")


def commit_several_times(effect):
    for _ in range(3):
        effect.count += 1
        transaction.commit()
    effect.count += 1


def begin(effect):
    effect.count += 100
    transaction.begin()
    effect.count += 1


def doom(effect):
    effect.count += 1
    transaction.doom()


def join_with_a_manager_that_fails(effect):
    effect.count += 1
    transaction.get().join(FailingManager())


class FailingManager:
    """A data manager that cannot commit."""

    transaction_manager = transaction.manager

    def tpc_vote(self, txn):
        raise OSError("the disk is full")

    def sortKey(self):
        return "~ the last one"

    def abort(self, txn):
        pass

    tpc_begin = commit = tpc_finish = tpc_abort = abort


def add_hook_that_fails(effect):
    effect.count += 1
    transaction.get().addBeforeCommitHook(fail_in_hook)


def add_late_hook_that_fails(effect):
    effect.count += 1
    transaction.get().addAfterCommitHook(fail_in_hook)


def fail_in_hook(*args):
    raise LookupError("in a hook")


def start_thread(effect, name):
    """The thread outlives the job."""
    effect.count += 1
    threading.Thread(target=gate(name).enter, name=name, daemon=True).start()


def change_the_queue(effect):
    effect.count += 1
    queue = local.getQueue()
    for job in list(queue):
        queue.remove(job)
    queue.quotas.create("new")
    queue.default_begin_by = None
    return queue.put(effect.happen)


def remove_its_agent(effect):
    effect.count += 1
    agent = local.getAgent()
    del agent.parent[agent.name]


def deactivate_its_dispatcher(effect):
    effect.count += 1
    local.getAgent().parent.deactivate()


def call_itself(effect):
    effect.count += 1
    local.getJob()()


def fail_itself(effect):
    effect.count += 1
    return local.getJob().fail(LookupError("by its own hand"))


def put_itself_again(effect):
    effect.count += 1
    local.getQueue().put(local.getJob())


def put_itself_back(effect):
    effect.count += 1
    local.getAgent().remove(local.getJob())
    local.getQueue().putBack(local.getJob())


def remove_itself_from_its_agent(effect):
    effect.count += 1
    local.getAgent().remove(local.getJob())


def change_its_own_arguments(effect, *args):
    effect.count += 1
    local.getJob().args.append(5)
    local.getJob().kwargs["name"] = 6


class Vanishing(Persistent):
    """A class that tests take away from this module."""

    def __call__(self):
        return "not yet vanished"

    def tell(self):
        return "not yet vanished"


class Plain:
    """Another one; not persistent."""


class Policy(RetryCommonFourTimes):
    """A retry policy."""


class OwnJob(Job):
    """A job of an application's own class."""


def vanish(*args):
    return "not yet vanished"


def take(*args):
    return "taken"
