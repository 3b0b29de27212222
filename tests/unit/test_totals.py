# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
import pytest

from zc.async_ import totals


def test_a_queue_has_its_counts():
    found = totals.Totals()
    found.of("a").started += 2
    found.of("a").retried += 1
    found.of("b").failed += 1
    counts = found.as_dict()["counts"]
    nothing = dict.fromkeys(
        ("failed", "interrupted", "retried", "started", "succeeded"), 0
    )
    assert counts == {
        "a": {**nothing, "started": 2, "retried": 1},
        "b": {**nothing, "failed": 1},
    }


def test_what_was_given_out_does_not_change():
    found = totals.Totals()
    found.observe("", "main", 1, 1, False)
    before = found.as_dict()
    found.observe("", "main", 1, 1, False)
    assert before["duration"]["", "main", False]["count"] == 1
    assert sum(before["duration"]["", "main", False]["buckets"]) == 1


@pytest.mark.parametrize(
    ("value", "bucket"),
    [(-1, 0), (0, 0), (0.001, 0), (0.0011, 1), (7200, 17), (7201, 18)],
)
def test_a_bucket_takes_values_up_to_its_bound(value, bucket):
    histogram = totals.Histogram()
    histogram.add(value)
    assert histogram.buckets.index(1) == bucket
    assert len(histogram.buckets) == len(totals.BOUNDS) + 1
    assert histogram.sum == max(value, 0)


def test_bounds_grow():
    assert list(totals.BOUNDS) == sorted(set(totals.BOUNDS))


def test_latency_and_duration_are_told_apart_by_agent_and_outcome():
    found = totals.Totals()
    found.observe("", "main", 0.5, 2, False)
    found.observe("", "main", 0.5, 3, True)
    found.observe("", "other", None, 4, False)
    data = found.as_dict()
    assert data["latency"]["", "main", False]["sum"] == 0.5
    assert data["duration"]["", "main", False]["sum"] == 2
    assert data["duration"]["", "main", True]["sum"] == 3
    assert data["latency"]["", "other", False]["count"] == 0
    assert data["duration"]["", "other", False]["count"] == 1
