# SPDX-License-Identifier: ISC
"""What the privileged side answers the dialogue, and its shapes on a socket.

An answer to a verification is a verdict, a number, or what the verifier has to say to
the client, octets that the dialogue passes on unread.
See: request, for what is asked.
"""

from qtools.errors import EXIT_TEMPORARY
from qtools.protocol.framing import MESSAGE_OCTETS
from qtools.system.ucspi import END_POINT_OCTETS

_VERDICT, _MESSAGE, _TLS, _NO_TLS = b"V", b"M", b"T", b"N"
_CODE_OCTETS = 2

ANSWER_OCTETS = 1 + MESSAGE_OCTETS


def pack(answer: "int | bytes") -> bytes:
    """Write a verdict, an exit code or negative for a signal, or a message."""
    if isinstance(answer, bytes):
        return _MESSAGE + answer
    return _VERDICT + answer.to_bytes(_CODE_OCTETS, "big", signed=True)


def unpack(packet: bytes) -> "int | bytes":
    """Read a verdict or a message; anything else means that the office is gone."""
    kind, rest = packet[:1], packet[1:]
    if kind == _MESSAGE and len(rest) <= MESSAGE_OCTETS:
        return rest
    if kind == _VERDICT and len(rest) == _CODE_OCTETS:
        return int.from_bytes(rest, "big", signed=True)
    return EXIT_TEMPORARY


def pack_tls(binding: bytes | None) -> bytes:
    """Write whether TLS is on, and its end point; None when it is not."""
    return _NO_TLS if binding is None else _TLS + binding


def unpack_tls(packet: bytes) -> bytes | None:
    """Read the end point of the TLS that was started; None when it was not."""
    kind, rest = packet[:1], packet[1:]
    return rest if kind == _TLS and len(rest) <= END_POINT_OCTETS else None
