# SPDX-License-Identifier: ISC
"""Drive a session that asks for errands over the client's descriptors.

The sister of dialogue, which drives a Login.
"""

from qtools.chain.driver import Driver
from qtools.errors import EXIT_TEMPORARY
from qtools.sessions.actions import Ask, Log, StartTls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from qtools.chain import driver
    from qtools.sessions.actions import Action
    from qtools.system.fdio import Wire

    Actions = list[Action]

    class Session(driver.Session, Protocol):
        """A dialogue that has errands done."""

        def answered(self, code: int, text: bytes) -> Actions:
            """Take the answer to the errand asked for."""

        def tls_started(self) -> Actions:
            """Start afresh inside TLS."""

        def tls_failed(self) -> Actions:
            """End, since no reply could reach the client."""

    class Clerk(Protocol):
        """What the driver asks of the privileged side; each may raise Lost."""

        def ask(self, kind: int, fields: tuple[bytes, ...]) -> tuple[int, bytes]:
            """Have an errand done; give an exit code and a text."""

        def start_tls(self) -> bool:
            """Start TLS on descriptors 0 and 1."""

        def note(self, event: str, mechanism: str, user: bytes, code: int) -> None:
            """Write a line to the log."""


class Conversation(Driver):
    """One session, its wire and its clerk; run() may raise Lost."""

    def __init__(self, session: "Session", wire: "Wire", clerk: "Clerk") -> None:
        super().__init__(session, wire)
        self._session = session
        self._clerk = clerk

    def _vanished(self) -> "Actions":
        """End: unlike an end of the input, this is no answer to anything."""
        self._ended = (EXIT_TEMPORARY, "eof")
        return []

    def _do(self, action: "Action") -> "Actions":
        if isinstance(action, Log):
            event, code = action.event, action.code
            self._clerk.note(event, action.mechanism, action.user, code)
            return []
        return super()._do(action)

    def _consult(self, action: "Action") -> "Actions":
        if isinstance(action, Ask):
            return self._session.answered(*self._clerk.ask(action.kind, action.fields))
        if isinstance(action, StartTls):
            if not self._clerk.start_tls():
                return self._session.tls_failed()
            self._wire = self._wire.again()
            return self._session.tls_started()
        return super()._consult(action)
