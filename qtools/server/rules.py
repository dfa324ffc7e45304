# SPDX-License-Identifier: ISC
"""The rules that tcprules(1) compiles: who may connect, and with which variables.

tcpserver's order is kept: the first record that is found decides, and what nothing is
said about is allowed. Two dialects of compilers are read, and a file may be of either.
Debian's knows IPv6 as text, with prefixes that end in a colon. ucspi-tcp6 and
ucspi-ssl write IPv6 addresses in full, and networks bit by bit.
"""

from qtools.server.addresses import packed, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from qtools.system.cdb import Cdb

# Networks are keys with a character a bit, "0" for a bit that is not set. One that is
# has, in IPv4, the character of its place; in IPv6 that of its rank among those set.
_IPV4_BITS = b"abcdefghijklmnopqrstuvwxyz123456"
_IPV6_BITS = bytes(range(0x60, 0x60 + 128))
_IPV4_NETWORK, _IPV6_NETWORK = b"_", b"^"
_LEAST_NETWORK = 2  # octets of such a key: its mark and one bit


class Decision:
    """What the rules say about a connection.

    variables: for the environment of what is started, in the order of the rule.
    """

    __slots__ = ("is_denied", "variables")

    def __init__(self) -> None:
        self.is_denied = False
        self.variables: dict[bytes, bytes] = {}


class Rules:
    """Compiled rules; a file that has been replaced is another database."""

    def __init__(self, cdb: "Cdb") -> None:
        self._cdb = cdb

    def decide(
        self, address: bytes, host: bytes | None = None, info: bytes | None = None
    ) -> Decision:
        """Look a connection up.

        Takes the peer's address, IPv4-mapped being IPv4; the name that goes with it;
        what his ident server says. None and empty are both: not known.
        Raises: Hard when the file is damaged, Temporary when it can't be read.
        """
        # Who has the say over a name's letters must not choose the rule by their case.
        data = self._find(address, (host or b"").lower(), info or b"")
        return Decision() if data is None else self._decision(data)

    def _find(self, address: bytes, host: bytes, info: bytes) -> bytes | None:
        octets = packed(address)
        names = [address] if octets is None else _names(octets)
        data = self._first(_whole(names, host, info))
        if data is None:
            data = self._first(_prefixes(names[0]))
        if data is None and octets is not None:
            data = self._cdb.get_longest(_bits(octets), _LEAST_NETWORK)
        return self._first(_defaults(host)) if data is None else data

    def _first(self, keys: "Iterator[bytes]") -> bytes | None:
        for key in keys:
            data = self._cdb.get(key)
            if data is not None:
                return data
        return None

    def _decision(self, data: bytes) -> Decision:
        """Read a record: D for deny, +NAME=value, each with a NUL behind it."""
        decision = Decision()
        *words, rest = data.split(b"\0")
        if rest:
            raise self._cdb.damage("a rule without its end")
        for word in words:
            name, equals, value = word[1:].partition(b"=")
            if word == b"D":
                decision.is_denied = True
            elif word[:1] == b"+" and name and equals:
                decision.variables[name] = value
            else:
                raise self._cdb.damage("a rule with an unknown instruction")
        return decision


def _names(octets: bytes) -> list[bytes]:
    """Give the forms in which an address is a key."""
    if len(octets) == 4:
        return [text(octets)]
    return [text(octets), octets.hex(":", 2).upper().encode()]


def _whole(names: list[bytes], host: bytes, info: bytes) -> "Iterator[bytes]":
    if info:
        for name in names:
            yield info + b"@" + name
        if host:
            yield info + b"@=" + host
    yield from names
    if host:
        yield b"=" + host


def _prefixes(name: bytes) -> "Iterator[bytes]":
    for octets in range(len(name), 0, -1):
        if name[octets - 1 : octets] in (b".", b":"):
            yield name[:octets]


def _bits(octets: bytes) -> bytes:
    """Give the key of an address as the smallest of networks."""
    bits = f"{int.from_bytes(octets, 'big'):0{8 * len(octets)}b}"
    if len(octets) == 4:
        pairs = zip(bits, _IPV4_BITS, strict=True)
        return _IPV4_NETWORK + bytes(s if bit == "1" else 0x30 for bit, s in pairs)
    signs = iter(_IPV6_BITS)
    return _IPV6_NETWORK + bytes(next(signs) if bit == "1" else 0x30 for bit in bits)


def _defaults(host: bytes) -> "Iterator[bytes]":
    for place in range(len(host)):
        if host[place : place + 1] == b".":
            yield b"=" + host[place:]
    if host:
        yield b"="
    yield b""
