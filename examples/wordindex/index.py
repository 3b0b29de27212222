# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The word index, as stored objects.  Knows nothing of jobs.

    documents  number -> `Document`
    failures   number -> (path, reason)
    segments   number -> `Segment`: word -> postings, of the documents added at once

The postings of a word are pairs of (document number, how often it occurs there).

A segment is written once and never changed.  One large tree of all words would be
searched faster, but each batch of documents would change, and write, most of its
nodes: a hundred times what is new.  Large search engines do the same, and merge
segments when they become too many.
"""

import heapq
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from BTrees.IOBTree import IOBTree
from BTrees.OOBTree import OOBTree
from persistent import Persistent

from .texts import words_of


class Text(Persistent):
    """The words of one file, with how often each occurs: the result of reading.

    A record of its own, so that it is written once, whatever becomes of the job.
    """

    def __init__(self, digest: str, size: int, words: dict[str, int]):
        self.digest = digest
        self.size = size
        self.words = words

    def __repr__(self) -> str:
        return f"<Text of {len(self.words)} different words>"


class Document(NamedTuple):
    """What the index keeps of a file; `size` in bytes, `words` all of them."""

    path: str
    digest: str
    size: int
    words: int


class Hit(NamedTuple):
    """A document that has all words searched for, `times` times in all."""

    times: int
    path: str


class Segment(OOBTree):
    """word -> postings.  The large leaves suit what is written only once."""

    max_leaf_size = 250


class Index(Persistent):
    """Which words occur in which documents.  Written by one transaction at a time."""

    all_words = 0
    bytes = 0
    indexed = 0
    failed = 0

    def __init__(self) -> None:
        self.documents = IOBTree()
        self.failures = IOBTree()
        self.segments = IOBTree()

    def add(self, texts: Mapping[int, tuple[str, Text]]) -> None:
        """Add documents: number -> (path, text).  ValueError if one is here already."""
        for number, (path, text) in texts.items():
            self._check_new(number)
            words = sum(text.words.values())
            self.documents[number] = Document(path, text.digest, text.size, words)
            self.all_words += words
            self.bytes += text.size
        self.indexed += len(texts)
        if texts:
            self.segments[len(self.segments)] = Segment(_inverted(texts))

    def fail(self, number: int, path: str, reason: str) -> None:
        """Note why a document is not in the index."""
        self._check_new(number)
        self.failures[number] = (path, reason)
        self.failed += 1

    def _check_new(self, number: int) -> None:
        if number in self.documents or number in self.failures:
            raise ValueError(f"found document {number} a second time, expected once")

    def postings(self, word: str) -> dict[int, int]:
        """The numbers of the documents that have `word`, and how often they do."""
        postings: dict[int, int] = {}
        for segment in self.segments.values():
            postings.update(segment.get(word, ()))
        return postings

    def find(self, query: str) -> list[Hit]:
        """The documents that have every word of `query`, the best first."""
        found = [self.postings(word) for word in words_of(query)]
        if not found:
            return []
        numbers = set(found[0]).intersection(*found[1:])
        hits = [
            Hit(sum(each[number] for each in found), self.documents[number].path)
            for number in numbers
        ]
        return sorted(hits, key=lambda hit: (-hit.times, hit.path))

    def words(self, prefix: str = "") -> Iterator[str]:
        """All words that begin with `prefix`, in order."""
        segments = self.segments.values()
        last = None
        for word in heapq.merge(*(segment.keys(min=prefix) for segment in segments)):
            if not word.startswith(prefix):
                return
            if word != last:
                yield word
            last = word

    def dump(self) -> Iterator[str]:
        """The whole content as lines: equal for indexes that answer alike.

        Names files by their paths, since their numbers say nothing.
        """
        yield f"{self.indexed} {self.failed} {self.all_words} {self.bytes}"
        for path, *rest in sorted(self.documents.values()):
            yield f"document {path!r} {rest}"
        for path, reason in sorted(self.failures.values()):
            yield f"failure {path!r} {reason}"
        for word in self.words():
            postings = self.postings(word).items()
            names = sorted((self.documents[number].path, n) for number, n in postings)
            yield f"word {word} {names}"


def _inverted(
    texts: Mapping[int, tuple[str, Text]],
) -> Iterable[tuple[str, tuple[tuple[int, int], ...]]]:
    """The words of some texts, each with its postings, in order."""
    inverted: dict[str, list[tuple[int, int]]] = {}
    for number, (_, text) in texts.items():
        for word, count in text.words.items():
            inverted.setdefault(word, []).append((number, count))
    return [(word, tuple(inverted[word])) for word in sorted(inverted)]
