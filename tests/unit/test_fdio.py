# SPDX-License-Identifier: ISC
"""The client's wire: never past a line, never longer than allowed, never half."""

import os
import socket
from collections.abc import Callable, Iterator
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.system import fdio
from qtools.system.fdio import PeerLost, TimedOut, Wire


class Ends:
    """A wire, and both its far ends."""

    def __init__(self, kind: str, idle_seconds: float = 30) -> None:
        if kind == "pipe":
            self.near_in, far_out = os.pipe()
            far_in, self.near_out = os.pipe()
        else:
            near, far = _pair(kind)
            self.near_in = near.detach()
            self.near_out = os.dup(self.near_in)
            far_out = far.detach()
            far_in = os.dup(far_out)
        self.far_in, self.far_out = far_in, far_out
        self.wire = Wire(self.near_in, self.near_out, idle_seconds, idle_seconds)

    def hang_up(self) -> None:
        for descriptor in (self.far_in, self.far_out):
            os.close(descriptor)
        self.far_in = self.far_out = -1

    def close(self) -> None:
        self.wire.release()
        for descriptor in (self.near_in, self.near_out, self.far_in, self.far_out):
            if descriptor >= 0:
                os.close(descriptor)


def _pair(kind: str) -> tuple[socket.socket, socket.socket]:
    if kind == "unix":
        return socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        far = socket.create_connection(listener.getsockname())
        near, _ = listener.accept()
    return near, far


KINDS = ("pipe", "unix", "tcp")
Make = Callable[..., Ends]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Ends] = []

    def make_one(kind: str, idle_seconds: float = 30) -> Ends:
        made.append(Ends(kind, idle_seconds))
        return made[-1]

    yield make_one
    for ends in made:
        ends.close()


def test_read_line_takes_nothing_past_the_line(make: Make, kind: str) -> None:
    ends = make(kind)
    os.write(ends.far_out, b"PASS x\r\nSTAT\r\nQU")
    assert ends.wire.read_line() == b"PASS x\r\n"
    assert os.read(ends.near_in, 100) == b"STAT\r\nQU"


@pytest.mark.parametrize("kind", ["pipe", "unix"])
@given(data=st.binary(max_size=900))
def test_lines_one_by_one_are_what_was_sent(kind: str, data: bytes) -> None:
    ends = Ends(kind)
    try:
        os.write(ends.far_out, data)
        ends.hang_up()
        pieces = list(iter(ends.wire.read_line, b""))
        assert b"".join(pieces) == data
        assert all(piece.find(b"\n") in (-1, len(piece) - 1) for piece in pieces)
    finally:
        ends.close()


def test_what_has_come_in_can_be_dropped(make: Make) -> None:
    ends = make("unix")
    os.write(ends.far_out, b"STAT\r\n" * 100)
    ends.wire.read_line()
    ends.wire.drain(100)
    assert len(os.read(ends.near_in, 10_000)) == 600 - 6 - 100
    ends.wire.drain()  # nothing there: waits for nothing
    ends.hang_up()
    ends.wire.drain()
    assert ends.wire.read_line() == b""


def test_a_line_in_pieces(make: Make, kind: str) -> None:
    ends = make(kind)

    def send() -> None:
        for piece in (b"US", b"ER jo", b"e\r", b"\nNOOP"):
            os.write(ends.far_out, piece)

    client = Thread(target=send)
    client.start()
    assert ends.wire.read_line() == b"USER joe\r\n"
    client.join()
    assert os.read(ends.near_in, 100) == b"NOOP"


def test_a_line_longer_than_a_peek(make: Make, kind: str) -> None:
    ends = make(kind)
    line = b"x" * (fdio.PEEK_OCTETS * 2 - 1) + b"\n"
    os.write(ends.far_out, line + b"NOOP\n")
    assert ends.wire.read_line() == line
    assert os.read(ends.near_in, 100) == b"NOOP\n"


def test_the_end_gives_what_there_was(make: Make, kind: str) -> None:
    ends = make(kind)
    os.write(ends.far_out, b"half")
    ends.hang_up()
    assert ends.wire.read_line() == b"half"
    assert ends.wire.read_line() == b""


@pytest.mark.parametrize(
    ("sent", "has_line"),
    [(b"A\nB\n", True), (b"A\nB", False), (b"A\n", False)],
)
def test_it_is_known_when_one_more_line_waits(
    make: Make, sent: bytes, *, has_line: bool
) -> None:
    ends = make("unix")
    os.write(ends.far_out, sent)
    ends.wire.read_line()
    assert ends.wire.has_line is has_line


def test_silence_times_out(make: Make, kind: str) -> None:
    ends = make(kind, 0.01)
    with pytest.raises(TimedOut):
        ends.wire.read_line()
    with pytest.raises(TimedOut):
        ends.wire.read()


def test_one_line_may_have_less_time_than_others(make: Make, kind: str) -> None:
    ends = make(kind)
    with pytest.raises(TimedOut):
        ends.wire.read_line(0.01)
    os.write(ends.far_out, b"A\n")
    assert ends.wire.read_line(0.01) == b"A\n"


def test_a_line_that_drips_times_out(make: Make, kind: str) -> None:
    ends = make(kind, 0.01)
    os.write(ends.far_out, b"USER j")
    with pytest.raises(TimedOut):
        ends.wire.read_line()


def test_time_without_bound_is_no_error(make: Make) -> None:
    ends = make("unix", 10**9)
    os.write(ends.far_out, b"A\n")
    assert ends.wire.read_line() == b"A\n"


def test_read_takes_what_is_there(make: Make, kind: str) -> None:
    ends = make(kind)
    os.write(ends.far_out, b"A\nB\nC")
    assert ends.wire.read() == b"A\nB\nC"
    ends.hang_up()
    assert ends.wire.read() == b""


def test_write_sends_all_of_it_however_slowly_it_is_read(make: Make, kind: str) -> None:
    ends = make(kind)
    data = os.urandom(1_000_000)
    got = bytearray()

    def receive() -> None:
        while len(got) < len(data):
            got.extend(os.read(ends.far_in, 65536))

    client = Thread(target=receive)
    client.start()
    ends.wire.write(data)
    client.join()
    assert got == data


def test_write_times_out_when_nobody_reads(make: Make, kind: str) -> None:
    ends = make(kind, 0.01)
    with pytest.raises(TimedOut):
        ends.wire.write(b"x" * 20_000_000)


def test_write_notices_that_the_client_is_gone(make: Make, kind: str) -> None:
    ends = make(kind)
    ends.hang_up()
    with pytest.raises(PeerLost):
        ends.wire.write(b"x" * 20_000_000)


def test_release_and_again_leave_the_descriptors_open(make: Make, kind: str) -> None:
    ends = make(kind)
    other = ends.wire.again()
    os.write(ends.far_out, b"A\n")
    assert other.read_line() == b"A\n"
    other.write(b"+OK\r\n")
    assert os.read(ends.far_in, 100) == b"+OK\r\n"
    other.release()
    os.fstat(ends.near_in)
    os.fstat(ends.near_out)


def test_a_lost_lifeline_is_a_lost_peer(make: Make, kind: str) -> None:
    ends = make(kind)
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ends.wire.lifeline(there.fileno())
    os.write(ends.far_out, b"A\n")
    assert ends.wire.read_line() == b"A\n"
    wire = ends.wire.again()
    here.close()
    with pytest.raises(PeerLost):
        wire.read_line()
    wire.release()
    there.close()


def test_nodelay_is_set_on_tcp_and_no_error_elsewhere(make: Make, kind: str) -> None:
    ends = make(kind)
    ends.wire.set_nodelay()
    if kind == "tcp":
        there = socket.socket(fileno=os.dup(ends.near_out))
        assert there.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        there.close()
