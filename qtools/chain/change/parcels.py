# SPDX-License-Identifier: ISC
"""What an unprivileged dialogue and the privileged side say to each other, in parcels.

An errand may have fields of many KiB and its answer may be a list of a million
accounts, so what is said has a small head of fixed shape that tells how much follows,
and all of it goes in packets of a bounded length. Nothing in it is trusted: a parcel
that pack() can't have made is refused before any of its octets is looked at.

    word (1 octet)  number (1)  fields (1)  fields x length (4)  the fields themselves

Lengths are in octets, most significant first. Every packet but the last of a parcel
has PACKET_OCTETS. Errands and answers take turns, so no two parcels can be mixed.
"""

import _socket

ASK, NOTE, START_TLS, END, ANSWER = range(1, 6)

PACKET_OCTETS = 32768  # the kernel holds a packet in one piece
MOST_FIELDS = 8
HEAD_OCTETS = 3
LENGTH_OCTETS = 4

ASK_OCTETS = 1 << 18  # four times the longest command that a dialogue takes
ANSWER_OCTETS = 1 << 28  # nonsense begins somewhere; a million accounts are far below


class Lost(Exception):
    """Whoever is at the other end has gone, or says what nobody of ours says."""


class Parcel:
    """One thing said: a word, a number from 0 to 255, fields.

    number: the kind of an errand, the exit code of an END or an ANSWER.
    """

    __slots__ = ("fields", "number", "word")

    def __init__(
        self, word: int, number: int = 0, fields: tuple[bytes, ...] = ()
    ) -> None:
        self.word = word
        self.number = number
        self.fields = fields

    def pack(self) -> bytes:
        """Give the parcel in its one shape.

        Raises: ValueError for more fields than there can be.
        """
        if len(self.fields) > MOST_FIELDS:
            raise ValueError("too many fields for one parcel")
        head = bytes((self.word, self.number, len(self.fields)))
        lengths = [len(field).to_bytes(LENGTH_OCTETS, "big") for field in self.fields]
        return b"".join([head, *lengths, *self.fields])


def total(packet: bytes) -> int:
    """Say how many octets a parcel has, from its first packet.

    Raises: ValueError.
    """
    if len(packet) < HEAD_OCTETS or not ASK <= packet[0] <= ANSWER:
        raise ValueError("not the head of a parcel")
    count = packet[2]
    body = HEAD_OCTETS + count * LENGTH_OCTETS
    if count > MOST_FIELDS or len(packet) < body:
        raise ValueError("not the lengths of a parcel")
    return body + sum(_lengths(packet, count))


def unpack(parcel: bytes) -> Parcel:
    """Read a parcel.

    Raises: ValueError for anything pack() can't have made.
    """
    if total(parcel) != len(parcel):
        raise ValueError("a parcel of the wrong length")
    word, number, count = parcel[:HEAD_OCTETS]
    place = HEAD_OCTETS + count * LENGTH_OCTETS
    fields = []
    for length in _lengths(parcel, count):
        fields.append(parcel[place : place + length])
        place += length
    return Parcel(word, number, tuple(fields))


def _lengths(packet: bytes, count: int) -> list[int]:
    places = range(HEAD_OCTETS, HEAD_OCTETS + count * LENGTH_OCTETS, LENGTH_OCTETS)
    return [
        int.from_bytes(packet[place : place + LENGTH_OCTETS], "big") for place in places
    ]


class Post:
    """One end of the socket on which parcels go."""

    def __init__(self, held: _socket.socket) -> None:
        self.descriptor = held.fileno()
        self._socket = held

    def send(self, parcel: Parcel) -> None:
        """Send a parcel, waiting for room.

        Raises: Lost.
        """
        rest = memoryview(parcel.pack())
        try:
            while rest:
                self._socket.send(rest[:PACKET_OCTETS], _socket.MSG_NOSIGNAL)
                rest = rest[PACKET_OCTETS:]
        except OSError as why:
            raise Lost from why

    def receive(self, most: int = ASK_OCTETS) -> Parcel:
        """Wait for a parcel of this many octets at most.

        Raises: Lost, the other end having gone or said something else.
        """
        try:
            return unpack(self._gather(most))
        except (OSError, ValueError) as why:
            raise Lost from why

    def _gather(self, most: int) -> bytes:
        """Put the packets of a parcel together.

        Raises: OSError; ValueError when they are not those of one parcel.
        """
        packets = [self._socket.recv(PACKET_OCTETS)]
        whole = total(packets[0])
        if whole > most:
            raise ValueError("a parcel too long")
        left = whole - len(packets[0])
        while left > 0:
            if len(packets[-1]) != PACKET_OCTETS:
                raise ValueError("a packet cut short before the end")
            packets.append(self._socket.recv(PACKET_OCTETS))
            left -= len(packets[-1])
        return b"".join(packets)

    def close(self) -> None:
        """Close this end."""
        self._socket.close()


def pair() -> tuple[Post, Post]:
    """Make two ends.

    Raises: OSError.
    """
    here, there = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    return Post(here), Post(there)
