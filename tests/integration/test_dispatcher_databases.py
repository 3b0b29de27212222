# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Queues in a database of their own, and jobs that change another one."""

import time

import pytest
import transaction
from ZODB.DB import DB
from ZODB.DemoStorage import DemoStorage
from zope.processlifetime import DatabaseOpened

from tests.support.gates import gate
from tests.support.scenario import Effect
from tests.support.site import open_connections
from zc.async_.interfaces import PENDING
from zc.async_.job import Job
from zc.async_.subscribers import multidb_queue_installer


@pytest.fixture
def twin(make_site):
    """A site whose queue is in the database 'async', beside the main one."""
    databases = {}
    other = DB(DemoStorage(), databases=databases, database_name="async")
    site = make_site(queue_names=None, databases=databases, database_name="main")
    multidb_queue_installer(DatabaseOpened(site.db))
    site.sync()
    site.root["effect"] = Effect()
    transaction.commit()
    yield site
    for made in site.dispatchers:
        made.stop()
    assert open_connections(other) <= 1  # that of the test
    transaction.abort()


def test_the_queue_is_in_its_own_database_and_jobs_change_the_other(twin):
    made = twin.dispatcher()
    job = twin.put(twin.root["effect"].happen)
    began = time.monotonic()
    assert twin.wait(job) == 1
    assert time.monotonic() - began < 2  # woken by a commit to the other database
    assert twin.queue._p_jar.db().database_name == "async"
    assert job._p_jar.db().database_name == "async"
    assert twin.root["effect"]._p_jar.db().database_name == "main"
    assert twin.root["effect"].count == 1
    (ids,) = [ids for poll in made.polls for ids in poll[""]["main"]["new jobs"]]
    assert ids[1] == "async"
    assert made.getJobInfo(*ids)["call"] == repr(job)


def test_a_job_that_fails_changes_neither(twin):
    twin.dispatcher()
    job = Job(twin.root["effect"].fail)
    callback = job.addCallbacks(failure=twin.root["effect"].happen)
    twin.put(job)
    assert twin.wait(job).check(LookupError)
    assert twin.wait(callback) == 1
    assert twin.root["effect"].count == 1


def test_what_holds_on_is_handed_back_and_loses_in_both(twin):
    made = twin.dispatcher(grace=0.1)
    job = twin.put(happen_slowly, twin.root["effect"])
    gate("slow").wait_for()
    made.stop()
    twin.sync()
    assert job.status == PENDING
    gate("slow").open()
    twin.start(made)
    twin.wait(job)
    gate("slow").wait_for_passed(2)
    twin.wait_until(lambda: not list(twin.agent(made)), "an empty agent")
    assert twin.root["effect"].count == 1


def happen_slowly(effect):
    gate("slow").enter()
    effect.happen()
