# SPDX-License-Identifier: ISC
"""Addresses: one family each, the sources that limits count, networks."""

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.errors import Hard
from qtools.server.addresses import Networks, host_name, packed, plain, source_of, text

Address = IPv4Address | IPv6Address

addresses = st.ip_addresses()
NO_ADDRESSES = [
    *(b"", b"unknown", b"localhost", b"/run/pop3", b"10.1.2", b"10.1.2.256"),
    *(b"010.1.2.3", b"10.1.2.3 ", b"0x7f.1", b"1", b":", b"::1::", b"fe80::1%lo"),
    *(b"10.1.2.3\0", b"::1\0", b"\xff", b"::\xff", b"::ffff:1.2.3", b"[::1]"),
]


def of(address: Address) -> bytes:
    """Write an address as the system does."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    return socket.inet_ntop(family, address.packed).encode()


def unmapped(address: Address) -> Address:
    """Give what an address is once IPv4-mapped is IPv4."""
    return getattr(address, "ipv4_mapped", None) or address


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (b"::ffff:192.0.2.1", b"192.0.2.1"),
        (b"::FFFF:192.0.2.1", b"192.0.2.1"),
        (b"::ffff:c000:201", b"192.0.2.1"),
        (b"0:0:0:0:0:ffff:c000:0201", b"192.0.2.1"),
        (b"192.0.2.1", b"192.0.2.1"),
        (b"::192.0.2.1", b"::192.0.2.1"),
        (b"::fffe:c000:201", b"::fffe:c000:201"),
        (b"::1", b"::1"),
        *((other, other) for other in NO_ADDRESSES),
    ],
)
def test_plain(address: bytes, expected: bytes) -> None:
    assert plain(address) == expected


@pytest.mark.parametrize("word", NO_ADDRESSES)
def test_what_is_no_address(word: bytes) -> None:
    assert packed(word) is None
    assert source_of(word) == word
    assert not Networks("0.0.0.0/0,::/0").holds(word)


@given(addresses)
def test_octets_and_text(address: Address) -> None:
    octets = packed(of(address))
    assert octets == unmapped(address).packed
    assert text(octets) == of(unmapped(address))


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (b"192.0.2.1", b"192.0.2.1"),
        (b"::ffff:192.0.2.1", b"192.0.2.1"),
        (b"2001:db8:0:1:2:3:4:5", b"2001:db8:0:1::/64"),
        (b"2001:db8:0:1::", b"2001:db8:0:1::/64"),
        (b"2001:0DB8::1", b"2001:db8::/64"),
        (b"::1", b"::/64"),
    ],
)
def test_source(address: bytes, expected: bytes) -> None:
    assert source_of(address) == expected


@given(addresses, addresses)
def test_a_source_is_an_address_or_64_bits(one: Address, other: Address) -> None:
    near = IPv6Address(int(one) >> 64 << 64 | int(other) % 2**64)
    source = source_of(of(near))
    if unmapped(near).version == 6:
        network = ip_network(source.decode())
        assert (network.prefixlen, near in network) == (64, True)
    assert (source == source_of(of(other))) == (
        unmapped(near) == unmapped(other)
        or (
            unmapped(near).version == unmapped(other).version == 6
            and int(near) >> 64 == int(other) >> 64
        )
    )


@pytest.mark.parametrize(
    ("listed", "inside", "outside"),
    [
        ("192.0.2.0/24", [b"192.0.2.0", b"192.0.2.255"], [b"192.0.3.0", b"192.0.1.9"]),
        ("192.0.2.0/24", [b"::ffff:192.0.2.7"], [b"::192.0.2.7", b"::"]),
        ("10.1.2.3", [b"10.1.2.3"], [b"10.1.2.2", b"10.1.2.4"]),
        ("10.1.2.3/32", [b"10.1.2.3"], [b"10.1.2.2"]),
        ("0.0.0.0/0", [b"10.1.2.3", b"::ffff:10.1.2.3"], [b"::1", b"::"]),
        ("::/0", [b"::1", b"fe80::1"], [b"10.1.2.3", b"::ffff:10.1.2.3"]),
        ("2001:db8::/32", [b"2001:db8:ffff::1"], [b"2001:db9::", b"2001:db7::"]),
        ("2001:db8::/33", [b"2001:db8:7fff::1"], [b"2001:db8:8000::"]),
        ("::1", [b"::1"], [b"::", b"::2", b"0.0.0.1"]),
        ("::ffff:10.0.0.0/104", [b"10.9.9.9"], [b"11.0.0.0"]),
        ("::ffff:10.1.2.3", [b"10.1.2.3"], [b"10.1.2.4"]),
        ("::ffff:0:0/96", [b"10.1.2.3", b"192.0.2.1"], [b"::1"]),
        ("unix", [b"unknown", b""], [b"127.0.0.1", b"unix", b"Unknown"]),
        ("127.0.0.1,unix ::1", [b"unknown", b"::1", b"127.0.0.1"], [b"127.0.0.2"]),
        (" 10.0.0.0/8 ,\t192.0.2.1\n", [b"10.1.1.1", b"192.0.2.1"], [b"unknown"]),
        ("", [], [b"127.0.0.1", b"::", b"unknown", b""]),
    ],
)
def test_networks(listed: str, inside: list[bytes], outside: list[bytes]) -> None:
    networks = Networks(listed)
    assert [address for address in inside if not networks.holds(address)] == []
    assert [address for address in outside if networks.holds(address)] == []


@pytest.mark.parametrize(
    "word",
    [
        *("10", "10.1.2", "10.1.2.3/", "10.1.2.3/33", "10.0.0.0/-1", "10.0.0.0/+8"),
        *("10.0.0.0/08", "10.0.0.0/8/8", "/8", "/", "10.0.0.0/٨", "10.0.0.0/8x"),
        *("10.0.0.0/99999999999999999999", "10.0.0.1/8", "192.0.2.1/31", "1.2.3.4/0"),
        *("2001:db8::1/32", "2001:db8::/129", "::ffff:10.0.0.0/96", "::ffff:0:0/90"),
        *(
            "::ffff:10.0.0.0/129",
            "[::1]",
            "mx.example",
            "unix/8",
            "UNIX",
            "*",
            "\udcff",
        ),
        *("10.0.0.0/255.0.0.0", "10.0.0.0-10.0.0.9", "10."),
    ],
)
def test_nonsense_is_refused(word: str) -> None:
    with pytest.raises(Hard, match="is no network"):
        Networks(f"192.0.2.1,{word}")


def test_nonsense_is_named() -> None:
    with pytest.raises(
        Hard, match=r"^10\.0\.0\.1/8 is no network: bits are set behind"
    ):
        Networks("10.0.0.1/8")


@given(addresses, addresses, st.integers(0, 128))
def test_networks_hold_what_ipaddress_says(
    base: Address, address: Address, bits: int
) -> None:
    base = unmapped(base)
    network = ip_network((base, bits % (base.max_prefixlen + 1)), strict=False)
    networks = Networks(str(network))
    for each in (address, base, ip_address(int(network.broadcast_address))):
        peer = unmapped(each)
        assert networks.holds(of(each)) == (peer in network), each


@given(st.text())
def test_any_text_is_networks_or_refused(listed: str) -> None:
    try:
        networks = Networks(listed)
    except Hard:
        return
    assert networks.holds(b"unknown") == ("unix" in listed)


# Names -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "name"),
    [
        (b"mx.example", b"mx.example"),
        (b"MX.Example.", b"mx.example"),
        (b"_pop3s._tcp.a", b"_pop3s._tcp.a"),
        (b"a", b"a"),
        (b"a" * 253, b"a" * 253),
    ],
)
def test_a_host_has_a_name_in_small_letters(word: bytes, name: bytes) -> None:
    assert host_name(word) == name


@pytest.mark.parametrize(
    "word",
    [
        b"",
        b".",
        b"a..",
        b".a",
        b"-a",
        b"a-",
        b"a b",
        b"a\0",
        b"\xe4",
        b"a:1",
        b"a" * 254,
    ],
)
def test_what_is_no_name_is_none(word: bytes) -> None:
    assert host_name(word) == b""
