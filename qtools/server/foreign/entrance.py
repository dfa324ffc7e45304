# SPDX-License-Identifier: ISC
"""Who may have a process for his connection: tcpserver's limit, and popa3d's.

The limit in all is of processes that live, as with tcpserver. The limit for each
source is admission's. A proxy's connections are many people's, so they count for no
source; who they are is known only in the connection's process.
"""

import _socket
from time import monotonic

from qtools.server.addresses import source_of
from qtools.server.admission import TOTAL, Admission

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtools.server.addresses import Networks
    from qtools.server.foreign.report import Report
    from qtools.server.settings import Settings

TROUBLE = "trouble"  # a reason to be told of, besides the limits
MOST_RECENT = 10_000  # connections that count for their sources when they are over
UNREAD_OCTETS = 65536


class Child:
    """A connection that has a process. began: by the monotonic clock."""

    __slots__ = ("began", "source")

    def __init__(self, source: bytes | None, began: float) -> None:
        self.source = source  # None: it counts for none
        self.began = began


class Entrance:
    """The limits, and what is said to whom they keep out.

    has_refusal: who comes when all places are taken is let in to be told so, instead
    of waiting in the kernel.
    """

    def __init__(
        self, settings: "Settings", proxies: "Networks | None", report: "Report"
    ) -> None:
        """Take the networks of proxies, too; None without any."""
        self.children: dict[int, Child] = {}
        self.renew(settings, proxies, report)

    def renew(
        self, settings: "Settings", proxies: "Networks | None", report: "Report"
    ) -> None:
        """Go by other limits, for who is there as well.

        Connections that are over are forgotten, and refusals that were told of.
        """
        self._settings = settings
        self._proxies = proxies
        self._report = report
        self._limit = settings.concurrency(is_foreign=True)
        each = settings.per_source
        self._admission = Admission(MOST_RECENT, each, settings.min_delay_seconds)
        for child in self.children.values():
            if child.source is not None:
                self._admission.resume(child.source, monotonic())
        self.has_refusal = settings.closes_when_full

    @property
    def is_full(self) -> bool:
        """Tell whether all places are taken."""
        return len(self.children) >= self._limit

    def tell_status(self, more: int = 0) -> None:
        """Write how many places are taken; more: that are going to be."""
        self._report.status(len(self.children) + more, self._limit)

    def admit(self, address: bytes) -> tuple[Child, str]:
        """Give the book's entry for a connection, and why it may not be, if so."""
        now = monotonic()
        is_proxied = self._proxies is not None and self._proxies.holds(address)
        child = Child(None if is_proxied else source_of(address), now)
        if self.is_full:
            return child, TOTAL
        why = "" if child.source is None else self._admission.admit(child.source, now)
        return child, why

    def release(self, child: Child) -> None:
        """Note that an admitted connection has ended."""
        if child.source is not None:
            self._admission.release(child.source, child.began, monotonic())

    def refuse(self, client: int, address: bytes, why: str, *, is_tls: bool) -> None:
        """Say so to the client, where there are words for it, and to the operator."""
        source = source_of(address)
        if self._admission.is_loud(source, why, monotonic()):
            left_out = self._admission.suppressed(source, why)
            more = f", and {left_out} before" if left_out else ""
            whose = "" if why == TOTAL else " from it"
            text = f"refused {address.decode('ascii', 'replace')}"
            self._report.warn(f"{text}: too many connections{whose}{more}")
        if self._settings.refusal and not is_tls:
            _say(client, self._settings.refusal + b"\r\n")

    def complain(self, why: str) -> None:
        """Write a line about trouble, unless one was written a moment ago."""
        if self._admission.is_loud(b"", TROUBLE, monotonic()):
            self._report.warn(why)


def _say(client: int, text: bytes) -> None:
    """Send a line, if that can be done at once; what has come is dropped for it.

    Octets that nobody reads make closing a reset, which takes the line away again.
    """
    try:
        held = _socket.socket(fileno=client)
    except OSError:
        return
    try:
        held.send(text, _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL)
        held.shutdown(_socket.SHUT_WR)
        held.recv(UNREAD_OCTETS, _socket.MSG_DONTWAIT)
    except OSError:
        return
    finally:
        held.detach()
