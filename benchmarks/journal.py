# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Counting what transactions wrote, by the storage's own account."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ZODB.utils import get_pickle_metadata

# What FileStorage adds: to a transaction (two lengths, id, status, three lengths), to
# a record (oid, serial, two positions, a length of a name, its own length).
TRANSACTION_BYTES = 23 + 8
RECORD_BYTES = 42


@dataclass
class Count:
    """Transactions, records and bytes; and the records and bytes of each class."""

    transactions: int = 0
    records: int = 0
    bytes: int = 0
    records_of: Counter = field(default_factory=Counter)
    bytes_of: Counter = field(default_factory=Counter)

    def __add__(self, other: "Count") -> "Count":
        return Count(
            self.transactions + other.transactions,
            self.records + other.records,
            self.bytes + other.bytes,
            self.records_of + other.records_of,
            self.bytes_of + other.bytes_of,
        )

    def per(self, jobs: int) -> dict[str, Any]:
        """Plain data, divided by a number of jobs."""
        return {
            "transactions": self.transactions / jobs,
            "records": self.records / jobs,
            "bytes": self.bytes / jobs,
            "records by class": _divided(self.records_of, jobs),
            "bytes by class": _divided(self.bytes_of, jobs),
        }


def _divided(counter: Counter, by: int) -> dict[str, float]:
    return {name: round(value / by, 3) for name, value in counter.most_common()}


def count(transactions: Iterable, after: bytes, until: bytes) -> Count:
    """Count the transactions later than the tid `after`, up to the tid `until`.

    Bytes are those that a FileStorage would take, so that storages compare.
    """
    found = Count()
    for transaction in transactions:
        if transaction.tid <= after:
            continue
        if transaction.tid > until:
            break
        _add(found, transaction)
    return found


def _add(found: Count, transaction: Any) -> None:
    found.transactions += 1
    found.bytes += TRANSACTION_BYTES + sum(
        map(
            len,
            (transaction.user, transaction.description, transaction.extension_bytes),
        )
    )
    for record in transaction:
        data = record.data or b""
        size = RECORD_BYTES + (len(data) or 8)
        name = ".".join(get_pickle_metadata(data)) if data else "(undone)"
        found.records += 1
        found.bytes += size
        found.records_of[name] += 1
        found.bytes_of[name] += size
