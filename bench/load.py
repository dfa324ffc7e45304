# SPDX-License-Identifier: ISC
"""The load generator for servers that stay: whole sessions from ready-made octets.

One process and one epoll for all connections, nothing built while the clock runs. A
command goes out when the reply before it has come. Any reply but +OK stops the bench.
Addresses of the loopback take turns as the source, since some servers count connections
by it.
"""

from __future__ import annotations

import itertools
import math
import select
import socket
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple, Protocol

from bench.client import SECRET
from bench.cost import LOOPBACK, BenchError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LINE = b"\n"
LINES = b"\r\n.\r\n"

_IP_BIND_ADDRESS_NO_PORT = 24
_PATIENCE_SECONDS = 60.0
_READ_OCTETS = 1 << 17


class Step(NamedTuple):
    """A command, none for the greeting, and what its reply ends with."""

    command: bytes
    end: bytes


Script = tuple[Step, ...]


class Limits(NamedTuple):
    """How long a burst goes on: whatever is reached first."""

    sessions: int
    seconds: float = math.inf


class Burst(NamedTuple):
    """What a burst of sessions looked like from outside, and what it cost us."""

    sessions: int
    wall_seconds: float
    client_seconds: float
    session_seconds: list[float]

    def percentile(self, percent: int) -> float:
        """Give the seconds that so many percent of the sessions did not exceed."""
        at = math.ceil(len(self.session_seconds) * percent / 100) - 1
        return sorted(self.session_seconds)[max(at, 0)]


class Conversation(Protocol):
    """A session under way, over a socket that never blocks."""

    @property
    def is_greeted(self) -> bool:
        """Say whether the server has greeted."""

    def fileno(self) -> int:
        """Give the descriptor to wait for."""

    def step(self) -> bool:
        """Take what has come, send what is next; true when the server has closed."""

    def now(self) -> bytes:
        """Give the command whose reply is waited for; none for the greeting."""

    def close(self) -> None:
        """Close the connection."""


class Opening(Protocol):
    """Begins a conversation: to a port, from an address, along a script."""

    def __call__(self, port: int, source: str, script: Script) -> Conversation:
        """Connect."""


def greeting() -> Step:
    """Give the step that sends nothing."""
    return Step(b"", LINE)


def login_steps(user: str) -> Script:
    """Give USER and PASS."""
    return (
        Step(b"USER " + user.encode() + b"\r\n", LINE),
        Step(b"PASS " + SECRET + b"\r\n", LINE),
    )


def visit(user: str) -> Script:
    """Give login+STAT+QUIT."""
    rest = (Step(b"STAT\r\n", LINE), Step(b"QUIT\r\n", LINE))
    return (greeting(), *login_steps(user), *rest)


def connect(port: int, source: str) -> socket.socket:
    """Open a connection from an address of the loopback; commands leave at once."""
    sock = socket.socket()
    try:
        sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind((source, 0))
        sock.settimeout(_PATIENCE_SECONDS)
        sock.connect((LOOPBACK, port))
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def sources() -> Iterator[str]:
    """Give addresses of the loopback, 250 in turn."""
    return (f"127.0.1.{number}" for number in itertools.cycle(range(1, 251)))


class Talk:
    """A conversation in the clear."""

    __slots__ = ("_at", "_held", "_script", "_sock")

    def __init__(self, port: int, source: str, script: Script) -> None:
        """Connect; the first step of the script is the greeting."""
        self._sock = connect(port, source)
        self._script = script
        self._at = 0
        self._held = b""

    @property
    def is_greeted(self) -> bool:
        """Say whether the server has greeted."""
        return self._at > 0

    @property
    def is_done(self) -> bool:
        """Say whether the last reply of the script has come."""
        return self._at == len(self._script)

    def fileno(self) -> int:
        """Give the descriptor to wait for."""
        return self._sock.fileno()

    def step(self) -> bool:
        """Take what has come; true when the server has closed, at the right time."""
        return self.take(self._sock.recv(_READ_OCTETS))

    def take(self, data: bytes) -> bool:
        """Go on with these octets, none for the end."""
        if not data:
            if self._at < len(self._script):
                raise BenchError(f"the server closed too early, at {self.now()!r}")
            return True
        end = self._script[self._at].end
        if self._held:
            data = self._held + data
        if not data.startswith(b"+OK"):
            raise BenchError(f"refused: {data[:80]!r}, at {self.now()!r}")
        if not data.endswith(end):
            self._held = data[:3] + data[-8:] if len(data) > 11 else data
            return False
        self._held = b""
        self._at += 1
        if self._at < len(self._script):
            self.send(self._script[self._at].command)
        return False

    def send(self, command: bytes) -> None:
        """Send a command."""
        self._sock.send(command)

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()

    def now(self) -> bytes:
        """Give the command whose reply is waited for; none for the greeting."""
        return self._script[self._at].command if self._at < len(self._script) else b""


class _Bench:
    """The conversations of one burst, at most so many at once."""

    def __init__(self, port: int, scripts: Sequence[Script], opening: Opening) -> None:
        self._port = port
        self._opening = opening
        self._idle = deque(scripts)
        self._sources = sources()
        self._busy: dict[int, tuple[Conversation, Script, float]] = {}
        self._latest: Conversation | None = None
        self._epoll = select.epoll()
        self.taken: list[float] = []

    def __len__(self) -> int:
        return len(self._busy)

    def begin(self) -> None:
        """Begin the session whose turn it is."""
        script = self._idle.popleft()
        now = time.perf_counter()
        talk = self._opening(self._port, next(self._sources), script)
        self._latest = talk
        self._busy[talk.fileno()] = (talk, script, now)
        self._epoll.register(talk.fileno(), select.EPOLLIN)

    def is_welcome(self) -> bool:
        """Say whether the session begun last has been greeted."""
        return self._latest is None or self._latest.is_greeted

    def turn(self) -> None:
        """Go on with all sessions for which something has come."""
        ready = self._epoll.poll(_PATIENCE_SECONDS)
        if not ready:
            raise BenchError("the server fell silent")
        for number, _ in ready:
            talk, script, began = self._busy[number]
            try:
                is_over = talk.step()
            except OSError as why:
                raise BenchError(f"{why}, at {talk.now()!r}") from why
            if is_over:
                del self._busy[number]
                talk.close()
                self._idle.append(script)
                self.taken.append(time.perf_counter() - began)

    def close(self) -> None:
        """Close what is still open."""
        for talk, _, _ in self._busy.values():
            talk.close()
        self._epoll.close()


def drive(
    port: int,
    scripts: Sequence[Script],
    limits: Limits,
    width: int,
    opening: Opening = Talk,
) -> Burst:
    """Have sessions, `width` of them at a time, until a limit is reached.

    A script is never in two sessions at once, because some servers lock the mailbox:
    there must be as many of them as the width, at least. The first sessions begin one
    after the other, since a herd of them loses packets where the backlog is five.
    """
    bench = _Bench(port, scripts, opening)
    spent = time.process_time()
    began = time.perf_counter()
    until = began + limits.seconds
    started = 0
    try:
        while True:
            while started < limits.sessions and len(bench) < width:
                if started < width and not bench.is_welcome():
                    break
                bench.begin()
                started += 1
            if not len(bench):
                break
            bench.turn()
            if time.perf_counter() > until:
                limits = Limits(started)
    finally:
        bench.close()
    wall_seconds = time.perf_counter() - began
    spent = time.process_time() - spent
    return Burst(len(bench.taken), wall_seconds, spent, bench.taken)
