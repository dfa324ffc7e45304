# SPDX-License-Identifier: ISC
"""When to look at a connection again, for thousands of them.

A connection has one deadline, which mostly moves away as it makes progress. So each is
in one basket, of all that come up in the same eighth of a second, and when that comes
up too early for it, it moves on to the one of its deadline. Who ends leaves his basket:
nothing of him stays until then.
"""

from heapq import heappop, heappush

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    class Timed(Protocol):
        """What has a deadline; basket is kept here, 0 for none."""

        deadline: float
        basket: int


PER_SECOND = 8  # a delay takes up to an eighth longer


class Timers:
    """All baskets."""

    def __init__(self) -> None:
        self._baskets: dict[int, dict[int, Timed]] = {}
        self._order: list[int] = []  # their keys, as a heap

    def set(self, timed: "Timed", when: float) -> None:
        """Set the deadline."""
        timed.deadline = when
        basket = int(when * PER_SECOND) + 1
        if not timed.basket or basket < timed.basket:
            self._leave(timed)
            self._enter(timed, basket)

    def cancel(self, timed: "Timed") -> None:
        """Have no deadline any more."""
        timed.deadline = 0.0
        self._leave(timed)

    def _enter(self, timed: "Timed", basket: int) -> None:
        timed.basket = basket
        if basket not in self._baskets:
            self._baskets[basket] = {}
            heappush(self._order, basket)
        self._baskets[basket][id(timed)] = timed

    def _leave(self, timed: "Timed") -> None:
        # A basket that due() is looking through is not here any more.
        self._baskets.get(timed.basket, {}).pop(id(timed), None)
        timed.basket = 0

    def next(self) -> float | None:
        """Give when to look into the first basket."""
        return self._order[0] / PER_SECOND if self._order else None

    def due(self, now: float) -> "Iterator[Timed]":
        """Give those whose deadline has come; they have none from then on."""
        while self._order and self._order[0] <= now * PER_SECOND:
            number = heappop(self._order)
            for timed in self._baskets.pop(number).values():
                if timed.basket != number:
                    continue  # it left while this basket was looked through
                timed.basket = 0
                if timed.deadline > now:
                    self._enter(timed, int(timed.deadline * PER_SECOND) + 1)
                else:
                    timed.deadline = 0.0
                    yield timed
