# SPDX-License-Identifier: ISC
"""One connection before login: performs what its Login asks for, without waiting.

What the cold chain does with blocking reads and writes is done here for thousands of
connections in one loop. Reading is the same: peek, and take no octet past the line end,
so that later commands stay in the kernel for the session, and plaintext sent behind
STLS is met by the TLS handshake.
"""

import _socket
from select import EPOLLIN, EPOLLOUT

from qtools.errors import EXIT_TEMPORARY
from qtools.sessions.actions import (
    Close,
    Log,
    Respond,
    Send,
    StartTls,
    Verify,
    Wait,
    Withdraw,
)
from qtools.sessions.exchange import ANSWER_SECONDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from qtools.server.warm.desks import Desk
    from qtools.server.warm.guest import Guest
    from qtools.sessions.actions import Action
    from qtools.sessions.login import Login

    class House(Protocol):
        """What the login worker does for its connections."""

        idle_seconds: float
        write_seconds: float

        def watch(self, connection: "Connection", events: int) -> None:
            """Wait for these events; 0 for none but a hang-up, -1 for none at all."""

        def wake_at(self, connection: "Connection", when: float) -> None:
            """Call late() then, unless it is put off or the connection ended."""

        def verify(self, connection: "Connection", asked: Verify) -> None:
            """Have a record verified; accepted() or answered() is called.

            Or challenged(), where it is a dialogue, and again after each respond().
            """

        def respond(self, connection: "Connection", data: bytes) -> None:
            """Hand a client's answer to the verifier that has challenged him."""

        def withdraw(self, connection: "Connection") -> None:
            """Have the verifier forget a dialogue, if there is one."""

        def start_tls(self, connection: "Connection") -> None:
            """Start TLS; tls_started() or tls_failed() is called."""

        def log(self, connection: "Connection", line: Log) -> None:
            """Write a line to the session log."""

        def close(self, connection: "Connection", code: int, why: str) -> None:
            """End the connection."""


PEEK_OCTETS = 512  # a pipelining client's whole login; more stays in the kernel
DRAIN_OCTETS = 65536  # of what is not listened to any more, at an end

# What a connection is about. Only in TALK does it read.
TALK, PAUSE, FLUSH, ASK, TLS, ENDED = range(6)


class Connection:
    """A Login, the client's socket, and what is still to be done."""

    __slots__ = (
        "_out",
        "_todo",
        "basket",
        "deadline",
        "desk",
        "ends",
        "guest",
        "house",
        "identifier",
        "is_admitted",
        "is_tls_next",
        "login",
        "mechanism",
        "partner",
        "socket",
        "state",
        "user",
    )

    def __init__(
        self, house: "House", identifier: int, held: _socket.socket, guest: "Guest"
    ) -> None:
        self.house = house
        self.identifier = identifier
        self.socket = held
        self.guest = guest
        self.login: Login | None = None
        self.desk: Desk | None = None  # the verifier whose stamp this one got
        self.partner: Desk | None = None  # the one that it is in a dialogue with
        self.is_admitted = False  # counted, and to be counted off once
        self.is_tls_next = False
        self.state = TALK
        self.deadline = 0.0
        self.ends = 0.0  # the last moment, whatever it does
        self.basket = 0
        self.mechanism, self.user = "None", b""
        self._out = b""
        self._todo: list[Action] = []

    def begin(self, login: "Login", now: float) -> None:
        """Greet."""
        self.login = login
        self._take_time(now, self.house.idle_seconds)
        self._perform(login.greet(), now)
        self._rest(now)

    def readable(self, now: float) -> None:
        """Take what has come, line by line, and answer it."""
        login = self.login
        if self.state != TALK or login is None:
            return
        seen = self._receive(PEEK_OCTETS, _socket.MSG_PEEK)
        if seen == b"":
            self._perform(login.lost("eof"), now)
        while seen and self.state == TALK:
            line = self._receive(seen.find(b"\n") + 1 or len(seen), 0) or b""
            if line.endswith(b"\n"):  # a client that drips is a client that idles
                self._take_time(now, self.house.idle_seconds)
            self._perform(login.feed(line) if line else login.lost("eof"), now)
            seen = seen[len(line) :]
        self._rest(now)

    def _receive(self, octets: int, flags: int) -> bytes | None:
        """Give what has come, None for nothing yet, nothing when the client is gone."""
        try:
            return self.socket.recv(octets, flags | _socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def writable(self, now: float) -> None:
        """Go on sending, then with what was to be done after it."""
        if self.state not in (TALK, FLUSH):
            return
        if self._flush(now):
            self._take_time(now, self.house.idle_seconds)
            if self.state == FLUSH:
                self.state = TALK
                self._proceed(now)
        self._rest(now)

    def hung_up(self, now: float) -> None:
        """Note that the client is gone."""
        if self.state != ENDED and self.login is not None:
            self._todo, self._out = [], b""
            self.state = TALK
            self._perform(self.login.lost("eof"), now)

    def late(self, now: float) -> None:
        """Do what its time has come for: go on after a pause, or end.

        Not while a record is being verified: the session may have begun by then, and
        only the answer tells. A verifier has a limit of its own.
        """
        if self.state == ASK:
            return
        if self.state == PAUSE and now < self.ends:
            self.state = TALK
            self._take_time(now, self.house.idle_seconds)
            self._proceed(now)
            self._rest(now)
        elif self.login is not None:
            self._todo, self._out = [], b""
            self.state = TALK
            self._perform(self.login.lost("timeout"), now)

    def accepted(self, now: float) -> None:
        """Note that a session has the client now."""
        if self.state == ASK and self.login is not None:
            self.state = TALK
            self._perform(self.login.accepted(), now)
            self.state = ENDED

    def answered(self, code: int, now: float) -> None:
        """Take the code of a refusal."""
        if self.state == ASK and self.login is not None:
            self.state = TALK
            self._take_time(now, self.house.idle_seconds)
            self._perform(self.login.verdict(code), now)
            self._rest(now)

    def challenged(self, data: bytes, now: float) -> None:
        """Take what a verifier has to say before it can tell."""
        if self.state == ASK and self.login is not None:
            self.state = TALK
            self._take_time(now, min(self.house.idle_seconds, ANSWER_SECONDS))
            self._perform(self.login.challenged(data), now)
            self._rest(now)

    def tls_started(self, now: float) -> None:
        """Go on inside TLS, with a socket that is the house's business."""
        if self.state == TLS and self.login is not None:
            self.state = TALK
            self._take_time(now, self.house.idle_seconds)
            self._perform(self.login.tls_started(self.guest.binding), now)
            self._rest(now)

    def tls_failed(self, now: float) -> None:
        """End without a word: the client waits for a handshake."""
        if self.state == TLS and self.login is None:
            self.end(EXIT_TEMPORARY, "tls-failed")
        elif self.state == TLS and self.login is not None:
            self.state = TALK
            self._perform(self.login.tls_failed(), now)

    def _perform(self, actions: "list[Action]", now: float) -> None:
        self._todo += actions
        self._proceed(now)

    def _proceed(self, now: float) -> None:
        """Perform what is to be done, up to what has to be waited for."""
        todo = self._todo
        while todo and self.state == TALK:
            action = todo[0]
            if isinstance(action, Send):
                self._out += action.data
            elif isinstance(action, Log):
                self.house.log(self, action)
            elif self._flush(now):
                del todo[0]
                self._do(action, now)
                continue
            elif self.state == TALK:
                self.state = FLUSH  # this action comes when all is sent
                return
            else:
                return
            del todo[0]

    def _do(self, action: "Action", now: float) -> None:
        """Do what takes its time, or ends it."""
        house = self.house
        if isinstance(action, Wait):
            self.state = PAUSE
            house.wake_at(self, now + action.seconds)
        elif isinstance(action, Verify):
            self._await_verdict()
            self.mechanism, self.user = action.mechanism, action.user
            house.verify(self, action)
        elif isinstance(action, Respond):
            self._await_verdict()
            house.respond(self, action.data)
        elif isinstance(action, Withdraw):
            house.withdraw(self)
        elif isinstance(action, StartTls):
            self.state = TLS
            house.start_tls(self)
        elif isinstance(action, Close):
            self._drain()
            self.end(action.code, action.why)

    def _await_verdict(self) -> None:
        """Attend to nothing but the verifier; it has a limit of its own."""
        self.state = ASK
        self.house.watch(self, -1)
        self.house.wake_at(self, self.ends)

    def end(self, code: int, why: str) -> None:
        """End, now."""
        if self.state != ENDED:
            self.state = ENDED
            self._todo = []
            self.house.close(self, code, why)

    def _drain(self) -> None:
        """Drop what has come in: a close over it is a reset, sooner than a reply."""
        try:
            self.socket.recv(DRAIN_OCTETS, _socket.MSG_DONTWAIT)
        except OSError:
            return  # nothing there, or nobody

    def _flush(self, now: float) -> bool:
        """Send what is due; tell whether all of it went."""
        if not self._out:
            return True
        try:
            flags = _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL
            sent = self.socket.send(self._out, flags)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._out = b""
            self.end(EXIT_TEMPORARY, "eof")
            return False
        self._out = self._out[sent:]
        if self._out:
            self._take_time(now, self.house.write_seconds)
        return not self._out

    def _rest(self, now: float) -> None:
        """Wait for what comes next."""
        if self.state == TALK:
            is_sent = self._flush(now)
            if self.state == TALK:
                self.house.watch(self, EPOLLIN if is_sent else EPOLLOUT)
        elif self.state == FLUSH:
            self.house.watch(self, EPOLLOUT)
        elif self.state == PAUSE:
            self.house.watch(self, 0)

    def _take_time(self, now: float, seconds: float) -> None:
        """Wait so long for the next step, and never beyond the end."""
        self.house.wake_at(self, min(now + seconds, self.ends))
