# SPDX-License-Identifier: ISC
"""The channels of a TLS worker: of those who send connections, and of the master.

A sender is not trusted: what comes from it is checked, what does not fit closes its
channel, and a descriptor that came is closed on every way.
"""

import _socket
import socket
from collections import deque
from select import EPOLLIN, EPOLLOUT

from qtools.server.channel import Channel, close_all
from qtools.server.tls import dump as tls_dump
from qtools.server.tls import packets
from qtools.server.tls.handshake import LOST, Handshake, Request
from qtools.server.tls.packets import CHANNEL_PACKET, RETIRE_PACKET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtools.server.tls.common import Common
    from qtools.server.tls.connection import TlsSocket

LACKING = "descriptors"  # why a connection fails whose descriptors didn't come
PARTS, UCSPI_PARTS = 2, 3  # raw, clear; control
MOST_UNSENT = 1024  # answers that wait for a sender, who is not heard meanwhile


class User:
    """One channel, from which connections come and on which they are answered."""

    def __init__(self, common: "Common", channel: Channel) -> None:
        self._common, self._channel = common, channel
        self._unsent: deque[tuple[bytes, Handshake | None]] = deque()
        self._is_open = True
        common.users.add(self)
        common.loop.watch(self, channel.descriptor, EPOLLIN)

    def ready(self, _descriptor: int, events: int) -> None:
        """Send answers that wait, take a connection."""
        if events & EPOLLOUT:
            self._flush()
        if events & EPOLLIN and self._is_open:
            packet, descriptors = self._channel.receive() or (None, [])
            if packet is not None:
                self._take(packet, descriptors)

    def _take(self, packet: bytes, descriptors: list[int]) -> None:
        try:
            identifier, is_ucspi = packets.unpack_start(packet)
            parts = UCSPI_PARTS if is_ucspi else PARTS
            sockets = adopt(descriptors, parts)
        except ValueError:
            close_all(descriptors)
            self.close()
            return
        answer = Answer(self, identifier)
        if len(sockets) < parts:  # the system had no number left for it
            for held in sockets:
                held.close()
            if not is_ucspi:
                answer.failed(LACKING)
        elif is_ucspi:
            Request(self._common, *sockets)
        else:
            self._start(answer, *sockets)

    def _start(
        self, answer: "Answer", raw: socket.socket, clear: socket.socket
    ) -> None:
        try:
            Handshake(self._common, raw, clear, answer)
        except OSError:
            answer.failed(LOST)

    def tell(self, packet: bytes, handshake: Handshake | None = None) -> None:
        """Send an answer, and then have the handshake's connection begin."""
        if self._is_open:
            self._unsent.append((packet, handshake))
            self._flush()
        elif handshake is not None:
            handshake.close()

    def _flush(self) -> None:
        while self._unsent:
            packet, handshake = self._unsent[0]
            try:
                if not self._channel.send(packet):
                    break
            except BrokenPipeError:
                self.close()
                return
            self._unsent.popleft()
            if handshake is not None:
                handshake.begin()
        events = EPOLLIN if len(self._unsent) < MOST_UNSENT else 0
        events |= EPOLLOUT if self._unsent else 0
        self._common.loop.watch(self, self._channel.descriptor, events)

    def close(self) -> None:
        """Hear no more from it; what it was to be told of has nobody at its end."""
        if not self._is_open:
            return
        self._is_open = False
        self._common.users.discard(self)
        self._common.loop.forget(self._channel.descriptor)
        self._channel.close()
        unsent, self._unsent = self._unsent, deque()
        for _, handshake in unsent:
            if handshake is not None:
                handshake.close()


class Answer:
    """Where it is told how one connection's handshake ended."""

    __slots__ = ("_identifier", "_user")

    def __init__(self, user: User, identifier: int) -> None:
        self._user, self._identifier = user, identifier

    def started(self, handshake: Handshake, tls: "TlsSocket") -> None:
        """Tell what belongs into the log; only then octets flow."""
        told = packets.pack_started(self._identifier, tls_dump.brief(tls))
        handshake.told()
        self._user.tell(told, handshake)

    def failed(self, why: str) -> None:
        """Tell why."""
        self._user.tell(packets.pack_failed(self._identifier, why))


class Master:
    """The channel of the master. When it is gone, that is as good as its word to end.

    is_retired: nothing new comes but from channels that are there.
    """

    def __init__(self, common: "Common", channel: Channel) -> None:
        self._common, self._channel = common, channel
        self.is_retired = False
        common.loop.watch(self, channel.descriptor, EPOLLIN)

    def ready(self, _descriptor: int, _events: int) -> None:
        """Do what the master says; whatever it can't have said is its end."""
        packet, descriptors = self._channel.receive() or (None, [])
        if packet is None:
            return
        if packet == CHANNEL_PACKET and len(descriptors) <= 1:
            for descriptor in descriptors:
                User(self._common, Channel.adopt(descriptor))
            return
        close_all(descriptors)
        self.is_retired = True
        if packet != RETIRE_PACKET or descriptors:
            self.close()

    def close(self) -> None:
        """Hear no more from it."""
        self.is_retired = True
        self._common.loop.forget(self._channel.descriptor)
        self._channel.close()


def adopt(descriptors: list[int], most: int) -> list[socket.socket]:
    """Make sockets of what came.

    Raises: ValueError for too many, or one that is no stream; then none is taken.
    """
    made = []
    kinds = []
    try:
        for descriptor in descriptors:
            made.append(socket.socket(fileno=descriptor))
            kinds.append(made[-1].getsockopt(_socket.SOL_SOCKET, _socket.SO_TYPE))
    except OSError:
        kinds.append(-1)
    if len(made) > most or any(kind != _socket.SOCK_STREAM for kind in kinds):
        for held in made:
            held.detach()
        raise ValueError("not the sockets of a connection")
    return made
