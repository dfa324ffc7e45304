# SPDX-License-Identifier: ISC
"""What TLS workers and those who use them say to each other: packets of fixed shape.

    user -> worker      START    flags, id                     + raw, clear [, control]
    worker -> user      STARTED           id, what is told about the connection
                        FAILED            id, why
    master -> worker    CHANNEL                                + one more channel
                        RETIRE

raw is the client's connection, clear one end of a socket pair whose other end stays
with the user, control one end of UCSPI-TLS's control socket. The id is the user's own
and comes back as it was.
"""

from _struct import Struct

START, STARTED, FAILED, CHANNEL, RETIRE = range(1, 6)
UCSPI = 1  # the flag of a START: wait for the program's word, and answer it instead

_HEAD = Struct(">BBQ")
CHANNEL_PACKET, RETIRE_PACKET = bytes((CHANNEL, 0)), bytes((RETIRE, 0))

WHY_OCTETS = 64  # the library's words for what went wrong


def pack_start(identifier: int, *, is_ucspi: bool = False) -> bytes:
    """Write a START."""
    return _HEAD.pack(START, UCSPI if is_ucspi else 0, identifier)


def unpack_start(packet: bytes) -> tuple[int, bool]:
    """Read a START: connection's id, whether it is one of UCSPI-TLS.

    Raises: ValueError.
    """
    if len(packet) != _HEAD.size:
        raise ValueError("packet of the wrong length")
    kind, flags, identifier = _HEAD.unpack(packet)
    if kind != START or flags not in (0, UCSPI):
        raise ValueError("not a start")
    return identifier, flags == UCSPI


def pack_started(identifier: int, told: bytes) -> bytes:
    """Write a STARTED; told: NAME=VALUE entries, each ended by a NUL."""
    return _HEAD.pack(STARTED, 0, identifier) + told


def pack_failed(identifier: int, why: str) -> bytes:
    """Write a FAILED."""
    text = why.encode("ascii", "replace")[:WHY_OCTETS]
    return _HEAD.pack(FAILED, 0, identifier) + text


def unpack_answer(packet: bytes) -> "tuple[int, dict[bytes, bytes] | str]":
    """Read a worker's answer: connection's id; what is told, or why it failed.

    Raises: ValueError.
    """
    if len(packet) < _HEAD.size:
        raise ValueError("packet too short")
    kind, flags, identifier = _HEAD.unpack_from(packet)
    rest = packet[_HEAD.size :]
    if flags or kind not in (STARTED, FAILED):
        raise ValueError("not an answer")
    if kind == FAILED:
        return identifier, rest.decode("ascii")
    *entries, last = rest.split(b"\0")
    if last or not all(b"=" in entry for entry in entries):
        raise ValueError("not a list of variables")
    return identifier, {
        name: value for name, _, value in (entry.partition(b"=") for entry in entries)
    }
