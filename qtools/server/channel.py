# SPDX-License-Identifier: ISC
"""A SOCK_SEQPACKET socket between two of our processes: packets, with descriptors.

Whatever comes in is bounded: a packet of PACKET_OCTETS, three descriptors. Descriptors
that a reader doesn't want are his to close.
"""

import _socket
import posix
from sys import byteorder as _ORDER  # noqa: N812  # the kernel's, of an int

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

PACKET_OCTETS = 49152  # a packet is in the kernel's memory until it is read
MOST_DESCRIPTORS = 3
_ANCILLARY_OCTETS = _socket.CMSG_SPACE(4 * MOST_DESCRIPTORS)
_INT_OCTETS = 4


class Channel:
    """One end."""

    def __init__(self, held: _socket.socket) -> None:
        self._socket = held
        self.descriptor = held.fileno()

    @classmethod
    def adopt(cls, descriptor: int) -> "Channel":
        """Take an end that came as a descriptor."""
        family, kind = _socket.AF_UNIX, _socket.SOCK_SEQPACKET
        return cls(_socket.socket(family, kind, 0, descriptor))

    def send(
        self, packet: bytes, descriptors: "Sequence[int]" = (), *, waits: bool = False
    ) -> bool:
        """Send a packet; tell whether it went.

        waits: wait until there is room; else a full channel is a failure.
        Raises: BrokenPipeError when nobody is at the other end.
        """
        flags = _socket.MSG_NOSIGNAL | (0 if waits else _socket.MSG_DONTWAIT)
        try:
            if not descriptors:
                self._socket.send(packet, flags)
            else:
                octets = b"".join(
                    [number.to_bytes(_INT_OCTETS, _ORDER) for number in descriptors]
                )
                ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, octets)]
                self._socket.sendmsg([packet], ancillary, flags)
        except BlockingIOError:
            return False
        except ConnectionError as why:
            raise BrokenPipeError from why
        except OSError:
            return False  # too many descriptors under way, no memory
        return True

    def receive(self, *, waits: bool = False) -> "tuple[bytes, list[int]] | None":
        """Give a packet and its descriptors; None when there is none just now.

        An empty packet is the end: nobody is at the other end any more.
        """
        flags = _socket.MSG_CMSG_CLOEXEC | (0 if waits else _socket.MSG_DONTWAIT)
        try:
            packet, ancillary, _, _ = self._socket.recvmsg(
                PACKET_OCTETS, _ANCILLARY_OCTETS, flags
            )
        except BlockingIOError:
            return None
        except ConnectionResetError:
            # He died over something unread. That is said once, and before the last
            # words he sent, which are still here.
            return self.receive(waits=waits)
        except OSError:
            return b"", []
        found: list[int] = []
        for level, kind, octets in ancillary:
            if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
                whole = len(octets) - len(octets) % _INT_OCTETS
                found += [
                    int.from_bytes(octets[place : place + _INT_OCTETS], _ORDER)
                    for place in range(0, whole, _INT_OCTETS)
                ]
        return packet, found

    def close(self) -> None:
        """Close this end."""
        self._socket.close()

    def detach(self) -> int:
        """Give the descriptor away."""
        return self._socket.detach()


def pair() -> tuple[Channel, Channel]:
    """Make two ends.

    Raises: OSError.
    """
    here, there = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    return Channel(here), Channel(there)


def close_all(descriptors: "Sequence[int]") -> None:
    """Close descriptors that came and are not wanted."""
    for descriptor in descriptors:
        posix.close(descriptor)
