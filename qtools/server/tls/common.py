# SPDX-License-Identifier: ISC
"""What all connections of a TLS worker share, and what all stages of one have."""

from abc import ABC, abstractmethod

from qtools.server.tls.loop import Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

    from qtools.server.tls.connection import ServerContext
    from qtools.server.tls.users import User

CHUNK_OCTETS = 65536  # read at once; so much waits for a slow reader at most
HANDSHAKE_SECONDS = 26  # sslserver's
IDLE_SECONDS = 3600.0  # sslserver's; whoever is behind us has a shorter one
LINGER_SECONDS = 2.0  # for the client to take the last words


class Limits:
    """How long to wait, in seconds: for a handshake, for any progress at all."""

    __slots__ = ("handshake_seconds", "idle_seconds", "linger_seconds")

    def __init__(
        self,
        handshake_seconds: float = HANDSHAKE_SECONDS,
        idle_seconds: float = IDLE_SECONDS,
        linger_seconds: float = LINGER_SECONDS,
    ) -> None:
        self.handshake_seconds = handshake_seconds
        self.idle_seconds = idle_seconds
        self.linger_seconds = linger_seconds


class Common:
    """What connections share.

    stages: what each connection is at. users: channels that are open. buffer, view:
    one chunk, and windows on it, for whoever has his turn: nobody keeps them.
    """

    def __init__(self, context: "ServerContext", limits: Limits) -> None:
        self.context = context
        self.limits = limits
        self.loop = Loop()
        self.stages: set[Stage] = set()
        self.users: set[User] = set()
        self.buffer = bytearray(CHUNK_OCTETS)
        self.view = memoryview(self.buffer)


class Stage(ABC):
    """What a connection is at: one object follows the other and takes its sockets.

    It ends with hand_over() or with close().
    """

    __slots__ = ("_common", "is_over")

    def __init__(self, common: Common) -> None:
        self._common = common
        self.is_over = False
        common.stages.add(self)

    @abstractmethod
    def sockets(self) -> "tuple[_socket.socket | None, ...]":
        """Give the sockets that are this stage's to close."""

    def watch(self, held: "_socket.socket", events: int) -> None:
        """Have ready() called at these events; at none when they are 0."""
        if self.is_over:
            return
        try:
            self._common.loop.watch(self, held.fileno(), events)
        except OSError:  # the system has no room for it
            self.close()

    @abstractmethod
    def ready(self, descriptor: int, events: int) -> None:
        """Go on: something may have happened."""

    def hand_over(self) -> None:
        """End because the next stage begins, which owns the sockets."""
        if not self.is_over:
            self.is_over = True
            self._common.stages.discard(self)
            self._common.loop.ended()

    def drop(self, held: "_socket.socket | None") -> None:
        """Close one of the sockets."""
        if held is not None and held.fileno() >= 0:
            self._common.loop.forget(held.fileno())
            held.close()

    def close(self) -> None:
        """End the connection."""
        if not self.is_over:
            self.hand_over()
            for held in self.sockets():
                self.drop(held)

    def late(self) -> None:
        """End because nothing has happened for too long."""
        self.close()
