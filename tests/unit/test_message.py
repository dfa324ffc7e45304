# SPDX-License-Identifier: ISC
"""The encoder, the counter and TOP, against the corpus's own idea of the wire."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.protocol.message import CHUNK_OCTETS, Counter, Encoder, TopCutter
from tests import corpus

# Octets that matter, far more often than chance would have them.
TEXT = st.lists(
    st.sampled_from((b"\r", b"\n", b".", b"\r\n", b"\n.", b"a", b"\0", b"\n\n")),
    max_size=40,
).map(b"".join)
CUTS = st.lists(st.integers(0, 60), max_size=8)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """Cut data at these places; some pieces may be empty."""
    ends = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    return [data[start:end] for start, end in pairwise(ends)]


def encoded(chunks: list[bytes], *, blank_line: bool = False) -> bytes:
    encoder = Encoder()
    return b"".join(map(encoder.feed, chunks)) + encoder.finish(blank_line=blank_line)


def counted(chunks: list[bytes]) -> int:
    counter = Counter()
    for chunk in chunks:
        counter.feed(chunk)
    return counter.total()


def top(chunks: list[bytes], body_lines: int) -> bytes:
    cutter = TopCutter(body_lines)
    passed = []
    for chunk in chunks:
        passed.append(cutter.feed(chunk))
        if cutter.is_done:
            break
    return encoded(passed)


@given(TEXT | st.binary())
def test_the_client_gets_the_file_with_crlf_line_ends(stored: bytes) -> None:
    assert encoded([stored]) == corpus.stuffed(corpus.wire(stored))


@given(TEXT | st.binary(), CUTS)
def test_chunking_never_changes_the_reply(stored: bytes, cuts: list[int]) -> None:
    assert encoded(pieces(stored, cuts)) == encoded([stored])


@given(TEXT | st.binary(), CUTS)
def test_octets_are_those_of_the_message_before_stuffing(
    stored: bytes, cuts: list[int]
) -> None:
    assert counted(pieces(stored, cuts)) == len(corpus.wire(stored))


@given(TEXT | st.binary(), CUTS, st.integers(0, 5))
def test_top_gives_header_blank_line_and_lines(
    stored: bytes, cuts: list[int], body_lines: int
) -> None:
    expected = corpus.stuffed(corpus.top(corpus.wire(stored), body_lines))
    assert top([stored], body_lines) == expected
    assert top(pieces(stored, cuts), body_lines) == expected


@pytest.mark.parametrize("message", corpus.messages(), ids=lambda each: each.label)
@pytest.mark.parametrize("octets", [1, 2, 3, 4096, CHUNK_OCTETS])
def test_the_corpus_in_chunks(message: corpus.Message, octets: int) -> None:
    stored = message.stored[:60_000] if octets < 4 else message.stored
    wire = corpus.wire(stored)
    chunks = [stored[at : at + octets] for at in range(0, len(stored), octets)]
    assert encoded(chunks) == corpus.stuffed(wire)
    assert counted(chunks) == len(wire)
    assert top(chunks, 2) == corpus.stuffed(corpus.top(wire, 2))


FILE = b"From: x\nSubject: y\n\nbody1\n.dot\n..\nlast"
HEAD = b"From: x\r\nSubject: y\r\n\r\n"


@pytest.mark.parametrize(
    ("stored", "reply"),
    [
        (FILE, HEAD + b"body1\r\n..dot\r\n...\r\nlast\r\n.\r\n"),
        (b".\n", b"..\r\n.\r\n"),
        (b"", b".\r\n"),
        (b".", b"..\r\n.\r\n"),
        (b"a\r", b"a\r\r\n.\r\n"),
        (b"H: 1\n\nx\0y\n\rz\nw\n", b"H: 1\r\n\r\nx\0y\r\n\rz\r\nw\r\n.\r\n"),
        (b"A: b\r\n\r\nb1\r\n", b"A: b\r\n\r\nb1\r\n.\r\n"),
    ],
)
def test_replies_as_captured_but_for_the_blank_line(
    stored: bytes, reply: bytes
) -> None:
    assert encoded([stored]) == reply
    assert encoded([stored], blank_line=True) == reply[:-3] + b"\r\n.\r\n"


@pytest.mark.parametrize(
    ("body_lines", "body"),
    [
        (0, b""),
        (1, b"body1\r\n"),
        (2, b"body1\r\n..dot\r\n"),
        (9, b"body1\r\n..dot\r\n...\r\nlast\r\n"),
    ],
)
def test_top_as_captured(body_lines: int, body: bytes) -> None:
    assert top([FILE], body_lines) == HEAD + body + b".\r\n"


def test_nothing_is_held_but_one_octet() -> None:
    encoder, counter, cutter = Encoder(), Counter(), TopCutter(10**9)
    huge = b"x" * CHUNK_OCTETS
    for _ in range(3):
        assert len(encoder.feed(huge)) == CHUNK_OCTETS
        assert cutter.feed(huge) == huge
        counter.feed(huge)
    assert (encoder._last, counter._last, cutter._tail) == (b"x", b"x", b"xx")
