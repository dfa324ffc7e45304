# SPDX-License-Identifier: ISC
"""TLS as the login worker sees it: a socket goes out, one with cleartext comes back.

The client's TCP connection goes to a TLS worker together with one end of a socket pair,
and the other end takes its place here. From then on it is a connection like any other,
for the session that gets it, too. See: relay_packets.
"""

import _socket

from qtools.server.channel import close_all
from qtools.server.tls import packets as relay_packets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from qtools.server.channel import Channel
    from qtools.server.warm.connection import Connection

    Variables = dict[bytes, bytes] | None
    Started = Callable[[Connection, Variables], None]

PREFIX = b"SSL_"  # of the variables that are a TLS worker's to set


class Tunnels:
    """All TLS workers."""

    def __init__(
        self, watch: "Callable[[int, bool], None]", started: "Started"
    ) -> None:
        """Take who watches descriptors, and who is told how a handshake went.

        started(connection, variables): what the program may know of TLS, None when it
        failed.
        """
        self._watch = watch
        self._started = started
        self._channels: dict[int, Channel] = {}
        self._waiting: dict[int, tuple[Connection, Channel]] = {}
        self._turn = 0

    def add(self, channel: "Channel") -> None:
        """Take a TLS worker on."""
        self._channels[channel.descriptor] = channel
        self._watch(channel.descriptor, True)

    @property
    def is_manned(self) -> bool:
        """Tell whether there is a TLS worker."""
        return bool(self._channels)

    def start(self, connection: "Connection") -> bool:
        """Begin a handshake on a connection; tell whether somebody will.

        Its socket is replaced by one with cleartext, on which nothing comes before the
        handshake is done.
        """
        try:
            here, there = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        except OSError:
            return False
        raw = connection.socket
        packet = relay_packets.pack_start(connection.identifier)
        channel = self._send(packet, [raw.fileno(), there.fileno()])
        there.close()
        if channel is None:
            here.close()
            return False
        raw.close()
        connection.socket = here
        self._waiting[connection.identifier] = connection, channel
        return True

    def _send(self, packet: bytes, descriptors: list[int]) -> "Channel | None":
        """Give the work to the next worker that takes it; give his channel."""
        self._turn += 1
        channels = list(self._channels.values())
        for place in range(self._turn, self._turn + len(channels)):
            channel = channels[place % len(channels)]
            try:
                if channel.send(packet, descriptors):
                    return channel
            except BrokenPipeError:
                continue  # its end will be heard of
        return None

    def give_up(self, connection: "Connection") -> None:
        """Wait no more for a handshake."""
        self._waiting.pop(connection.identifier, None)

    def hear(self, descriptor: int) -> None:
        """Take what a TLS worker has to say."""
        channel = self._channels[descriptor]
        received = channel.receive()
        if received is None:
            return
        packet, descriptors = received
        close_all(descriptors)
        try:
            identifier, told = relay_packets.unpack_answer(packet)
        except ValueError:  # an end is an empty packet
            self._lose(channel)
            return
        connection, asked = self._waiting.get(identifier, (None, None))
        if connection is not None and asked is channel:
            self.give_up(connection)
            self._started(connection, _variables(told))

    def _lose(self, channel: "Channel") -> None:
        """Fail the handshakes that a TLS worker was doing when it died."""
        del self._channels[channel.descriptor]
        self._watch(channel.descriptor, False)
        channel.close()
        lost = [pair[0] for pair in self._waiting.values() if pair[1] is channel]
        for connection in lost:
            self.give_up(connection)
            self._started(connection, None)


def _variables(told: "dict[bytes, bytes] | str") -> "Variables":
    """Give what a worker may say of a connection, None for why it failed."""
    if isinstance(told, str):
        return None
    return {name: told[name] for name in told if name.startswith(PREFIX)}
