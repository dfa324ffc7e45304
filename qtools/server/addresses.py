# SPDX-License-Identifier: ISC
"""Addresses of peers: as one family each, as the source that limits count, in networks.

A socket that listens for both families reports IPv4 peers as ::ffff:192.0.2.1; here
they are what they were sent as, so that nobody gets past a rule or a limit by the
family of the listener. The C library parses: the standard library's ipaddress would be
memory in every process, for less than is here. Names of hosts are checked here as well.
"""

from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from qtools.errors import Hard
from qtools.system.fdio import UNKNOWN

NAME_OCTETS = 253  # RFC 1035's 255 less a length and the root
SOURCE_BITS = 64  # of an IPv6 address: whoever has one of these has all of them

_NAMING = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789_.-")
_MAPPED = bytes(10) + b"\xff\xff"  # what stands before an IPv4 address
_MAPPED_BITS = 8 * len(_MAPPED)
_UNIX_PEERS = (UNKNOWN, b"")  # what a peer on a unix-domain socket is called


def packed(address: bytes) -> bytes | None:
    """Give the 4 or 16 octets of an address, None for anything else.

    An IPv4-mapped address gives 4.
    """
    family = AF_INET6 if b":" in address else AF_INET
    try:
        octets = inet_pton(family, address.decode("ascii"))
    except (OSError, ValueError):  # no address; not ASCII, a NUL in it
        return None
    return octets.removeprefix(_MAPPED)


def text(octets: bytes) -> bytes:
    """Write 4 or 16 octets as the address they are, in its canonical form."""
    return inet_ntop(AF_INET if len(octets) == 4 else AF_INET6, octets).encode()


def plain(address: bytes) -> bytes:
    """Give an IPv4-mapped address as IPv4, and anything else as it came."""
    octets = packed(address) if b":" in address else None
    return text(octets) if octets is not None and len(octets) == 4 else address


def source_of(address: bytes) -> bytes:
    """Give whom limits count: the address, of IPv6 its network of SOURCE_BITS.

    What is no address is a source of its own.
    """
    octets = packed(address)
    if octets is None:
        return address
    if len(octets) == 4:
        return text(octets)
    network = octets[: SOURCE_BITS // 8].ljust(len(octets), b"\0")
    return b"%b/%d" % (text(network), SOURCE_BITS)


def host_name(word: bytes) -> bytes:
    """Give what a client calls a host, in small letters; empty if that is no name.

    A dot at the end goes. What is left can stand in a log, and in the environment.
    """
    name = word.lower().removesuffix(b".")
    is_whole = 0 < len(name) <= NAME_OCTETS and _NAMING.issuperset(name)
    return name if is_whole and name == name.strip(b".-") else b""


class Networks:
    """Networks as an administrator lists them: 192.0.2.0/24,2001:db8::/32 10.1.2.3.

    Commas or blanks stand between them. An address is a network of itself; "unix" is
    all peers on unix-domain sockets. IPv4-mapped is IPv4, in the list as in what is
    looked for, and ::/0 is IPv6 only.
    Raises: Hard for a word that is neither.
    """

    def __init__(self, listed: str) -> None:
        words = listed.replace(",", " ").split()
        self._has_unix = "unix" in words
        self._networks = [_network(word) for word in words if word != "unix"]

    def holds(self, address: bytes) -> bool:
        """Tell whether a peer's address is in one of them."""
        octets = packed(address)
        if octets is None:
            return self._has_unix and address in _UNIX_PEERS
        number = int.from_bytes(octets, "big")
        return any(
            len(octets) == address_octets and number >> dropped == kept
            for address_octets, dropped, kept in self._networks
        )


def _network(word: str) -> tuple[int, int, int]:
    """Give the octets of its addresses, how many bits to drop, what is left of them.

    Raises: Hard.
    """
    address, slash, length = word.partition("/")
    octets = packed(address.encode("utf-8", "surrogateescape"))
    if octets is None or (slash and not _is_length(length)):
        raise Hard(f"{word} is no network; one is 192.0.2.0/24, 2001:db8::/32, unix")
    whole = 8 * len(octets)
    is_mapped = ":" in address and len(octets) == 4
    bits = int(length) - _MAPPED_BITS * is_mapped if slash else whole
    if bits > whole:
        raise Hard(f"{word} is no network: an address has fewer bits than {length}")
    number, dropped = int.from_bytes(octets, "big"), whole - bits
    # What a mapped address lacks in bits is set as well: that prefix ends in ones.
    if bits < 0 or number >> dropped << dropped != number:
        raise Hard(f"{word} is no network: bits are set behind the first {length}")
    return len(octets), dropped, number >> dropped


def _is_length(length: str) -> bool:
    return length.isascii() and length.isdigit() and str(int(length[:4])) == length
