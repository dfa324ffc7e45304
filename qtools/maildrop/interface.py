# SPDX-License-Identifier: ISC
"""What a session and its driver need of a maildrop, whatever it is stored in.

Sessions import nothing of this: they get an object of this shape and call count,
octets() and uid(). The driver calls open() and update(). Numbers are 1-based and stay
fixed for the session (RFC 1939 section 5).
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Protocol

    class Maildrop(Protocol):
        """One opened maildrop with its messages numbered from 1 to count."""

        count: int

        def octets(self, number: int) -> int:
            """Give the octets RETR will send, before stuffing (RFC 1939 section 11).

            Raises: Gone when the message has vanished.
            """

        def uid(self, number: int) -> bytes:
            """Give the unique-id: 1 to 70 octets of 0x21 to 0x7E (section 7)."""

        def open(self, number: int) -> int:
            """Open the message for reading and give the descriptor.

            Raises: Gone when the message has vanished, Temporary otherwise.
            """

        def update(self, deleted: Collection[int]) -> int:
            """Remove the deleted messages durably and tidy up (UPDATE state).

            Gives how many of them could not be removed.
            """


class Gone(Exception):
    """The message is no longer there."""
