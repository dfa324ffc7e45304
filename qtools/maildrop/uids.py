# SPDX-License-Identifier: ISC
"""Unique-ids from the names of messages.

qmail-pop3d gives the file name up to the first colon, and so do we, or everybody would
download his mailbox once more. Where RFC 1939 section 7 forbids that (1 to 70 octets of
0x21 to 0x7E, no two equal) a digest stands in. It begins with a colon, which no such
name holds, so it is never equal to one.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

LONGEST_OCTETS = 70
_ALLOWED = bytes(range(0x21, 0x7F))


def base(name: bytes) -> bytes:
    """Give the part of a Maildir file name that stays when flags change."""
    return name.partition(b":")[0]


def bases(names: "Sequence[bytes]") -> list[bytes]:
    """Give base() of each, in less time than that many calls take."""
    return [name.partition(b":")[0] for name in names]


def assign(names: "Sequence[bytes]") -> "Sequence[bytes]":
    """Give the unique-id of each message from its base name.

    Of several messages with one base name (a new/ and a cur/ that were merged) the
    first keeps it; the others are told apart by their order, not by their flags, which
    change from session to session.
    """
    if _are_allowed(names) and len(set(names)) == len(names):
        return names
    seen: dict[bytes, int] = {}
    found = []
    for name in names:
        earlier = seen.get(name, 0)
        seen[name] = earlier + 1
        is_fit = not earlier and _is_allowed(name)
        found.append(name if is_fit else _substitute(name, earlier))
    return found


def _are_allowed(names: "Sequence[bytes]") -> bool:
    """Judge all at once: one by one takes five times as long."""
    if not all(names) or max(map(len, names), default=0) > LONGEST_OCTETS:
        return False
    return not b"".join(names).translate(None, _ALLOWED)


def _is_allowed(name: bytes) -> bool:
    return 0 < len(name) <= LONGEST_OCTETS and not name.translate(None, _ALLOWED)


def _substitute(name: bytes, earlier: int) -> bytes:
    from hashlib import blake2b  # dear to import, and hardly ever needed

    digest = blake2b(b"%d:%b" % (earlier, name), digest_size=20)
    return b":" + digest.hexdigest().encode()
