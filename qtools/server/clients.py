# SPDX-License-Identifier: ISC
"""A list of addresses that may connect, one entry a line, as CommuniGate has them.

    192.0.2.7                 an address
    192.0.2.10-192.0.2.20     a range
    2001:db8::/32             a network
    !192.0.2.13               not that one, whatever else is there
    ; whatever is behind a semicolon

Who is named with an exclamation mark is not in the list, wherever that stands. A list
of such entries only is of everybody else; an empty one is of nobody.
"""

from qtools.errors import Hard, from_os_error
from qtools.server.addresses import packed

LIST_OCTETS = 1 << 20


class Clients:
    """The list.

    Raises: Hard for a line that is none.
    """

    def __init__(self, text: str) -> None:
        self._ranges: list[tuple[bytes, bytes]] = []
        self._excluded: list[tuple[bytes, bytes]] = []
        for number, line in enumerate(text.split("\n"), 1):
            entry = line.partition(";")[0].strip()
            if not entry:
                continue
            kept = self._excluded if entry.startswith("!") else self._ranges
            found = _range(entry.removeprefix("!").strip())
            if found is None:
                raise Hard(f"line {number} of the list of clients is no entry: {entry}")
            kept.append(found)

    def holds(self, address: bytes) -> bool:
        """Tell whether a peer's address is in the list; one without never is."""
        octets = packed(address)
        if octets is None or _is_in(octets, self._excluded):
            return False
        is_open = bool(self._excluded) and not self._ranges
        return is_open or _is_in(octets, self._ranges)


def read(path: str) -> Clients:
    """Read a list from a file.

    Raises: Hard, Temporary.
    """
    try:
        with open(path, "rb") as file:
            text = file.read(LIST_OCTETS + 1)
    except OSError as why:
        raise from_os_error(why, f"read {path}") from why
    if len(text) > LIST_OCTETS:
        raise Hard(f"{path} is longer than {LIST_OCTETS} octets")
    return Clients(text.decode("utf-8", "surrogateescape"))


def _is_in(octets: bytes, ranges: list[tuple[bytes, bytes]]) -> bool:
    same = len(octets)
    return any(len(low) == same and low <= octets <= high for low, high in ranges)


def _range(entry: str) -> tuple[bytes, bytes] | None:
    """Give the first and the last address of an entry, None when it is none."""
    address, slash, length = entry.partition("/")
    if slash:
        return _network(_address(address), length)
    first, dash, last = entry.partition("-")
    low, high = _address(first), _address(last if dash else first)
    if low is None or high is None or len(low) != len(high) or low > high:
        return None
    return low, high


def _address(text: str) -> bytes | None:
    return packed(text.strip().encode("utf-8", "surrogateescape"))


def _network(address: bytes | None, length: str) -> tuple[bytes, bytes] | None:
    if address is None or not (length.isascii() and length.isdigit()):
        return None
    whole = 8 * len(address)
    if len(length) > 3 or int(length) > whole:
        return None
    hosts = (1 << (whole - int(length))) - 1
    number = int.from_bytes(address, "big")
    low, high = number & ~hosts, number | hosts
    return low.to_bytes(len(address), "big"), high.to_bytes(len(address), "big")
