# SPDX-License-Identifier: ISC
"""What a session and its driver need of a maildrop, whatever it is stored in.

Sessions import nothing of this: they get an object of this shape and ask it for counts
and names. The driver calls open(), update() and tidy(). Numbers are 1-based and stay
fixed for the session (RFC 1939 section 5); lists begin with message 1.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from typing import Protocol

    class Contents(Protocol):
        """What a session may ask: how many messages, how long, under which names."""

        count: int

        def octets(self, number: int) -> int:
            """Give the octets RETR will send, before stuffing (RFC 1939 section 11).

            A message that has vanished or can't be read has none: RETR says why.
            """

        def all_octets(self) -> Sequence[int]:
            """Give octets() of every message; may be long work the first time."""

        def uid(self, number: int) -> bytes:
            """Give the unique-id: 1 to 70 octets of 0x21 to 0x7E (section 7)."""

        def all_uids(self) -> Sequence[bytes]:
            """Give uid() of every message; no two are equal."""

    class Maildrop(Contents, Protocol):
        """One opened maildrop with its messages numbered from 1 to count."""

        def open(self, number: int) -> int:
            """Open the message for reading and give the descriptor.

            Raises: Gone when the message has vanished, Temporary otherwise.
            """

        def update(self, deleted: Collection[int]) -> int:
            """Remove the deleted messages (UPDATE state).

            Gives how many of them could not be removed; one that somebody else has
            removed is not among those. Killed at any point, it has lost nothing else.
            """

        def tidy(self) -> None:
            """Do what may wait until the client has had its last reply."""

        def close(self) -> None:
            """Let go of everything held; numbers mean nothing from then on."""


class Gone(Exception):
    """The message is no longer there."""
