# SPDX-License-Identifier: ISC
"""Figures of interleaved rounds, and how they are put side by side.

A ratio is the median of the ratios of single rounds, never a ratio of medians: what
disturbs the machine for a while disturbs both sides of a round.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

Row = TypeVar("Row")


class Figures:
    """One measured quantity: for each name, one value a round."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._rounds: dict[str, list[float]] = {}

    def add(self, name: str, value: float) -> None:
        """Keep the value of this round."""
        self._rounds.setdefault(name, []).append(value)

    def median(self, name: str) -> float | None:
        """Give the median of all rounds, if there was any."""
        values = self._rounds.get(name)
        return median(values) if values else None

    def spread(self, name: str) -> str:
        """Give lowest and highest round, as text."""
        values = self._rounds.get(name)
        return f"{min(values):.2f}-{max(values):.2f}" if values else "-"

    def ratio(self, name: str, to: str, *, reference: Figures | None = None) -> str:
        """Give the median of the ratios to another row, or of another figure."""
        ours = self._rounds.get(name)
        theirs = (reference or self)._rounds.get(to)  # noqa: SLF001 - same class
        if not ours or not theirs:
            return "-"
        pairs = zip(ours, theirs, strict=True)
        middle = median(value / other for value, other in pairs)
        return f"{middle:.2f}" if middle >= 0.1 else f"{middle:.4f}"


def rotated(rows: Sequence[Row], by: int) -> list[Row]:
    """Give the rows beginning elsewhere, so that no row is always the first."""
    turn = by % len(rows)
    return [*rows[turn:], *rows[:turn]]


def cell(value: float | None, digits: int = 2) -> str:
    """Give a number as text, a dash for none."""
    return "-" if value is None else f"{value:.{digits}f}"


def show(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table with aligned columns, the first one to the left."""
    widths = [max(len(row[at]) for row in (heads, *rows)) for at in range(len(heads))]
    print(f"\n{title}")
    for row in (heads, *rows):
        first = row[0].ljust(widths[0])
        rest = map(str.rjust, row[1:], widths[1:])
        print("  ".join((first, *rest)).rstrip())
