# SPDX-License-Identifier: ISC
"""The PROXY header against random input, and against headers written here.

The addresses are compared with those of the standard library and of the C library.
"""

import socket
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.protocol import proxy
from qtools.protocol.proxy import LONGEST, SIGNATURE, Header, Malformed
from tests.unit.test_proxy import value, with_checksum

Address = IPv4Address | IPv6Address
Ports = tuple[int, int]

ports = st.tuples(st.integers(0, 65535), st.integers(0, 65535))
pairs = st.one_of(
    *(st.tuples(st.ip_addresses(v=v), st.ip_addresses(v=v)) for v in (4, 6))
)
octets = st.binary(max_size=40)
values = st.lists(
    st.builds(value, st.sampled_from([1, 4, 5, 0xE0]), octets), max_size=40
)


class Written(NamedTuple):
    """A header, and what stands in it."""

    data: bytes
    addresses: tuple[Address, Address]
    ports: Ports


def text_header(
    addresses: tuple[Address, Address], ports: Ports, *, is_exploded: bool
) -> Written:
    """Write version 1, the addresses short, or in full and upper case."""
    words = [
        address.exploded.upper() if is_exploded else str(address)
        for address in addresses
    ]
    words += [str(port) for port in ports]
    line = f"PROXY TCP{addresses[0].version} {' '.join(words)}\r\n"
    return Written(line.encode(), addresses, ports)


def binary_header(
    addresses: tuple[Address, Address], ports: Ports, more: list[bytes]
) -> Written:
    source, destination = addresses
    block = source.packed + destination.packed + struct.pack(">2H", *ports)
    block += b"".join(more)
    family = 0x11 if source.version == 4 else 0x21
    start = SIGNATURE + struct.pack(">2BH", 0x21, family, len(block))
    return Written(start + block, addresses, ports)


text_headers = st.builds(text_header, pairs, ports, is_exploded=st.booleans())
binary_headers = st.builds(binary_header, pairs, ports, values)
headers = text_headers | binary_headers

# Pieces of headers in any order, which is nearer to one than octets in any order.
PIECES = [
    *(b"PROXY ", b"TCP4 ", b"TCP6 ", b"UNKNOWN", b" ", b".", b":", b"::", b"\r\n"),
    *(b"0", b"1", b"255", b"65535", b"1.2.3.4 ", b"2001:db8::1 ", b"ffff:", b"\r"),
    *(SIGNATURE, b"\x21\x11", b"\x20\0", b"\x21\x21", b"\0\x0c", b"\0\0", b"\0\x24"),
    *(value(2, b"a"), value(3, bytes(4)), value(0x20, bytes(5)), bytes(12), bytes(36)),
]
pieces = st.lists(st.sampled_from(PIECES) | octets, max_size=14).map(b"".join)
spoiled = st.builds(
    lambda written, at, more: written.data[:at] + more + written.data[at:],
    *(headers, st.integers(0, 120), st.binary(max_size=3)),
)
streams = octets | pieces | spoiled


def outcome(data: bytes) -> Header | str | None:
    """Give the header, None, or that the data are malformed; nothing else may be."""
    try:
        return proxy.parse(data)
    except Malformed:
        return "malformed"


def of(address: Address) -> bytes:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    return socket.inet_ntop(family, address.packed).encode()


@given(headers, octets)
def test_a_header_says_what_was_written(written: Written, rest: bytes) -> None:
    header = proxy.parse(written.data + rest)
    assert header is not None
    assert header.octets == len(written.data)
    assert header.source == (of(written.addresses[0]), written.ports[0])
    assert header.destination == (of(written.addresses[1]), written.ports[1])
    for told, address in zip(
        (header.source, header.destination), written.addresses, strict=True
    ):
        assert ip_address(told[0].decode()) == address


@given(headers)
def test_a_part_of_a_header_waits_for_the_rest(written: Written) -> None:
    for end in range(len(written.data)):
        assert proxy.parse(written.data[:end]) is None


@given(values)
def test_a_checksum_protects_a_header(more: list[bytes]) -> None:
    data = with_checksum(*more)
    header = proxy.parse(data)
    assert header is not None
    assert header.octets == len(data)
    with pytest.raises(Malformed):
        proxy.parse(data[:20] + bytes([data[20] ^ 1]) + data[21:])


@given(streams)
def test_any_octets_are_a_header_or_none(data: bytes) -> None:
    header = outcome(data)
    if isinstance(header, Header):
        assert 0 < header.octets <= min(len(data), LONGEST)
        for peer in (header.source, header.destination):
            if peer is not None:
                assert of(ip_address(peer[0].decode())) == peer[0]
                assert 0 <= peer[1] <= 65535


@given(streams)
def test_what_has_been_decided_stays_so(data: bytes) -> None:
    """A reader that gets octets one by one comes to what it gets from all at once."""
    whole = outcome(data)
    parts = [outcome(data[:end]) for end in range(len(data))]
    decided = [part for part in parts if part is not None]
    if not decided:
        return
    first = decided[0]
    if first == "malformed":
        assert {*decided, whole} == {"malformed"}
        return
    for part in (*decided, whole):
        assert isinstance(part, Header)
        assert isinstance(first, Header)
        assert (part.octets, part.source) == (first.octets, first.source)


groups = st.sampled_from(["0", "1", "00ff", "FFFF", "", "12345", "1.2.3.4"])
addresses = st.text(alphabet="0123456789afAF:.", max_size=45) | st.lists(
    groups, max_size=10
).map(":".join)


@given(addresses)
def test_what_inet_pton_takes_is_an_address(text: str) -> None:
    for version, family, other in (
        (4, socket.AF_INET, "0.0.0.0"),
        (6, socket.AF_INET6, "::"),
    ):
        found = outcome(f"PROXY TCP{version} {text} {other} 1 2\r\n".encode())
        try:
            packed = socket.inet_pton(family, text)
        except OSError:
            assert found == "malformed"
            continue
        assert isinstance(found, Header)
        assert found.source == (socket.inet_ntop(family, packed).encode(), 1)
