# SPDX-License-Identifier: ISC
"""TLS as the login worker sees it: a socket goes out, one with cleartext comes back.

The client's TCP connection goes to a TLS worker together with one end of a socket pair,
and the other end takes its place here. From then on it is a connection like any other,
for the session that gets it, too. See: relay.
"""

import _socket

from qtools.server.channel import close_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from qtools.server.channel import Channel
    from qtools.server.connection import Connection

    Variables = dict[bytes, bytes] | None
    Started = Callable[[Connection, Variables], None]

START, STARTED, FAILED = 1, 2, 3
HEAD_OCTETS = 10
IDENTIFIER_OCTETS = 8


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
        channels = list(self._channels.values())
        if not channels:
            return False
        self._turn += 1
        channel = channels[self._turn % len(channels)]
        try:
            here, there = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        except OSError:
            return False
        identifier = connection.identifier
        head = bytes((START, 0)) + identifier.to_bytes(IDENTIFIER_OCTETS, "big")
        raw = connection.socket
        try:
            is_sent = channel.send(head, [raw.fileno(), there.fileno()])
        except BrokenPipeError:
            is_sent = False
        there.close()
        if not is_sent:
            here.close()
            return False
        raw.close()
        connection.socket = here
        self._waiting[identifier] = connection, channel
        return True

    def give_up(self, connection: "Connection") -> None:
        """Wait no more for a handshake."""
        self._waiting.pop(connection.identifier, None)

    def hear(self, descriptor: int) -> None:
        """Take what a TLS worker has to say."""
        channel = self._channels[descriptor]
        packet, descriptors = channel.receive() or (b"", [])
        close_all(descriptors)
        if len(packet) < HEAD_OCTETS or packet[0] not in (STARTED, FAILED):
            self._lose(channel)
            return
        identifier = int.from_bytes(packet[2:HEAD_OCTETS], "big")
        connection, _ = self._waiting.pop(identifier, (None, None))
        if connection is not None:
            is_started = packet[0] == STARTED
            dump = _variables(packet[HEAD_OCTETS:]) if is_started else None
            self._started(connection, dump)

    def _lose(self, channel: "Channel") -> None:
        """Fail the handshakes that a TLS worker was doing when it died."""
        del self._channels[channel.descriptor]
        self._watch(channel.descriptor, False)
        channel.close()
        lost = [pair[0] for pair in self._waiting.values() if pair[1] is channel]
        for connection in lost:
            self.give_up(connection)
            self._started(connection, None)


def _variables(dump: bytes) -> dict[bytes, bytes]:
    found = {}
    for item in dump.split(b"\0"):
        name, equals, value = item.partition(b"=")
        if equals and name.startswith(b"SSL_"):
            found[name] = value
    return found
