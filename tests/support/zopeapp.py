# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Pages of the Zope instance that functional tests start as a process."""

import time

import transaction
from AccessControl import getSecurityManager
from Products.Five.browser import BrowserView
from ZODB.POSException import ConflictError
from ZODB.utils import p64, u64

from zc.async_.errors import UnpicklableError
from zc.async_.interfaces import IQueue
from zc.async_.zopejob import ZopeJob

CONFLICTS: list = []


def who(ob):
    """Who performs this, and the URL and path of content."""
    user = getSecurityManager().getUser()
    return f"{user.getId()} {ob.absolute_url()} {'/'.join(ob.getPhysicalPath())}"


def last(ob, seconds):
    time.sleep(seconds)
    return f"lasted {seconds}"


class Pages(BrowserView):
    """What tests ask for."""

    def put(self):
        """Put `who`; its oid in the database of the queue."""
        return self._put(ZopeJob(who, self.context))

    def put_slow(self):
        return self._put(ZopeJob(last, self.context, float(self.request["seconds"])))

    def put_in_conflict(self):
        """Put a job, and make the publisher repeat the request once."""
        oid = self.put()
        if not CONFLICTS:
            CONFLICTS.append(oid)
            raise ConflictError("for a test")
        return oid

    def put_page(self):
        """What must not be put."""
        try:
            IQueue(self.context).put(self.put)
        except UnpicklableError as error:
            return str(error)
        return "accepted"

    def show(self):
        """Status and result of a job."""
        jar = IQueue(self.context)._p_jar
        job = jar.get(p64(int(self.request["oid"])))
        return f"{job.status}: {job.result}"

    def length(self):
        """How many jobs there are, waiting and held and done."""
        queue = IQueue(self.context)
        agents = [a for d in queue.dispatchers.values() for a in d.values()]
        return str(len(queue) + sum(len(a) + len(a.completed) for a in agents))

    def _put(self, job):
        job = IQueue(self.context).put(job)
        transaction.savepoint()
        return str(u64(job._p_oid))
