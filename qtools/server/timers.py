# SPDX-License-Identifier: ISC
"""When to look at a connection again, for thousands of them.

A connection has one deadline, which mostly moves away as it makes progress. So each has
one entry in a heap, and when that comes up too early it goes back with the deadline as
it is by then.
"""

from heapq import heappop, heappush

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    class Timed(Protocol):
        """What has a deadline; timer_at is kept here: when its entry comes up."""

        deadline: float
        timer_at: float


class Timers:
    """The heap. A deadline of 0 is none."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timed]] = []
        self._serial = 0

    def set(self, timed: "Timed", when: float) -> None:
        """Set the deadline."""
        timed.deadline = when
        if not timed.timer_at or when < timed.timer_at:
            self._push(timed, when)

    def _push(self, timed: "Timed", when: float) -> None:
        timed.timer_at = when
        self._serial += 1
        heappush(self._heap, (when, self._serial, timed))

    def next(self) -> float | None:
        """Give when the first entry comes up."""
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> "Iterator[Timed]":
        """Give those whose deadline has come; each is set anew by whoever wants that."""
        while self._heap and self._heap[0][0] <= now:
            when, _, timed = heappop(self._heap)
            if when != timed.timer_at:
                continue  # an earlier entry took its place
            timed.timer_at = 0.0
            if not timed.deadline:
                continue
            if timed.deadline > now:
                self._push(timed, timed.deadline)
            else:
                timed.deadline = 0.0
                yield timed
