# SPDX-License-Identifier: ISC
"""SASL mechanisms as exchanges of octets, and their framing (RFC 5034)."""

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.protocol import framing, sasl

STAMP = b"<1.2.abc@mx.example>"
DIGEST = b"0123456789abcdef" * 2
OK = tuple[bytes, bytes, bytes]


def converse(name: bytes, answers: list[bytes]) -> tuple[list[bytes], OK | None]:
    """Give the challenges and, when the answers end the exchange, what came of it."""
    exchange = sasl.MECHANISMS[name].exchange(STAMP)
    challenges = [next(exchange)]
    for answer in answers:
        try:
            challenges.append(exchange.send(answer))
        except StopIteration as done:
            result: OK = done.value
            return challenges, result
    return challenges, None


def test_plain() -> None:
    assert converse(b"PLAIN", [b"\0joe\0secret"]) == ([b""], (b"joe", b"secret", STAMP))


def test_plain_takes_an_authorization_identity_that_says_the_same() -> None:
    result = converse(b"PLAIN", [b"joe\0joe\0secret"])
    assert result == ([b""], (b"joe", b"secret", STAMP))


@pytest.mark.parametrize(
    "answer",
    [
        b"ann\0joe\0secret",
        b"",
        b"joe",
        b"joe\0secret",
        b"\0joe\0sec\0ret",
        b"\0\0secret",
        b"\0joe\0",
        b"\0\0",
    ],
)
def test_plain_that_is_not_plain(answer: bytes) -> None:
    with pytest.raises(framing.Malformed):
        converse(b"PLAIN", [answer])


def test_login() -> None:
    challenges, result = converse(b"LOGIN", [b"joe", b" se cret "])
    assert challenges == [b"Username:", b"Password:"]
    assert result == (b"joe", b" se cret ", STAMP)


@pytest.mark.parametrize(
    "answers", [[b"", b"x"], [b"joe", b""], [b"jo\0e", b"x"], [b"joe", b"x\0y"]]
)
def test_login_without_a_name_or_secret(answers: list[bytes]) -> None:
    with pytest.raises(framing.Malformed):
        converse(b"LOGIN", answers)


def test_cram_md5_challenges_with_the_stamp_and_takes_the_last_word_as_digest() -> None:
    result = converse(b"CRAM-MD5", [b"joe the user " + DIGEST])
    assert result == ([STAMP], (b"joe the user", DIGEST, STAMP))


@pytest.mark.parametrize(
    "answer",
    [b"", b"joe", b"joe ", DIGEST, b" " + DIGEST, b"joe " + DIGEST.upper(), b"j 0"],
)
def test_cram_md5_that_is_none(answer: bytes) -> None:
    with pytest.raises(framing.Malformed):
        converse(b"CRAM-MD5", [answer])


FIRST = b"n,,n=joe,r=x"
BOUND_FIRST = b"p=tls-server-end-point,,n=joe,r=x"


def test_scram_s_first_message_is_the_secret_of_the_record() -> None:
    result = converse(b"SCRAM-SHA-256", [FIRST])
    assert result == ([b""], (b"joe", FIRST, STAMP))
    result = converse(b"SCRAM-SHA-256-PLUS", [BOUND_FIRST])
    assert result == ([b""], (b"joe", BOUND_FIRST, STAMP))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (b"SCRAM-SHA-256", BOUND_FIRST),
        (b"SCRAM-SHA-256-PLUS", FIRST),
        (b"SCRAM-SHA-256", b"n,a=ann,n=joe,r=x"),
        (b"SCRAM-SHA-256", b"n,,n=,r=x"),
        (b"SCRAM-SHA-256", b"\0joe\0secret"),
        (b"OAUTHBEARER", b"n,,\1auth=Bearer t\1\1"),
        (b"OAUTHBEARER", b"n,a=joe,\1auth=Bearer \1\1"),
        (b"OAUTHBEARER", b"n,a=joe,\1auth=Bearer a b\1\1"),
        (b"OAUTHBEARER", b"n,a=joe,\1auth=Basic t\1\1"),
        (b"OAUTHBEARER", b"n,a=joe,\1auth=Bearer t\1auth=Bearer u\1\1"),
        (b"OAUTHBEARER", b"n,a=joe,\1auth=Bearer t\1"),
        (b"OAUTHBEARER", b"n,a=joe,auth=Bearer t\1\1"),
        (b"OAUTHBEARER", b"p=tls-server-end-point,a=joe,\1auth=Bearer t\1\1"),
        (b"XOAUTH2", b"auth=Bearer t\1\1"),
        (b"XOAUTH2", b"user=\1auth=Bearer t\1\1"),
        (b"XOAUTH2", b"user=joe\1auth=Bearer t\1\1\1"),
        (b"XOAUTH2", b"user=j\0e\1auth=Bearer t\1\1"),
        (b"XOAUTH2", b"user=joe\1user=ann\1auth=Bearer t\1\1"),
    ],
)
def test_messages_that_do_not_fit_their_mechanism(name: bytes, message: bytes) -> None:
    with pytest.raises(framing.Malformed):
        converse(name, [message])


def test_tokens() -> None:
    message = b"n,a=j=2Coe,\1host=mx\1port=110\1auth=bEaReR t.o-k_e~n+/==\1\1"
    _, result = converse(b"OAUTHBEARER", [message])
    assert result == (b"j,oe", b"t.o-k_e~n+/==", STAMP)
    _, result = converse(b"XOAUTH2", [b"user=j o e\1auth=Bearer t\1\1"])
    assert result == (b"j o e", b"t", STAMP)


@given(st.sampled_from(sorted(sasl.MECHANISMS)), st.lists(st.binary(), max_size=3))
def test_any_answer_is_malformed_or_an_exchange(
    name: bytes, answers: list[bytes]
) -> None:
    try:
        _, result = converse(name, answers)
    except framing.Malformed:
        return
    if result is not None:
        assert all(result)
        assert b"\0" not in b"".join(result)


@given(st.binary(max_size=400))
def test_decode_inverts_base64(octets: bytes) -> None:
    assert framing.decode(b64encode(octets)) == octets


@given(st.binary(max_size=40))
def test_decode_gives_octets_or_malformed(line: bytes) -> None:
    try:
        octets = framing.decode(line)
    except framing.Malformed:
        return
    assert len(octets) <= len(line) * 3 // 4


@pytest.mark.parametrize(
    "line",
    [
        *(b"=", b"A", b"AB", b"ABC", b"AB=C", b"YQ==YQ==", b"Y Q==", b"YQ==\r", b"*"),
        *(b"YR==", b"YWJ=", b"YWK="),  # bits behind the last octet
    ],
)
def test_what_is_not_base64_to_the_letter(line: bytes) -> None:
    with pytest.raises(framing.Malformed):
        framing.decode(line)


def test_an_empty_initial_response_is_an_equals_sign() -> None:
    assert framing.decode_initial(b"=") == b""
    assert framing.decode_initial(b"YQ==") == b"a"


def test_an_empty_challenge_is_plus_space() -> None:
    assert framing.challenge_line(b"") == b"+ \r\n"
    assert framing.challenge_line(b"Username:") == b"+ VXNlcm5hbWU6\r\n"


@given(st.binary(max_size=300))
def test_a_challenge_is_one_line(challenge: bytes) -> None:
    line = framing.challenge_line(challenge)
    assert line == b"+ " + b64encode(challenge) + b"\r\n"
