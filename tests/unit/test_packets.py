# SPDX-License-Identifier: ISC
"""Packets between processes: what is written is read, and nothing else is."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.chain.request import MECHANISMS
from qtools.server.warm import packets
from qtools.server.warm.packets import MOST_COUNT, WHYS, Tally

OCTETS = st.integers(0, 255)
IDENTIFIERS = st.integers(0, 2**64 - 1)
COUNTS = st.tuples(*[st.none() | st.integers(0, MOST_COUNT)] * 6)
ENDS = st.integers(0, len(WHYS) - 1)
WRONG_END = r"cut short|behind the last"
FIELDS = st.lists(st.binary(max_size=300), min_size=1, max_size=8)


def shown(tally: Tally) -> tuple[object, ...]:
    return tally.code, tally.why, tally.counts


@pytest.mark.slow
@given(OCTETS, IDENTIFIERS, OCTETS)
def test_a_head_is_read_as_it_was_written(
    kind: int, identifier: int, detail: int
) -> None:
    packet = packets.head(kind, identifier, detail)
    assert packets.read_head(packet) == (kind, identifier, detail)
    assert packets.read_fields(packet, 0) == []


@pytest.mark.slow
@given(OCTETS, FIELDS)
def test_fields_are_read_as_they_were_written(kind: int, values: list[bytes]) -> None:
    packet = packets.head(kind) + packets.fields(*values)
    assert packets.read_fields(packet, len(values)) == values
    assert packets.read_fields(packets.fields(*values), len(values), 0) == values


@pytest.mark.slow
@given(FIELDS, st.data())
def test_another_number_of_fields_or_octets_is_refused(
    values: list[bytes], data: st.DataObject
) -> None:
    packet = packets.fields(*values)
    cut = data.draw(st.integers(0, len(packet) - 1))
    for wrong in (packet[:cut], packet + b"x"):
        with pytest.raises(ValueError, match=WRONG_END):
            packets.read_fields(wrong, len(values), 0)
    for count in (len(values) - 1, len(values) + 1):
        with pytest.raises(ValueError, match=WRONG_END):
            packets.read_fields(packet, count, 0)


def test_a_field_has_a_longest_length() -> None:
    longest = b"x" * packets.FIELD_OCTETS
    assert packets.read_fields(packets.fields(b"", longest), 2, 0) == [b"", longest]
    with pytest.raises(ValueError, match="too long"):
        packets.fields(b"", longest + b"x")


@pytest.mark.slow
@given(OCTETS, ENDS, COUNTS)
def test_a_tally_is_read_as_it_was_written(
    code: int, why: int, counts: tuple[int | None, ...]
) -> None:
    packet = packets.pack_tally(Tally(code, why, counts))
    assert shown(packets.unpack_tally(packet)) == (code, why, counts)


@pytest.mark.slow
@given(IDENTIFIERS, st.integers(-64, 255), ENDS, COUNTS, st.binary(max_size=2000))
def test_an_end_is_read_as_it_was_written(
    identifier: int, code: int, why: int, counts: tuple[int | None, ...], tag: bytes
) -> None:
    packet = packets.pack_ended(identifier, Tally(code, why, counts), tag)
    assert packets.read_head(packet)[:2] == (packets.ENDED, identifier)
    found, tally, found_tag = packets.unpack_ended(packet)
    assert (found, found_tag) == (identifier, tag)
    assert shown(tally) == (code, why, counts)


READERS: list[Callable[[bytes], object]] = [
    packets.read_head,
    packets.unpack_tally,
    packets.unpack_ended,
    *(
        lambda packet, count=count: packets.read_fields(packet, count)
        for count in range(5)
    ),
]
GOOD = [
    packets.head(packets.ANSWER, 7, 111),
    packets.head(packets.LAUNCH, 7) + packets.fields(b"one", b"", b"three"),
    packets.pack_tally(Tally(0, 1, (1, 2, 3, None, 5, 6))),
    packets.pack_ended(7, Tally(-9, 0, (1, 2, 3, None, 5, 6)), b"tag"),
]


def try_all(packet: bytes) -> int:
    """Give how many readers take a packet; none may fail but in the one way."""
    taken = 0
    for read in READERS:
        try:
            read(packet)
        except ValueError:
            continue
        taken += 1
    return taken


@pytest.mark.slow
@given(st.binary(max_size=200))
def test_no_octets_at_all_break_a_reader(packet: bytes) -> None:
    assert try_all(packet) <= 2 + (len(packet) >= 10)


@pytest.mark.slow
@given(st.sampled_from(GOOD), st.lists(st.tuples(OCTETS, OCTETS), max_size=4), OCTETS)
def test_no_damaged_packet_breaks_a_reader(
    packet: bytes, changes: list[tuple[int, int]], cut: int
) -> None:
    damaged = bytearray(packet)
    for place, octet in changes:
        damaged[place % len(packet)] = octet
    assert try_all(bytes(damaged)) >= 1, "the head is always one"
    try_all(bytes(damaged[:cut]))


@pytest.mark.parametrize("reader", [packets.unpack_tally, packets.unpack_ended])
def test_a_packet_of_another_kind_is_refused(
    reader: Callable[[bytes], object],
) -> None:
    refused = 0
    for packet in (*GOOD, b"", b"x"):
        try:
            reader(packet)
        except ValueError:
            refused += 1
    assert refused == len(GOOD) + 1


@pytest.mark.parametrize("octets", [-1, 1])
def test_a_tally_has_one_length(octets: int) -> None:
    packet = packets.pack_tally(packets.NOTHING)
    with pytest.raises(ValueError, match="not a tally"):
        packets.unpack_tally((packet + b"\0")[: len(packet) + octets])


@pytest.mark.parametrize("count", [MOST_COUNT + 1, packets.UNKNOWN_COUNT - 1])
def test_a_session_that_claims_too_much_is_not_believed(count: int) -> None:
    """Or a user could make the counters of everybody overflow."""
    for place in range(6):
        counts = [0] * 6
        counts[place] = count
        packet = packets.pack_tally(Tally(0, 1, tuple(counts)))
        with pytest.raises(ValueError, match="counted"):
            packets.unpack_tally(packet)


def test_an_end_that_is_none_of_ours_is_refused() -> None:
    for why in (len(WHYS), 255):
        with pytest.raises(ValueError, match="none of ours"):
            packets.unpack_tally(packets.pack_tally(Tally(0, why, (0,) * 6)))
        with pytest.raises(ValueError, match="none of ours"):
            packets.unpack_ended(packets.pack_ended(1, Tally(0, why, (0,) * 6), b""))


def test_mechanisms_have_numbers() -> None:
    words = [packets.mechanism_of(number) for number in range(len(MECHANISMS))]
    assert tuple(words) == MECHANISMS
    with pytest.raises(ValueError, match="unknown mechanism"):
        packets.mechanism_of(len(MECHANISMS))


def test_kinds_are_different_octets() -> None:
    """TLS workers' packets have others, so that none is taken for one of these."""
    kinds = [
        getattr(packets, name)
        for name in (
            *("ASK", "WANT", "ANSWER", "STAMPS", "LAUNCH", "TIRED", "TALLY"),
            *("ENDED", "LIVE", "VERIFIER", "TLS", "RULES", "DRAIN", "COUNTERS"),
        )
    ]
    assert len(set(kinds)) == len(kinds) == 14
    assert all(16 <= kind < 256 for kind in kinds)
