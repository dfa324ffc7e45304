# SPDX-License-Identifier: ISC
"""The PROXY header: what a proxy in front tells about the connection it passes on.

It stands before everything else, once. Whoever reads it peeks, asks parse(), and takes
exactly the octets of the header, so that the client's own remain where they are. What
can't become a header any more is Malformed at once, however little of it has come, and
nothing is guessed: what two readers read in two ways lets somebody speak for another.
See: HAProxy's proxy-protocol.txt, sections 2.1 (version 1, text) and 2.2 (2, binary).
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Peer = tuple[bytes, int]
    Limits = dict[int, tuple[int, int]]
    Places = dict[int, slice]

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"

LONGEST_TEXT = 107  # CRLF included, as the document has it
LONGEST_BLOCK = 4096  # behind the first 16 octets; haproxy sends a few hundred
LONGEST = 16 + LONGEST_BLOCK  # octets of any header that is accepted here

_LOCAL, _PROXY = 0x20, 0x21  # version 2 in the upper half, the command in the lower

# By family: octets of both addresses and ports. None, IPv4, IPv6, unix.
_ADDRESSES_OCTETS = {0: 0, 1: 12, 2: 36, 3: 216}
_TRANSPORTS = 3  # none, stream, datagram
_STREAMS = {0x11: 4, 0x21: 16}  # family and transport: octets of an address

# The values we read, and those inside TLS, where they stand behind a flag and a number:
# type, fewest and most octets. 255 is DNS's own limit and more than a cipher's name.
_AUTHORITY, _CHECKSUM, _TLS, _TLS_VERSION, _TLS_CIPHER = 0x02, 0x03, 0x20, 0x21, 0x23
_VALUES = {_AUTHORITY: (0, 255), _CHECKSUM: (4, 4), _TLS: (5, LONGEST_BLOCK)}
_TLS_VALUES = {_TLS_VERSION: (0, 255), _TLS_CIPHER: (0, 255)}


class Malformed(Exception):
    """This is not, and won't become, a PROXY header."""


class Header:
    """What a header says.

    octets: of the stream that are the header. source, destination: address, in the
    form inet_ntop() gives it, and port of the connection to the proxy; None when the
    header names none. is_local: the connection is the proxy's own, a health check.
    is_tls, tls_version, tls_cipher: what the client speaks with the proxy. authority:
    the name of the server that the client asked for. These are what the proxy was
    told, and have to be escaped before they are shown.
    """

    __slots__ = (
        "authority",
        "destination",
        "is_local",
        "is_tls",
        "octets",
        "source",
        "tls_cipher",
        "tls_version",
    )

    def __init__(
        self,
        octets: int,
        source: "Peer | None" = None,
        destination: "Peer | None" = None,
    ) -> None:
        self.octets = octets
        self.source = source
        self.destination = destination
        self.is_local = False
        self.is_tls = False
        self.tls_version = self.tls_cipher = self.authority = b""


def parse(data: bytes) -> Header | None:
    """Read the header at the start of a stream, None when more octets are needed.

    Takes what has come so far; LONGEST octets are always enough.
    Raises: Malformed when no octets that may follow could make a header of it.
    """
    if data.startswith(b"P"):
        return _parse_text(data)
    if SIGNATURE.startswith(data[: len(SIGNATURE)]):
        return _parse_binary(data)
    raise Malformed


def _parse_text(data: bytes) -> Header | None:
    end = data.find(b"\r\n", 0, LONGEST_TEXT)
    if end >= 0:
        return _read_line(data[: end + 2])
    for line in _continuations(data):
        try:
            _read_line(line)
        except Malformed:
            continue
        return None
    raise Malformed


def _read_line(line: bytes) -> Header:
    """Read a whole line, with its CRLF."""
    text = line.removesuffix(b"\r\n")
    if len(line) > LONGEST_TEXT or b"\r" in text or b"\n" in text:
        raise Malformed
    fields = text.split(b" ")
    if fields[:2] == [b"PROXY", b"UNKNOWN"]:
        return Header(len(line))
    family = _FAMILIES.get(b" ".join(fields[:2]))
    if family is None or len(fields) != 6:
        raise Malformed
    source, destination = _text(family(fields[2])), _text(family(fields[3]))
    ports = [_number(field, 65535) for field in fields[4:]]
    return Header(len(line), (source, ports[0]), (destination, ports[1]))


# The shortest lines, and what can complete an address: if none of these completes what
# has come, nothing does. That saves a second grammar, one of unfinished lines.
_SHORTEST = (
    b"PROXY UNKNOWN",
    b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0",
    b"PROXY TCP6 :: :: 0 0",
)
_ENDINGS = b" 0 0.0 0.0.0 0.0.0.0 .0 .0.0 .0.0.0 : ::".split(b" ")


def _continuations(data: bytes) -> "Iterator[bytes]":
    """Give the shortest lines that begin with data, and some that are no lines."""
    if data.endswith(b"\r"):
        yield data + b"\n"
        return
    for shortest in _SHORTEST:
        if shortest.startswith(data):
            yield shortest + b"\r\n"
        later = shortest.split(b" ")[data.count(b" ") + 1 :]
        for ending in _ENDINGS:
            yield b" ".join((data + ending, *later)) + b"\r\n"


def _number(text: bytes, most: int) -> int:
    is_number = text.isdigit() and len(text) <= 5 and text == b"%d" % int(text)
    if not is_number or int(text) > most:
        raise Malformed
    return int(text)


def _ipv4(text: bytes) -> bytes:
    numbers = [_number(field, 255) for field in text.split(b".")]
    if len(numbers) != 4:
        raise Malformed
    return bytes(numbers)


def _ipv6(text: bytes) -> bytes:
    left, gap, right = text.partition(b"::")
    head, tail = _groups(left, is_last=not gap), _groups(right, is_last=True)
    missing = 16 - len(head) - len(tail)
    if missing < 2 if gap else missing:
        raise Malformed
    return head + bytes(missing) + tail


def _groups(text: bytes, *, is_last: bool) -> bytes:
    """Read groups between colons; the last of an address may be an IPv4 address."""
    if not text:
        return b""
    groups = text.split(b":")
    ending = _ipv4(groups.pop()) if is_last and b"." in groups[-1] else b""
    for group in groups:
        if not 1 <= len(group) <= 4 or group.strip(b"0123456789abcdefABCDEF"):
            raise Malformed
    return b"".join(int(group, 16).to_bytes(2, "big") for group in groups) + ending


_FAMILIES: "dict[bytes, Callable[[bytes], bytes]]" = {
    b"PROXY TCP4": _ipv4,
    b"PROXY TCP6": _ipv6,
}


def _text(address: bytes) -> bytes:
    """Write 4 or 16 octets as inet_ntop() does."""
    if len(address) == 4:
        return b"%d.%d.%d.%d" % tuple(address)
    groups = [address[at] << 8 | address[at + 1] for at in range(0, 16, 2)]
    words = [b"%x" % group for group in groups]
    zeros = bytes(group == 0 for group in groups)
    for length in range(8, 1, -1):
        begin = zeros.find(bytes([1]) * length)
        if begin < 0:
            continue
        if begin == 0 and (length == 6 or (length == 5 and groups[5] == 0xFFFF)):
            words[6:] = [_text(address[12:])]
        return b":".join(words[:begin]) + b"::" + b":".join(words[begin + length :])
    return b":".join(words)


def _parse_binary(data: bytes) -> Header | None:
    _check_start(data[12:16])
    if len(data) < 16:
        return None
    end = 16 + int.from_bytes(data[14:16], "big")
    if data[12] == _LOCAL:  # the rest is to be skipped, whatever it is
        header = Header(end)
        header.is_local = True
        return header if len(data) >= end else None
    start = 16 + _ADDRESSES_OCTETS[data[13] >> 4]
    places = _places(_VALUES, data, start, end)
    tls = places.get(_TLS)
    inner = _places(_TLS_VALUES, data, tls.start + 5, tls.stop) if tls else {}
    if len(data) < end:
        return None
    if _CHECKSUM in places:
        _check_sum(data[:end], places[_CHECKSUM])
    header = Header(end, *_peers(data))
    header.authority = data[places.get(_AUTHORITY, slice(0))]
    if tls and data[tls.start] & 1:
        header.is_tls = True
        header.tls_version = data[inner.get(_TLS_VERSION, slice(0))]
        header.tls_cipher = data[inner.get(_TLS_CIPHER, slice(0))]
    return header


def _check_start(start: bytes) -> None:
    """Check what is there of the four octets behind the signature."""
    if start and start[0] not in (_LOCAL, _PROXY):
        raise Malformed
    least = 0
    if len(start) > 1 and start[0] == _PROXY:
        family, transport = divmod(start[1], 16)
        if family not in _ADDRESSES_OCTETS or transport >= _TRANSPORTS:
            raise Malformed
        least = _ADDRESSES_OCTETS[family]
    length = int.from_bytes(start[2:].ljust(2, b"\0"), "big")
    if length > LONGEST_BLOCK or (len(start) == 4 and length < least):
        raise Malformed


def _places(wanted: "Limits", data: bytes, start: int, end: int) -> "Places":
    """Find wanted values between two places, as far as data has come.

    Raises: Malformed for one that goes on behind the end, comes twice, or has a number
    of octets that it can't have.
    """
    places: Places = {}
    while start < end:
        kind = data[start : start + 1]
        length = data[start + 1 : start + 3]
        stop = start + 3 + int.from_bytes(length.ljust(2, b"\0"), "big")
        if stop > end:
            raise Malformed
        if len(length) < 2:
            break
        if kind[0] in wanted:
            fewest, most = wanted[kind[0]]
            if kind[0] in places or not fewest <= stop - start - 3 <= most:
                raise Malformed
            places[kind[0]] = slice(start + 3, stop)
        start = stop
    return places


def _peers(data: bytes) -> "tuple[Peer | None, Peer | None]":
    octets = _STREAMS.get(data[13])
    if octets is None:
        return None, None
    middle, end = 16 + octets, 16 + 2 * octets
    ports = [int.from_bytes(data[at : at + 2], "big") for at in (end, end + 2)]
    return (_text(data[16:middle]), ports[0]), (_text(data[middle:end]), ports[1])


_table: list[int] = []  # of CRC32c, by octet; made when it is first needed


def _check_sum(header: bytes, place: slice) -> None:
    """Compare the checksum of a header with that of its octets, its own being zero."""
    zeroed = header[: place.start] + bytes(4) + header[place.stop :]
    if checksum(zeroed) != int.from_bytes(header[place], "big"):
        raise Malformed


def checksum(data: bytes) -> int:
    """Give the CRC32c of some octets. See: RFC 4960 appendix B."""
    if not _table:
        _table.extend(map(_remainder, range(256)))
    remainder = 0xFFFFFFFF
    for octet in data:
        remainder = _table[(remainder ^ octet) & 0xFF] ^ remainder >> 8
    return remainder ^ 0xFFFFFFFF


def _remainder(octet: int) -> int:
    for _ in range(8):
        octet = octet >> 1 ^ (0x82F63B78 if octet & 1 else 0)
    return octet
