# SPDX-License-Identifier: ISC
"""The verifiers as the login worker sees them: desks with short queues.

A record goes to the desk with the fewest waiting; one that answers a challenge to the
desk that made it. How many may wait is bounded: beyond it a client hears "try again
later" at once, which is better than an answer that comes when he has gone.
"""

from collections import deque

from qtools.errors import EXIT_TEMPORARY
from qtools.server import packets
from qtools.server.channel import close_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from qtools.server.channel import Channel
    from qtools.server.connection import Connection

DEPTH = 4  # sent to a desk before it answers: it need not wait for us
MOST_QUEUED = 1024
STAMPS_WANTED = 128
FEW_STAMPS = 64


class Desk:
    """One verifier."""

    __slots__ = ("asked", "channel", "holders", "is_tired", "is_wanting", "stamps")

    def __init__(self, channel: "Channel") -> None:
        self.channel = channel
        self.asked: dict[int, Connection] = {}
        self.stamps: deque[bytes] = deque()
        self.holders = 0  # connections that were greeted with one of its stamps
        self.is_tired = False
        self.is_wanting = False


class Desks:
    """All verifiers."""

    def __init__(
        self,
        watch: "Callable[[int, bool], None]",
        answer: "Callable[[Connection, int | None], None]",
        *,
        needs_stamps: bool,
    ) -> None:
        """Take who watches descriptors, and who is told an answer.

        answer(connection, code): a code of None is for one that may have been let in
        by a verifier that died over it: nobody knows.
        """
        self._watch = watch
        self._answer = answer
        self._needs_stamps = needs_stamps
        self.desks: dict[int, Desk] = {}
        self.queue: deque[tuple[Connection, bytes, Desk | None]] = deque()

    def add(self, channel: "Channel") -> None:
        """Open a desk."""
        desk = Desk(channel)
        self.desks[channel.descriptor] = desk
        self._watch(channel.descriptor, True)
        self._want(desk)
        self._serve_queue()

    def has_stamps(self) -> bool:
        """Tell whether there is a challenge for one more client."""
        return any(desk.stamps for desk in self.desks.values())

    def stamp(self) -> "tuple[bytes, Desk] | None":
        """Give a challenge and the desk that will know it; None when there is none."""
        usable = [desk for desk in self.desks.values() if desk.stamps]
        if not usable:
            return None
        desk = max(usable, key=lambda each: len(each.stamps))
        stamp = desk.stamps.popleft()
        desk.holders += 1
        if len(desk.stamps) < FEW_STAMPS:
            self._want(desk)
        return stamp, desk

    def let_go(self, desk: object) -> None:
        """Note that a connection with a stamp has ended."""
        if isinstance(desk, Desk):
            desk.holders -= 1
            self._close_if_done(desk)

    def ask(self, connection: "Connection", packet: bytes, desk: object) -> None:
        """Have a record verified, by a certain desk if one is given."""
        bound = desk if isinstance(desk, Desk) else None
        is_gone = bound is not None and bound.channel.descriptor not in self.desks
        if is_gone or len(self.queue) >= MOST_QUEUED:
            self._answer(connection, EXIT_TEMPORARY)
        elif self.queue or not self._send(connection, packet, bound):
            self.queue.append((connection, packet, bound))

    def _send(
        self, connection: "Connection", packet: bytes, bound: Desk | None
    ) -> bool:
        """Give a record to a desk that has time; tell whether there was one."""
        desk = bound
        if desk is None:
            awake = [each for each in self.desks.values() if not each.is_tired]
            if not awake:
                return False
            desk = min(awake, key=lambda each: len(each.asked))
        if len(desk.asked) >= DEPTH:
            return False
        try:
            if not desk.channel.send(packet, [connection.socket.fileno()]):
                return False
        except BrokenPipeError:
            return False  # its end will be heard of
        desk.asked[connection.identifier] = connection
        return True

    def _serve_queue(self) -> None:
        """Send on what waits; each desk's turn comes with its next answer."""
        for _ in range(len(self.queue)):
            connection, packet, bound = self.queue.popleft()
            if connection.socket.fileno() < 0:
                continue  # it has ended meanwhile
            if bound is not None and bound.channel.descriptor not in self.desks:
                self._answer(connection, EXIT_TEMPORARY)
            elif not self._send(connection, packet, bound):
                self.queue.appendleft((connection, packet, bound))
                return

    def hear(self, descriptor: int) -> None:
        """Take what a verifier has to say."""
        desk = self.desks[descriptor]
        packet, descriptors = desk.channel.receive() or (b"", [])
        close_all(descriptors)
        if not packet:
            self._lose(desk)
            return
        try:
            kind, identifier, code = packets.read_head(packet)
            if kind == packets.ANSWER:
                connection = desk.asked.pop(identifier)
                self._answer(connection, code)
            elif kind == packets.STAMPS:
                (stamps,) = packets.read_fields(packet, 1)
                desk.stamps.extend(stamps.split())
                desk.is_wanting = False
            elif kind == packets.TIRED:
                desk.is_tired = True
                desk.stamps.clear()
                self._close_if_done(desk)
        except (KeyError, ValueError):
            self._lose(desk)
            return
        self._serve_queue()

    def _want(self, desk: Desk) -> None:
        """Ask for more challenges."""
        if not self._needs_stamps or desk.is_wanting or desk.is_tired:
            return
        try:
            head = packets.head(packets.WANT, 0, STAMPS_WANTED)
            desk.is_wanting = desk.channel.send(head)
        except BrokenPipeError:
            return

    def _close_if_done(self, desk: Desk) -> None:
        """Close a tired desk when nobody needs it any more; the verifier ends then."""
        if desk.is_tired and not desk.holders and not desk.asked:
            self._lose(desk)

    def _lose(self, desk: Desk) -> None:
        if self.desks.pop(desk.channel.descriptor, None) is None:
            return
        self._watch(desk.channel.descriptor, False)
        desk.channel.close()
        for connection in list(desk.asked.values()):
            self._answer(connection, None)
        self._serve_queue()
