# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""What the documents in docs show is what happens.

* The examples run, each document in a folder and with a component registry of its own.
* Functions and classes that are shown stand in the module that the examples call.
* They are valid reStructuredText, and the documents that they refer to are there.
"""

import doctest
import inspect
import logging
import re
import threading
from pathlib import Path

import docutils.core
import docutils.nodes
import pytest
import transaction

from examples import shop
from zc.async_ import dispatcher as dispatchers
from zc.async_ import instanceuuid, testing

ROOT = Path(__file__).parents[2]
DOCS = sorted((ROOT / "docs").glob("*.txt"))
PAGES = [*DOCS, *(ROOT / name for name in ("README.txt", "CHANGES.txt", "DEVELOP.txt"))]

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.REPORT_NDIFF
# As at a prompt, and as other programs run such documents.
GLOBS = {"__name__": "__main__"}


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
    shop.SAID.clear()
    testing.assert_no_leaked_threads(before)


def read(path):
    return path.read_text("utf-8")


def parsed(path):
    """The tree of a document; raises SystemMessage for what is not right in it."""
    settings = {"halt_level": 2, "report_level": 5, "syntax_highlight": "none"}
    return docutils.core.publish_doctree(
        read(path), source_path=str(path), settings_overrides=settings
    )


def literal_blocks(path):
    for node in parsed(path).findall(docutils.nodes.literal_block):
        yield node.astext()


def definitions(text):
    """The functions and classes at the top of a piece of code."""
    return re.split(r"\n\n+(?=@|def |class |async def )", text)


@each_document
def test_the_examples_run_as_shown(path, place):
    said = []
    test = doctest.DocTestParser().get_doctest(
        read(path), dict(GLOBS), path.name, str(path), 0
    )
    assert test.examples
    doctest.DocTestRunner(optionflags=FLAGS, verbose=False).run(test, out=said.append)
    assert not said, "".join(said)


@each_document
def test_the_functions_shown_are_those_that_the_examples_call(path):
    source = inspect.getsource(shop)
    for block in literal_blocks(path):
        for code in definitions(block):
            if re.match("def |class |async def ", code):
                assert f"\n\n{code}\n" in source, code


@each_page
def test_it_is_valid_restructured_text(path):
    parsed(path)


@each_document
def test_the_documents_that_it_refers_to_are_there(path):
    links = [
        node.get("refuri") for node in parsed(path).findall(docutils.nodes.reference)
    ]
    named = [link for link in links if link and ":" not in link]
    assert named
    for name in named:
        assert (ROOT / "docs" / name).exists(), name


def test_the_readme_names_all_documents():
    named = re.findall(r"^``(\w+\.txt)``$", read(ROOT / "README.txt"), re.M)
    assert sorted(named) == [path.name for path in DOCS]
