# SPDX-License-Identifier: ISC
"""The login worker: everybody's dialogue before login, in one confined process.

It accepts, asks limits and rules, holds the dialogue, and passes an accepted client's
connection on. It can't tell whether a password is right, has no TLS key and no file,
and nothing of a session is left here but an entry in the limits. This is its loop; what
a login goes through is in logins, reception and tunnels.
"""

from select import EPOLLIN, EPOLLOUT, epoll
from time import monotonic

from qtools.errors import EXIT_TEMPORARY
from qtools.server.channel import Channel, close_all
from qtools.server.warm import packets
from qtools.server.warm.accounting import Accounting
from qtools.server.warm.connection import ENDED, TLS, Connection
from qtools.server.warm.logins import Logins
from qtools.server.warm.reception import GENERATION_SHIFT, Reception
from qtools.server.warm.timers import Timers
from qtools.server.warm.tunnels import Tunnels

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from qtools.server.settings import Settings
    from qtools.server.warm.chain import WarmChain
    from qtools.server.warm.door import Door
    from qtools.sessions.actions import Log, Verify

TICK_SECONDS = 1.0


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
        self.idle_seconds = chain.idle_seconds
        self.write_seconds = chain.write_seconds
        self._settings = settings
        self._door = door
        self._accounting = accounting
        self._loop = epoll()
        self._timers = Timers()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._connections: dict[int, Connection] = {}  # by descriptor
        self._masks: dict[int, int] = {}
        self._reception = Reception(self, settings, chain, door, accounting)
        self._reception.serial = generation << GENERATION_SHIFT
        needs_stamps = self._reception.uses_challenges()
        name = self._reception.name
        self._logins = Logins(
            self, door.admission, accounting, name, needs_stamps=needs_stamps
        )
        self._desks = self._logins.desks
        if needs_stamps:
            self._reception.use(self._desks)
        self._tunnels = Tunnels(self.listen_to, self._tls_started)
        self._is_listening = False
        self._lacks_tls = settings.tls is not None
        self._is_draining = False
        self._ends: float | None = None  # of a drain
        self._is_last = False  # no other is going to write down how sessions end
        self._master: Channel | None = None
        self.now = monotonic()

    def run(self, master: Channel) -> int:
        """Serve until the master is gone, or a drain is over."""
        self._master = master
        self._handlers[master.descriptor] = self._hear_master
        self._loop.register(master.descriptor, EPOLLIN)
        tick_at = 0.0
        while self._is_needed():
            events = self._loop.poll(self._patience())
            self.now = self._accounting.now = monotonic()
            for descriptor, event in events:
                self._handle(descriptor, event)
            for timed in self._timers.due(self.now):
                self._late(timed)
            if self.now >= tick_at:
                tick_at = self.now + TICK_SECONDS
                self._desks.retry()
                self._report()
            self._adjust_listening()
        for connection in list(self._connections.values()):
            connection.end(EXIT_TEMPORARY, "terminated")
        return 0

    def _is_needed(self) -> bool:
        """Tell whether there is a master, and no drain that is over."""
        if self._master is None or self._ends is None:
            return self._master is not None
        is_awaited = self._is_last and self._logins.sessions
        return bool(self._connections or is_awaited) and self.now < self._ends

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
        self.attempt(connection, self._attend, connection, event)

    def attempt(
        self, connection: Connection, step: "Callable[..., None]", *words: object
    ) -> None:
        """Take a step for a connection, whatever becomes of it; see logins.Host."""
        try:
            step(*words)
        except Exception as why:  # noqa: BLE001  # any: others are served here, too
            self._accounting.complain(f"unexpected {type(why).__name__}: {why}")
            self._break_off(connection)

    def _break_off(self, connection: Connection) -> None:
        """End a connection in whatever state it is."""
        self._tunnels.give_up(connection)
        is_over, connection.state = connection.state == ENDED, ENDED
        if is_over or not connection.is_admitted:
            self.leave(connection)
        else:
            self.close(connection, EXIT_TEMPORARY, "bug")

    def _attend(self, connection: Connection, event: int) -> None:
        """Let a connection do what it can do now."""
        if connection.login is None:
            self._reception.read_header(connection)
        elif event & EPOLLIN:
            connection.readable(self.now)
        elif event & EPOLLOUT:
            connection.writable(self.now)
        else:
            connection.hung_up(self.now)

    def listen_to(self, descriptor: int, on: bool) -> None:  # noqa: FBT001  # on, off
        """Hear, or no longer, what verifiers or TLS workers say; see logins.Host."""
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
        kind, identifier, number = packets.read_head(packet)
        if kind == packets.ENDED:
            self._logins.ended(packet)
        elif kind == packets.LIVE:
            self._logins.lives(identifier, packet)
        elif kind == packets.DRAIN:
            self._drain(is_last=bool(number))
        elif len(descriptors) < number:
            # We had no number left for it. A process sees its end, and another comes;
            # of the rules those of before hold.
            self._accounting.complain("out of descriptors for what the master sent")
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

    def _drain(self, *, is_last: bool) -> None:
        """Take nobody new, and end with the last connection, or after a time.

        is_last: the whole server ends; then the last session is waited for, too.
        """
        self._is_draining = True
        self._is_last = is_last
        self._adjust_listening()
        self._door.shut()
        self._desks.retire()
        self._ends = self.now + self._settings.drain_seconds

    def _adjust_listening(self) -> None:
        """Listen only while there is somebody to let in."""
        # At the start, TLS is there a moment later than we are.
        self._lacks_tls = self._lacks_tls and not self._tunnels.is_manned
        is_open = not (self._is_draining or self._lacks_tls)
        wants = is_open and self._reception.is_open()
        if wants == self._is_listening:
            return
        self._is_listening = wants
        for descriptor in self._door.listeners:
            if wants:
                self._handlers[descriptor] = self._reception.accept
                self._loop.register(descriptor, EPOLLIN)
            else:
                self._loop.unregister(descriptor)

    def enter(self, connection: Connection) -> None:
        """Attend to its socket; see reception.Host."""
        self._connections[connection.socket.fileno()] = connection

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
        self._logins.verify(connection, asked)

    def respond(self, connection: Connection, data: bytes) -> None:
        """Hand an answer on; see House."""
        self._logins.respond(connection, data)

    def withdraw(self, connection: Connection) -> None:
        """Forget a dialogue; see House."""
        self._desks.withdraw(connection)

    def start_tls(self, connection: Connection) -> None:
        """Have a TLS worker take the socket and give one with cleartext; see House."""
        self._overlook(connection)
        started = self._tunnels.start(connection)
        if not started:
            connection.tls_failed(self.now)
            return
        self.enter(connection)
        self.wake_at(connection, self.now + self._settings.handshake_seconds + 5)

    def _tls_started(
        self, connection: Connection, variables: dict[bytes, bytes] | None
    ) -> None:
        self._accounting.handshake(variables)
        self.attempt(connection, self._go_on, connection, variables)

    def _go_on(
        self, connection: Connection, variables: dict[bytes, bytes] | None
    ) -> None:
        """Go on inside TLS, if it came to that."""
        if variables is None:
            connection.tls_failed(self.now)
            return
        connection.guest.tls = variables
        if connection.login is None:
            self._reception.welcome(connection)
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
        self.leave(connection)

    def leave(self, connection: Connection) -> None:
        """End it, and count it no more; see reception.Host."""
        guest = connection.guest
        if connection.is_admitted:
            connection.is_admitted = False
            self._door.admission.release(guest.source, guest.began, self.now)
        self.forget(connection)
        connection.socket.close()

    def forget(self, connection: Connection) -> None:
        """Have no more to do with it; the socket stays open."""
        self._timers.cancel(connection)
        self._desks.withdraw(connection)
        desk, connection.desk = connection.desk, None
        if desk is not None:
            self._desks.let_go(desk)
        self._overlook(connection)

    def _overlook(self, connection: Connection) -> None:
        """Look no more at its descriptor."""
        descriptor = connection.socket.fileno()
        if self._connections.pop(descriptor, None) is not None:
            self.watch(connection, -1)

    def _late(self, timed: object) -> None:
        assert isinstance(timed, Connection)  # noqa: S101  # for the type checker
        self.attempt(timed, self._too_late, timed)

    def _too_late(self, timed: Connection) -> None:
        """Do what a connection's time has come for."""
        if timed.login is None and timed.state != TLS:
            self._reception.turn_away(timed, "no header came")
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
                "sessions": self._logins.sessions,
                "sources": self._door.admission.sources,
                "verifier_queue": self._desks.waiting,
            }
        )
        self._master.send(packets.head(packets.COUNTERS) + packets.fields(packed))
