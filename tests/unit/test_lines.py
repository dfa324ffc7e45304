# SPDX-License-Identifier: ISC
"""Cutting octets into lines: bounds, NULs, line ends, and any chunking."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.protocol.lines import BAD_LINE, COMMAND_OCTETS, Lines

# Octets in which line ends, NULs and long runs are likely.
OCTETS = st.lists(
    st.one_of(
        st.sampled_from([b"\r\n", b"\n", b"\r", b"\0", b"a" * 253, b"b" * 254]),
        st.binary(max_size=20),
    ),
    max_size=12,
).map(b"".join)


def cut(chunks: list[bytes], limit: int = COMMAND_OCTETS) -> list[bytes]:
    lines, found = Lines(), []
    for chunk in chunks:
        lines.feed(chunk)
        while (line := lines.next(limit)) is not None:
            found.append(line)
    return found


def model(data: bytes, limit: int = COMMAND_OCTETS) -> list[bytes]:
    """Cut with everything at hand: the whole line, its end included, is in sight."""
    return [
        BAD_LINE if b"\0" in line or len(line) + 1 > limit else line.removesuffix(b"\r")
        for line in data.split(b"\n")[:-1]
    ]


def chunked(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted(place % (len(data) + 1) for place in cuts)
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


@given(OCTETS, st.lists(st.integers(0, 5000), max_size=8), st.integers(2, 300))
def test_chunking_never_changes_the_result(
    data: bytes, cuts: list[int], limit: int
) -> None:
    expected = model(data, limit)
    assert cut(chunked(data, cuts), limit) == expected
    assert cut([bytes([octet]) for octet in data], limit) == expected


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
@pytest.mark.parametrize("octets", [1, 254, 255, 256, 257, 100_000])
def test_the_limit_counts_the_line_end(octets: int, end: bytes) -> None:
    text = b"x" * (octets - len(end))
    is_good = octets <= COMMAND_OCTETS
    found = cut([(text + end)[-octets:]])
    assert found == ([text] if is_good else [BAD_LINE])


@pytest.mark.parametrize("size", [1, 2, 7, 254, 255, 256, 1000])
def test_an_over_long_line_is_one_bad_line_in_any_pieces(size: int) -> None:
    data = b"y" * 3000 + b"\r\nNOOP\r\n"
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    assert cut(pieces) == [BAD_LINE, b"NOOP"]


def test_an_over_long_line_is_not_held() -> None:
    lines = Lines()
    for _ in range(1000):
        lines.feed(b"z" * 1000)
        assert lines.next() is None
    assert lines.forget() == b""


def test_only_one_trailing_cr_belongs_to_the_line_end() -> None:
    assert cut([b"NOOP\r\r\n"]) == [b"NOOP\r"]


def test_a_cr_inside_is_part_of_the_line() -> None:
    assert cut([b"a\rb\n"]) == [b"a\rb"]


def test_a_nul_line_is_one_bad_line() -> None:
    assert cut([b"NOOP\0junk\r\n", b"\0\0\n", b"NOOP\n"]) == [
        BAD_LINE,
        BAD_LINE,
        b"NOOP",
    ]


def test_an_empty_line_is_a_line() -> None:
    assert cut([b"\r\n\n"]) == [b"", b""]


def test_forget_gives_what_is_behind_the_last_line() -> None:
    lines = Lines()
    lines.feed(b"PASS x\r\nSTAT\r\nQU")
    assert lines.next() == b"PASS x"
    assert lines.forget() == b"STAT\r\nQU"
    assert lines.next() is None


def test_forget_ends_an_over_long_line() -> None:
    lines = Lines()
    lines.feed(b"x" * 300)
    assert lines.next() is None
    lines.forget()
    lines.feed(b"NOOP\n")
    assert lines.next() == b"NOOP"
