# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The word index, as stored objects.  Knows nothing of jobs.

    words      word -> postings; postings are pairs of (document number, how often)
    documents  number -> `Document`
    failures   number -> (path, reason)

`words` is a BTree, which is stored in buckets of some twenty words each: adding a
document writes the buckets of its words, and so costs the more the fewer documents
are added at once.  Most words are rare; their postings are a tuple in the bucket,
those of a common word a BTree of their own.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from BTrees.IIBTree import IIBTree
from BTrees.IOBTree import IOBTree
from BTrees.OOBTree import OOBTree
from persistent import Persistent

from .texts import words_of

#: How many postings of a word are a tuple.
FEW = 8


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
    """A document that has all words searched for, `count` times in all."""

    count: int
    path: str


class Index(Persistent):
    """Which words occur in which documents.  Written by one transaction at a time."""

    different_words = 0
    all_words = 0
    bytes = 0

    def __init__(self) -> None:
        self.words = OOBTree()
        self.documents = IOBTree()
        self.failures = IOBTree()
        self.indexed = 0
        self.failed = 0

    def add(self, texts: Mapping[int, tuple[str, Text]]) -> None:
        """Add documents: number -> (path, text).  ValueError if one is here already."""
        for number, (path, text) in texts.items():
            self._check_new(number)
            count = sum(text.words.values())
            self.documents[number] = Document(path, text.digest, text.size, count)
            self.all_words += count
            self.bytes += text.size
        self.indexed += len(texts)
        for word, postings in sorted(_inverted(texts).items()):
            self._post(word, postings)

    def fail(self, number: int, path: str, reason: str) -> None:
        """Note why a document is not in the index."""
        self._check_new(number)
        self.failures[number] = (path, reason)
        self.failed += 1

    def _check_new(self, number: int) -> None:
        if number in self.documents or number in self.failures:
            raise ValueError(f"found document {number} a second time, expected once")

    def _post(self, word: str, new: dict[int, int]) -> None:
        postings = self.words.get(word)
        if postings is None:
            self.different_words += 1
            postings = ()
        if not isinstance(postings, tuple):
            postings.update(new)
            return
        postings += tuple(new.items())
        self.words[word] = postings if len(postings) <= FEW else IIBTree(postings)

    def postings(self, word: str) -> dict[int, int]:
        """The numbers of the documents that have `word`, and how often they do."""
        return dict(self._items(word))

    def _items(self, word: str) -> tuple | IIBTree:
        found = self.words.get(word, ())
        return found if isinstance(found, tuple) else found.items()

    def find(self, query: str) -> list[Hit]:
        """The documents that have every word of `query`, the best first."""
        found = [self.postings(word) for word in words_of(query)]
        if not found:
            return []
        found.sort(key=len)
        numbers = set(found[0]).intersection(*found[1:])
        hits = [
            Hit(sum(each[number] for each in found), self.documents[number].path)
            for number in numbers
        ]
        return sorted(hits, key=lambda hit: (-hit.count, hit.path))

    def beginning(self, prefix: str, limit: int) -> list[str]:
        """Up to `limit` words that begin with `prefix`, in order."""
        words = []
        for word in self.words.keys(min=prefix):
            if len(words) == limit or not word.startswith(prefix):
                break
            words.append(word)
        return words

    def dump(self) -> Iterator[str]:
        """The whole content as lines: equal for indexes that answer alike.

        Names files by their paths, since their numbers say nothing.
        """
        yield f"{self.indexed} {self.failed} {self.different_words} {self.all_words}"
        for path, *rest in sorted(self.documents.values()):
            yield f"document {path!r} {rest}"
        for path, reason in sorted(self.failures.values()):
            yield f"failure {path!r} {reason}"
        for word in self.words:
            postings = self.postings(word).items()
            names = sorted((self.documents[number].path, n) for number, n in postings)
            yield f"word {word} {names}"


def _inverted(texts: Mapping[int, tuple[str, Text]]) -> dict[str, dict[int, int]]:
    """word -> {number: how often} of some texts."""
    inverted: dict[str, dict[int, int]] = {}
    for number, (_, text) in texts.items():
        for word, count in text.words.items():
            inverted.setdefault(word, {})[number] = count
    return inverted
