# SPDX-License-Identifier: ISC
"""Arguments as RFC 1939's grammar has them: one space separates, nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.protocol import verbs
from qtools.protocol.verbs import Verb


def nothing() -> None:
    """Stand in for a handler."""


def row(least: int, most: int, *, is_secret: bool = False) -> Verb:
    return Verb(nothing, least, most, is_secret=is_secret)


@pytest.mark.parametrize(
    ("line", "keyword", "rest"),
    [
        (b"NOOP", b"NOOP", b""),
        (b"noop", b"NOOP", b""),
        (b"pAsS  x ", b"PASS", b" x "),
        (b"NOOP\tx", b"NOOP\tX", b""),
        (b" NOOP", b"", b"NOOP"),
        (b"", b"", b""),
        (b"USER \xe4", b"USER", b"\xe4"),
    ],
)
def test_a_line_is_cut_at_its_first_space(
    line: bytes, keyword: bytes, rest: bytes
) -> None:
    assert verbs.split(line) == (keyword, rest)


@pytest.mark.parametrize(
    ("least", "most", "rest", "given_"),
    [
        (0, 0, b"", []),
        (0, 0, b"  ", []),
        (0, 0, b"x", None),
        (1, 1, b"", None),
        (1, 1, b"secret", [b"secret"]),
        (1, 1, b" secret", [b" secret"]),
        (1, 1, b"se cret ", [b"se cret "]),
        (2, 2, b"joe", None),
        (2, 2, b"joe ", [b"joe", b""]),
        (2, 2, b"joe 0123", [b"joe", b"0123"]),
        (2, 2, b" joe 0123", [b"", b"joe 0123"]),
        (0, 2, b"", []),
        (0, 2, b"PLAIN", [b"PLAIN"]),
        (0, 2, b"PLAIN =", [b"PLAIN", b"="]),
        (1, 2, b"a b c", [b"a", b"b c"]),
    ],
)
def test_the_last_argument_keeps_its_spaces(
    least: int, most: int, rest: bytes, given_: list[bytes] | None
) -> None:
    assert verbs.arguments(row(least, most), rest) == given_


@given(st.integers(1, 3), st.binary(max_size=40))
def test_arguments_joined_by_spaces_are_the_rest(most: int, rest: bytes) -> None:
    found = verbs.arguments(row(0, most), rest)
    assert found is not None
    assert b" ".join(found) == rest
    assert len(found) <= most


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (b"1", 1),
        (b"007", 7),
        (b"0", 0),
        (b"2147483648", 2147483648),
        (b"9999999999", 9999999999),
        (b"99999999999", 10**10),
        (b"9" * 5000, 10**10),
        (b"0" * 5000 + b"3", 3),
        (b"", None),
        (b"1a", None),
        (b"+1", None),
        (b"-1", None),
        (b" 1", None),
        (b"1 ", None),
        (b"1_0", None),
        (b"1 2", None),
        (b"0x1", None),
        ("\N{SUPERSCRIPT TWO}".encode(), None),
        (b"\xb2", None),
    ],
)
def test_a_message_number_is_digits_and_nothing_else(
    text: bytes, number: int | None
) -> None:
    assert verbs.message_number(text) == number


@given(st.binary(max_size=30))
def test_no_message_number_raises(text: bytes) -> None:
    number = verbs.message_number(text)
    assert number is None or number >= 0


@pytest.mark.parametrize(
    ("text", "is_digest"),
    [
        (b"0123456789abcdef" * 2, True),
        (b"0123456789ABCDEF" * 2, False),
        (b"0" * 31, False),
        (b"0" * 33, False),
        (b"", False),
        (b"0" * 31 + b"g", False),
        (b"0" * 31 + b" ", False),
    ],
)
def test_a_digest_is_32_lower_case_digits(text: bytes, *, is_digest: bool) -> None:
    assert verbs.is_md5_hex(text) is is_digest


TABLE = {b"PASS": row(1, 1, is_secret=True), b"USER": row(1, 1)}


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b"PASS secret", b"PASS <hidden>"),
        (b"pass secret", b"PASS <hidden>"),
        (b"PASS", b"PASS"),
        (b"USER joe", b"USER joe"),
        (b"APOP joe 0123", b"APOP <hidden>"),
        (b"AUTH PLAIN AGEAYg==", b"AUTH <hidden>"),
        (b"XYZZY joe", b"<unknown>"),
        (b"am9l", b"<unknown>"),
        (b"c2VjcmV0", b"<unknown>"),
        (b"USERc2VjcmV0", b"<unknown>"),
        (b"", b"<unknown>"),
        (b"stat", b"stat"),
        (b" TOP 1 2", b" TOP 1 2"),
        (b"PASS\tsecret", b"PASS <hidden>"),
        (b" PASS secret", b"PASS <hidden>"),
        (b"passsecret", b"PASS <hidden>"),
        (b"AUTH ", b"AUTH "),
    ],
)
def test_secrets_are_masked(line: bytes, shown: bytes) -> None:
    assert verbs.masked(TABLE, line) == shown
