# SPDX-License-Identifier: ISC
"""Requests to verifiers: all a session will know of its client goes along."""

import pytest

from qtools.chain.request import MECHANISMS
from qtools.server.channel import PACKET_OCTETS
from qtools.server.warm import asking, packets
from qtools.server.warm.connection import Connection
from qtools.server.warm.guest import Guest, Tag
from qtools.sessions.actions import Verify
from qtools.sessions.login import Login
from qtools.sessions.policy import Policy
from tests.unit.house import NOW, House, guest

STAMP = b"<1.2.abc@mx.example>"
RECORD = b"joe\0secret\0" + STAMP + b"\0"


def packed(
    who: Guest | None = None, mechanism: str = "User", name: bytes = b""
) -> bytes:
    """Give the request of somebody who speaks German and UTF-8."""
    with House() as house:
        connection, _ = house.connection(who=who)
        connection.login = Login(STAMP, Policy(has_stls=True))
        connection.login.feed(b"LANG de\r\nUTF8\r\n")
        return asking.pack(connection, Verify(RECORD, mechanism, b"joe"), name)


def variables(packet: bytes) -> dict[bytes, bytes]:
    _, environment, _ = packets.read_fields(packet, 3)
    pairs = [item.partition(b"=")[::2] for item in environment.split(b"\0")]
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


@pytest.mark.parametrize("mechanism", MECHANISMS[1:-1])
def test_a_request_names_id_mechanism_and_record(mechanism: str) -> None:
    packet = packed(mechanism=mechanism)
    kind, identifier, detail = packets.read_head(packet)
    assert (kind, identifier) == (packets.ASK, 1)
    assert packets.mechanism_of(detail) == mechanism
    record, _, tag = packets.read_fields(packet, 3)
    assert record == RECORD
    found = Tag(tag)
    assert (found.user, found.mechanism, found.began) == (b"joe", mechanism, NOW)


def test_the_session_gets_what_popup_would_have_set() -> None:
    found = variables(packed(name=b"mx.example"))
    assert found[b"TCPREMOTEIP"] == b"192.0.2.7"
    assert found[b"TCPLOCALHOST"] == b"mx.example"
    assert found[b"POP3METHOD"] == b"User"
    assert found[b"POP3LANG"] == b"de"
    assert found[b"POP3UTF8"] == b"1"
    assert found[b"POP3CAPA"] == b"USER\nSASL PLAIN LOGIN"


def test_rules_can_set_variables_but_not_the_dialogue_s() -> None:
    who = guest()
    who.variables = {b"QUOTA": b"1=2", b"POP3METHOD": b"Apop", b"POP3CAPA": b"X"}
    found = variables(packed(who))
    assert found[b"QUOTA"] == b"1=2"
    assert found[b"POP3METHOD"] == b"User"
    assert found[b"POP3CAPA"] == b"USER\nSASL PLAIN LOGIN"


def test_a_proxy_can_t_begin_another_variable() -> None:
    who = guest()
    who.tls = {b"SSL_PROTOCOL": b"TLSv1.3\0HOME=/root", b"SSL_CIPHER": b"\0"}
    found = variables(packed(who))
    assert not {b"SSL_PROTOCOL", b"SSL_CIPHER", b"HOME"} & set(found)


def test_what_fits_no_packet_is_told() -> None:
    who = guest()
    who.variables = {b"LONG": b"x" * packets.FIELD_OCTETS}
    with pytest.raises(ValueError, match="too long"):
        packed(who)


def test_the_longest_request_fits_a_packet() -> None:
    who = guest()
    used = len(packets.read_fields(packed(who), 3)[1])
    who.variables = {b"LONG": b"x" * (packets.FIELD_OCTETS - used - len("LONG=") - 1)}
    who.tls = {}
    packet = packed(who)
    assert len(packets.read_fields(packet, 3)[1]) == packets.FIELD_OCTETS
    longest_tag = 7 * 1026
    assert len(packet) + longest_tag < PACKET_OCTETS


def test_what_needs_a_challenge_is_everything_else() -> None:
    assert set(MECHANISMS) - asking.UNSTAMPED == {"None", "Apop", "Cram-Md5", "Any"}


def test_before_the_greeting_nobody_asks() -> None:
    with House() as house:
        connection, _ = house.connection()
        assert isinstance(connection, Connection)
        with pytest.raises(AssertionError):
            asking.pack(connection, Verify(RECORD, "User", b"joe"), b"")
