# SPDX-License-Identifier: ISC
"""Channels: packets and descriptors between two ends, and what an end tells."""

import os
import posix
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.server import channel
from qtools.server.channel import MOST_DESCRIPTORS, PACKET_OCTETS, Channel


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    here, there = channel.pair()
    yield here, there
    here.close()
    there.close()


def identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


@pytest.mark.slow
@given(st.lists(st.binary(min_size=1, max_size=100), max_size=20))
def test_packets_arrive_whole_and_in_order(packets: list[bytes]) -> None:
    here, there = channel.pair()
    for packet in packets:
        assert here.send(packet)
    assert [there.receive() for _ in packets] == [(packet, []) for packet in packets]
    assert there.receive() is None
    here.close()
    assert there.receive() == (b"", [])
    there.close()


def test_the_longest_packet_goes_through(ends: tuple[Channel, Channel]) -> None:
    here, there = ends
    packet = os.urandom(PACKET_OCTETS)
    assert here.send(packet)
    assert there.receive() == (packet, [])


def test_more_than_a_packet_is_cut(ends: tuple[Channel, Channel]) -> None:
    here, there = ends
    assert here.send(bytes(PACKET_OCTETS + 1))
    received = there.receive()
    assert received is not None
    assert len(received[0]) == PACKET_OCTETS


@pytest.mark.parametrize("count", range(1, MOST_DESCRIPTORS + 1))
def test_descriptors_go_along(ends: tuple[Channel, Channel], count: int) -> None:
    here, there = ends
    sent = [os.memfd_create("test") for _ in range(count)]
    assert here.send(b"packet", sent)
    packet, found = there.receive() or (b"", [])
    assert packet == b"packet"
    assert [identity(number) for number in found] == [identity(each) for each in sent]
    assert not any(os.get_inheritable(number) for number in found)
    channel.close_all(found)
    channel.close_all(sent)
    for number in (*found, *sent):
        with pytest.raises(OSError, match="Bad file descriptor"):
            posix.fstat(number)


def test_of_more_descriptors_no_more_come(ends: tuple[Channel, Channel]) -> None:
    here, there = ends
    sent = [os.memfd_create("test") for _ in range(MOST_DESCRIPTORS + 4)]
    before = len(os.listdir("/proc/self/fd"))
    assert here.send(b"packet", sent)
    _, found = there.receive() or (b"", [])
    # The kernel fills what is left of the last aligned place, and no more.
    assert MOST_DESCRIPTORS <= len(found) <= MOST_DESCRIPTORS + 1
    assert len(os.listdir("/proc/self/fd")) == before + len(found), "none is lost"
    channel.close_all(found)
    channel.close_all(sent)


def test_a_full_channel_takes_no_more_until_it_is_read(
    ends: tuple[Channel, Channel],
) -> None:
    here, there = ends
    taken = 0
    while here.send(bytes(1000)):
        taken += 1
    assert taken > 10
    assert not here.send(b"x", [0])
    assert there.receive(waits=True) == (bytes(1000), [])
    while there.receive() is not None:
        continue
    assert here.send(b"x", waits=True)


def test_nobody_at_the_other_end_is_told(ends: tuple[Channel, Channel]) -> None:
    here, there = ends
    there.close()
    for waits in (False, True):
        with pytest.raises(BrokenPipeError):
            here.send(b"x", waits=waits)
        with pytest.raises(BrokenPipeError):
            here.send(b"x", [0], waits=waits)
        assert here.receive(waits=waits) == (b"", [])


@pytest.mark.parametrize("waits", [False, True])
def test_last_words_are_heard_of_one_who_died_over_a_packet(
    ends: tuple[Channel, Channel], *, waits: bool
) -> None:
    """The kernel tells of a reset first; verifiers do die with records unread."""
    here, there = ends
    assert here.send(b"unread")
    assert there.send(b"first")
    assert there.send(b"last")
    there.close()
    received = [here.receive(waits=waits) for _ in range(4)]
    assert received == [(b"first", []), (b"last", []), (b"", []), (b"", [])]


def test_a_closed_end_is_one_without_words(ends: tuple[Channel, Channel]) -> None:
    here, _ = ends
    here.close()
    assert here.receive() == (b"", [])
    assert not here.send(b"x")


def test_an_end_can_be_given_away_and_adopted(ends: tuple[Channel, Channel]) -> None:
    here, there = ends
    number = here.detach()
    adopted = Channel.adopt(number)
    assert adopted.descriptor == number
    assert there.send(b"x")
    assert adopted.receive() == (b"x", [])
    adopted.close()
    assert there.receive() == (b"", [])


def test_both_ends_keep_packets_apart(ends: tuple[Channel, Channel]) -> None:
    for end in ends:
        held = socket.socket(fileno=os.dup(end.descriptor))
        kind = held.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
        assert kind == socket.SOCK_SEQPACKET
        assert not os.get_inheritable(end.descriptor)
        held.close()
