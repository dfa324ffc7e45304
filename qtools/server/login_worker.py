# SPDX-License-Identifier: ISC
"""The login worker: everybody's dialogue before login, in one confined process.

It accepts, asks limits and rules, holds the dialogue, and passes an accepted client's
connection on. It can't tell whether a password is right, has no TLS key and no file,
and nothing of a session is left here but an entry in the limits.
"""

import posix
from select import EPOLLIN, EPOLLOUT, epoll
from time import monotonic

from qtools.chain.front import make_policy, make_stamp
from qtools.chain.request import MECHANISMS
from qtools.errors import EXIT_TEMPORARY
from qtools.protocol import proxy
from qtools.server import packets
from qtools.server.accounting import Accounting
from qtools.server.channel import Channel, close_all
from qtools.server.connection import ENDED, TALK, TLS, Connection
from qtools.server.desks import Desks
from qtools.server.door import MOST_AT_ONCE, read_header
from qtools.server.timers import Timers
from qtools.server.tunnels import Tunnels
from qtools.sessions.login import Login, lasting_capabilities
from qtools.system import fdio

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable

    from qtools.server.door import Door
    from qtools.server.guest import Guest
    from qtools.server.settings import Settings
    from qtools.server.warm import WarmChain
    from qtools.sessions.actions import Log, Verify
    from qtools.sessions.policy import Policy

PLAINTEXT = frozenset(("User", "Plain", "Login"))
HEADER_SECONDS = 10.0  # a proxy has it ready
TICK_SECONDS = 1.0
EPOLLET = 1 << 31
GENERATION_SHIFT = 40  # ids of two generations never meet


class LoginWorker:
    """The loop, and what it does for its connections."""

    def __init__(
        self,
        settings: "Settings",
        chain: "WarmChain",
        door: "Door",
        accounting: Accounting,
        generation: int,
    ) -> None:
        values = chain.front
        self.idle_seconds = float(values.number("timeout", fdio.IDLE_SECONDS, least=1))
        self.write_seconds = float(
            values.number("write-timeout", fdio.IDLE_SECONDS, least=1)
        )
        self._settings = settings
        self._chain = chain
        self._door = door
        self._accounting = accounting
        self._serial = generation << GENERATION_SHIFT
        self._loop = epoll()
        self._timers = Timers()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._connections: dict[int, Connection] = {}  # by descriptor
        self._masks: dict[int, int] = {}
        self._serving: dict[int, tuple[bytes, float]] = {}  # id: source, since when
        self._policies: dict[tuple[object, ...], Policy] = {}
        self._name = settings.name.encode("utf-8", "surrogateescape")
        self._needs_stamps = self._uses_challenges()
        self._desks = Desks(
            self._listen_to, self._answer, needs_stamps=self._needs_stamps
        )
        self._tunnels = Tunnels(self._listen_to, self._tls_started)
        self._is_listening = False
        self._is_draining = False
        self._ends: float | None = None  # of a drain
        self._master: Channel | None = None
        self.now = monotonic()

    def run(self, master: Channel) -> int:
        """Serve until the master is gone, or a drain is over."""
        self._master = master
        self._handlers[master.descriptor] = self._hear_master
        self._loop.register(master.descriptor, EPOLLIN)
        tick_at = 0.0
        while self._master is not None and not self._is_done():
            events = self._loop.poll(self._patience())
            self.now = self._accounting.now = monotonic()
            for descriptor, event in events:
                self._handle(descriptor, event)
            for timed in self._timers.due(self.now):
                self._late(timed)
            if self.now >= tick_at:
                tick_at = self.now + TICK_SECONDS
                self._report()
            self._adjust_listening()
        return 0

    def _is_done(self) -> bool:
        if not self._is_draining:
            return False
        is_over = self._ends is not None and self.now >= self._ends
        return not self._connections or is_over

    def _patience(self) -> float:
        """Give how long to wait for events, in seconds."""
        due = self._timers.next()
        if due is None:
            return TICK_SECONDS
        return min(max(due - monotonic(), 0.0), TICK_SECONDS)

    def _handle(self, descriptor: int, event: int) -> None:
        connection = self._connections.get(descriptor)
        if connection is None:
            handler = self._handlers.get(descriptor)
            if handler is not None:
                handler(descriptor)
            return
        try:
            self._attend(connection, event)
        except Exception as why:  # noqa: BLE001  # one client's trouble is his alone
            self._accounting.complain(f"unexpected {type(why).__name__}: {why}")
            self._leave(connection)

    def _attend(self, connection: Connection, event: int) -> None:
        """Let a connection do what it can do now."""
        if connection.login is None:
            self._read_header(connection)
        elif event & EPOLLIN:
            connection.readable(self.now)
        elif event & EPOLLOUT:
            connection.writable(self.now)
        else:
            connection.hung_up(self.now)

    def _listen_to(self, descriptor: int, on: bool) -> None:  # noqa: FBT001  # on, off
        """Hear, or no longer, what verifiers or TLS workers say."""
        if on:
            self._loop.register(descriptor, EPOLLIN)
        else:
            self._loop.unregister(descriptor)
            self._handlers.pop(descriptor, None)

    # The master's words.

    def _hear_master(self, _descriptor: int) -> None:
        assert self._master is not None  # noqa: S101  # for the type checker
        received = self._master.receive()
        if received is None:
            return
        packet, descriptors = received
        if not packet:
            self._master = None  # nobody could take over an accepted client
            close_all(descriptors)
            return
        kind, identifier, _ = packets.read_head(packet)
        if kind == packets.ENDED:
            self._session_ended(packet)
        elif kind == packets.LIVE:
            source, began = self._accounting.resumed(packet)
            self._door.admission.resume(source, self.now)
            self._serving[identifier] = source, began
        elif kind == packets.VERIFIER:
            channel = Channel.adopt(descriptors[0])
            self._handlers[channel.descriptor] = self._desks.hear
            self._desks.add(channel)
        elif kind == packets.TLS:
            channel = Channel.adopt(descriptors[0])
            self._handlers[channel.descriptor] = self._tunnels.hear
            self._tunnels.add(channel)
        elif kind == packets.RULES:
            self._door.set_rules(descriptors[0] if descriptors else -1)
        elif kind == packets.DRAIN:
            self._is_draining = True
            self._ends = self.now + self._settings.drain_seconds

    def _session_ended(self, packet: bytes) -> None:
        identifier, _, tally, tag = packets.unpack_ended(packet)
        known = self._serving.pop(identifier, None)
        if known is not None:
            self._door.admission.release(*known, self.now)
        self._accounting.ended(tally, tag)

    # Coming in.

    def _adjust_listening(self) -> None:
        """Accept only while there is somebody to let in, and a challenge for him."""
        is_full = self._door.is_full() and not self._door.closes_when_full
        lacks = self._needs_stamps and not self._desks.has_stamps()
        wants = not (is_full or lacks or self._is_draining)
        if wants == self._is_listening:
            return
        self._is_listening = wants
        for descriptor in self._door.listeners:
            if wants:
                self._handlers[descriptor] = self._accept
                self._loop.register(descriptor, EPOLLIN)
            else:
                self._loop.unregister(descriptor)

    def _accept(self, descriptor: int) -> None:
        for _ in range(MOST_AT_ONCE):
            try:
                accepted = self._door.accept(descriptor)
            except BlockingIOError:
                return
            if accepted is not None:
                is_tls = self._door.listeners[descriptor][1]
                self._receive(*accepted, is_tls=is_tls)
            if self._door.is_full() or (
                self._needs_stamps and not self._desks.has_stamps()
            ):
                return

    def _receive(self, held: "_socket.socket", guest: "Guest", *, is_tls: bool) -> None:
        """Take a new connection on."""
        is_proxy = self._door.is_proxy(guest)
        guest.began = self.now
        if not is_proxy and not self._door.may_enter(held, guest, self.now):
            return
        self._serial += 1
        connection = Connection(self, self._serial, held, guest)
        connection.ends = self.now + self._settings.login_seconds
        connection.is_tls_next = is_tls
        self._connections[held.fileno()] = connection
        self._accounting.came(guest, is_tls=is_tls)
        if is_proxy:
            self.wake_at(connection, self.now + HEADER_SECONDS)
            self.watch(connection, EPOLLIN | EPOLLET)  # what is peeked at stays
        else:
            self._welcome(connection)

    def _read_header(self, connection: Connection) -> None:
        """Go on with a connection that has to begin with a PROXY header."""
        try:
            guest = read_header(connection.socket, connection.guest)
        except BlockingIOError:
            return
        except (proxy.Malformed, OSError) as why:
            self._turn_away(connection, str(why))
            return
        if guest is None:
            return
        self._forget(connection)
        if self._door.may_enter(connection.socket, guest, self.now):
            connection.guest = guest
            self._connections[connection.socket.fileno()] = connection
            self._welcome(connection)

    def _turn_away(self, connection: Connection, why: str) -> None:
        """End a connection whose PROXY header is missing or wrong."""
        admission = self._door.admission
        self._accounting.turned_away("proxy", connection.guest, admission, why)
        self._forget(connection)
        connection.socket.close()

    def _welcome(self, connection: Connection) -> None:
        """Begin the dialogue, inside TLS where the listener says so."""
        if connection.is_tls_next:
            connection.state = TLS
            self.start_tls(connection)
            return
        policy = self._policy(connection.guest)
        if self._needs_stamps:
            found = self._desks.stamp()
            if found is None:
                self._leave(connection)
                return
            stamp, connection.desk = found
        else:
            stamp = make_stamp(self._chain.hostname)
        connection.begin(Login(stamp, policy), self.now)

    def _policy(self, guest: "Guest") -> "Policy":
        """Give what this connection may do; those of one kind share it."""
        key = (
            guest.local[1],
            bool(guest.tls),
            *guest.variables.items(),
        )
        policy = self._policies.get(key)
        if policy is None:
            environ = {**posix.environ, **guest.environ(self._name)}
            has_tls = self._settings.tls is not None
            if has_tls:
                environ.setdefault(b"UCSPITLS", b"")
            policy = make_policy(self._chain.front, environ, has_control=has_tls)
            if len(self._policies) < 1000:
                self._policies[key] = policy
        return policy

    def _uses_challenges(self) -> bool:
        """Tell whether any connection may get a challenge that counts."""
        if self._settings.rules:
            return True  # they may switch it on
        policy = make_policy(self._chain.front, posix.environ, has_control=True)
        return policy.apop or b"CRAM-MD5" in policy.mechanisms

    # What connections ask for; see connection.House.

    def watch(self, connection: Connection, events: int) -> None:
        """Wait for these events on its socket; see House."""
        descriptor = connection.socket.fileno()
        before = self._masks.get(descriptor, -1)
        if events == before:
            return
        if events < 0:
            self._loop.unregister(descriptor)
            del self._masks[descriptor]
        elif before < 0:
            self._loop.register(descriptor, events)
            self._masks[descriptor] = events
        else:
            self._loop.modify(descriptor, events)
            self._masks[descriptor] = events

    def wake_at(self, connection: Connection, when: float) -> None:
        """Call late() then; see House."""
        self._timers.set(connection, when)

    def verify(self, connection: Connection, asked: "Verify") -> None:
        """Have a record verified; see House."""
        login = connection.login
        assert login is not None  # noqa: S101  # for the type checker
        environ = connection.guest.environ(self._name)
        environ[b"POP3METHOD"] = asked.mechanism.encode()
        environ[b"POP3LANG"] = login.language
        environ[b"POP3UTF8"] = b"%d" % login.is_utf8
        environ[b"POP3CAPA"] = b"\n".join(lasting_capabilities(login.policy))
        connection.deadline = 0.0  # the verifiers' time, not the client's
        items = b"\0".join([name + b"=" + value for name, value in environ.items()])
        tag = connection.guest.tag(asked.mechanism, asked.user)
        mechanism = MECHANISMS.index(asked.mechanism)
        head = packets.head(packets.ASK, connection.identifier, mechanism)
        try:
            packet = head + packets.fields(asked.record, items, tag)
        except ValueError:
            self._answer(connection, EXIT_TEMPORARY)
            return
        is_bound = asked.mechanism not in PLAINTEXT
        self._desks.ask(connection, packet, connection.desk if is_bound else None)

    def _answer(self, connection: Connection, code: int | None) -> None:
        """Pass on what a verifier says."""
        if code == 0 and connection.login is not None:
            for line in connection.login.accepted():
                self.log(connection, line)  # type: ignore[arg-type]  # it is a Log
            self._hand_over(connection)
        elif code is None:
            # Its session may have begun: a word from here would be one too many.
            self._hand_over(connection)
        else:
            connection.answered(code, self.now)

    def _hand_over(self, connection: Connection) -> None:
        """Let go of a connection that a session has now."""
        guest = connection.guest
        self._serving[connection.identifier] = guest.source, guest.began
        connection.state = ENDED
        self._forget(connection)
        connection.socket.close()

    def start_tls(self, connection: Connection) -> None:
        """Have a TLS worker take the socket and give one with cleartext; see House."""
        self._overlook(connection)
        started = self._tunnels.start(connection)
        if not started:
            connection.tls_failed(self.now)
            return
        self._connections[connection.socket.fileno()] = connection
        self.wake_at(connection, self.now + self._settings.handshake_seconds + 5)

    def _tls_started(
        self, connection: Connection, variables: dict[bytes, bytes] | None
    ) -> None:
        self._accounting.handshake(variables)
        if variables is None:
            connection.tls_failed(self.now)
            return
        connection.guest.tls = variables
        if connection.login is None:
            connection.is_tls_next = False
            connection.state = TALK
            self._welcome(connection)
        else:
            connection.tls_started(self.now)

    def log(self, connection: Connection, line: "Log") -> None:
        """Write a line to the session log; see House."""
        self._accounting.judged(connection.guest, line)

    def close(self, connection: Connection, code: int, why: str) -> None:
        """End a connection; see House."""
        self._accounting.left(
            connection.guest, (connection.mechanism, connection.user), code, why
        )
        self._leave(connection)

    def _leave(self, connection: Connection) -> None:
        guest = connection.guest
        self._door.admission.release(guest.source, guest.began, self.now)
        self._forget(connection)
        connection.socket.close()

    def _forget(self, connection: Connection) -> None:
        """Have no more to do with it; the socket stays open."""
        connection.deadline = 0.0
        self._desks.let_go(connection.desk)
        connection.desk = None
        self._overlook(connection)

    def _overlook(self, connection: Connection) -> None:
        """Look no more at its descriptor."""
        descriptor = connection.socket.fileno()
        if self._connections.pop(descriptor, None) is not None:
            self.watch(connection, -1)

    def _late(self, timed: object) -> None:
        assert isinstance(timed, Connection)  # noqa: S101  # for the type checker
        if timed.login is None and timed.state != TLS:
            self._turn_away(timed, "no header came")
        elif timed.state == TLS:
            self._tunnels.give_up(timed)
            timed.tls_failed(self.now)
        else:
            timed.late(self.now)

    def _report(self) -> None:
        """Tell the master what was counted."""
        if self._master is None or not self._settings.metrics:
            return
        packed = self._accounting.packed(
            {
                "connections": len(self._connections),
                "sessions": len(self._serving),
                "sources": self._door.admission.sources,
                "verifier_queue": len(self._desks.queue),
            }
        )
        self._master.send(packets.head(packets.COUNTERS) + packets.fields(packed))
