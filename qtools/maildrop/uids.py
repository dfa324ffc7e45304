# SPDX-License-Identifier: ISC
"""Unique-ids from the names of messages.

qmail-pop3d gives the file name up to the first colon, and so do we, or everybody would
download his mailbox once more. Where RFC 1939 section 7 forbids that (1 to 70 octets of
0x21 to 0x7E, no two equal) a digest stands in. It begins with a colon, which no such
name holds, so it is never equal to one.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LONGEST_OCTETS = 70
_ALLOWED = bytes(range(0x21, 0x7F))


def base(name: bytes) -> bytes:
    """Give the part of a Maildir file name that stays when flags change."""
    return name.partition(b":")[0]


def bases(names: "Sequence[bytes]") -> list[bytes]:
    """Give base() of each, in less time than that many calls take."""
    return [name.partition(b":")[0] for name in names]


def assign(
    names: "Sequence[bytes]", marks: "Mapping[int, bytes] | None" = None
) -> "Sequence[bytes]":
    """Give the unique-id of each message from its base name.

    Takes a mark for each of several messages with one base name (a new/ and a cur/
    that were merged), by its place in the list: something of that very message, that
    stays when it gets other flags, moves to cur/ or loses its namesakes. None of them
    keeps the name, nor a place in an order: when one is removed, what was its id must
    not become another's, or a client would take that one for fetched. The last one
    left does get the plain name back, and is fetched twice at worst.
    """
    if not marks and _are_allowed(names) and len(set(names)) == len(names):
        return names
    marks = marks or {}
    found: dict[bytes, None] = {}
    for place, name in enumerate(names):
        uid = name
        if place in marks:
            uid = _substitute(marks[place], name)
        elif not _is_allowed(name):
            uid = _substitute(b"0", name)
        while uid in found:
            uid = _substitute(uid, name)
        found[uid] = None
    return list(found)


def _are_allowed(names: "Sequence[bytes]") -> bool:
    """Judge all at once: one by one takes five times as long."""
    if not all(names) or max(map(len, names), default=0) > LONGEST_OCTETS:
        return False
    return not b"".join(names).translate(None, _ALLOWED)


def _is_allowed(name: bytes) -> bool:
    return 0 < len(name) <= LONGEST_OCTETS and not name.translate(None, _ALLOWED)


def _substitute(mark: bytes, name: bytes) -> bytes:
    from hashlib import blake2b  # dear to import, and hardly ever needed

    digest = blake2b(mark + b":" + name, digest_size=20)
    return b":" + digest.hexdigest().encode()
