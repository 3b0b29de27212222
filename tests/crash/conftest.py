# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Fixtures of the crash tests."""

import pytest

from tests.support.lives import Nursery


@pytest.fixture(scope="session")
def nursery():
    """Where lives come from; one for all tests."""
    with Nursery() as made:
        yield made
