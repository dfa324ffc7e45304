# SPDX-License-Identifier: ISC
"""Who a client is: his environment, and the tag that goes round with his session."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.server.warm import packets
from qtools.server.warm.guest import MOST_TEXT, TAG_FIELDS, Guest, Tag, log_of

HERE = (b"::ffff:127.0.0.1", 110)
TLS = {b"SSL_PROTOCOL": b"TLSv1.3", b"SSL_CIPHER": b"TLS_AES_256_GCM_SHA384"}


def guest(address: bytes = b"192.0.2.7") -> Guest:
    return Guest(HERE, (address, 40001), 12.5)


@pytest.mark.parametrize(
    ("address", "shown", "source"),
    [
        (b"192.0.2.7", b"192.0.2.7", b"192.0.2.7"),
        (b"::ffff:192.0.2.7", b"192.0.2.7", b"192.0.2.7"),
        (b"2001:db8:1:2:3:4:5:6", b"2001:db8:1:2:3:4:5:6", b"2001:db8:1:2::/64"),
        (b"unknown", b"unknown", b"unknown"),
    ],
)
def test_an_address_is_one_whatever_the_listener_calls_it(
    address: bytes, shown: bytes, source: bytes
) -> None:
    who = guest(address)
    assert (who.remote, who.source) == ((shown, 40001), source)


def test_the_environment_is_the_server_s_the_rules_and_tls_s() -> None:
    who = guest()
    plain = who.environ(b"mx.example")
    assert plain[b"TCPREMOTEIP"] == b"192.0.2.7"
    assert plain[b"TCPLOCALIP"] == b"127.0.0.1"
    assert plain[b"TCPLOCALHOST"] == b"mx.example"
    assert b"TCPREMOTEHOST" not in plain
    assert b"TCPREMOTEINFO" not in plain
    who.variables = {b"POP3AUTH": b"apop", b"TCPREMOTEIP": b"rule", b"SSL_CIPHER": b"x"}
    who.tls = dict(TLS)
    assert who.environ(b"mx.example") == {**plain, **who.variables, **TLS}


def test_without_a_name_of_ours_there_is_no_variable() -> None:
    assert b"TCPLOCALHOST" not in guest().environ(b"")


def test_tls_is_noted_without_harm() -> None:
    who = guest()
    assert who.tls_note() == ""
    who.tls = dict(TLS)
    assert who.tls_note() == "tls=TLSv1.3/TLS_AES_256_GCM_SHA384"
    who.tls = {b"SSL_PROTOCOL": b"a b\n", b"SSL_CIPHER": b"'"}
    assert who.tls_note() == "tls=a\\x20b\\x0a/\\x27"


def test_a_tag_says_what_its_guest_was() -> None:
    who = guest(b"2001:db8::1")
    found = Tag(who.tag("User", b"joe\n"))
    assert (found.began, found.source) == (12.5, b"2001:db8::/64")
    assert (found.address, found.protocol) == (b"2001:db8::1", "POP3")
    assert (found.mechanism, found.user, found.tls) == ("User", b"joe\n", "")
    who.tls = dict(TLS)
    inside = Tag(who.tag("Cram-Md5", b""))
    assert (inside.protocol, inside.mechanism) == ("POP3S", "Cram-Md5")
    assert inside.tls == who.tls_note()


@pytest.mark.parametrize(
    ("port", "variables", "shown"),
    [
        (110, {}, (b"unknown", "POP3")),
        (995, {}, (b"unknown", "POP3S")),
        (110, {b"TCPREMOTEHOST": b"c.example"}, (b"c.example", "POP3")),
        (110, {b"TCP6REMOTEHOST": b"c6", b"TCPREMOTEHOST": b"c"}, (b"c6", "POP3")),
        (995, {b"TCPREMOTEHOST": b"", b"TCPLOCALPORT": b"110"}, (b"unknown", "POP3")),
    ],
)
def test_rules_and_ports_tell_what_they_tell_popup(
    port: int, variables: dict[bytes, bytes], shown: tuple[bytes, str]
) -> None:
    who = Guest((b"192.0.2.1", port), (b"192.0.2.7", 40001), 12.5)
    who.variables = variables
    assert (who.host, who.protocol) == shown
    found = Tag(who.tag("User", b"joe"))
    assert (found.host, found.protocol) == shown


@given(st.binary(max_size=3000), st.binary(max_size=300), st.floats(0, 1e9))
def test_any_guest_has_a_tag_of_bounded_length(
    user: bytes, cipher: bytes, began: float
) -> None:
    who = guest()
    who.began = began
    who.tls = {b"SSL_PROTOCOL": b"TLS", b"SSL_CIPHER": cipher}
    tag = who.tag("Plain", user)
    assert len(tag) <= TAG_FIELDS * (MOST_TEXT + 2)
    found = Tag(tag)
    assert (found.began, found.user) == (began, user[:MOST_TEXT])
    assert found.tls == who.tls_note()[:MOST_TEXT]


def tag_of(**changed: bytes) -> bytes:
    """Write a tag with some fields changed."""
    values = {
        "began": struct.pack(">d", 12.5),
        "source": b"192.0.2.7",
        "address": b"192.0.2.7",
        "host": b"unknown",
        "protocol": b"POP3",
        "mechanism": b"User",
        "user": b"joe",
        "tls": b"",
        **changed,
    }
    return packets.fields(*values.values())


@pytest.mark.parametrize(
    "began",
    [
        *(float("nan"), float("inf"), float("-inf"), -1.0, 1e300),
        *(b"", bytes(7), bytes(9)),
    ],
)
def test_a_tag_with_an_impossible_beginning_is_refused(began: float | bytes) -> None:
    octets = began if isinstance(began, bytes) else struct.pack(">d", began)
    with pytest.raises(ValueError, match="tag"):
        Tag(tag_of(began=octets))


@pytest.mark.parametrize(
    "tls", [b"tls=a\npopup: pid 1 Accept", b"\xff", b"\x1b[2J", b"x" * 1025]
)
def test_a_tag_that_would_forge_a_line_is_refused(tls: bytes) -> None:
    with pytest.raises(ValueError, match=r"tag|decode"):
        Tag(tag_of(tls=tls))


def test_what_is_left_of_a_hostile_tag_makes_one_line() -> None:
    text = b"x\ny z'\xff\0"
    names = ("source", "address", "host", "protocol", "mechanism", "user")
    found = Tag(tag_of(**dict.fromkeys(names, text)))
    log = log_of("popup", found.address, found.host, found.protocol)
    line = log.line(f"Info::END::{found.mechanism}", found.user, found.tls)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert line.isascii()
    escaped = b"x\\x0ay\\x20z\\x27\\xff\\x00"
    assert b" P:POP3 S:%b:%b ?~ 'x\\x0a" % (escaped, escaped) in line


@given(
    st.one_of(
        st.binary(max_size=100),
        st.lists(st.binary(max_size=1100), min_size=1, max_size=8).map(
            lambda values: packets.fields(*values)
        ),
        st.binary(max_size=40).map(lambda octets: tag_of(tls=octets)),
        st.binary(min_size=8, max_size=8).map(lambda octets: tag_of(began=octets)),
    )
)
def test_any_octets_are_a_tag_or_refused(tag: bytes) -> None:
    try:
        found = Tag(tag)
    except ValueError:
        return
    assert 0 <= found.began < 1e13
    assert found.tls.isprintable()
    assert found.protocol in ("POP3", "POP3S")
