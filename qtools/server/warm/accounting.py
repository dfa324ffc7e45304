# SPDX-License-Identifier: ISC
"""What the login worker tells of its connections: lines of the session log, numbers.

The lines are popup's, in s/qmail's shape, so that a rule that reads the one reads the
other. See: logline, metrics.
"""

from qtools.errors import (
    EXIT_DONE,
    EXIT_EXPIRED,
    EXIT_HARD,
    EXIT_MISUSE,
    EXIT_REFUSED,
    EXIT_TEMPORARY,
)
from qtools.protocol.record import RECORD_OCTETS
from qtools.server.metrics import Counters
from qtools.server.warm.guest import Tag, log_of
from qtools.server.warm.packets import WHYS, read_fields
from qtools.system.fdio import UNKNOWN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from qtools.server.admission import Admission
    from qtools.server.warm.guest import Guest
    from qtools.server.warm.journal import Journal
    from qtools.server.warm.packets import Tally
    from qtools.sessions.actions import Log
    from qtools.system.logline import SessionLog

_FAILURES = {
    EXIT_REFUSED: "refused",
    EXIT_EXPIRED: "expired",
    EXIT_MISUSE: "misuse",
    EXIT_HARD: "hard",
}


class Accounting:
    """The log and the counters of one login worker.

    complain: tells the operator. program: popup's name. is_verbose: write a line for
    each connection that comes.
    """

    def __init__(
        self,
        program: str,
        journal: "Journal",
        complain: "Callable[[str], None]",
        *,
        is_verbose: bool,
    ) -> None:
        self.complain = complain
        self._program = program
        self._journal = journal
        self._is_verbose = is_verbose
        self._counters = Counters()
        self.now = 0.0  # set by the loop: there is no clock here

    def came(self, guest: "Guest", *, is_tls: bool) -> None:
        """Note a new connection."""
        self._counters.add("connections_total")
        if self._is_verbose:
            note = "implicit TLS" if is_tls else ""
            self._write(self._log(guest), "Info::CONNECT::None", b"", note)

    def turned_away(
        self, why: str, guest: "Guest", admission: "Admission", note: str = ""
    ) -> None:
        """Note a connection that was kept out; of many only some get a line.

        why: "total", "source", "rules" or "proxy".
        """
        self._counters.add("refused_total", (why,))
        if not admission.is_loud(guest.source, why, self.now):
            return
        more = admission.suppressed(guest.source, why)
        note += f" (+{more} more)" if more else ""
        event = f"Reject::CONNECT::{why.capitalize()}"
        self._write(self._log(guest), event, b"", note.replace("\n", " "))

    def handshake(self, variables: "dict[bytes, bytes] | None") -> None:
        """Note a TLS handshake, None for one that failed."""
        if variables is None:
            self._counters.add("tls_failures_total")
            return
        protocol = variables.get(b"SSL_PROTOCOL", b"").decode("ascii", "replace")
        self._counters.add("tls_handshakes_total", (protocol,))

    def judged(self, guest: "Guest", line: "Log") -> None:
        """Note a login that was accepted or refused."""
        is_accept = line.event == "Accept::AUTH"
        if is_accept:
            self._counters.add("logins_total", (line.mechanism,))
            self._counters.add("sessions_total")
            note = guest.tls_note()
        else:
            why = _FAILURES.get(line.code, "temporary") if line.code else "refused"
            self._counters.add("failures_total", (line.mechanism, why))
            note = f"code={line.code}" if line.code > EXIT_REFUSED else ""
        event = f"{line.event}::{line.mechanism}"
        self._write(self._log(guest), event, line.user, note)

    def left(
        self, guest: "Guest", tried: "tuple[str, bytes]", code: int, why: str
    ) -> None:
        """Note the end of a connection that was not let in.

        tried: mechanism and user of its last try.
        """
        mechanism, user = tried
        note = f"why={why} code={code} seconds={_since(guest.began, self.now):.0f}"
        self._write(self._log(guest), f"Info::END::{mechanism}", user, note)

    def resumed(self, packet: bytes) -> tuple[bytes, float]:
        """Give source and beginning of a session that was begun before us.

        Of one whose tag makes no sense, a source of its own: its worker went mad.
        """
        try:
            found = Tag(*read_fields(packet, 1))
        except ValueError:
            return UNKNOWN, self.now
        return found.source, min(found.began, self.now)

    def ended(self, tally: "Tally", tag: bytes) -> None:
        """Note the end of a session."""
        counts = [0 if count is None else count for count in tally.counts]
        retrieved, octets, deleted = counts[:3]
        self._counters.add("messages_retrieved_total", (), retrieved)
        self._counters.add("octets_sent_total", (), octets)
        self._counters.add("messages_deleted_total", (), deleted)
        try:
            found = Tag(tag)
        except ValueError:
            return
        seconds = _since(found.began, self.now)
        self._counters.add("session_seconds_sum", (), seconds)
        log = log_of(self._program, found.address, found.host, found.protocol)
        # popup's word for a session that took place is "served", however it ended.
        why = "served" if tally.code == EXIT_DONE else "failed"
        code = tally.code if tally.code >= 0 else EXIT_TEMPORARY  # as popup's own
        note = f"why={why} code={code} seconds={seconds:.0f} {_done(tally)}"
        note = f"{note} {found.tls}".rstrip()
        self._write(log, f"Info::END::{found.mechanism}", found.user, note)

    def packed(self, gauges: "dict[str, int]") -> bytes:
        """Give all counters as one packet."""
        for name, value in gauges.items():
            self._counters.set(name, value)
        return self._counters.pack()

    def _log(self, guest: "Guest") -> "SessionLog":
        return log_of(self._program, guest.remote[0], guest.host, guest.protocol)

    def _write(self, log: "SessionLog", event: str, user: bytes, note: str) -> None:
        line = log.line(event, user[:RECORD_OCTETS], note)
        self._journal.line(line, is_refusal=event.startswith("Reject"))


def _since(began: float, now: float) -> float:
    return max(now - began, 0.0)


def _done(tally: "Tally") -> str:
    """Say what a session did, as far as anybody has counted."""
    shown = ["-" if count is None else count for count in tally.counts]
    retrieved, octets, deleted, _, left, left_octets = shown
    return (
        f"end={WHYS[tally.why].replace(' ', '-')} retrieved={retrieved}"
        f" octets={octets} deleted={deleted} left={left} left-octets={left_octets}"
        + (f" signal={-tally.code}" if tally.code < 0 else "")
    )
