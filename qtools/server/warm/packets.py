# SPDX-License-Identifier: ISC
"""What the processes of a warm chain say to each other: packets of checked shapes.

Each is one SOCK_SEQPACKET message: a head of fixed layout whose first octet is the
kind, and behind it the kind's number of fields, two octets of length before each. A
reader takes nothing that a writer here can't have made.

    worker -> verifier   ASK       id, mechanism      record, environment, tag  + client
                         RESPOND   id                 client's answer           + client
                         WITHDRAW  id
                         WANT      how many stamps
    verifier -> worker   ANSWER    id, exit code
                         CHALLENGE id                 what to say to the client
                         STAMPS                       stamps, separated by blanks
                         ROOM      how many at once
                         TIRED
    verifier -> nursery  LAUNCH    id, lifelines      answer, environment, tag  + client
    nursery -> session   LAUNCH    the same                                 [+ lifeline]
    session -> nursery   TALLY     code, counts
    nursery -> worker    ENDED     id, code, counts   tag
                         LIVE      id                 tag
    verifier -> master   TIRED
    worker -> master     COUNTERS                     packed counters
    master -> worker     VERIFIER  1                                 + its channel
                         TLS       1                                 + its channel
                         RULES     1, or 0 without any               + the file
                         DRAIN
    master -> nursery    VERIFIER  1                                 + its channel
                         LIVE      generation                        + worker's channel
                         DRAIN     1 for at once
"""

from _struct import Struct

from qtools.chain.request import MECHANISMS

(ASK, WANT, ANSWER, STAMPS, LAUNCH, TIRED, TALLY, ENDED, LIVE) = range(16, 25)
(VERIFIER, TLS, RULES, DRAIN, COUNTERS) = range(25, 30)
(RESPOND, WITHDRAW, CHALLENGE, ROOM) = range(30, 34)

FIELD_OCTETS = 32768
GENERATION_SHIFT = 40  # of ids: those of two generations never meet

UNKNOWN_COUNT = 2**64 - 1  # for octets that nobody made the session count
MOST_COUNT = 2**48  # a session is the user's process: he might count to anything

_HEAD = Struct(">BQB")  # kind, connection's id, mechanism or code or number
_TALLY = Struct(">BBBQQQQQQ")
_ENDED = Struct(">BQiBQQQQQQ")
_LENGTH = Struct(">H")


class Tally:
    """What a session did.

    code: its exit code; in an ENDED, where nobody was left to tell it, negative for a
    signal. why: how it ended, an index into WHYS. counts: as system.verdict.ended()
    has them.
    """

    __slots__ = ("code", "counts", "why")

    def __init__(self, code: int, why: int, counts: "tuple[int | None, ...]") -> None:
        self.code = code
        self.why = why
        self.counts = counts


# How a session can end; the first is for one that ended in no way we know.
WHYS = (
    "lost",
    "quit",
    "connection closed",
    "connection lost",
    "timeout",
    "read error",
    "too many unknown commands",
    "failed",
)

NOTHING = Tally(0, 0, (0, 0, 0, None, 0, None))  # when there is none


def head(kind: int, identifier: int = 0, detail: int = 0) -> bytes:
    """Give a packet's head."""
    return _HEAD.pack(kind, identifier, detail)


def fields(*values: bytes) -> bytes:
    """Join fields behind a head.

    Raises: ValueError for one that is too long.
    """
    if max(map(len, values)) > FIELD_OCTETS:
        raise ValueError("a field too long for a packet")
    return b"".join([_LENGTH.pack(len(value)) + value for value in values])


def read_head(packet: bytes) -> tuple[int, int, int]:
    """Give kind, connection's id and detail.

    Raises: ValueError.
    """
    if len(packet) < _HEAD.size:
        raise ValueError("packet too short")
    kind, identifier, detail = _HEAD.unpack_from(packet)
    return kind, identifier, detail


def read_fields(packet: bytes, count: int, start: int = _HEAD.size) -> list[bytes]:
    """Give the fields of a packet, which must hold just so many.

    Raises: ValueError.
    """
    found = []
    for _ in range(count):
        length = int.from_bytes(packet[start : start + 2], "big")
        start += 2 + length
        if start > len(packet):
            raise ValueError("a field is cut short")
        found.append(packet[start - length : start])
    if start != len(packet):
        raise ValueError("octets behind the last field")
    return found


def variables(text: bytes) -> dict[bytes, bytes]:
    """Read NAME=VALUE entries with a NUL between them."""
    pairs = [item.partition(b"=") for item in text.split(b"\0")]
    return {name: value for name, equals, value in pairs if equals}


def mechanism_of(detail: int) -> str:
    """Give the word for a mechanism.

    Raises: ValueError.
    """
    if detail >= len(MECHANISMS):
        raise ValueError("unknown mechanism")
    return MECHANISMS[detail]


def pack_tally(tally: Tally) -> bytes:
    """Write a TALLY."""
    return _TALLY.pack(TALLY, tally.code, tally.why, *_known(tally.counts))


def unpack_tally(packet: bytes) -> Tally:
    """Read a TALLY.

    Raises: ValueError.
    """
    if len(packet) != _TALLY.size or packet[0] != TALLY:
        raise ValueError("not a tally")
    _, code, why, *counts = _TALLY.unpack(packet)
    return _tally(code, why, counts)


def pack_ended(identifier: int, tally: Tally, tag: bytes) -> bytes:
    """Write an ENDED."""
    counts = _known(tally.counts)
    packed = _ENDED.pack(ENDED, identifier, tally.code, tally.why, *counts)
    return packed + fields(tag)


def unpack_ended(packet: bytes) -> tuple[int, Tally, bytes]:
    """Read an ENDED: connection's id, tally, tag.

    Raises: ValueError.
    """
    if len(packet) < _ENDED.size or packet[0] != ENDED:
        raise ValueError("not the end of a session")
    _, identifier, code, why, *counts = _ENDED.unpack_from(packet)
    (tag,) = read_fields(packet, 1, _ENDED.size)
    return identifier, _tally(code, why, counts), tag


def _known(counts: "tuple[int | None, ...]") -> "list[int]":
    return [UNKNOWN_COUNT if count is None else count for count in counts]


def _tally(code: int, why: int, counts: "list[int]") -> Tally:
    if why >= len(WHYS):
        raise ValueError("an end that is none of ours")
    known = [None if count == UNKNOWN_COUNT else count for count in counts]
    if any(count is not None and count > MOST_COUNT for count in known):
        raise ValueError("more than anybody can have counted")
    return Tally(code, why, tuple(known))
