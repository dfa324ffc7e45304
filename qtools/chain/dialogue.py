# SPDX-License-Identifier: ISC
"""Drive a Login over the client's descriptors: perform what it asks, in order.

What needs privileges is asked of an office, which is either in this process or behind
a socket (see split).
"""

from time import sleep

from qtools.chain.office import SERVED
from qtools.chain.request import EVENTS, LOG, VERIFY, Request
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
from qtools.system.fdio import LONGEST_SECONDS, PeerLost, TimedOut

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from qtools.sessions.actions import Action
    from qtools.sessions.login import Login
    from qtools.system.fdio import Wire

    class Clerk(Protocol):
        """What the dialogue asks of the privileged side."""

        def verify(self, asked: Request) -> "int | bytes":
            """Give SERVED, the code of a refusal, or a message for the client."""

        def respond(self, message: bytes) -> "int | bytes":
            """Give the client's answer to the verifier; gives what verify() gives."""

        def withdraw(self) -> None:
            """Drop a verification that waits for the client."""

        def start_tls(self) -> bytes | None:
            """Start TLS on descriptors 0 and 1; give its end point, None for none."""

        def note(self, told: Request) -> None:
            """Write a line to the session log."""


SERVED_REASON = "served"
BATCH_OCTETS = 4096  # held back at most while more commands wait to be answered


class Dialogue:
    """One Login, its wire and its clerk."""

    def __init__(self, login: "Login", wire: "Wire", clerk: "Clerk") -> None:
        self._login = login
        self._wire = wire
        self._clerk = clerk
        self._out = b""
        self._ended: tuple[int, str] | None = None
        self._patience: float = LONGEST_SECONDS  # for the next line

    def run(self) -> tuple[int, str]:
        """Converse to the end; give the exit code and the reason in one word."""
        try:
            self._perform(self._login.greet())
            while self._ended is None:
                self._perform(self._listen())
        finally:
            self._wire.release()
        return self._ended

    def _listen(self) -> "list[Action]":
        try:
            if not self._wire.has_line or len(self._out) >= BATCH_OCTETS:
                self._flush()
            data = self._wire.read_line(self._patience)
        except TimedOut:
            return self._login.lost("timeout")
        except PeerLost:
            data = b""
        self._patience = LONGEST_SECONDS
        return self._login.feed(data) if data else self._login.lost("eof")

    def _perform(self, actions: "list[Action]") -> None:
        for action in actions:
            if self._ended is not None:
                return
            if isinstance(action, Send):
                self._out += action.data
            elif isinstance(action, Log):
                self._note(action)
            elif isinstance(action, Wait):
                if self._flush_quietly():
                    sleep(action.seconds)
            elif isinstance(action, Withdraw):
                self._clerk.withdraw()
            elif isinstance(action, Close):
                self._flush_quietly()
                self._wire.drain()
                self._ended = (action.code, action.why)
            elif self._flush_quietly():
                self._consult(action)

    def _consult(self, action: "Action") -> None:
        """Perform what needs the clerk; it is always the last of a list."""
        if isinstance(action, Verify):
            self._wire.has_line = False  # the chain may have read what was waiting
            self._take(
                self._clerk.verify(
                    Request(
                        VERIFY,
                        mechanism=action.mechanism,
                        record=action.record,
                        language=self._login.language,
                        is_utf8=self._login.is_utf8,
                    )
                )
            )
        elif isinstance(action, Respond):
            self._take(self._clerk.respond(action.data))
        elif isinstance(action, StartTls):
            binding = self._clerk.start_tls()
            if binding is not None:
                self._wire = self._wire.again()
                self._perform(self._login.tls_started(binding))
            else:
                self._perform(self._login.tls_failed())

    def _take(self, answer: "int | bytes") -> None:
        """Go on with a verdict, or with what the verifier has to say to the client."""
        if isinstance(answer, bytes):
            self._patience = ANSWER_SECONDS
            self._perform(self._login.challenged(answer))
        elif answer == SERVED:
            self._ended = (SERVED, SERVED_REASON)
        else:
            self._perform(self._login.verdict(answer))

    def _note(self, line: Log) -> None:
        self._clerk.note(
            Request(
                LOG,
                detail=EVENTS.index(line.event),
                code=line.code if line.code >= 0 else EXIT_TEMPORARY,
                mechanism=line.mechanism,
                record=line.user,
            )
        )

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
