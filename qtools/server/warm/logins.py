# SPDX-License-Identifier: ISC
"""From a credential to a session: who is asked about, who is served, who has gone.

The part of the login worker that has to do with verifiers, and with what the nursery
tells of sessions. It is the login worker's own, so there is no way past it: a session
counts from the moment a verifier has let it in.
"""

from qtools.errors import EXIT_TEMPORARY
from qtools.server.warm import asking, packets
from qtools.server.warm.connection import ASK, ENDED
from qtools.server.warm.desks import Desks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from qtools.server.admission import Admission
    from qtools.server.warm.accounting import Accounting
    from qtools.server.warm.connection import Connection
    from qtools.sessions.actions import Verify

    class Host(Protocol):
        """What the login worker does for those who log in."""

        now: float

        def attempt(
            self, connection: Connection, step: Callable[..., None], *words: object
        ) -> None:
            """Take a step for a connection; one client's trouble is his alone."""

        def forget(self, connection: Connection) -> None:
            """Have no more to do with it; the socket stays open."""

        def close(self, connection: Connection, code: int, why: str) -> None:
            """End it."""

        def listen_to(self, descriptor: int, on: bool) -> None:  # noqa: FBT001  # on, off
            """Hear, or no longer, what comes there."""


class Logins:
    """Those that are under way, and the sessions that they became.

    desks: the verifiers.
    """

    def __init__(
        self,
        host: "Host",
        admission: "Admission",
        accounting: "Accounting",
        name: bytes,
        *,
        needs_stamps: bool,
    ) -> None:
        """Take who counts and who writes; name: our host's, for TCPLOCALHOST."""
        self._host = host
        self._admission = admission
        self._accounting = accounting
        self._name = name
        self.desks = Desks(host.listen_to, self, needs_stamps=needs_stamps)
        self._serving: dict[int, tuple[bytes, float]] = {}  # id: source, since when
        self._over: dict[int, bytes] = {}  # ends heard of before their logins

    @property
    def sessions(self) -> int:
        """How many are served."""
        return len(self._serving)

    def verify(self, connection: "Connection", asked: "Verify") -> None:
        """Have a record verified; see connection.House."""
        try:
            packet = asking.pack(connection, asked, self._name)
        except ValueError:
            self.answer(connection, EXIT_TEMPORARY)
            return
        is_bound = asked.mechanism not in asking.UNSTAMPED
        self.desks.ask(connection, packet, connection.desk if is_bound else None)

    def respond(self, connection: "Connection", data: bytes) -> None:
        """Hand a client's answer on; see connection.House."""
        packet = asking.pack_answer(connection.identifier, data)
        if connection.partner is None:
            self.answer(connection, EXIT_TEMPORARY)
        else:
            self.desks.ask(connection, packet, connection.partner)

    def challenge(self, connection: "Connection", data: bytes) -> None:
        """Take what a verifier says to the client; see desks.Listener."""
        if connection.state == ASK:
            now = self._host.now
            self._host.attempt(connection, connection.challenged, data, now)
        else:
            self.desks.withdraw(connection)

    def answer(self, connection: "Connection", code: int | None) -> None:
        """Take what a verifier has found out; see desks.Listener."""
        if connection.state == ASK:
            self._host.attempt(connection, self._judge, connection, code)
        ended = self._over.pop(connection.identifier, None)
        if ended is not None:
            self.ended(ended)

    def _judge(self, connection: "Connection", code: int | None) -> None:
        """Pass on a verdict; None when the verifier has died over it."""
        if code:
            connection.answered(code, self._host.now)
            return
        if code is not None:
            connection.accepted(self._host.now)
            self._hand_over(connection)
            return
        # Its session may have begun: a word from here would be one too many. Nor may
        # it count: if it has not, nobody would ever tell of its end.
        connection.state = ENDED
        self._host.close(connection, EXIT_TEMPORARY, "verifier-died")

    def _hand_over(self, connection: "Connection") -> None:
        """Let go of a connection that a session has now."""
        guest = connection.guest
        self._serving[connection.identifier] = guest.source, guest.began
        connection.is_admitted = False  # its session counts
        connection.state = ENDED
        self._host.forget(connection)
        connection.socket.close()

    def lives(self, identifier: int, packet: bytes) -> None:
        """Count a session that was begun before us, by what a worker said of it."""
        source, began = self._accounting.resumed(packet)
        self._admission.resume(source, self._host.now)
        self._serving[identifier] = source, began

    def ended(self, packet: bytes) -> None:
        """Note the end of a session."""
        identifier, tally, tag = packets.unpack_ended(packet)
        if self.desks.is_asked(identifier):
            self._over[identifier] = packet  # the log is to tell of its login first
            return
        known = self._serving.pop(identifier, None)
        if known is not None:
            self._admission.release(*known, self._host.now)
        self._accounting.ended(tally, tag)
