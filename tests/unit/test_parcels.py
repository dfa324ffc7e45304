# SPDX-License-Identifier: ISC
"""Parcels between a dialogue and the privileged side: their shape and their bounds."""

import socket
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.chain.change import parcels
from qtools.chain.change.parcels import (
    ANSWER,
    ASK,
    END,
    PACKET_OCTETS,
    Lost,
    Parcel,
    Post,
)

FIELDS = st.lists(st.binary(max_size=300), max_size=parcels.MOST_FIELDS).map(tuple)
PARCELS = st.builds(Parcel, st.integers(ASK, ANSWER), st.integers(0, 255), FIELDS)


def parts(parcel: Parcel) -> tuple[int, int, tuple[bytes, ...]]:
    return parcel.word, parcel.number, parcel.fields


@given(PARCELS)
def test_unpack_inverts_pack(parcel: Parcel) -> None:
    packed = parcel.pack()
    assert parcels.total(packed) == len(packed)
    assert parts(parcels.unpack(packed)) == parts(parcel)


@given(st.binary(max_size=200))
def test_what_is_taken_pack_makes_again(octets: bytes) -> None:
    try:
        parcel = parcels.unpack(octets)
    except ValueError:
        return
    assert parcel.pack() == octets


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\1\0",
        b"\0\0\0",  # no word has that number
        b"\6\0\0",
        b"\1\0\x09" + bytes(36),  # nine fields
        b"\1\0\1\0\0",  # a length cut short
        b"\1\0\1\0\0\0\2x",
        b"\1\0\1\0\0\0\1xy",
        b"\1\0\0more",
    ],
)
def test_other_shapes_are_none(octets: bytes) -> None:
    with pytest.raises(ValueError, match="parcel"):
        parcels.unpack(octets)


def test_more_fields_than_there_can_be_are_not_sent() -> None:
    with pytest.raises(ValueError, match="too many"):
        Parcel(ASK, 0, (b"",) * 9).pack()


@pytest.mark.parametrize(
    "octets",
    [0, 1, PACKET_OCTETS - 7, PACKET_OCTETS - 6, 2 * PACKET_OCTETS - 7, 5_000_000],
)
def test_any_length_goes_through_a_socket(octets: int) -> None:
    here, there = parcels.pair()
    text = (b"0123456789abcdef" * (octets // 16 + 1))[:octets]
    sender = Thread(target=here.send, args=(Parcel(ANSWER, 7, (text,)),))
    sender.start()
    got = there.receive(parcels.ANSWER_OCTETS)
    sender.join()
    assert parts(got) == (ANSWER, 7, (text,))
    here.send(Parcel(END))  # nothing of the one before is left
    assert parts(there.receive()) == (END, 0, ())
    here.close()
    there.close()


def hostile(*packets: bytes) -> Post:
    """Give an end to which somebody has said this, and gone."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for packet in packets:
        here.send(packet)
    here.close()
    return Post(there)


WHOLE = Parcel(ASK, 1, (b"x" * (2 * PACKET_OCTETS),)).pack()


@pytest.mark.parametrize(
    "packets",
    [
        (),
        (b"nonsense",),
        (WHOLE[:PACKET_OCTETS],),
        (WHOLE[:PACKET_OCTETS], WHOLE[PACKET_OCTETS : PACKET_OCTETS + 9]),
        (WHOLE[:100], WHOLE[100 : 100 + PACKET_OCTETS]),
        (WHOLE[:PACKET_OCTETS], WHOLE[:PACKET_OCTETS], WHOLE[:PACKET_OCTETS]),
    ],
)
def test_packets_that_are_no_parcel_are_the_end(packets: tuple[bytes, ...]) -> None:
    post = hostile(*packets)
    with pytest.raises(Lost):
        post.receive()
    post.close()


def test_a_parcel_beyond_the_bound_is_refused_by_its_head() -> None:
    post = hostile(Parcel(ASK, 1, (b"x" * 1000,)).pack())
    with pytest.raises(Lost):
        post.receive(1000)
    post.close()


def test_nobody_at_the_other_end() -> None:
    here, there = parcels.pair()
    there.close()
    with pytest.raises(Lost):
        here.send(Parcel(ASK))
    here.close()
