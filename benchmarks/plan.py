# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""What a benchmark says about itself: its cases, its figures, their bars."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Bar:
    """What a figure has to reach, and what it aims at.

    `of_ceiling` says that the share of the ceiling is compared, not the figure.
    """

    value: float
    aim: float | None = None
    of_ceiling: bool = False

    symbol = "?"
    compare: Callable = operator.eq

    def met(self, median: float, share: float | None) -> bool:
        """Whether a figure with this median and share of the ceiling reaches it."""
        return self._reaches(median, share, self.value)

    def aim_met(self, median: float, share: float | None) -> bool | None:
        """The same for the aim; None without one."""
        return None if self.aim is None else self._reaches(median, share, self.aim)

    def _reaches(self, median: float, share: float | None, value: float) -> bool:
        found = share if self.of_ceiling else median
        return found is not None and type(self).compare(found, value)

    def __str__(self) -> str:
        text = f"{self.symbol} {self._number(self.value)}"
        return text if self.aim is None else f"{text}, aim {self._number(self.aim)}"

    def _number(self, value: float) -> str:
        return f"{value:.0%}" if self.of_ceiling else f"{value:,g}"


class AtLeast(Bar):
    """The figure has to be as high as this."""

    symbol = ">="
    compare = operator.ge


class AtMost(Bar):
    """The figure must not be higher than this."""

    symbol = "<="
    compare = operator.le


@dataclass(frozen=True)
class Figure:
    """One number that a trial returns under `key`.

    `ceiling` is the number of threads of the ceiling that it is compared with, if
    any; `seed` what zc.async 1.5.4 reached, as text, on another machine.
    """

    key: str
    title: str
    unit: str
    bar: Bar | None = None
    ceiling: int | None = None
    seed: str = ""


@dataclass(frozen=True)
class Case:
    """One way to run a trial: its keyword arguments, and the figures it gives."""

    figures: tuple[Figure, ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)
