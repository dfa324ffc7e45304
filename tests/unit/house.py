# SPDX-License-Identifier: ISC
"""The login worker as its parts see it: no loop, and a clock that a test sets.

What is asked for is written down. Sockets are real, of pairs, where what one end sends
has arrived at the other when send() returns, so there is nothing to wait for.
"""

import select
import socket
from typing import Protocol, Self, TypeVar

from qtools.server.warm.connection import Connection
from qtools.server.warm.guest import Guest
from qtools.sessions.actions import Log, Verify

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

NOW = 1000.0
MOST_TURNS = 100_000  # of a loop without news; more is one that spins


class Closing(Protocol):
    """What has to be closed."""

    def close(self) -> None:
        """Close it; once more does nothing."""


T = TypeVar("T", bound=Closing)

LOCAL, REMOTE = (b"127.0.0.1", 110), (b"192.0.2.7", 40001)


def guest(remote: tuple[bytes, int] = REMOTE) -> Guest:
    """Give somebody."""
    return Guest(LOCAL, remote, NOW)


class House:
    """Does, and remembers, what connections ask for; see connection.House."""

    def __init__(self) -> None:
        self.idle_seconds, self.write_seconds = 1200.0, 60.0
        self.now = NOW
        self.serial = 0
        self.watched: dict[Connection, int] = {}
        self.asked: list[tuple[Connection, Verify]] = []
        self.responses: list[tuple[Connection, bytes]] = []
        self.withdrawn: list[Connection] = []
        self.handshakes: list[Connection] = []
        self.lines: list[Log] = []
        self.ended: list[tuple[Connection, int, str]] = []
        self._kept: list[Closing] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close what was made here."""
        for each in self._kept:
            each.close()

    def keep(self, made: T) -> T:
        """Have something closed at the end."""
        self._kept.append(made)
        return made

    def connection(
        self, seconds: float = 3600.0, who: Guest | None = None
    ) -> tuple[Connection, socket.socket]:
        """Give a connection and the client's end of it."""
        here, there = socket.socketpair()
        self.keep(there).setblocking(False)
        self.serial += 1
        held = self.keep(adopted(here))
        made = Connection(self, self.serial, held, who or guest())
        made.ends = self.now + seconds
        return made, there

    def watch(self, connection: Connection, events: int) -> None:
        assert connection.socket.fileno() >= 0, "it has gone"
        self.watched[connection] = events

    def wake_at(self, connection: Connection, when: float) -> None:
        assert connection.socket.fileno() >= 0, "it has gone"
        connection.deadline = when

    def verify(self, connection: Connection, asked: Verify) -> None:
        connection.deadline = connection.ends
        self.asked.append((connection, asked))

    def respond(self, connection: Connection, data: bytes) -> None:
        self.responses.append((connection, data))

    def withdraw(self, connection: Connection) -> None:
        self.withdrawn.append(connection)

    def start_tls(self, connection: Connection) -> None:
        self.watched.pop(connection, None)
        self.handshakes.append(connection)

    def log(self, connection: Connection, line: Log) -> None:
        del connection
        self.lines.append(line)

    def close(self, connection: Connection, code: int, why: str) -> None:
        self.ended.append((connection, code, why))
        self.leave(connection)

    # What the login worker is to those who come; see reception.Host.

    def enter(self, connection: Connection) -> None:
        self.watched[connection] = -1

    def forget(self, connection: Connection) -> None:
        connection.deadline = 0.0
        self.watched.pop(connection, None)

    def leave(self, connection: Connection) -> None:
        self.forget(connection)
        connection.socket.close()

    # The loop.

    def turn(self, connection: Connection) -> bool:
        """Tell a connection what the kernel has to tell; give whether it had."""
        mask = self.watched.get(connection, -1)
        if mask < 0:
            return False
        poll = select.poll()
        poll.register(connection.socket.fileno(), mask)
        told = poll.poll(0)
        if not told:
            return False
        if told[0][1] & select.POLLIN:
            connection.readable(self.now)
        elif told[0][1] & select.POLLOUT:
            connection.writable(self.now)
        else:
            connection.hung_up(self.now)
        return True

    def settle(self, connection: Connection) -> None:
        """Go on until there is no news."""
        for _ in range(MOST_TURNS):
            if not self.turn(connection):
                return
        raise AssertionError("the loop spins")

    def until(self, connection: Connection, now: float) -> bool:
        """Let time pass; give whether the connection was late."""
        self.now = now
        is_late = 0 < connection.deadline <= now
        if is_late:
            connection.deadline = 0.0
            connection.late(now)
        return is_late


def adopted(held: socket.socket) -> socket.socket:
    """Give a socket that does not look after itself, as the server's do."""
    return socket.socket(held.family, held.type, 0, held.detach())


def received(client: socket.socket) -> bytes:
    """Give what a client can read now; what a reset took away is gone."""
    parts = b""
    try:
        while part := client.recv(65536):
            parts += part
    except OSError:  # nothing more just now, or a reset
        pass
    return parts


def left_in(held: "_socket.socket") -> bytes:
    """Give what is in a socket and was not taken off it, without taking it."""
    try:
        return held.recv(1 << 20, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return b""
