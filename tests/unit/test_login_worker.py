# SPDX-License-Identifier: ISC
"""The login worker when something goes wrong: one client's trouble is his alone.

Clients are real; the loop is turned by hand.
"""

import select
import socket
from collections.abc import Iterator
from typing import NoReturn

import pytest

from qtools.server import channel, own_chain
from qtools.server.channel import Channel, close_all
from qtools.server.warm import reception
from qtools.server.warm.connection import ASK, TLS, Connection
from qtools.server.warm.login_worker import LoginWorker
from tests.support import wait_for
from tests.unit.house import House
from tests.unit.test_door import Lobby

LOGIN = b"USER joe\r\nPASS sesame\r\n"
OTHER = b"another"  # source
PROXIES = ("--proxy-from", "127.0.0.0/8")


class Shift:
    """A login worker, its door and what it told."""

    def __init__(self, house: House, *words: str) -> None:
        self.house = house
        self.lobby = Lobby(house, *words)
        chain = own_chain.read(["popup", "mx.example", "checkpw", "pop3d"])
        door, accounting = self.lobby.door, self.lobby.accounting
        settings = self.lobby.settings
        self.worker = LoginWorker(settings, chain, door, accounting, 0)
        self.admission = door.admission
        self.admission.resume(OTHER, 0.0)  # who must not be counted off

    def come(self) -> tuple[Connection, socket.socket]:
        """Give one client more, and what he is here."""
        client = self.lobby.connect()
        self.worker._reception.accept(self.lobby.number)
        connection = list(self.worker._connections.values())[-1]
        self.house.keep(connection.socket)
        return connection, client

    def verifier(self) -> Channel:
        """Give the far end of a new desk."""
        here, there = channel.pair()
        self.house.keep(here)
        self.worker._desks.add(here)
        return self.house.keep(there)

    def turn(self, connection: Connection) -> None:
        """Let a connection read."""
        self.worker._handle(connection.socket.fileno(), select.EPOLLIN)

    @property
    def log(self) -> bytes:
        return b"".join(self.lobby.lines)

    @property
    def is_over(self) -> bool:
        """Tell whether nobody is left, and only the other counts."""
        return not self.worker._connections and self.admission.count == 1


@pytest.fixture
def shift(request: pytest.FixtureRequest) -> Iterator[Shift]:
    """Give a login worker with these options."""
    with House() as house:
        yield Shift(house, *getattr(request, "param", ()))


def fail(*_: object) -> NoReturn:
    raise RuntimeError("a bug")


def log_in(shift: Shift, connection: Connection, client: socket.socket) -> None:
    """Have a client log in until a verifier is asked about him."""

    def is_asked() -> bool:
        shift.turn(connection)
        return connection.state == ASK

    client.sendall(LOGIN)
    wait_for(is_asked)


def test_a_bug_ends_one_connection_and_is_logged(
    shift: Shift, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection, client = shift.come()
    assert shift.admission.count == 2
    monkeypatch.setattr(Connection, "readable", fail)
    shift.turn(connection)
    assert shift.is_over
    assert client.recv(100)
    assert client.recv(100) == b""
    assert shift.log.count(b"Info::END") == 1
    assert b" why=bug code=111 " in shift.log
    assert shift.lobby.complaints == ["unexpected RuntimeError: a bug"]


def test_a_bug_at_its_end_counts_a_connection_off_once(
    shift: Shift, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection, client = shift.come()
    monkeypatch.setattr(shift.worker, "forget", fail)
    client.close()

    def is_told() -> bool:
        try:
            shift.turn(connection)
        except RuntimeError:  # there is no end to this bug
            return True
        return False

    wait_for(is_told)
    assert shift.admission.count == 1
    assert shift.log.count(b"Info::END") == 1


@pytest.mark.parametrize("shift", [PROXIES], indirect=True)
def test_a_bug_before_the_limits_were_asked_counts_nobody_off(
    shift: Shift, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection, client = shift.come()
    assert shift.admission.count == 1
    monkeypatch.setattr(reception, "read_header", fail)
    shift.turn(connection)
    assert shift.is_over
    assert shift.log == b""
    assert client.recv(100) == b""


def test_a_bug_in_what_is_due_ends_one_connection(
    shift: Shift, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection, _ = shift.come()
    monkeypatch.setattr(Connection, "late", fail)
    shift.worker._late(connection)
    assert shift.is_over
    assert b" why=bug code=111 " in shift.log


def test_a_bug_behind_an_answer_ends_one_connection(
    shift: Shift, monkeypatch: pytest.MonkeyPatch
) -> None:
    shift.verifier()
    connection, client = shift.come()
    log_in(shift, connection, client)
    monkeypatch.setattr(Connection, "answered", fail)
    shift.worker._logins.answer(connection, 1)
    assert shift.is_over
    assert b"Info::END::User" in shift.log
    assert b" why=bug code=111 " in shift.log


@pytest.mark.parametrize("variables", [None, {}])
def test_a_bug_behind_a_handshake_ends_one_connection(
    shift: Shift,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[bytes, bytes] | None,
) -> None:
    connection, _ = shift.come()
    connection.state = TLS
    monkeypatch.setattr(Connection, "tls_failed", fail)
    monkeypatch.setattr(Connection, "tls_started", fail)
    shift.worker._tls_started(connection, variables)
    assert shift.is_over
    assert b" why=bug code=111 " in shift.log


def test_whose_verifier_dies_has_an_end_in_the_log(shift: Shift) -> None:
    verifier = shift.verifier()
    connection, client = shift.come()
    log_in(shift, connection, client)
    _, descriptors = verifier.receive() or (b"", [])
    close_all(descriptors)
    verifier.close()
    (number,) = shift.worker._desks._desks
    shift.worker._desks.hear(number)
    assert shift.is_over
    assert b"Info::END::User" in shift.log
    assert b" why=verifier-died code=111 " in shift.log
    assert shift.lobby.complaints == []
