# SPDX-License-Identifier: ISC
"""Drive a Login over the client's descriptors: perform what it asks, in order.

What needs privileges is asked of an office, which is either in this process or behind
a socket (see split).
"""

from qtools.chain.driver import Driver
from qtools.chain.office import SERVED
from qtools.chain.request import EVENTS, LOG, VERIFY, Request
from qtools.errors import EXIT_TEMPORARY
from qtools.sessions.actions import Log, Respond, StartTls, Verify, Withdraw
from qtools.sessions.exchange import ANSWER_SECONDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from qtools.sessions.actions import Action
    from qtools.sessions.login import Login
    from qtools.system.fdio import Wire

    Actions = list[Action]

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


class Dialogue(Driver):
    """One Login, its wire and its clerk."""

    def __init__(self, login: "Login", wire: "Wire", clerk: "Clerk") -> None:
        super().__init__(login, wire)
        self._login = login
        self._clerk = clerk

    def _do(self, action: "Action") -> "Actions":
        if isinstance(action, Log):
            self._note(action)
        elif isinstance(action, Withdraw):
            self._clerk.withdraw()
        else:
            return super()._do(action)
        return []

    def _consult(self, action: "Action") -> "Actions":
        if isinstance(action, Verify):
            self._wire.has_line = False  # the chain may have read what was waiting
            asked = Request(
                VERIFY,
                mechanism=action.mechanism,
                record=action.record,
                language=self._login.language,
                is_utf8=self._login.is_utf8,
            )
            return self._take(self._clerk.verify(asked))
        if isinstance(action, Respond):
            return self._take(self._clerk.respond(action.data))
        if isinstance(action, StartTls):
            binding = self._clerk.start_tls()
            if binding is None:
                return self._login.tls_failed()
            self._wire = self._wire.again()
            return self._login.tls_started(binding)
        return super()._consult(action)

    def _take(self, answer: "int | bytes") -> "Actions":
        """Go on with a verdict, or with what the verifier has to say to the client."""
        if isinstance(answer, bytes):
            self._patience = ANSWER_SECONDS
            return self._login.challenged(answer)
        if answer == SERVED:
            self._ended = (SERVED, SERVED_REASON)
            return []
        return self._login.verdict(answer)

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
