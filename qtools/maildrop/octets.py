# SPDX-License-Identifier: ISC
"""How many octets a message has on the wire, with as little reading as is safe.

See: RFC 1939 section 11; the Maildir++ name extensions ",S=" (octets of the file) and
",W=" (octets with CRLF line ends).
"""

import posix

from qtools.protocol.message import CHUNK_OCTETS, Counter

UNKNOWN = -1


def promised(base: bytes, file_octets: int) -> int:
    """Give what the name says with ",W=", UNKNOWN if it says nothing to be believed.

    A line end adds one octet at most and a missing last one two. A ",S=" that is not
    the file's length tells that the file was rewritten after it got its name.
    """
    if b",W=" not in base:
        return UNKNOWN
    wire = _field(base, b",W=")
    if not file_octets <= wire <= 2 * file_octets + 2:
        return UNKNOWN
    if b",S=" in base and _field(base, b",S=") != file_octets:
        return UNKNOWN
    return wire


def _field(base: bytes, mark: bytes) -> int:
    """Read the decimal number behind a mark in the name."""
    digits = base.rpartition(mark)[2].partition(b",")[0]
    return int(digits) if digits.isdigit() and len(digits) < 16 else UNKNOWN


def count(descriptor: int) -> int:
    """Read a message to its end and give its octets on the wire.

    Raises: OSError.
    """
    counter = Counter()
    while chunk := posix.read(descriptor, CHUNK_OCTETS):
        counter.feed(chunk)
    return counter.total()
