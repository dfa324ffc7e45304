# SPDX-License-Identifier: ISC
"""digests, against the RFCs' examples and the standard library."""

import hashlib
import hmac

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qtools.protocol import digests

CHALLENGE = b"<1.2@h>"
APOP = b"c348ebb16b71cc519fd7c6e61d63a669"
CRAM = b"63ba8d17b4d0e94c82d3f0557ed5f6b1"


def test_apop_gives_the_example_of_rfc_1939() -> None:
    made = digests.apop(b"<1896.697170952@dbc.mtview.ca.us>", b"tanstaaf")
    assert made == b"c4c9334bac560ecc979e58001b3e22fb"


def test_cram_md5_gives_the_example_of_rfc_2195() -> None:
    challenge = b"<1896.697170952@postoffice.reston.mci.net>"
    made = digests.cram_md5(challenge, b"tanstaaftanstaaf")
    assert made == b"b913a602c7eda7a495b4e6e7334d3890"


def test_the_vectors_of_the_originals_hold() -> None:
    assert digests.apop(CHALLENGE, b"secret") == APOP
    assert digests.cram_md5(CHALLENGE, b"secret") == CRAM


@given(st.binary(max_size=80), st.binary(max_size=200))
@example(b"", b"k" * 64)
@example(b"", b"k" * 65)
def test_cram_md5_is_what_hmac_makes(challenge: bytes, secret: bytes) -> None:
    expected = hmac.new(secret, challenge, "md5").hexdigest().encode()
    assert digests.cram_md5(challenge, secret) == expected


@pytest.mark.parametrize("digest", [APOP, CRAM, APOP.upper(), CRAM.upper()])
def test_either_digest_answers(digest: bytes) -> None:
    assert digests.answers(digest, CHALLENGE, b"secret")
    assert not digests.answers(digest, CHALLENGE, b"Secret")
    assert not digests.answers(digest, b"<1.3@h>", b"secret")


@pytest.mark.parametrize("digest", [b"", b"secret", APOP[:31], APOP + b"0"])
def test_nothing_else_answers(digest: bytes) -> None:
    assert not digests.answers(digest, CHALLENGE, b"secret")


@given(st.binary(max_size=80))
def test_without_a_challenge_nothing_is_a_digest(secret: bytes) -> None:
    digest = hashlib.md5(secret, usedforsecurity=False).hexdigest().encode()
    assert not digests.answers(digest, b"", secret)


@given(st.binary(max_size=80), st.sampled_from([32, 40, 64]))
def test_the_unsalted_digests_are_hashlibs(secret: bytes, digits: int) -> None:
    name = {32: "md5", 40: "sha1", 64: "sha256"}[digits]
    expected = hashlib.new(name, secret, usedforsecurity=False).hexdigest()
    assert digests.hexadecimal(secret, digits) == expected.encode()


@given(st.binary(max_size=8), st.integers(0, 200))
def test_other_lengths_are_no_digest(secret: bytes, digits: int) -> None:
    if digits not in (32, 40, 64):
        assert digests.hexadecimal(secret, digits) is None


@given(st.binary(max_size=8), st.binary(max_size=8))
def test_equal_is_equality(one: bytes, other: bytes) -> None:
    assert digests.equal(one, other) == (one == other)
