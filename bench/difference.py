# SPDX-License-Identifier: ISC
"""Whether two series of measurements differ by more than chance.

The test of Mann and Whitney asks whether a value of the one is more often above one of
the other than below. Times of processes are far from normal, with a tail of whatever
else the machine did, which shifts means but hardly ranks.
"""

from __future__ import annotations

from math import erfc, sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def chance(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Give the probability of such a difference, or more, where there is none.

    By the normal approximation, which is good from twenty values each.
    """
    values = sorted([(value, 0) for value in ours] + [(value, 1) for value in theirs])
    ranks = sum(
        _rank(values, at) for at, (_, series) in enumerate(values) if series == 0
    )
    count, other = len(ours), len(theirs)
    above = ranks - count * (count + 1) / 2
    spread = sqrt(count * other * (count + other + 1) / 12)
    return erfc(abs(above - count * other / 2) / spread / sqrt(2))


def _rank(values: Sequence[tuple[float, int]], at: int) -> float:
    """Give the rank of a value, from 1; equal ones share theirs."""
    first = last = at
    while first and values[first - 1][0] == values[at][0]:
        first -= 1
    while last + 1 < len(values) and values[last + 1][0] == values[at][0]:
        last += 1
    return (first + last) / 2 + 1
