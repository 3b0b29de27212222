# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Fixtures of the integration tests."""

import contextlib

import pytest

from tests.support.site import Site


@pytest.fixture
def make_site():
    """Makes `Site` objects, which are closed, and so checked, at the end."""
    with contextlib.ExitStack() as stack:

        def make(*args, **options):
            site = Site(*args, **options)
            stack.callback(site.close)
            return site

        yield make


@pytest.fixture
def site(make_site):
    """A `Site` with a queue, whose dispatchers have agents of size 3."""
    return make_site()
