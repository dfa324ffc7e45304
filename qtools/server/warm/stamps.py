# SPDX-License-Identifier: ISC
"""Challenges that a verifier has given out and will take an answer to.

The login worker greets with them, but it can't make one: an answer to a challenge that
was not given out here, or was used up, is refused, so a digest heard on one connection
is worth nothing on another. See: RFC 1939 section 7 (APOP), RFC 2195 (CRAM-MD5).
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MOST_OUT = 65536  # more than connections can be; beyond it the oldest lapse


class Stamps:
    """Those that are out, and how many answers each may still get."""

    def __init__(self, make: "Callable[[], bytes]", attempts: int) -> None:
        self._make = make
        self._attempts = attempts
        self._left: dict[bytes, int] = {}

    def give(self, count: int) -> list[bytes]:
        """Make challenges and remember them."""
        fresh = [self._make() for _ in range(count)]
        for stamp in fresh:
            self._left[stamp] = self._attempts
        while len(self._left) > MOST_OUT:
            del self._left[next(iter(self._left))]
        return fresh

    def take(self, stamp: bytes) -> bool:
        """Note an answer to a challenge; tell whether it may be looked at."""
        left = self._left.pop(stamp, 0)
        if left > 1:
            self._left[stamp] = left - 1
        return left > 0

    def spend(self, stamp: bytes) -> None:
        """Note that somebody was let in by an answer; it was the last one."""
        self._left.pop(stamp, None)
