# SPDX-License-Identifier: ISC
"""The load generator: POP3 clients that do as little as a client can.

Nothing is pipelined: a command goes out when the reply before it has come, as with the
clients people use. Any reply but +OK stops the bench, so that no server is ever timed
while it refuses.
"""

from __future__ import annotations

import selectors
import socket
import time
from typing import TYPE_CHECKING, NamedTuple, Self

from bench.cost import LOOPBACK, BenchError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    Wrapping = Callable[[socket.socket], socket.socket]

SECRET = b"correct.horse"  # eight characters count in a DES hash; the rest is let go

_CHUNK_OCTETS = 1 << 20
_PATIENCE_SECONDS = 60.0
_END = b"\r\n.\r\n"
_PLUS = ord("+")


class Load(NamedTuple):
    """What a burst of sessions looked like from outside."""

    sessions: int
    wall_seconds: float
    session_seconds: list[float]


class _Conversation:
    """One session over a socket that never blocks: one step for each reply."""

    def __init__(self, port: int, user: str) -> None:
        self.began = time.perf_counter()
        self.socket = connect(port)
        self.socket.setblocking(False)
        self._held = b""
        self._steps = iter(
            (b"USER " + user.encode(), b"PASS " + SECRET, b"STAT", b"QUIT")
        )

    def step(self) -> bool:
        """Take what has come, send the next command; true when the server closed."""
        data = self.socket.recv(4096)
        if not data:
            if next(self._steps, None) is not None:
                raise BenchError("the server closed too early")
            return True
        self._held += data
        if self._held.endswith(b"\n"):
            if not self._held.startswith(b"+OK"):
                raise BenchError(f"refused: {self._held[:80]!r}")
            self._held = b""
            command = next(self._steps, None)
            if command is not None:
                self.socket.send(command + b"\r\n")
        return False


def connect(port: int) -> socket.socket:
    """Open a connection that sends each command at once."""
    sock = socket.create_connection((LOOPBACK, port), _PATIENCE_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def log_in_often(
    port: int, users: Sequence[str], sessions: int, connections: int
) -> Load:
    """Do a number of login+STAT+QUIT, always so many connections at a time.

    A user is never in two sessions at once, because some servers lock the mailbox.
    """
    taken: list[float] = []
    idle = list(users)
    started = 0
    began = time.perf_counter()
    with selectors.DefaultSelector() as selector:
        while len(taken) < sessions:
            while started < sessions and started - len(taken) < connections:
                user = idle.pop(0)
                talk = _Conversation(port, user)
                selector.register(talk.socket, selectors.EVENT_READ, (talk, user))
                started += 1
            ready = selector.select(_PATIENCE_SECONDS)
            if not ready:
                raise BenchError("the server fell silent")
            for key, _ in ready:
                talk, user = key.data
                if talk.step():
                    selector.unregister(talk.socket)
                    talk.socket.close()
                    idle.append(user)
                    taken.append(time.perf_counter() - talk.began)
    return Load(sessions, time.perf_counter() - began, taken)


class Reader:
    """A session that fetches messages as fast as they come, without keeping them."""

    def __init__(self, port: int, user: str, wrap: Wrapping | None = None) -> None:
        """Connect, wrap the connection in TLS if that is given, and log in."""
        self._socket = connect(port)
        if wrap is not None:
            self._socket = wrap(self._socket)
        self._room = bytearray(_CHUNK_OCTETS)
        self._line()
        self.ask(b"USER " + user.encode())
        self.ask(b"PASS " + SECRET)

    def __enter__(self) -> Self:
        """Give the session itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        why: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection whatever happened."""
        self._socket.close()

    def _line(self) -> bytes:
        held = b""
        while not held.endswith(b"\n"):
            data = self._socket.recv(4096)
            if not data:
                raise BenchError(f"the server closed after {held!r}")
            held += data
        if not held.startswith(b"+OK"):
            raise BenchError(f"refused: {held[:80]!r}")
        return held

    def ask(self, command: bytes) -> bytes:
        """Send a command and give its one line of reply."""
        self._socket.sendall(command + b"\r\n")
        return self._line()

    def fetch(self, number: int) -> int:
        """Fetch one message and give the octets that came, status line and all."""
        room, receive = self._room, self._socket.recv_into
        self._socket.sendall(b"RETR %d\r\n" % number)
        octets = came = receive(room)
        if room[0] != _PLUS:
            raise BenchError(f"refused: {bytes(room[:80])!r}")
        held = b""
        while not room.endswith(_END, 0, came):
            if came < len(_END):  # the end may have come in pieces
                held = (held + bytes(room[:came]))[-len(_END) :]
                if held == _END:
                    break
            else:
                held = bytes(room[came - len(_END) : came])
            came = receive(room)
            if not came:
                raise BenchError(f"the server closed within message {number}")
            octets += came
        return octets

    def fetch_text(self, number: int) -> bytes:
        """Fetch one message and give it as it arrived, without the status line."""
        self._socket.sendall(b"RETR %d\r\n" % number)
        held = bytearray()
        while held[-5:] != _END:
            data = self._socket.recv(_CHUNK_OCTETS)
            if not data or (not held and data[0] != _PLUS):
                raise BenchError(f"message {number} did not come: {data[:80]!r}")
            held += data
        return bytes(held[held.index(b"\n") + 1 :])

    def quit(self) -> None:
        """Say QUIT and wait until the server has closed."""
        self.ask(b"QUIT")
        while self._socket.recv(4096):
            pass
