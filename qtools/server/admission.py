# SPDX-License-Identifier: ISC
"""Who may come in: connections at once, in all and from one source.

The rule is popa3d's: a connection counts while it lives or for min_delay seconds after
it began, whichever is longer. So the limits hold back a flood of short connections as
well, and one that has to be refused does not fill the log either. Nothing here grows
with the number of sources that ever came: a source is remembered while one of its
connections counts. There is no clock inside; moments are seconds, monotonic.
"""

from collections import OrderedDict
from heapq import heappop, heappush

TOTAL = "total"  # there are as many connections as there may be
SOURCE = "source"  # ... from this source

LEAST_LOG_SECONDS = 10  # what popa3d keeps between two lines about the same thing


class Admission:
    """The connections that count, by source.

    limit: in all. per_source: from one source, 0 for any number. min_delay_seconds:
    how long a connection counts at least. A source is whatever the caller takes for
    one: an address, the network of an address.
    """

    def __init__(self, limit: int, per_source: int, min_delay_seconds: float) -> None:
        self._limit = limit
        self._per_source = per_source
        self._min_delay_seconds = min_delay_seconds
        self._log_seconds = max(min_delay_seconds, LEAST_LOG_SECONDS)
        self._count = 0
        self._sources: dict[bytes, int] = {}
        # Those that ended early, as (the moment from which they count no more, source).
        self._lingering: list[tuple[float, bytes]] = []
        # By reason and source, the oldest line first: when the last line was written,
        # and how many were not since.
        self._told: OrderedDict[tuple[str, bytes], tuple[float, int]] = OrderedDict()

    @property
    def count(self) -> int:
        """Connections that count, as of the last call: living, or younger than that."""
        return self._count

    def is_full(self, now: float) -> bool:
        """Tell whether nobody at all can be admitted now."""
        self._forget(now)
        return self._count >= self._limit

    @property
    def sources(self) -> int:
        """Sources of these connections."""
        return len(self._sources)

    def admit(self, source: bytes, now: float) -> str:
        """Count a connection that begins now, unless a limit is reached.

        Gives "", or which limit: SOURCE or TOTAL. What is admitted is to be released.
        """
        self._forget(now)
        if 0 < self._per_source <= self._sources.get(source, 0):
            return SOURCE
        if self._count >= self._limit:
            return TOTAL
        self._enter(source)
        return ""

    def resume(self, source: bytes, now: float) -> None:
        """Count a living connection that another process has admitted.

        No limit is looked at: it is there already. When it began is asked by release().
        """
        self._forget(now)
        self._enter(source)

    def release(self, source: bytes, began: float, now: float) -> None:
        """Note that a connection has ended; began: when it was admitted."""
        until = began + self._min_delay_seconds
        if until > now:
            heappush(self._lingering, (until, source))
        else:
            self._leave(source)
        self._forget(now)

    def is_loud(self, source: bytes, why: str, now: float) -> bool:
        """Tell whether to write a line about this refusal.

        Of one reason and source there is one line in max(min_delay, 10) seconds; TOTAL
        is one reason whatever the source. No more of them are remembered than there
        may be connections: a flood from everywhere is not worth more lines than that.
        """
        self._forget_told(now)
        key = _key(source, why)
        told = self._told.get(key)
        if told is None:
            if len(self._told) >= self._limit and why != TOTAL:
                return False
            self._told[key] = (now, 0)
            return True
        written, left_out = told
        is_due = now - written >= self._log_seconds
        self._told[key] = (now, left_out) if is_due else (written, left_out + 1)
        if is_due:
            self._told.move_to_end(key)
        return is_due

    def suppressed(self, source: bytes, why: str) -> int:
        """Give how many lines is_loud() has denied since this was last asked.

        To be asked when a line is written, so that it can say how many it stands for.
        """
        key = _key(source, why)
        written, left_out = self._told.get(key, (0.0, 0))
        if left_out:
            self._told[key] = (written, 0)
        return left_out

    def _enter(self, source: bytes) -> None:
        self._count += 1
        self._sources[source] = self._sources.get(source, 0) + 1

    def _leave(self, source: bytes) -> None:
        left = self._sources[source] - 1
        self._count -= 1
        if left:
            self._sources[source] = left
        else:
            del self._sources[source]

    def _forget(self, now: float) -> None:
        """Let go of what ended early and is old enough now."""
        while self._lingering and self._lingering[0][0] <= now:
            self._leave(heappop(self._lingering)[1])

    def _forget_told(self, now: float) -> None:
        """Let go of lines so old that what was left out since is not worth a word."""
        while self._told:
            written, _ = next(iter(self._told.values()))
            if now - written < 2 * self._log_seconds:
                return
            self._told.popitem(last=False)


def _key(source: bytes, why: str) -> tuple[str, bytes]:
    return why, b"" if why == TOTAL else source
