# SPDX-License-Identifier: ISC
"""The PROXY header: read to the octet, and refused at the octet that can't be one."""

import struct

import pytest

from qtools.protocol import proxy
from qtools.protocol.proxy import LONGEST, LONGEST_BLOCK, SIGNATURE, Header, Malformed

# What haproxy 2.6 sent: its options send-proxy, and send-proxy-v2 with proxy-v2-options
# crc32c, ssl, ssl-cipher, cert-sig, cert-key, authority, unique-id.
HAPROXY_TEXT_IPV4 = b"PROXY TCP4 127.0.0.1 127.0.0.1 51222 46441\r\n"
HAPROXY_TEXT_IPV6 = b"PROXY TCP6 ::1 ::1 42790 33053\r\n"
HAPROXY_IPV4 = SIGNATURE + b"!\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01\xa5X\x96\xf1"
HAPROXY_TLS = (
    SIGNATURE + b"!\x11\0s\x7f\0\0\x01\x7f\0\0\x01\xaf&\x919\x03\0\x04Mz\xc6)"
    b"\x02\0\x0bpop.example\x05\0\r6B01A396-747A \0?\x01\0\0\0\0!\0\x07TLSv1.3"
    b"%\0\x07RSA2048$\0\nRSA-SHA256#\0\x16TLS_AES_256_GCM_SHA384"
)
HAPROXY_UNIX = SIGNATURE + b" \0\0\x07\x03\0\x04\xa9\xb8~\x8f"

IPV4 = bytes([192, 0, 2, 1, 192, 0, 2, 2]) + struct.pack(">2H", 1, 65535)
IPV6 = bytes.fromhex("20010db8" + "00" * 12 + "00" * 15 + "01") + IPV4[-4:]
LONG = b"ffff:" * 7 + b"ffff"


def value(kind: int, data: bytes = b"") -> bytes:
    """Write a type, a length and a value."""
    return struct.pack(">BH", kind, len(data)) + data


def binary(block: bytes, family: int = 0x11, command: int = 0x21) -> bytes:
    return SIGNATURE + struct.pack(">2BH", command, family, len(block)) + block


def with_checksum(*values: bytes) -> bytes:
    """Write a header for IPv4 with values, the first of them the checksum."""
    whole = binary(IPV4 + value(3, bytes(4)) + b"".join(values))
    at = 16 + len(IPV4) + 3
    return whole[:at] + struct.pack(">I", proxy.checksum(whole)) + whole[at + 4 :]


def header_of(data: bytes) -> Header:
    """Read a header: it takes all of its octets and leaves what follows alone."""
    for octets in range(len(data)):
        assert proxy.parse(data[:octets]) is None, data[:octets]
    for rest in (b"\r\n", b"USER joe\r\nPASS secret\r\n", data):
        longer = proxy.parse(data + rest)
        assert longer is not None
        assert longer.octets == len(data)
    header = proxy.parse(data)
    assert header is not None
    assert header.octets == len(data)
    return header


def octets_until_malformed(data: bytes) -> int:
    """Give how many octets it takes until the header is refused; it stays refused."""
    for octets in range(len(data) + 1):
        try:
            assert proxy.parse(data[:octets]) is None, data[:octets]
        except Malformed:
            for more in (data, data[:octets] + b"\r\n", data[:octets] + bytes(5000)):
                with pytest.raises(Malformed):
                    proxy.parse(more)
            return octets
    pytest.fail(f"not refused: {data!r}")


def test_what_haproxy_sends() -> None:
    ipv4, ipv6 = header_of(HAPROXY_TEXT_IPV4), header_of(HAPROXY_TEXT_IPV6)
    assert ipv4.source == (b"127.0.0.1", 51222)
    assert ipv4.destination == (b"127.0.0.1", 46441)
    assert (ipv6.source, ipv6.destination) == ((b"::1", 42790), (b"::1", 33053))
    assert header_of(HAPROXY_IPV4).source == (b"127.0.0.1", 42328)
    assert header_of(HAPROXY_IPV4).destination == (b"127.0.0.1", 38641)
    own = header_of(HAPROXY_UNIX)
    assert (own.is_local, own.source, own.destination) == (True, None, None)


def test_what_haproxy_tells_about_tls() -> None:
    header = header_of(HAPROXY_TLS)
    assert header.source == (b"127.0.0.1", 44838)
    assert (header.is_tls, header.is_local) == (True, False)
    assert header.tls_version == b"TLSv1.3"
    assert header.tls_cipher == b"TLS_AES_256_GCM_SHA384"
    assert header.authority == b"pop.example"


@pytest.mark.parametrize("data", [HAPROXY_TEXT_IPV6, HAPROXY_IPV4, binary(IPV4)])
def test_what_is_not_told_is_empty(data: bytes) -> None:
    header = header_of(data)
    assert (header.is_tls, header.is_local) == (False, False)
    assert header.tls_version == header.tls_cipher == header.authority == b""


@pytest.mark.parametrize(
    ("line", "source"),
    [
        (b"TCP4 0.0.0.0 255.255.255.255 0 65535", (b"0.0.0.0", 0)),
        (b"TCP4 192.0.2.10 192.0.2.2 10 995", (b"192.0.2.10", 10)),
        (b"TCP6 :: :: 65535 0", (b"::", 65535)),
        (b"TCP6 %b %b 65535 65535" % (LONG, LONG), (LONG, 65535)),
        (b"TCP6 2001:DB8:0:0:0:0:0:A ::1 1 2", (b"2001:db8::a", 1)),
        (b"TCP6 2001:0db8:0000:0001::0001 ::1 1 2", (b"2001:db8:0:1::1", 1)),
        (b"TCP6 1:2:3:4:5:6:7:: ::1 1 2", (b"1:2:3:4:5:6:7:0", 1)),
        (b"TCP6 ::2:3:4:5:6:7:8 ::1 1 2", (b"0:2:3:4:5:6:7:8", 1)),
        (b"TCP6 1:0:0:2:0:0:0:3 ::1 1 2", (b"1:0:0:2::3", 1)),
        (b"TCP6 1:0:0:2:3:0:0:4 ::1 1 2", (b"1::2:3:0:0:4", 1)),
        (b"TCP6 ::ffff:192.0.2.1 ::1 1 2", (b"::ffff:192.0.2.1", 1)),
        (b"TCP6 ::ffff:c000:201 ::1 1 2", (b"::ffff:192.0.2.1", 1)),
        (b"TCP6 1:2:3:4:5:6:1.2.3.4 ::1 1 2", (b"1:2:3:4:5:6:102:304", 1)),
        (b"TCP6 1::1.2.3.4 ::1 1 2", (b"1::102:304", 1)),
        (b"UNKNOWN", None),
        (b"UNKNOWN ", None),
        (b"UNKNOWN %b %b 65535 65535" % (LONG, LONG), None),
        (b"UNKNOWN \t\0\xff PROXY TCP4", None),
    ],
)
def test_text(line: bytes, source: tuple[bytes, int] | None) -> None:
    header = header_of(b"PROXY " + line + b"\r\n")
    assert header.source == source
    assert (header.destination is None) == (source is None)


# Octets that may yet become a header, a bar, and one octet, or more, that spoils them.
SPOILED = [
    *(b"|A", b"|\n", b"|USER joe\r\n", b"| PROXY", b"P|ASS x", b"PROX|y"),
    *(b"PROXY|\r", b"PROXY | ", b"PROXY |tcp4", b"PROXY TCP|5", b"PROXY TCP4|\r"),
    *(b"PROXY TCP4 | ", b"PROXY TCP4 |:", b"PROXY TCP4 |-", b"PROXY TCP4 1| "),
    *(b"PROXY TCP4 1.|.", b"PROXY TCP4 25|6", b"PROXY TCP4 0|1.2.3.4"),
    *(b"PROXY TCP4 1.0|0.3.4", b"PROXY TCP4 1.2.3.4|."),
    *(b"PROXY TCP4 1.2.3.4 1.2.3| ", b"PROXY TCP4 1.2.3.4|/8"),
    *(b"PROXY TCP4 1.2.3.4|\r\n", b"PROXY TCP4 1.2.3.4 1.2.3.4 | 1 2"),
    *(b"PROXY TCP4 1.2.3.4 |::", b"PROXY TCP4 1.2.3.4 1.2.3.4 |+1"),
    *(b"PROXY TCP4 1.2.3.4 1|a", b"PROXY TCP4 1.2.3.4 1.2.3.4 0|1"),
    *(b"PROXY TCP4 1|\xb2", b"PROXY TCP4 1.2.3.4 1.2.3.4 6553|6", b"PROXY TCP4 1|_0"),
    *(b"PROXY TCP4 1.2.3.4 1.2.3.4 1|\r", b"PROXY TCP4 1.2.3.4|\t"),
    *(b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2| ", b"PROXY TCP4 1.2.3.4|%lo"),
    *(b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2|\n", b"PROXY TCP4 1|\0"),
    *(b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r|\r\n", b"PROXY UNKNOWN|\n"),
    *(b"PROXY TCP6 1|.", b"PROXY TCP6 |g", b"PROXY TCP6 1234|5", b"PROXY TCP6 :|1"),
    *(b"PROXY TCP6 ::|:", b"PROXY TCP6 1::2:|:", b"PROXY TCP6 1:2:3:4:5:6:7:8|:"),
    *(b"PROXY TCP6 1:2:3:4:5:6:7:8|::", b"PROXY TCP6 1::2:3:4:5:6:7|:"),
    *(b"PROXY TCP6 1:2:3:4:5:6:7:8|.", b"PROXY TCP6 ::1.2.3.4|:"),
    *(b"PROXY TCP6 ::1.2.3| ", b"PROXY TCP6 ::256|.", b"PROXY TCP6 ::01|."),
    *(b"PROXY TCP6 1| ", b"PROXY TCP6 1:2:3:4:5:6:7| ", b"PROXY TCP6 ::1|%1"),
    *(b"PROXY TCP6 0:|x", b"PROXY TCP6 ::1 ::1 1 2| 3", b"PROXY UNKNOW|\r"),
    *(b"PROXY UNKNOWN|S", b"PROXY UNKNOWN\r|\0", b"PROXY UNKNOWN a|\nb"),
    b"PROXY UNKNOWN a\r|b",
    b"PROXY UNKNOWN " + b"x" * 91 + b"|x",
    b"PROXY UNKNOWN " + b"x" * 91 + b"\r|\r",
]


@pytest.mark.parametrize("spoiled", SPOILED)
def test_text_that_is_no_header_is_refused_at_once(spoiled: bytes) -> None:
    good, _, bad = spoiled.partition(b"|")
    assert octets_until_malformed(good + bad) == len(good) + 1


def test_a_line_is_no_longer_than_107_octets() -> None:
    assert header_of(b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n").octets == 107
    dotted = b"ffff:" * 6 + b"100.100.100.100"
    line = b"PROXY TCP6 %b %b 1 2\r\n" % (dotted, dotted)
    assert len(line) == 108
    assert octets_until_malformed(line) < 107


@pytest.mark.parametrize(
    ("data", "source"),
    [
        (binary(IPV4, 0x11), (b"192.0.2.1", 1)),
        (binary(IPV6, 0x21), (b"2001:db8::", 1)),
        (binary(IPV4, 0x12), None),  # datagrams: a server of streams knows no peer
        (binary(IPV6, 0x22), None),
        (binary(bytes(216), 0x31), None),
        (binary(bytes(216), 0x32), None),
        (binary(b"", 0x00), None),
        (binary(IPV4, 0x10), None),
        (binary(b"", 0x01), None),
        (binary(value(4, bytes(9)), 0x00), None),
    ],
)
def test_binary(data: bytes, source: tuple[bytes, int] | None) -> None:
    header = header_of(data)
    assert header.source == source
    assert (header.destination is None) == (source is None)
    assert not header.is_local


def test_both_ends_of_the_connection() -> None:
    assert header_of(binary(IPV4)).destination == (b"192.0.2.2", 65535)
    assert header_of(binary(IPV6, 0x21)).destination == (b"::1", 65535)


@pytest.mark.parametrize("family", [0x00, 0x11, 0x13, 0x99, 0xFF])
@pytest.mark.parametrize("block", [b"", b"x", IPV4, value(3, b"fake"), bytes(4096)])
def test_of_the_proxys_own_connection_nothing_is_read(
    family: int, block: bytes
) -> None:
    header = header_of(binary(block, family, 0x20))
    assert (header.is_local, header.source, header.destination) == (True, None, None)


@pytest.mark.parametrize(
    ("data", "octets"),
    [
        (SIGNATURE[:11] + b"\r", 12),
        (SIGNATURE[:4] + b"\r", 5),
        (b"\r\n\r\nUSER", 5),
        (binary(IPV4, command=0x11), 13),
        (binary(IPV4, command=0x22), 13),
        (binary(IPV4, command=0x31), 13),
        (binary(IPV4, command=0x01), 13),
        (binary(IPV4, 0x13), 14),
        (binary(IPV4, 0x41), 14),
        (binary(IPV4[:-1]), 16),
        (binary(IPV6[:-1], 0x21), 16),
        (binary(bytes(215), 0x31), 16),
        (binary(IPV4 + bytes(LONGEST_BLOCK - 11)), 16),
        (binary(bytes(LONGEST_BLOCK + 1), command=0x20), 16),
        (binary(bytes(0x1100), command=0x20), 15),
        (binary(bytes(0xFFFF)), 15),
        (binary(IPV4 + b"\x04"), 16),
        (binary(IPV4 + b"\x04\0"), 16),
        (binary(IPV4 + b"\x04\0\x01"), 31),
        (binary(IPV4 + b"\x04\x01\0"), 30),
        (binary(IPV4 + value(4, b"xy") + b"\x04"), 31),
        (binary(IPV4 + value(2, b"a") + value(2, b"a")), 35),
        (binary(IPV4 + value(2, bytes(256))), 31),
        (binary(IPV4 + value(3, b"sum")), 31),
        (binary(IPV4 + value(3, b"check")), 31),
        (binary(IPV4 + value(0x20, bytes(4))), 31),
        (binary(IPV4 + value(0x20, bytes(5) + b"!")), 31),
        (binary(IPV4 + value(0x20, bytes(5) + b"!\0\x01") + bytes(99)), 39),
        (binary(IPV4 + value(0x20, bytes(5) + value(0x21, bytes(256)))), 39),
        (binary(IPV4 + value(0x20, bytes(5) + 2 * value(0x23, b"x"))), 43),
    ],
)
def test_binary_that_is_no_header_is_refused_at_once(data: bytes, octets: int) -> None:
    assert octets_until_malformed(data) == octets


def test_unknown_values_are_skipped() -> None:
    values = [*(value(kind, b"x" * 300) for kind in (1, 5, 0x30, 0xE0)), value(4)]
    header = header_of(binary(IPV4 + b"".join(values * 2) + value(2, b"mx.example")))
    assert header.authority == b"mx.example"


def test_a_client_without_tls() -> None:
    inner = value(0x21, b"TLSv1.3") + value(0x22, b"joe") + value(0x22, b"ann")
    for flags, is_tls in ((0, False), (1, True), (2, False), (7, True)):
        block = IPV4 + value(0x20, bytes([flags]) + bytes(4) + inner)
        header = header_of(binary(block))
        assert header.is_tls == is_tls
        assert header.tls_version == (b"TLSv1.3" if is_tls else b"")


def test_values_of_tls_count_inside_tls_only() -> None:
    header = header_of(binary(IPV4 + value(0x21, b"TLSv1.3") + value(0x20, bytes(5))))
    assert header.tls_version == b""
    block = IPV4 + value(0x20, b"\x01" + bytes(4) + value(0x02, b"x" * 999))
    assert header_of(binary(block)).authority == b""


def test_the_checksum_must_be_right() -> None:
    good = with_checksum(value(2, b"pop.example"), value(4, b"more"))
    assert header_of(good).authority == b"pop.example"
    for at in {*range(16, len(good))} - {16 + len(IPV4)}:  # there begins the checksum
        with pytest.raises(Malformed):
            proxy.parse(good[:at] + bytes([good[at] ^ 0x40]) + good[at + 1 :])


def test_the_checksum_is_crc32c() -> None:
    """See: RFC 3720 appendix B.4 for the vectors with 32 octets."""
    assert proxy.checksum(b"") == 0
    assert proxy.checksum(b"123456789") == 0xE3069283
    assert proxy.checksum(bytes(32)) == 0x8A9136AA
    assert proxy.checksum(b"\xff" * 32) == 0x62A8AB43
    assert proxy.checksum(bytes(range(32))) == 0x46DD794E


def test_the_longest_header() -> None:
    block = IPV4 + value(4, bytes(LONGEST_BLOCK - len(IPV4) - 3))
    data = binary(block)
    header = proxy.parse(data + b"CAPA\r\n")
    assert header is not None
    assert header.octets == LONGEST == len(data) == 4112
    assert proxy.parse(data[:-1]) is None
