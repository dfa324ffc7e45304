# SPDX-License-Identifier: ISC
"""Read just so much of DER as tells by which algorithm a certificate is signed.

The ssl module keeps that to itself. A certificate is the administrator's own file, and
still nothing here believes a length that it has not checked.
See: X.690 (DER), RFC 5280 section 4.1.
"""

INTEGER, BIT_STRING, OBJECT, SEQUENCE = 0x02, 0x03, 0x06, 0x30
FIRST_CONTEXT = 0xA0  # [0], constructed

_LONG = 0x80  # of a length: so many octets of it follow
_MORE = 0x80  # of an arc: another octet follows
_MOST_LENGTH_OCTETS = 4


class Malformed(ValueError):
    """Not DER, or not what was to be there."""


class Reader:
    """The elements of some octets, one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    @property
    def is_done(self) -> bool:
        """Tell whether there is nothing more."""
        return self._place == len(self._data)

    def next_tag(self) -> int:
        """Give the tag of the next element, -1 at the end."""
        return -1 if self.is_done else self._data[self._place]

    def take(self, tag: int) -> bytes:
        """Give the content of the next element, which must be of this kind.

        Raises: Malformed.
        """
        return self._take(tag)[1]

    def take_whole(self, tag: int) -> bytes:
        """Give the next element, which must be of this kind, with tag and length.

        Raises: Malformed.
        """
        return self._take(tag)[0]

    def _take(self, tag: int) -> tuple[bytes, bytes]:
        start = self._place
        if self.next_tag() != tag:
            raise Malformed(f"no element of kind {tag}")
        octets, head = self._length(start + 1)
        end = head + octets
        if end > len(self._data):
            raise Malformed("an element is cut short")
        self._place = end
        return self._data[start:end], self._data[head:end]

    def _length(self, place: int) -> tuple[int, int]:
        """Give the length that is written there, and the place behind it."""
        first = self._octet(place)
        if first < _LONG:
            return first, place + 1
        count = first - _LONG
        if not 0 < count <= _MOST_LENGTH_OCTETS:
            raise Malformed("a length that is none")
        end = place + 1 + count
        length = int.from_bytes(self._data[place + 1 : end], "big")
        if end > len(self._data) or length < _LONG or length >> 8 * (count - 1) == 0:
            raise Malformed("a length that is not the shortest")
        return length, end

    def _octet(self, place: int) -> int:
        if place >= len(self._data):
            raise Malformed("an element without a length")
        return self._data[place]


def object_of(content: bytes) -> str:
    """Give an object identifier in dotted form.

    Raises: Malformed.
    """
    if not content or content[-1] & _MORE:
        raise Malformed("an object identifier is cut short")
    arcs = []
    arc = 0
    for octet in content:
        if octet == _MORE and not arc:
            raise Malformed("an arc that is not the shortest")
        arc = arc << 7 | (octet & ~_MORE)
        if not octet & _MORE:
            arcs.append(arc)
            arc = 0
    top = min(arcs[0] // 40, 2)
    return ".".join(map(str, (top, arcs[0] - 40 * top, *arcs[1:])))


def algorithm(data: bytes) -> tuple[str, bytes]:
    """Give the identifier and the parameters of an AlgorithmIdentifier's content.

    Raises: Malformed.
    See: RFC 5280 section 4.1.1.2.
    """
    reader = Reader(data)
    found = object_of(reader.take(OBJECT))
    rest = b"" if reader.is_done else reader.take_whole(reader.next_tag())
    if not reader.is_done:
        raise Malformed("octets behind the parameters")
    return found, rest


def certificate(data: bytes) -> tuple[bytes, str, bytes]:
    """Give the certificate alone, and the algorithm it is signed by.

    What OpenSSL's TRUSTED CERTIFICATE has behind it is left out.
    Raises: Malformed.
    """
    outer = Reader(data)
    alone = outer.take_whole(SEQUENCE)
    reader = Reader(Reader(alone).take(SEQUENCE))
    reader.take(SEQUENCE)  # what is signed
    found = algorithm(reader.take(SEQUENCE))
    reader.take(BIT_STRING)
    if not reader.is_done:
        raise Malformed("octets behind the signature")
    return (alone, *found)
