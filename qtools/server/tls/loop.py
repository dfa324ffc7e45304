# SPDX-License-Identifier: ISC
"""Wait for descriptors and deadlines, for thousands of connections in one process.

A stage of a connection watches its descriptors here and has at most one deadline, which
mostly moves away as it makes progress. So its entry in the heap is looked at when it
comes up, and goes back when the deadline is later by then. Entries of stages that are
over are swept out before they outnumber the others: with deadlines of an hour they
would hold on to everybody who called in that time.
"""

from heapq import heapify, heappop, heappush
from itertools import count
from select import EPOLLERR, EPOLLHUP, epoll
from sys import argv
from time import monotonic

from qtools.system.guard import complain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Watcher(Protocol):
        """Who waits for descriptors."""

        def ready(self, descriptor: int, events: int) -> None:
            """Go on: something may have happened. It must not block, nor trust it."""

        def close(self) -> None:
            """End, whatever the state."""

    class Timed(Protocol):
        """Who has a deadline."""

        is_over: bool

        def deadline(self) -> float:
            """Give when it is too late unless something happens before."""

        def late(self) -> None:
            """End, because it is too late."""


BROKEN = EPOLLERR | EPOLLHUP
LEAST_SWEEP = 64


class Loop:
    """The descriptors and deadlines of one process; now: when it last woke up."""

    def __init__(self) -> None:
        self.now = monotonic()
        self._epoll = epoll()
        self._watched: dict[int, tuple[Watcher, int]] = {}
        self._heap: list[tuple[float, int, Timed]] = []
        self._serial = count()
        self._over = 0  # entries of those who are over, at most

    def watch(self, watcher: "Watcher", descriptor: int, events: int) -> None:
        """Have the watcher told of these events; of nothing at all when they are 0.

        A descriptor whose peer has gone would be reported on and on, whatever is asked
        for; so one without events is not registered.
        """
        before, asked = self._watched.get(descriptor, (None, 0))
        if not events:
            self.forget(descriptor)
            return
        if before is None:
            self._epoll.register(descriptor, events)
        elif asked != events:
            self._epoll.modify(descriptor, events)
        elif before is watcher:
            return
        self._watched[descriptor] = watcher, events

    def forget(self, descriptor: int) -> None:
        """Watch a descriptor no longer; to be called before it is closed.

        Closing alone would not do: others have the same connection open.
        """
        if self._watched.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def time(self, timed: "Timed") -> None:
        """Look at somebody's deadline when it comes up; it may only become later."""
        heappush(self._heap, (timed.deadline(), next(self._serial), timed))

    def ended(self) -> None:
        """Take note that somebody with a deadline is over."""
        self._over += 1
        if self._over > LEAST_SWEEP and self._over * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if not entry[2].is_over]
            heapify(self._heap)
            self._over = 0

    def turn(self) -> None:
        """Wait until something happens, and have it dealt with."""
        wait = self._heap[0][0] - monotonic() if self._heap else None
        ready = self._epoll.poll(None if wait is None else max(wait, 0))
        self.now = monotonic()
        for descriptor, events in ready:
            found = self._watched.get(descriptor)
            if found is not None:
                watcher, asked = found
                self._tell(watcher, descriptor, asked if events & BROKEN else events)
        while self._heap and self._heap[0][0] <= self.now:
            timed = heappop(self._heap)[2]
            if timed.is_over:
                self._over -= 1
            elif timed.deadline() > self.now:
                self.time(timed)
            else:
                self._guard(timed.late)

    def _tell(self, watcher: "Watcher", descriptor: int, events: int) -> None:
        """Tell one; whose turn goes wrong is at its end."""
        if self._guard(lambda: watcher.ready(descriptor, events)):
            return
        if not self._guard(watcher.close):
            self._guard(lambda: self.forget(descriptor))  # or it would come up for ever

    def _guard(self, call: "Callable[[], None]") -> bool:
        """Call; a fault in one connection is not the end of thousands."""
        try:
            call()
        except Exception as why:  # noqa: BLE001  # see above
            complain(argv, f"unexpected {type(why).__name__}: {why}")
            return False
        return True
