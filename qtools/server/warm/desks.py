# SPDX-License-Identifier: ISC
"""The verifiers as the login worker sees them: desks with short queues.

A record goes to the desk with the fewest waiting; one that answers a challenge to the
desk that made it, and so does what a client says in a dialogue. How many may wait is
bounded: beyond it a client hears "try again later" at once, which is better than an
answer that comes when he has gone.
"""

from collections import deque

from qtools.errors import EXIT_TEMPORARY
from qtools.server.channel import close_all
from qtools.server.warm import packets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from qtools.server.channel import Channel
    from qtools.server.warm.connection import Connection

    Queue = deque[tuple[int, Connection, bytes]]

    class Listener(Protocol):
        """Who is told what verifiers say."""

        def answer(self, connection: Connection, code: int | None) -> None:
            """Hear an exit code.

            None is for one that may have been let in by a verifier that died over it:
            nobody knows.
            """

        def challenge(self, connection: Connection, data: bytes) -> None:
            """Hear what is to be said to the client, whose answer is awaited."""


DEPTH = 4  # sent to a desk before it answers, unless it says that it has more room
MOST_QUEUED = 1024
STAMPS_WANTED = 128
FEW_STAMPS = 64

# What a verifier may say, and with how many fields.
FIELDS = {
    packets.ANSWER: 0,
    packets.CHALLENGE: 1,
    packets.STAMPS: 1,
    packets.ROOM: 0,
    packets.TIRED: 0,
}


class Desk:
    """One verifier.

    asked: connections whose answer is due, by id. queue: what only this desk can
    answer, as its turn, the connection and the packet. depth: how many it may be asked
    at once. holders: connections that were greeted with one of its stamps. partners:
    ids of those that it is in a dialogue with.
    """

    __slots__ = (
        "asked",
        "channel",
        "depth",
        "holders",
        "is_tired",
        "is_wanting",
        "partners",
        "queue",
        "stamps",
    )

    def __init__(self, channel: "Channel") -> None:
        self.channel = channel
        self.asked: dict[int, Connection] = {}
        self.queue: Queue = deque()
        self.stamps: deque[bytes] = deque()
        self.partners: set[int] = set()
        self.depth = DEPTH
        self.holders = 0
        self.is_tired = False
        self.is_wanting = False


class Desks:
    """All verifiers."""

    def __init__(
        self,
        watch: "Callable[[int, bool], None]",
        listener: "Listener",
        *,
        needs_stamps: bool,
    ) -> None:
        """Take who watches descriptors, and who is told what is said."""
        self._watch = watch
        self._listener = listener
        self._needs_stamps = needs_stamps
        self._desks: dict[int, Desk] = {}
        self._queue: Queue = deque()  # for whichever desk has time first
        self._turn = 0
        self._is_retiring = False

    @property
    def waiting(self) -> int:
        """Records that no desk has got yet."""
        return len(self._queue) + sum(len(desk.queue) for desk in self._desks.values())

    def add(self, channel: "Channel") -> None:
        """Open a desk."""
        desk = Desk(channel)
        self._desks[channel.descriptor] = desk
        self._watch(channel.descriptor, True)
        self._want(desk)
        self._serve(desk)

    def is_asked(self, identifier: int) -> bool:
        """Tell whether a verifier has a connection's record and has not answered."""
        return any(identifier in desk.asked for desk in self._desks.values())

    def retire(self) -> None:
        """Expect no more desks: once the last one has closed, nobody waits for one."""
        self._is_retiring = True
        self._give_up()

    def _give_up(self) -> None:
        """Turn away who waits for a desk that will not come."""
        if self._is_retiring and not self._desks:
            waiting, self._queue = self._queue, deque()
            for _, connection, _ in waiting:
                self._listener.answer(connection, EXIT_TEMPORARY)

    def has_stamps(self) -> bool:
        """Tell whether there is a challenge for one more client."""
        return any(desk.stamps for desk in self._desks.values())

    def stamp(self) -> "tuple[bytes, Desk] | None":
        """Give a challenge and the desk that will know it; None when there is none."""
        usable = [desk for desk in self._desks.values() if desk.stamps]
        if not usable:
            return None
        desk = max(usable, key=lambda each: len(each.stamps))
        stamp = desk.stamps.popleft()
        desk.holders += 1
        self._want(desk)
        return stamp, desk

    def let_go(self, desk: Desk) -> None:
        """Note that a connection with a stamp of this desk has ended."""
        desk.holders -= 1
        self._close_if_done(desk)

    def withdraw(self, connection: "Connection") -> None:
        """End a dialogue, if there is one.

        A verifier that can't be told just now forgets it in time.
        """
        desk, connection.partner = connection.partner, None
        if desk is None or self._is_gone(desk):
            return
        desk.partners.discard(connection.identifier)
        try:
            desk.channel.send(packets.head(packets.WITHDRAW, connection.identifier))
        except BrokenPipeError:
            return
        self._close_if_done(desk)

    def ask(self, connection: "Connection", packet: bytes, bound: Desk | None) -> None:
        """Have a record verified; bound: the desk that has to do it, if one has."""
        if self._is_gone(bound) or self.waiting >= MOST_QUEUED:
            self.withdraw(connection)  # a dialogue that nobody goes on with
            self._listener.answer(connection, EXIT_TEMPORARY)
            return
        self._turn += 1
        queue = self._queue if bound is None else bound.queue
        queue.append((self._turn, connection, packet))
        awake = [desk for desk in self._desks.values() if not desk.is_tired]
        desk = bound or min(awake, key=lambda each: len(each.asked), default=None)
        if desk is not None:
            self._serve(desk)
        self._give_up()

    def _is_gone(self, desk: Desk | None) -> bool:
        """Tell whether a desk is closed; another may have its descriptor by now."""
        return desk is not None and self._desks.get(desk.channel.descriptor) != desk

    def _serve(self, desk: Desk) -> None:
        """Send on what waits for a desk, or for any, as long as it has time."""
        while len(desk.asked) < desk.depth:
            queues = [desk.queue] if desk.is_tired else [desk.queue, self._queue]
            queue = min(filter(None, queues), key=lambda each: each[0], default=None)
            if queue is None:
                return
            _, connection, packet = queue[0]
            descriptor = connection.socket.fileno()
            if descriptor >= 0:  # else it has ended meanwhile
                try:
                    if not desk.channel.send(packet, [descriptor]):
                        return
                except BrokenPipeError:
                    return  # its end will be heard of
                desk.asked[connection.identifier] = connection
            queue.popleft()

    def retry(self) -> None:
        """Send what could not be sent: a desk that was sent nothing says nothing."""
        for desk in self._desks.values():
            self._want(desk)
            self._serve(desk)

    def hear(self, descriptor: int) -> None:
        """Take what a verifier has to say."""
        desk = self._desks[descriptor]
        received = desk.channel.receive()
        if received is None:
            return
        packet, descriptors = received
        close_all(descriptors)
        try:
            kind, identifier, code = packets.read_head(packet)
            found = packets.read_fields(packet, FIELDS[kind])
            is_about = kind in (packets.ANSWER, packets.CHALLENGE)
            asked = desk.asked.pop(identifier) if is_about else None
        except (KeyError, ValueError):  # an end is an empty packet
            self._lose(desk)
            return
        if asked is None:
            self._take_notice(desk, kind, code, found)
        elif kind == packets.ANSWER:
            desk.partners.discard(identifier)
            asked.partner = None
            self._listener.answer(asked, code)
        else:
            desk.partners.add(identifier)
            asked.partner = desk
            self._listener.challenge(asked, found[0])
        self._want(desk)
        self._serve(desk)
        self._close_if_done(desk)

    def _take_notice(
        self, desk: Desk, kind: int, detail: int, found: list[bytes]
    ) -> None:
        """Take what a verifier says of itself."""
        if kind == packets.TIRED:
            desk.is_tired = True
            desk.stamps.clear()
        elif kind == packets.ROOM:
            desk.depth = max(detail, 1)
        elif not desk.is_tired:
            desk.stamps.extend(found[0].split())
            desk.is_wanting = False

    def _want(self, desk: Desk) -> None:
        """Ask for more challenges, when there are few."""
        is_full = len(desk.stamps) >= FEW_STAMPS
        if not self._needs_stamps or is_full or desk.is_wanting or desk.is_tired:
            return
        try:
            head = packets.head(packets.WANT, 0, STAMPS_WANTED)
            desk.is_wanting = desk.channel.send(head)
        except BrokenPipeError:
            return

    def _close_if_done(self, desk: Desk) -> None:
        """Close a tired desk when nobody needs it any more; the verifier ends then."""
        if desk.is_tired and not (desk.holders or desk.asked or desk.partners):
            self._lose(desk)

    def _lose(self, desk: Desk) -> None:
        if self._is_gone(desk):
            return
        del self._desks[desk.channel.descriptor]
        self._watch(desk.channel.descriptor, False)
        desk.channel.close()
        for connection in desk.asked.values():
            self._listener.answer(connection, None)
        for _, connection, _ in desk.queue:
            self._listener.answer(connection, EXIT_TEMPORARY)
        self._give_up()
