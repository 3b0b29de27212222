# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
import itertools

import pytest

from zc.async_ import errors, status

BadStatusError = errors.BadStatusError
ORDER = status.ORDER
NEW, PENDING, ASSIGNED, ACTIVE, CALLBACKS, COMPLETED = ORDER

LEGAL = {
    *itertools.pairwise(ORDER),
    (NEW, ASSIGNED),
    (NEW, ACTIVE),
    (PENDING, NEW),
    (ASSIGNED, PENDING),
    (ASSIGNED, NEW),
    (ACTIVE, PENDING),
    (ACTIVE, NEW),
    *itertools.product((NEW, PENDING, ASSIGNED, ACTIVE), (CALLBACKS, COMPLETED)),
}


class Job:
    status = ACTIVE


def test_stored_values_are_the_published_ones():
    assert [getattr(status, name) for name in status.NAMES.values()] == list(ORDER)
    assert ORDER == (
        "new-status",
        "pending-status",
        "assigned-status",
        "active-status",
        "callback-status",
        "completed-status",
    )


@pytest.mark.parametrize(("old", "new"), sorted(itertools.product(ORDER, ORDER)))
def test_only_the_listed_steps_are_legal(old, new):
    if (old, new) in LEGAL:
        assert status.check_step(None, old, new) is None
    else:
        with pytest.raises(BadStatusError):
            status.check_step(None, old, new)


def test_an_illegal_step_names_what_was_found_and_expected():
    job = Job()
    with pytest.raises(BadStatusError) as caught:
        status.check_step(job, CALLBACKS, ACTIVE)
    assert str(caught.value) == (
        "a job cannot go from CALLBACKS to ACTIVE status; expected COMPLETED"
    )
    assert caught.value.job is job
    assert caught.value.expected == (COMPLETED,)


def test_nothing_follows_completed():
    with pytest.raises(BadStatusError, match="expected no further step"):
        status.check_step(None, COMPLETED, NEW)


def test_unknown_statuses_are_refused():
    with pytest.raises(BadStatusError, match="'lost'"):
        status.check_step(None, "lost", NEW)
    with pytest.raises(BadStatusError, match="'lost'"):
        status.check_step(None, NEW, "lost")


def test_an_action_is_refused_with_the_published_sentence():
    job = Job()
    status.require(job, "call", (ACTIVE,))
    with pytest.raises(BadStatusError) as caught:
        status.require(job, "call", (NEW, ASSIGNED))
    assert str(caught.value) == "can only call a job with NEW or ASSIGNED status"
    assert caught.value.found == ACTIVE
    assert caught.value.expected == (NEW, ASSIGNED)


@pytest.mark.parametrize(
    ("statuses", "prose"),
    [
        ((NEW,), "NEW"),
        ((NEW, ASSIGNED), "NEW or ASSIGNED"),
        ((NEW, PENDING, ASSIGNED, ACTIVE), "NEW, PENDING, ASSIGNED, or ACTIVE"),
    ],
)
def test_statuses_are_listed_as_prose(statuses, prose):
    assert status.either(statuses) == prose
