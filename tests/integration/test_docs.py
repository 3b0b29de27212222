# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""What the documents in docs show is what happens.

* The examples run, each document in a folder and with a component registry of its own.
* Code that is shown and not run stands in the module that the examples call.
* They are valid reStructuredText, and what they refer to is there.
"""

import doctest
import logging
import re
import textwrap
import threading
from pathlib import Path

import docutils.core
import docutils.utils
import pytest
import transaction

from zc.async_ import dispatcher as dispatchers
from zc.async_ import instanceuuid, testing

ROOT = Path(__file__).parents[2]
DOCS = sorted((ROOT / "docs").glob("*.txt"))
PAGES = [*DOCS, *(ROOT / name for name in ("README.txt", "CHANGES.txt"))]
SHOP = (ROOT / "examples" / "shop.py").read_text()

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.REPORT_NDIFF
# As at a prompt, and as other programs run such documents.
GLOBS = {"__name__": "__main__"}
CODE = re.compile(r"^( *)(?:@|class |def |async def )", re.M)


def name_of(path):
    return path.name


each_document = pytest.mark.parametrize("path", DOCS, ids=name_of)
each_page = pytest.mark.parametrize("path", PAGES, ids=name_of)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to work in; afterwards everything has ended."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZC_ASYNC_UUID", str(tmp_path / "uuid.txt"))
    instanceuuid.reset()
    before = threading.enumerate()
    # What is meant to fail would fill the screen.
    monkeypatch.setattr(logging.getLogger("zc.async"), "propagate", False)
    yield tmp_path
    transaction.abort()
    instanceuuid.reset()
    dispatchers.clear()
    testing.tearDownDatetime()
    testing.assert_no_leaked_threads(before)


@each_document
def test_the_examples_run_as_shown(path, place):
    said = []
    text = path.read_text()
    test = doctest.DocTestParser().get_doctest(text, dict(GLOBS), path.name, str(path), 0)
    assert test.examples
    runner = doctest.DocTestRunner(optionflags=FLAGS, verbose=False)
    runner.run(test, out=said.append)
    assert not said, "".join(said)


def literal_blocks(text):
    document = docutils.core.publish_doctree(
        text, settings_overrides={"report_level": 5, "syntax_highlight": "none"}
    )
    for node in document.findall(docutils.nodes.literal_block):
        yield node.astext()


def test_all_documents_that_the_readme_names_are_tested():
    readme = (ROOT / "README.txt").read_text()
    named = re.findall(r"^``(\w+\.txt)``$", readme, re.M)
    assert sorted(named) == [path.name for path in DOCS]
