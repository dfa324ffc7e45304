# SPDX-License-Identifier: ISC
"""From a listener to the greeting: limits, PROXY header, TLS, policy, challenge."""

import posix
from select import EPOLLET, EPOLLIN

from qtools.chain.front import make_policy, make_stamp
from qtools.errors import EXIT_TEMPORARY, Hard
from qtools.protocol import proxy
from qtools.server.warm import packets
from qtools.server.warm.connection import TALK, TLS, Connection
from qtools.server.warm.door import MOST_AT_ONCE, read_header
from qtools.sessions.login import Login
from qtools.system.ucspi import END_POINT

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Protocol

    from qtools.server.settings import Settings
    from qtools.server.warm.accounting import Accounting
    from qtools.server.warm.chain import WarmChain
    from qtools.server.warm.connection import House
    from qtools.server.warm.desks import Desks
    from qtools.server.warm.door import Door
    from qtools.server.warm.guest import Guest
    from qtools.sessions.policy import Policy

    class Host(House, Protocol):
        """What the login worker does for connections, and for those who come."""

        now: float

        def enter(self, connection: Connection) -> None:
            """Have events of its socket attended to."""

        def forget(self, connection: Connection) -> None:
            """Have no more to do with it; the socket stays open."""

        def leave(self, connection: Connection) -> None:
            """End it, and count it no more."""


HEADER_SECONDS = 10.0  # a proxy has it ready
MOST_POLICIES = 1000  # remembered; rules could make any number
GENERATION_SHIFT = packets.GENERATION_SHIFT


class Reception:
    """Takes connections on and greets them."""

    def __init__(
        self,
        host: "Host",
        settings: "Settings",
        chain: "WarmChain",
        door: "Door",
        accounting: "Accounting",
    ) -> None:
        self.name = settings.name.encode("utf-8", "surrogateescape")
        self.serial = 0
        self._host = host
        self._settings = settings
        self._chain = chain
        self._door = door
        self._accounting = accounting
        self._desks: Desks | None = None
        self._has_tls = settings.tls is not None
        self._policies: dict[tuple[object, ...], Policy] = {}

    def use(self, desks: "Desks") -> None:
        """Take challenges from these desks."""
        self._desks = desks

    def accept(self, descriptor: int) -> None:
        """Take on those who wait at a listener, but not all of them at once."""
        is_tls = self._door.listeners[descriptor][1]
        for _ in range(MOST_AT_ONCE):
            if not self.is_open():
                return
            try:
                accepted = self._door.accept(descriptor, self._host.now)
            except BlockingIOError:
                return
            if accepted is not None:
                self._receive(*accepted, is_tls=is_tls)

    def is_open(self) -> bool:
        """Tell whether there is room for one more, and a challenge."""
        has_stamps = self._desks is None or self._desks.has_stamps()
        return has_stamps and self._door.is_open(self._host.now)

    def _receive(self, held: "_socket.socket", guest: "Guest", *, is_tls: bool) -> None:
        host = self._host
        is_proxy = self._door.is_proxy(guest)
        if not is_proxy and not self._door.may_enter(held, guest, host.now):
            return
        self.serial += 1
        connection = Connection(host, self.serial, held, guest)
        connection.ends = host.now + self._settings.login_seconds
        connection.is_tls_next = is_tls
        connection.is_admitted = not is_proxy
        host.enter(connection)
        if is_proxy:
            host.wake_at(connection, host.now + HEADER_SECONDS)
            host.watch(connection, EPOLLIN | EPOLLET)  # what is peeked at stays there
        else:
            self._accounting.came(guest, is_tls=is_tls)
            self.welcome(connection)

    def read_header(self, connection: Connection) -> None:
        """Go on with a connection that has to begin with a PROXY header."""
        try:
            guest = read_header(connection.socket, connection.guest)
        except BlockingIOError:
            return
        except (proxy.Malformed, OSError) as why:
            self.turn_away(connection, str(why))
            return
        if guest is None:
            return
        self._host.forget(connection)
        if self._door.may_enter(connection.socket, guest, self._host.now):
            connection.guest = guest
            connection.is_admitted = True
            self._host.enter(connection)
            self._accounting.came(guest, is_tls=connection.is_tls_next)
            self.welcome(connection)

    def turn_away(self, connection: Connection, why: str) -> None:
        """End a connection whose PROXY header is missing or wrong."""
        admission = self._door.admission
        self._accounting.turned_away("proxy", connection.guest, admission, why)
        self._host.forget(connection)
        connection.socket.close()

    def welcome(self, connection: Connection) -> None:
        """Begin the dialogue, inside TLS where the listener says so."""
        if connection.is_tls_next:
            connection.is_tls_next = False
            connection.state = TLS
            self._host.start_tls(connection)
            return
        connection.state = TALK
        try:
            policy = self._policy(connection.guest)
        except Hard as why:  # popup would end by it, too
            self._door.complain("variables", f"a rule sets what means nothing: {why}")
            connection.end(why.code, "policy")
            return
        if self._desks is None or not _uses_challenges(policy):
            stamp = make_stamp(self._chain.hostname)
        else:
            found = self._desks.stamp()
            if found is None:
                connection.end(EXIT_TEMPORARY, "no-challenge")
                return
            stamp, connection.desk = found
        connection.begin(Login(stamp, policy), self._host.now)

    def _policy(self, guest: "Guest") -> "Policy":
        """Give what this connection may do; those of one kind share it.

        Raises: Hard for a variable that means nothing.
        """
        tls = bool(guest.tls), guest.tls.get(END_POINT)
        key = (guest.local[1], *tls, *guest.variables.items())
        policy = self._policies.get(key)
        if policy is None:
            environ = {**posix.environ, **guest.environ(self.name)}
            if self._has_tls:
                environ.setdefault(b"UCSPITLS", b"")
            front = self._chain.front
            policy = make_policy(front, environ, has_control=self._has_tls)
            if len(self._policies) < MOST_POLICIES:
                self._policies[key] = policy
        return policy

    def uses_challenges(self) -> bool:
        """Tell whether any connection may get a challenge that counts."""
        if self._settings.rules:
            return True  # they may switch it on
        front = self._chain.front
        return _uses_challenges(make_policy(front, posix.environ, has_control=True))


def _uses_challenges(policy: "Policy") -> bool:
    """Tell whether an answer to the greeting's challenge may come."""
    return policy.apop or b"CRAM-MD5" in policy.mechanisms
