# SPDX-License-Identifier: ISC
"""Drive a session that asks for errands over the client's descriptors.

The sister of dialogue, which drives a Login: performs what the session wants in order,
sends replies together while more commands wait, reads never past a line end.
"""

from time import sleep

from qtools.errors import EXIT_TEMPORARY
from qtools.sessions.actions import Ask, Close, Log, Send, StartTls, Wait
from qtools.system.fdio import PeerLost, TimedOut

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from qtools.sessions.actions import Action
    from qtools.system.fdio import Wire

    Actions = list[Action]

    class Session(Protocol):
        """A dialogue as a state machine; each method gives what is to be done."""

        def greet(self) -> Actions:
            """Open the dialogue."""

        def feed(self, data: bytes) -> Actions:
            """Take octets from the client."""

        def answered(self, code: int, text: bytes) -> Actions:
            """Take the answer to the errand asked for."""

        def tls_started(self) -> Actions:
            """Start afresh inside TLS."""

        def tls_failed(self) -> Actions:
            """End, since no reply could reach the client."""

        def lost(self, why: str) -> Actions:
            """End because of "timeout", or answer to "eof", the end of the input."""

    class Clerk(Protocol):
        """What the driver asks of the privileged side; each may raise Lost."""

        def ask(self, kind: int, fields: tuple[bytes, ...]) -> tuple[int, bytes]:
            """Have an errand done; give an exit code and a text."""

        def start_tls(self) -> bool:
            """Start TLS on descriptors 0 and 1."""

        def note(self, event: str, mechanism: str, user: bytes, code: int) -> None:
            """Write a line to the log."""


BATCH_OCTETS = 4096  # held back at most while more commands wait to be answered


class Conversation:
    """One session, its wire and its clerk."""

    def __init__(self, session: "Session", wire: "Wire", clerk: "Clerk") -> None:
        self._session = session
        self._wire = wire
        self._clerk = clerk
        self._out = b""
        self._ended: tuple[int, str] | None = None

    def run(self) -> tuple[int, str]:
        """Converse to the end; give the exit code and the reason in one word.

        Raises: Lost when there is nobody to do errands any more.
        """
        try:
            self._perform(self._session.greet())
            while self._ended is None:
                self._perform(self._listen())
        finally:
            self._wire.release()
        return self._ended

    def _listen(self) -> "Actions":
        try:
            if not self._wire.has_line or len(self._out) >= BATCH_OCTETS:
                self._flush()
            data = self._wire.read_line()
        except TimedOut:
            return self._session.lost("timeout")
        except PeerLost:
            self._ended = (EXIT_TEMPORARY, "eof")
            return []
        return self._session.feed(data) if data else self._session.lost("eof")

    def _perform(self, actions: "Actions") -> None:
        """Perform actions in order; an answer's own come before those behind it."""
        left = list(reversed(actions))
        while left and self._ended is None:
            left += reversed(self._do(left.pop()))

    def _do(self, action: "Action") -> "Actions":
        """Perform one action and give what follows from it."""
        if isinstance(action, Send):
            self._out += action.data
        elif isinstance(action, Log):
            event, code = action.event, action.code
            self._clerk.note(event, action.mechanism, action.user, code)
        elif isinstance(action, Close):
            self._flush_quietly()
            self._wire.drain()
            self._ended = (action.code, action.why)
        elif self._flush_quietly():
            return self._consult(action)
        return []

    def _consult(self, action: "Action") -> "Actions":
        """Perform what takes time, what is due to the client having been sent."""
        if isinstance(action, Wait):
            sleep(action.seconds)
        elif isinstance(action, Ask):
            return self._session.answered(*self._clerk.ask(action.kind, action.fields))
        elif isinstance(action, StartTls):
            if not self._clerk.start_tls():
                return self._session.tls_failed()
            self._wire = self._wire.again()
            return self._session.tls_started()
        return []

    def _flush(self) -> None:
        out, self._out = self._out, b""
        if out:
            self._wire.write(out)

    def _flush_quietly(self) -> bool:
        """Send what is due; tell whether the client is still there."""
        try:
            self._flush()
        except TimedOut:
            self._ended = (EXIT_TEMPORARY, "timeout")
        except PeerLost:
            self._ended = (EXIT_TEMPORARY, "eof")
        return self._ended is None
