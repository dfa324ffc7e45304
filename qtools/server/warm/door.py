# SPDX-License-Identifier: ISC
"""Let clients in, or keep them out: listeners, limits, rules and the PROXY header."""

import _socket
import posix

from qtools.errors import Failure
from qtools.protocol import proxy
from qtools.server.admission import Admission
from qtools.server.environment import of_proxied_tls
from qtools.server.rules import Rules
from qtools.server.warm.guest import Guest
from qtools.system.cdb import Cdb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from qtools.server.settings import Settings
    from qtools.server.warm.accounting import Accounting

    Complain = Callable[[str], None]

MOST_AT_ONCE = 64  # connections accepted before others get their turn
EMFILE, ENFILE, ENOBUFS, ENOMEM = 24, 23, 105, 12
SHORTAGES = frozenset((EMFILE, ENFILE, ENOBUFS, ENOMEM))


class Door:
    """The listeners and who may come in."""

    def __init__(
        self,
        settings: "Settings",
        listeners: "dict[int, tuple[_socket.socket, bool]]",
        accounting: "Accounting",
        complain: "Complain",
    ) -> None:
        """Take listeners by descriptor, each with whether TLS begins at once."""
        self.admission = Admission(
            settings.concurrency(is_foreign=False),
            settings.per_source,
            settings.min_delay_seconds,
        )
        self.listeners = listeners
        self._proxies = settings.proxies
        self._closes_when_full = settings.closes_when_full
        self._refusal = settings.refusal and settings.refusal + b"\r\n"
        self._accounting = accounting
        self._complain = complain
        self._rules: Rules | None = None
        self._rules_name = settings.rules
        self._rules_descriptor = -1
        self._needs_rules = bool(settings.rules)  # there are some, not yet seen
        self._spare = posix.dup(0)
        for listener, _ in listeners.values():
            _set_nodelay(listener)

    def is_open(self, now: float) -> bool:
        """Tell whether somebody may be accepted, be it to hear that all is full."""
        is_full = self.admission.is_full(now) and not self._closes_when_full
        return not (is_full or self._needs_rules)

    def shut(self) -> None:
        """Listen no more; what the kernel holds for us is turned away when all do."""
        for held, _ in self.listeners.values():
            held.close()

    def set_rules(self, descriptor: int) -> None:
        """Go by another rules file from now on, or by none.

        One that is none leaves the old rules in force, or the door closed.
        """
        try:
            rules = (
                Rules(Cdb(descriptor, self._rules_name)) if descriptor >= 0 else None
            )
        except Failure as why:
            self._complain(f"the rules stay as they were: {why}")
            posix.close(descriptor)
            return
        if self._rules_descriptor >= 0:
            posix.close(self._rules_descriptor)
        self._rules_descriptor = descriptor
        self._rules = rules
        self._needs_rules = False

    def accept(
        self, descriptor: int, now: float
    ) -> "tuple[_socket.socket, Guest] | None":
        """Give one new connection and who it is, before anything was asked of it.

        Raises: BlockingIOError when there is none.
        """
        listener, _ = self.listeners[descriptor]
        try:
            accepted, remote = _accept(listener)
        except BlockingIOError:
            raise
        except OSError as why:
            if why.errno in SHORTAGES:
                self._shed(listener)
            return None
        held = _socket.socket(listener.family, listener.type, 0, accepted)
        try:
            local = held.getsockname()
        except OSError:
            held.close()
            return None
        return held, Guest(_end(local), _end(remote), now)

    def _shed(self, listener: "_socket.socket") -> None:
        """Out of descriptors: turn one client away rather than spin."""
        if self._spare >= 0:
            posix.close(self._spare)
        try:
            posix.close(_accept(listener)[0])
        except OSError:
            pass
        try:
            self._spare = posix.dup(0)  # there is no file to open in here
        except OSError:
            self._spare = -1
        self.complain("descriptors", "out of descriptors: connections are being closed")

    def complain(self, about: str, text: str) -> None:
        """Tell the operator what may come with every client: once in a while."""
        if self.admission.is_loud(b"", about, self._accounting.now):
            self._complain(text)

    def may_enter(self, held: "_socket.socket", guest: Guest, now: float) -> bool:
        """Ask limits and rules; who may not is told so, if anything, and gone."""
        guest.began = now
        why = self.admission.admit(guest.source, now)
        if not why:
            if self._is_allowed(guest):
                return True
            self.admission.release(guest.source, now, now)
            why = "rules"
        elif self._refusal:
            try:
                held.send(self._refusal, _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL)
            except OSError:
                pass
        held.close()
        self._accounting.turned_away(why, guest, self.admission)
        return False

    def _is_allowed(self, guest: Guest) -> bool:
        if self._rules is None:
            return True
        try:
            decision = self._rules.decide(guest.remote[0])
        except Failure as why:
            self.complain("rules file", str(why))
            return False
        guest.variables = decision.variables
        return not decision.is_denied

    def is_proxy(self, guest: Guest) -> bool:
        """Tell whether this one has to begin with a PROXY header."""
        return self._proxies is not None and self._proxies.holds(guest.remote[0])


def _set_nodelay(listener: "_socket.socket") -> None:
    """Have small replies leave at once, on every connection that will be accepted.

    Or a reply behind another waits for the client's acknowledgement, and is lost when
    the connection is closed before that comes.
    """
    if listener.family != _socket.AF_UNIX:
        listener.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)


def _accept(listener: "_socket.socket") -> "tuple[int, object]":
    """Give the descriptor and the far end of a new connection.

    Raises: BlockingIOError, OSError.
    """
    made: tuple[int, object] = listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001
    return made


def read_header(held: "_socket.socket", guest: Guest) -> Guest | None:
    """Take a PROXY header off a connection and give who is behind the proxy.

    None: more has to come. What comes after it stays where it is.
    Raises: proxy.Malformed, also when the connection has ended; BlockingIOError.
    """
    flags = _socket.MSG_PEEK | _socket.MSG_DONTWAIT
    try:
        seen = held.recv(proxy.LONGEST, flags)
    except ConnectionError as why:
        raise proxy.Malformed("the connection has ended") from why
    if not seen:
        raise proxy.Malformed("the connection has ended")
    header = proxy.parse(seen)
    if header is None:
        return None
    held.recv(header.octets, _socket.MSG_DONTWAIT)
    local = header.destination or guest.local
    behind = Guest(local, header.source or guest.remote, guest.began)
    behind.tls = of_proxied_tls(header)
    return behind


def _end(address: object) -> "tuple[bytes, int]":
    """Give address and port of one end; of a UNIX socket nothing is known."""
    if isinstance(address, tuple) and len(address) >= 2:
        return address[0].encode("ascii", "replace"), address[1]
    return b"unknown", 0
