# SPDX-License-Identifier: ISC
"""Carry octets between a client that speaks TLS and a program that does not.

Two directions with one rule: no direction reads while it holds something it could not
write, so a slow reader holds up whoever writes to him, and at most one chunk waits. A
chunk is read into a buffer that all connections share and written from there; only what
does not fit is copied.

A client that has ended its side gets the rest of what the program says. A program that
has ended its output has ended, as sessions do: what it wrote is sent, then the notice
that TLS ends here, and what the client may still say is not for anybody.
See: RFC 8446 section 6.1 (close_notify); RFC 9112 section 9.6 (why to read on).
"""

import _socket
from select import EPOLLIN, EPOLLOUT
from ssl import SSLWantReadError, SSLWantWriteError, SSLZeroReturnError

from qtools.server.tls.common import CHUNK_OCTETS, Stage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtools.server.tls.common import Common
    from qtools.server.tls.connection import TlsSocket

NOTHING = memoryview(b"")


class Relay(Stage):
    """One connection after its handshake.

    up is from the client to the program, down the other way. What waits is what has
    been read and not yet written. TLS may have to write in order to read, or the other
    way round, so it is noted which event each of them waits for.
    """

    __slots__ = (
        "_clear",
        "_clear_number",
        "_down",
        "_down_moved",
        "_is_down_open",
        "_is_up_open",
        "_read_on",
        "_tls",
        "_up",
        "_up_moved",
        "_write_on",
    )

    def __init__(
        self, common: "Common", tls: "TlsSocket", clear: _socket.socket
    ) -> None:
        super().__init__(common)
        self._tls, self._clear = tls, clear
        self._clear_number = clear.fileno()
        self._is_up_open = self._is_down_open = True
        self._up = self._down = NOTHING  # what waits
        self._read_on, self._write_on = EPOLLIN, EPOLLOUT
        self._up_moved = self._down_moved = common.loop.now
        common.loop.time(self)
        self._watch()

    def sockets(self) -> tuple[_socket.socket, ...]:
        """Give both."""
        return self._tls, self._clear

    def deadline(self) -> float:
        """Tell when it is too late, by whichever direction is held up, if one is."""
        waiting = [self._up_moved] if self._up else []
        if self._down:
            waiting.append(self._down_moved)
        moved = min(waiting) if waiting else max(self._up_moved, self._down_moved)
        return moved + self._common.limits.idle_seconds

    def ready(self, descriptor: int, events: int) -> None:
        """Go on with whatever this descriptor was needed for."""
        if descriptor == self._clear_number:
            if self._up and events & EPOLLOUT:
                self._push_up(self._up)
            if events & EPOLLIN:
                self._pull_down()
        else:
            if events & self._write_on:
                self._go_on_down()
            if events & self._read_on:
                self._pull_up()
        if not self.is_over:
            self._watch()

    def _watch(self) -> None:
        """Wait for what is needed next, and for nothing else."""
        clear = EPOLLOUT if self._up else 0
        tls = self._read_on if self._is_up_open and not self._up else 0
        if self._down or not self._is_down_open:
            tls |= self._write_on
        else:
            clear |= EPOLLIN
        self.watch(self._clear, clear)
        self.watch(self._tls, tls)

    def _pull_up(self) -> None:
        """Read from the client, one record at most: no more is taken off the socket."""
        if self._up or not self._is_up_open or self.is_over:
            return
        try:
            octets = self._tls.recv_into(self._common.buffer, CHUNK_OCTETS)
        except SSLWantReadError:
            self._read_on = EPOLLIN
            return
        except SSLWantWriteError:
            self._read_on = EPOLLOUT
            return
        except SSLZeroReturnError:
            octets = 0
        except OSError:
            self.close()
            return
        self._read_on = EPOLLIN
        self._up_moved = self._common.loop.now
        if octets:
            self._push_up(self._common.view[:octets])
        else:
            self._end_up()

    def _push_up(self, octets: memoryview) -> None:
        """Write to the program."""
        try:
            sent = self._clear.send(octets)
        except BlockingIOError:
            sent = 0
        except OSError:  # it has ended; what it has said before may still be there
            self._up, self._is_up_open = NOTHING, False
            return
        if sent:
            self._up_moved = self._common.loop.now
        self._up = _kept(octets[sent:])

    def _end_up(self) -> None:
        """Tell the program that the client has ended its side."""
        self._is_up_open = False
        try:
            self._clear.shutdown(_socket.SHUT_WR)
        except OSError:
            return

    def _pull_down(self) -> None:
        """Read from the program."""
        if self._down or not self._is_down_open or self.is_over:
            return
        try:
            octets = self._clear.recv_into(self._common.buffer)
        except BlockingIOError:
            return
        except OSError:  # it ended without having read everything
            octets = 0
        self._down_moved = self._common.loop.now
        if octets:
            self._push_down(self._common.view[:octets])
        else:
            self._is_down_open = False
            self._end()

    def _go_on_down(self) -> None:
        """Write what waits for the client; then, if that was all, end."""
        if self._down:
            self._push_down(self._down)
        if not (self._down or self._is_down_open or self.is_over):
            self._end()

    def _push_down(self, octets: memoryview) -> None:
        """Write to the client, record by record."""
        sent = 0
        try:
            while sent < len(octets):
                sent += self._tls.write(octets[sent:])
            self._write_on = EPOLLOUT
        except SSLWantWriteError:
            self._write_on = EPOLLOUT
        except SSLWantReadError:
            self._write_on = EPOLLIN
        except OSError:
            self.close()
            return
        if sent:
            self._down_moved = self._common.loop.now
        self._down = _kept(octets[sent:])

    def _end(self) -> None:
        """Send the notice that TLS ends, and part."""
        try:
            self._tls.unwrap()
        except SSLWantWriteError:
            self._write_on = EPOLLOUT
            return
        except (OSError, ValueError):
            pass  # it is sent, and the client's own not yet here; or nobody is there
        self.hand_over()
        self.drop(self._clear)
        Linger(self._common, self._tls)


def _kept(octets: memoryview) -> memoryview:
    """Keep what others are not going to overwrite: a copy, unless it is one."""
    if octets.readonly or not octets:
        return octets or NOTHING
    return memoryview(bytes(octets))


class Linger(Stage):
    """A client that has been sent everything, until he has closed or some seconds pass.

    To close a connection on which something unread waits is to reset it, and with that
    the last words may be lost to a client that has not read them yet.
    """

    __slots__ = ("_deadline", "_raw")

    def __init__(self, common: "Common", tls: "TlsSocket") -> None:
        super().__init__(common)
        common.loop.forget(tls.fileno())
        # Free of TLS, whose memory goes with it.
        self._raw = _socket.socket(fileno=tls.detach())
        self._raw.setblocking(False)
        self._deadline = common.loop.now + common.limits.linger_seconds
        common.loop.time(self)
        try:
            self._raw.shutdown(_socket.SHUT_WR)
        except OSError:
            self.close()
            return
        self.ready(0, 0)

    def sockets(self) -> tuple[_socket.socket]:
        """Give the client's."""
        return (self._raw,)

    def deadline(self) -> float:
        """Give the end of the last seconds."""
        return self._deadline

    def ready(self, _descriptor: int, _events: int) -> None:
        """Throw away what the client still says."""
        try:
            if not self._raw.recv_into(self._common.buffer):
                self.close()
                return
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        self.watch(self._raw, EPOLLIN)
