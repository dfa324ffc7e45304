# SPDX-License-Identifier: ISC
"""TLS as the login worker sees it: sockets go out, sockets with cleartext come back.

The TLS workers are the other ends of real channels, spoken for by the tests.
"""

import errno
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.server import channel
from qtools.server.tls import packets as relay_packets
from qtools.server.warm.connection import Connection
from qtools.server.warm.tunnels import Tunnels
from tests.unit.house import House

Variables = dict[bytes, bytes] | None

TOLD = b"SSL_PROTOCOL=TLSv1.3\0SSL_CIPHER=X=Y\0"
VARIABLES = {b"SSL_PROTOCOL": b"TLSv1.3", b"SSL_CIPHER": b"X=Y"}


class Worker:
    """A TLS worker that shakes no hands."""

    def __init__(self, house: House) -> None:
        self.near, self.channel = map(house.keep, channel.pair())
        self.number = self.near.descriptor
        self.house = house

    def take(self) -> tuple[int, socket.socket, socket.socket] | None:
        """Give the next work: its id, the client's connection, the clear end."""
        packet, descriptors = self.channel.receive() or (b"", [])
        if not packet:
            return None
        identifier, is_ucspi = relay_packets.unpack_start(packet)
        assert not is_ucspi
        raw, clear = (
            self.house.keep(socket.socket(fileno=number)) for number in descriptors
        )
        return identifier, raw, clear

    def say(self, packet: bytes, *descriptors: int) -> None:
        assert self.channel.send(packet, descriptors)


class Works:
    """Tunnels, and what they told."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.tunnels = Tunnels(self.watch, self.started)
        self.watched: set[int] = set()
        self.news: list[tuple[int, Variables]] = []

    def watch(self, descriptor: int, on: bool) -> None:  # noqa: FBT001  # on or off
        assert (descriptor in self.watched) is not on
        (self.watched.add if on else self.watched.remove)(descriptor)

    def started(self, connection: Connection, variables: Variables) -> None:
        self.news.append((connection.identifier, variables))

    def hire(self) -> Worker:
        worker = Worker(self.house)
        self.tunnels.add(worker.near)
        return worker

    def start(self) -> tuple[Connection, socket.socket]:
        connection, client = self.house.connection()
        assert self.tunnels.start(connection)
        self.house.keep(connection.socket)
        return connection, client


@pytest.fixture
def works() -> Iterator[Works]:
    """Give tunnels without a worker."""
    with House() as house:
        yield Works(house)


def test_without_a_worker_nobody_shakes_hands(works: Works) -> None:
    connection, client = works.house.connection()
    before = connection.socket
    assert not works.tunnels.is_manned
    assert not works.tunnels.start(connection)
    assert connection.socket is before
    client.send(b"x")
    assert connection.socket.recv(1) == b"x"


def test_the_client_goes_out_and_cleartext_comes_back(works: Works) -> None:
    worker = works.hire()
    assert works.tunnels.is_manned
    connection, client = works.start()
    identifier, raw, clear = worker.take() or pytest.fail("no work")
    assert identifier == connection.identifier
    client.send(b"hello")
    assert raw.recv(10) == b"hello"
    clear.send(b"USER")
    assert connection.socket.recv(10) == b"USER"
    connection.socket.close()
    assert clear.recv(10) == b"", "nobody else holds our end"
    raw.close()
    assert client.recv(10) == b"", "nor the client's connection"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (relay_packets.pack_started(1, TOLD), VARIABLES),
        (relay_packets.pack_started(1, b""), {}),
        (relay_packets.pack_failed(1, "timeout"), None),
    ],
)
def test_how_it_went_is_told_once(
    works: Works, answer: bytes, expected: Variables
) -> None:
    worker = works.hire()
    works.start()
    for _ in range(2):
        worker.say(answer, 0, 1)
        works.tunnels.hear(worker.number)
    assert works.news == [(1, expected)]
    assert works.watched == {worker.number}


def test_a_worker_can_set_no_variables_but_those_of_tls(works: Works) -> None:
    worker = works.hire()
    works.start()
    worker.say(
        relay_packets.pack_started(1, b"POP3AUTH=\0SSLCTLFD=5\0TCPREMOTEIP=1\0" + TOLD)
    )
    works.tunnels.hear(worker.number)
    assert works.news == [(1, VARIABLES)]


def test_workers_take_turns(works: Works) -> None:
    workers = [works.hire() for _ in range(3)]
    for _ in range(9):
        works.start()
    taken = [0, 0, 0]
    for place, worker in enumerate(workers):
        while worker.take():
            taken[place] += 1
    assert taken == [3, 3, 3]


def test_a_worker_that_has_died_is_passed_over(works: Works) -> None:
    workers = [works.hire() for _ in range(3)]
    workers[1].channel.close()
    for _ in range(6):
        works.start()
    assert sum(bool(worker.take()) for worker in workers[::2] * 6) == 6
    workers[0].channel.close()
    workers[2].channel.close()
    assert not works.tunnels.start(works.house.connection()[0])


def test_a_worker_that_takes_no_more_is_passed_over(works: Works) -> None:
    full, free = works.hire(), works.hire()
    while full.near.send(bytes(1000)):
        continue
    for _ in range(4):
        works.start()
    assert all(free.take() for _ in range(4))


def test_a_lost_worker_fails_its_handshakes_and_no_others(works: Works) -> None:
    first, second = works.hire(), works.hire()
    for _ in range(4):
        works.start()
    ours = {work[0] for work in (first.take(), first.take()) if work}
    assert len(ours) == 2
    first.channel.close()
    works.tunnels.hear(first.number)
    assert works.news == [(identifier, None) for identifier in sorted(ours)]
    assert works.watched == {second.number}
    assert second.take()


def test_its_last_words_are_heard(works: Works) -> None:
    worker = works.hire()
    works.start()
    works.start()
    worker.say(relay_packets.pack_started(2, TOLD))
    worker.channel.close()
    works.tunnels.hear(worker.number)
    assert works.news == [(2, VARIABLES)]
    works.tunnels.hear(worker.number)
    assert works.news == [(2, VARIABLES), (1, None)]


@pytest.mark.parametrize(
    "packet",
    [
        b"x",
        relay_packets.pack_start(1),
        relay_packets.pack_started(1, b"SSL_PROTOCOL"),
        relay_packets.pack_failed(1, "x")[:9],
        relay_packets.pack_failed(1, "") + b"\xff",
        bytes(10),
    ],
)
def test_a_worker_that_talks_nonsense_is_a_lost_one(
    works: Works, packet: bytes
) -> None:
    worker = works.hire()
    works.start()
    worker.say(packet)
    works.tunnels.hear(worker.number)
    assert works.news == [(1, None)]
    assert works.watched == set()
    assert not works.tunnels.is_manned


@pytest.mark.slow
@given(st.binary(max_size=60))
def test_any_packet_tells_of_nobody_else(packet: bytes) -> None:
    with House() as house:
        works = Works(house)
        worker = works.hire()
        works.start()
        worker.channel.send(packet or b"x")
        works.tunnels.hear(worker.number)
        assert [news[0] for news in works.news] in ([], [1])


def test_nobody_speaks_for_another_worker(works: Works) -> None:
    first, second = works.hire(), works.hire()
    connection, _ = works.start()
    speaker = second if first.take() else first
    speaker.say(relay_packets.pack_started(connection.identifier, TOLD))
    works.tunnels.hear(speaker.number)
    assert works.news == []


def test_who_waits_no_more_is_not_told(works: Works) -> None:
    worker = works.hire()
    connection, _ = works.start()
    works.tunnels.give_up(connection)
    works.tunnels.give_up(connection)
    worker.say(relay_packets.pack_started(1, TOLD))
    works.tunnels.hear(worker.number)
    worker.channel.close()
    works.tunnels.hear(worker.number)
    assert works.news == []


def test_nothing_to_hear_is_no_end(works: Works) -> None:
    worker = works.hire()
    works.tunnels.hear(worker.number)
    assert works.watched == {worker.number}


def test_out_of_descriptors_nobody_shakes_hands(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: int) -> object:
        raise OSError(errno.EMFILE, "Too many open files")

    works.hire()
    connection, _ = works.house.connection()
    monkeypatch.setattr("_socket.socketpair", fail)
    assert not works.tunnels.start(connection)
    assert connection.socket.fileno() >= 0


def test_descriptors_that_come_along_are_closed(works: Works) -> None:
    worker = works.hire()
    works.start()
    here, there = socket.socketpair()
    worker.say(relay_packets.pack_started(1, TOLD), there.fileno())
    there.close()
    works.tunnels.hear(worker.number)
    assert here.recv(1) == b""
    here.close()
