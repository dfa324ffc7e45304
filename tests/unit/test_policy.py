# SPDX-License-Identifier: ISC
"""What options and environment make of a connection, without a connection."""

import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.chain import front, request
from qtools.errors import Hard
from qtools.sessions.policy import Policy
from qtools.system.options import Values


def policy(
    options: dict[str, str] | None = None,
    environ: dict[str, str] | None = None,
    *,
    has_control: bool = False,
) -> Policy:
    values = Values()
    for name, word in (options or {}).items():
        values[name] = word
    given_ = {name.encode(): word.encode() for name, word in (environ or {}).items()}
    return front.make_policy(values, given_, has_control=has_control)


@pytest.mark.parametrize(
    ("word", "apop", "passwords", "mechanisms"),
    [
        (None, False, True, (b"PLAIN", b"LOGIN")),
        ("", False, True, (b"PLAIN", b"LOGIN")),
        ("other", False, True, (b"PLAIN", b"LOGIN")),
        ("apop", True, False, ()),
        ("APOPish", True, False, ()),
        ("+apop", True, True, (b"PLAIN", b"LOGIN")),
        ("+Apop,x", True, True, (b"PLAIN", b"LOGIN")),
    ],
)
def test_pop3auth(
    word: str | None, *, apop: bool, passwords: bool, mechanisms: tuple[bytes, ...]
) -> None:
    made = policy() if word is None else policy({}, {"POP3AUTH": word})
    assert (made.apop, made.passwords) == (apop, passwords)
    assert made.mechanisms == mechanisms


SCRAM = {"mechanisms": "scram-sha-256-plus,scram-sha-256"}
END_POINT = bytes(range(32))


@pytest.mark.parametrize(
    ("protocol", "digits", "binding"),
    [
        ("TLSv1.3", END_POINT.hex(), END_POINT),
        ("TLSv1.3", END_POINT.hex().upper(), END_POINT),
        ("TLSv1.3", "ab" * 64, b"\xab" * 64),
        ("TLSv1.3", "ab" * 65, b""),
        ("TLSv1.3", "abc", b""),
        ("TLSv1.3", "no", b""),
        ("TLSv1.3", "", b""),
        ("", END_POINT.hex(), b""),  # of a connection that somebody else had
    ],
)
def test_what_a_login_can_be_bound_to(
    protocol: str, digits: str, binding: bytes
) -> None:
    environ = {"SSL_PROTOCOL": protocol, "SSL_SERVER_END_POINT": digits}
    made = policy(SCRAM, environ)
    assert made.binding == binding
    plus = [b"SCRAM-SHA-256-PLUS"] if binding else []
    assert made.usable_mechanisms() == [*plus, b"SCRAM-SHA-256"]
    assert made.knows(b"SCRAM-SHA-256-PLUS") is bool(binding)


def test_inside_tls_there_is_another_binding() -> None:
    made = policy(SCRAM, {"SSL_PROTOCOL": "x", "SSL_SERVER_END_POINT": "00"})
    assert made.inside_tls(b"new").binding == b"new"
    assert made.inside_tls().binding == b""
    assert made.binding == b"\0"


@pytest.mark.parametrize(
    ("options", "environ", "words"),
    [
        ({}, {}, {"User", "Plain", "Login"}),
        ({}, {"POP3AUTH": "apop"}, {"Apop"}),
        (
            {"mechanisms": "cram-md5"},
            {"POP3AUTH": "+apop"},
            {"User", "Apop", "Cram-Md5"},
        ),
        ({"plaintext": "refuse"}, {"POP3AUTH": "+apop"}, {"Apop"}),
        ({}, {"UCSPITLS": "!"}, set()),
        (SCRAM, {}, {"User", "Scram-Sha-256"}),
        (
            {"mechanisms": "scram-sha-256-plus,xoauth2", "plaintext": "refuse"},
            {"SSL_PROTOCOL": "x", "SSL_SERVER_END_POINT": "00"},
            {"User", "Scram-Sha-256-Plus", "Xoauth2"},
        ),
    ],
)
def test_the_ways_in_by_their_words(
    options: dict[str, str], environ: dict[str, str], words: set[str]
) -> None:
    made = policy(options, environ, has_control=True)
    assert set(filter(made.allows, request.MECHANISMS)) == words


def test_a_mechanism_that_is_not_named_is_not_known() -> None:
    made = policy({"mechanisms": "plain"}, {"SSL_PROTOCOL": "x"})
    assert not made.knows(b"SCRAM-SHA-256")
    assert not made.knows(b"NONSENSE")


@pytest.mark.parametrize("has_control", [False, True])
@pytest.mark.parametrize(
    ("word", "offers", "rule"),
    [(None, False, ""), ("-", False, ""), ("", True, ""), ("!", True, "all")],
)
def test_ucspitls(
    word: str | None, *, offers: bool, rule: str, has_control: bool
) -> None:
    environ = {} if word is None else {"UCSPITLS": word}
    made = policy({}, environ, has_control=has_control)
    assert made.can_start_tls() is (offers and has_control)
    assert made.tls_for == rule


@pytest.mark.parametrize(
    ("environ", "is_tls"),
    [
        ({"TCPLOCALPORT": "995"}, True),
        ({"TCP6LOCALPORT": "995", "TCPLOCALPORT": "110"}, True),
        ({"SSLLOCALPORT": "995"}, True),
        ({"SSL_PROTOCOL": "TLSv1.3"}, True),
        ({"TCPLOCALPORT": "110"}, False),
        ({"TCPLOCALPORT": "9950"}, False),
        ({}, False),
    ],
)
def test_implicit_tls_needs_no_stls(environ: dict[str, str], *, is_tls: bool) -> None:
    made = policy({}, {"UCSPITLS": "", **environ}, has_control=True)
    assert made.is_tls is is_tls
    assert made.can_start_tls() is not is_tls


def test_required_tls_is_satisfied_on_995() -> None:
    made = policy({}, {"UCSPITLS": "!", "TCPLOCALPORT": "995"})
    assert made.can_use_password()


@pytest.mark.parametrize(
    ("option", "environ", "is_open"),
    [
        (None, None, True),
        (None, "", True),
        (None, "allow", True),
        (None, "refuse", False),
        ("allow", "refuse", True),
        ("refuse", "allow", False),
    ],
)
def test_the_option_counts_before_the_environment(
    option: str | None, environ: str | None, *, is_open: bool
) -> None:
    made = policy(
        {} if option is None else {"plaintext": option},
        {} if environ is None else {"POP3PLAINTEXT": environ},
    )
    assert made.can_use_password() is is_open


@pytest.mark.parametrize(
    ("given_", "mechanisms"),
    [
        ("none", ()),
        ("cram-md5", (b"CRAM-MD5",)),
        ("LOGIN,plain", (b"LOGIN", b"PLAIN")),
        ("", (b"PLAIN", b"LOGIN")),
    ],
)
def test_mechanisms(given_: str, mechanisms: tuple[bytes, ...]) -> None:
    assert policy({"mechanisms": given_}).mechanisms == mechanisms
    assert policy({}, {"POP3SASL": given_}).mechanisms == mechanisms


@pytest.mark.parametrize(
    "values",
    [
        {"plaintext": "maybe"},
        {"mechanisms": "plain,scram"},
        {"mechanisms": "plain,,login"},
        {"mechanisms": "pl\udcffain"},
        {"attempts": "0"},
        {"attempts": "x"},
        {"delay": "-1"},
        {"line-octets": "63"},
    ],
)
def test_a_word_that_means_nothing_is_hard(values: dict[str, str]) -> None:
    with pytest.raises(Hard):
        policy(values)


def test_the_environment_s_words_are_checked_as_well() -> None:
    with pytest.raises(Hard):
        policy({}, {"POP3PLAINTEXT": "maybe"})
    with pytest.raises(Hard):
        policy({}, {"POP3SASL": "\xff"})


@pytest.mark.parametrize(
    ("rule", "is_tls", "is_plaintext"),
    list(product(("", "passwords", "all"), (False, True), (False, True))),
)
def test_lacks_tls(rule: str, *, is_tls: bool, is_plaintext: bool) -> None:
    made = Policy(tls_for=rule, is_tls=is_tls)
    expected = not is_tls and (rule == "all" or (rule == "passwords" and is_plaintext))
    assert made.lacks_tls(is_plaintext=is_plaintext) is expected


STAMP = re.compile(rb"<[0-9]+\.[0-9]+\.[0-9a-f]{16}@[!-;=?A-~]{1,64}>")


@given(st.text(max_size=100))
def test_a_stamp_is_a_message_id_whatever_the_host_name(hostname: str) -> None:
    assert STAMP.fullmatch(front.make_stamp(hostname))


def test_no_stamp_repeats() -> None:
    assert len({front.make_stamp("h") for _ in range(1000)}) == 1000
