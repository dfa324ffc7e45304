# SPDX-License-Identifier: ISC
"""Drive a session over the client's descriptors: what all sessions want done.

Replies are gathered while more commands wait, and sent before anything that takes time.
Nothing is read past a line end, because what stands behind it may be for another
program. What else a session wants, its own driver does: a Login's is dialogue, that of
what is changed conversation.
"""

from time import sleep

from qtools.errors import EXIT_TEMPORARY
from qtools.sessions.actions import Close, Send, Wait
from qtools.system.fdio import LONGEST_SECONDS, PeerLost, TimedOut

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

        def lost(self, why: str) -> Actions:
            """End because of "timeout", or answer to "eof", the end of the input."""


BATCH_OCTETS = 4096  # held back at most while more commands wait to be answered


class Driver:
    """One session and its wire."""

    def __init__(self, session: "Session", wire: "Wire") -> None:
        self._machine = session
        self._wire = wire
        self._out = b""
        self._ended: tuple[int, str] | None = None
        self._patience: float = LONGEST_SECONDS  # for the next line

    def run(self) -> tuple[int, str]:
        """Converse to the end; give the exit code and the reason in one word."""
        try:
            self._perform(self._machine.greet())
            while self._ended is None:
                self._perform(self._listen())
        finally:
            self._wire.release()
        return self._ended

    def _listen(self) -> "Actions":
        patience, self._patience = self._patience, LONGEST_SECONDS
        try:
            if not self._wire.has_line or len(self._out) >= BATCH_OCTETS:
                self._flush()
            data = self._wire.read_line(patience)
        except TimedOut:
            return self._machine.lost("timeout")
        except PeerLost:
            return self._vanished()
        return self._machine.feed(data) if data else self._machine.lost("eof")

    def _vanished(self) -> "Actions":
        """Give what follows when the connection is broken, beyond a mere end."""
        return self._machine.lost("eof")

    def _perform(self, actions: "Actions") -> None:
        """Perform actions in order; what follows from one comes before the next."""
        left = list(reversed(actions))
        while left and self._ended is None:
            left += reversed(self._do(left.pop()))

    def _do(self, action: "Action") -> "Actions":
        """Perform one action and give what follows from it."""
        if isinstance(action, Send):
            self._out += action.data
        elif isinstance(action, Close):
            self._flush_quietly()
            self._wire.drain()
            self._ended = (action.code, action.why)
        elif self._flush_quietly():
            if isinstance(action, Wait):
                sleep(action.seconds)
            else:
                return self._consult(action)
        return []

    def _consult(self, action: "Action") -> "Actions":
        """Have something done that takes time; the client has all that was due.

        Raises: TypeError for what this driver has nobody to do, a bug of the session's.
        """
        raise TypeError(f"{type(self).__name__} is asked for {action!r}")

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
