# SPDX-License-Identifier: ISC
"""The variables of a connection, beside what tcp-environ(5) and sslserver(1) say."""

import pytest

from qtools.protocol.proxy import Header
from qtools.server.environment import (
    NAMES,
    of_proxied_tls,
    put,
    variables,
    with_tls_names,
)

IPV4 = {
    b"PROTO": b"TCP",
    b"TCPLOCALIP": b"192.0.2.1",
    b"TCPLOCALPORT": b"110",
    b"TCPLOCALHOST": b"mx.example",
    b"TCPREMOTEIP": b"198.51.100.7",
    b"TCPREMOTEPORT": b"4321",
    b"TCP6LOCALIP": b"::ffff:192.0.2.1",
    b"TCP6LOCALPORT": b"110",
    b"TCP6LOCALHOST": b"mx.example",
    b"TCP6REMOTEIP": b"::ffff:198.51.100.7",
    b"TCP6REMOTEPORT": b"4321",
}
LOCAL, REMOTE = (b"192.0.2.1", 110), (b"198.51.100.7", 4321)


@pytest.mark.parametrize("mapping", [b"", b"::ffff:"])
def test_an_ipv4_client_is_told_of_in_both_families(mapping: bytes) -> None:
    local, remote = ((mapping + address, port) for address, port in (LOCAL, REMOTE))
    assert variables(local, remote, b"mx.example", None, None) == IPV4


def test_an_ipv6_client_has_the_same_address_under_both_names() -> None:
    found = variables((b"2001:db8::1", 110), (b"2001:db8::2", 5), b"", None, None)
    assert found == {
        b"PROTO": b"TCP6",
        b"TCPLOCALIP": b"2001:db8::1",
        b"TCPLOCALPORT": b"110",
        b"TCPREMOTEIP": b"2001:db8::2",
        b"TCPREMOTEPORT": b"5",
        b"TCP6LOCALIP": b"2001:db8::1",
        b"TCP6LOCALPORT": b"110",
        b"TCP6REMOTEIP": b"2001:db8::2",
        b"TCP6REMOTEPORT": b"5",
    }


def test_a_scope_is_the_interface_and_no_part_of_an_address() -> None:
    found = variables((b"fe80::1%eth0", 1), (b"fe80::2%eth0", 2), b"", None, None)
    assert found[b"TCP6INTERFACE"] == b"eth0"
    assert found[b"TCPLOCALIP"] == found[b"TCP6LOCALIP"] == b"fe80::1"
    assert found[b"TCPREMOTEIP"] == found[b"TCP6REMOTEIP"] == b"fe80::2"


def test_what_is_known_stands_under_both_names_and_may_be_empty() -> None:
    found = variables(LOCAL, REMOTE, b"mx.example", b"c.example", b"")
    assert set(found) - set(IPV4) == {
        b"TCPREMOTEHOST",
        b"TCP6REMOTEHOST",
        b"TCPREMOTEINFO",
        b"TCP6REMOTEINFO",
    }
    assert found[b"TCP6REMOTEHOST"] == b"c.example"
    assert found[b"TCP6REMOTEINFO"] == b""


@pytest.mark.parametrize("peer", [b"", b"unknown"])
def test_a_client_on_a_unix_socket_has_no_address(peer: bytes) -> None:
    found = variables((b"/run/pop3", 0), (peer, 0), b"mx.example", None, None)
    assert found == {b"PROTO": b"UNIX", b"UNIXLOCALPATH": b"/run/pop3"}


def test_sslservers_names_say_the_same_as_tcpservers() -> None:
    found = with_tls_names(variables(LOCAL, REMOTE, b"mx.example", b"c", None))
    assert {n: v for n, v in found.items() if n.startswith(b"SSL")} == {
        b"SSLLOCALIP": b"192.0.2.1",
        b"SSLLOCALPORT": b"110",
        b"SSLLOCALHOST": b"mx.example",
        b"SSLREMOTEIP": b"198.51.100.7",
        b"SSLREMOTEPORT": b"4321",
        b"SSLREMOTEHOST": b"c",
    }
    assert found[b"PROTO"] == b"TCP"


def test_what_another_server_has_told_of_its_connection_is_unset() -> None:
    environ = dict.fromkeys(NAMES, b"old") | {b"PATH": b"/bin", b"UCSPITLS": b""}
    put(environ, IPV4)
    assert environ == IPV4 | {b"PATH": b"/bin", b"UCSPITLS": b""}


def test_every_variable_that_is_ever_set_is_one_that_is_unset() -> None:
    local, remote = (b"fe80::1%e", 1), (b"fe80::2%e", 2)
    most = with_tls_names(variables(local, remote, b"a", b"b", b"c"))
    least = variables((b"/run/pop3", 0), (b"", 0), b"", None, None)
    assert set(most) | set(least) <= set(NAMES)


def test_each_end_is_mapped_by_itself() -> None:
    """A proxy may tell of two ends that no one connection has."""
    found = variables((b"2001:db8::1", 110), REMOTE, b"", None, None)
    assert (found[b"PROTO"], found[b"TCP6LOCALIP"]) == (b"TCP", b"2001:db8::1")
    assert found[b"TCP6REMOTEIP"] == b"::ffff:198.51.100.7"
    found = variables(LOCAL, (b"2001:db8::2", 5), b"", None, None)
    assert (found[b"PROTO"], found[b"TCP6LOCALIP"]) == (b"TCP6", b"::ffff:192.0.2.1")
    assert found[b"TCP6REMOTEIP"] == b"2001:db8::2"


def header(version: bytes, cipher: bytes, authority: bytes) -> Header:
    made = Header(16)
    made.is_tls = True
    made.tls_version, made.tls_cipher, made.authority = version, cipher, authority
    return made


def test_what_a_proxy_tells_of_tls() -> None:
    found = of_proxied_tls(header(b"TLSv1.3", b"AES", b"MX.Example."))
    assert found == {
        b"SSL_PROTOCOL": b"TLSv1.3",
        b"SSL_CIPHER": b"AES",
        b"SSL_TLS_SNI_SERVERNAME": b"mx.example",
    }
    assert of_proxied_tls(Header(16)) == {}


@pytest.mark.parametrize("word", [b"", b"\0", b"a b", b"a\nb", b"\xff", b"\x7f"])
def test_tls_is_on_whatever_a_proxy_can_not_say_of_it(word: bytes) -> None:
    assert of_proxied_tls(header(word, word, word)) == {b"SSL_PROTOCOL": b"TLS"}
