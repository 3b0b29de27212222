# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Looking at what was logged, in tests.  Published by `testing`."""

import logging
import sys
from typing import Any, TextIO


class Logs(logging.Handler):
    """Gathers what the loggers of these names log, as a context manager.

    `records` are the log records.  As text it is one paragraph for each record, as
    that of zope.testing's `InstalledHandler`.
    """

    def __init__(self, *names: str, level: int = logging.DEBUG) -> None:
        super().__init__(level)
        self.names = names or ("zc.async",)
        self.records: list[logging.LogRecord] = []
        self._levels: dict[str, int] = {}

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def __enter__(self) -> "Logs":
        for name in self.names:
            logger = logging.getLogger(name)
            self._levels[name] = logger.level
            logger.setLevel(self.level)
            logger.addHandler(self)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for name, level in self._levels.items():
            logger = logging.getLogger(name)
            logger.removeHandler(self)
            logger.setLevel(level)
        self._levels.clear()

    def clear(self) -> None:
        """Forget what was gathered."""
        del self.records[:]

    def __str__(self) -> str:
        return "\n".join(map(_text, self.records))


def print_logs(*logs: Any, file: TextIO | None = None) -> None:
    """Print what these handlers have gathered, in the order in which it happened.

    Each has `records`, as `Logs` and zope.testing's `InstalledHandler` have.
    """
    records = {id(record): record for each in logs for record in each.records}
    for record in sorted(records.values(), key=lambda record: record.created):
        print(_text(record), file=file or sys.stdout)


def _text(record: logging.LogRecord) -> str:
    message = record.getMessage()
    if record.exc_info:
        message += "\n" + logging.Formatter().formatException(record.exc_info)
    lines = "\n".join("  " + line for line in message.split("\n") if line.strip())
    return f"{record.name} {record.levelname}\n{lines}"
