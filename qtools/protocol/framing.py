# SPDX-License-Identifier: ISC
"""How POP3 frames what SASL's two sides say: one line of base64 each.

See: RFC 5034 section 4.
"""

from binascii import Error, a2b_base64, b2a_base64

MESSAGE_OCTETS = 2048  # of either side to the other, where the verifier speaks


class Malformed(Exception):
    """The client's answer does not fit the mechanism."""


def decode(line: bytes) -> bytes:
    """Undo the base64 of a response line.

    Raises: Malformed for anything that is not base64 to the letter, bits behind the
    last octet included: no octet of a line can be changed without changing the meaning.
    """
    try:
        octets = a2b_base64(line, strict_mode=True) if line else b""
    except Error as why:
        raise Malformed from why
    if b2a_base64(octets, newline=False) != line:
        raise Malformed
    return octets


def decode_initial(word: bytes) -> bytes:
    """Undo an initial response, where "=" stands for an empty one (section 4)."""
    return b"" if word == b"=" else decode(word)


def challenge_line(challenge: bytes) -> bytes:
    """Frame a challenge; an empty one is plus, space, CRLF, as clients wait for it."""
    return b"+ " + b2a_base64(challenge, newline=False) + b"\r\n"
