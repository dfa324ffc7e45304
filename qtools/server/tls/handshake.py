# SPDX-License-Identifier: ISC
"""Before the relay: wait for the program's word if it has one to say, then handshake.

How a handshake ended is told either to whoever sent the connection, in a packet, or to
the program, on the control socket of UCSPI-TLS. Nothing is relayed before that is told.
See: the UCSPI-TLS description, ucspi-tls(2).
"""

import _socket
from select import EPOLLIN, EPOLLOUT
from ssl import (
    SSLEOFError,
    SSLError,
    SSLWantReadError,
    SSLWantWriteError,
    SSLZeroReturnError,
)

from qtools.server.tls import dump as tls_dump
from qtools.server.tls.common import Stage
from qtools.server.tls.flow import Linger, Relay

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Protocol

    from qtools.server.tls.common import Common
    from qtools.server.tls.connection import TlsSocket

    class Listener(Protocol):
        """Who is told how it ended."""

        def started(self, handshake: "Handshake", tls: TlsSocket) -> None:
            """Hear of a success, and call begin() or close()."""

        def failed(self, why: str) -> None:
            """Hear of a failure."""


START, START_AND_TELL = b"y", b"Y"
LATE, ENDED, LOST, OTHER = "timeout", "eof", "lost", "tls-error"


class Handshake(Stage):
    """One connection in its handshake, or ready and not yet told of."""

    __slots__ = ("_clear", "_deadline", "_is_told", "_listener", "_tls")

    def __init__(
        self,
        common: "Common",
        raw: "socket.socket",
        clear: _socket.socket,
        listener: "Listener",
    ) -> None:
        """Begin.

        Raises: OSError when the client is gone; then both sockets are closed.
        """
        clear.setblocking(False)
        raw.setblocking(False)
        # Each reply is a record, and a client may wait for its end.
        _set_tcp(raw, _socket.TCP_NODELAY)
        try:
            self._tls = common.context.begin(raw)
        except OSError:
            raw.close()
            clear.close()
            raise
        super().__init__(common)
        self._clear, self._listener = clear, listener
        self._is_told = False
        self._deadline = common.loop.now + common.limits.handshake_seconds
        common.loop.time(self)
        self.watch(self._tls, EPOLLIN)

    def sockets(self) -> tuple[_socket.socket, ...]:
        """Give both."""
        return self._tls, self._clear

    def deadline(self) -> float:
        """Tell when the handshake has to be done."""
        return self._deadline

    def late(self) -> None:
        """Tell that the client took too long."""
        self._end(LATE)

    def close(self) -> None:
        """End, and tell that."""
        self._end(LOST)

    def _end(self, why: str) -> None:
        if not self.is_over:
            super().close()
            if not self._is_told:
                self._listener.failed(why)

    def ready(self, _descriptor: int, _events: int) -> None:
        """Do the next step."""
        try:
            self._tls.do_handshake()
        except SSLWantReadError:
            self.watch(self._tls, EPOLLIN)
        except SSLWantWriteError:
            self.watch(self._tls, EPOLLOUT)
        except OSError as why:
            self._fail(why)
        else:
            # The client's last word of the handshake has no answer. If the system were
            # slow to acknowledge it, so would the client be with its first command.
            _set_tcp(self._tls, _socket.TCP_QUICKACK)
            self.watch(self._tls, 0)
            self._listener.started(self, self._tls)

    def _fail(self, why: OSError) -> None:
        """Tell why, and let the client read the alert that tells him."""
        self.hand_over()
        self.drop(self._clear)
        Linger(self._common, self._tls)
        self._listener.failed(reason(why))

    def told(self) -> None:
        """Note that the success is on its way, be it slow: nothing else is told."""
        self._is_told = True
        self._deadline = self._common.loop.now + self._common.limits.idle_seconds

    def begin(self) -> None:
        """Relay."""
        if not self.is_over:
            self.hand_over()
            Relay(self._common, self._tls, self._clear)


def _set_tcp(held: _socket.socket, option: int) -> None:
    try:
        held.setsockopt(_socket.IPPROTO_TCP, option, 1)
    except OSError:
        return  # a socket of another kind, or nobody is there any more


def reason(why: OSError) -> str:
    """Give a word for what went wrong; never anything the client has sent."""
    if isinstance(why, (SSLEOFError, SSLZeroReturnError)):
        return ENDED
    if not isinstance(why, SSLError):
        return LOST
    return (why.reason or OTHER).lower().replace("_", "-")


class Request(Stage):
    """A connection whose program may ask for TLS, on the control socket, or never.

    There is no deadline: the program has its own. The client's connection is not
    touched before, its non-blocking mode included: it is the program's.
    """

    __slots__ = ("_clear", "_control", "_raw")

    def __init__(
        self,
        common: "Common",
        raw: "socket.socket",
        clear: _socket.socket,
        control: _socket.socket,
    ) -> None:
        super().__init__(common)
        self._raw, self._clear, self._control = raw, clear, control
        control.setblocking(False)
        self.watch(control, EPOLLIN)

    def sockets(self) -> tuple[_socket.socket, ...]:
        """Give all three."""
        return self._raw, self._clear, self._control

    def ready(self, _descriptor: int, _events: int) -> None:
        """Read the program's word; whatever is none of the two ends it."""
        try:
            word = self._control.recv(1)
        except BlockingIOError:
            return
        except OSError:
            word = b""
        if word not in (START, START_AND_TELL):
            self.close()
            return
        self.watch(self._control, 0)
        self.hand_over()
        if word == START:
            self._control.close()
        try:
            Handshake(self._common, self._raw, self._clear, Program(self._control))
        except OSError:
            self._control.close()


class Program:
    """Who is told on the control socket, unless that is closed already."""

    __slots__ = ("_control",)

    def __init__(self, control: _socket.socket) -> None:
        self._control = control

    def started(self, handshake: Handshake, tls: "TlsSocket") -> None:
        """Tell all there is to tell, at once: it is less than the socket holds."""
        if self._control.fileno() >= 0:
            told = tls_dump.whole(tls)
            try:
                is_told = self._control.send(told) == len(told)
            except OSError:
                is_told = False
            self._control.close()
            if not is_told:
                handshake.close()
                return
        handshake.begin()

    def failed(self, _why: str) -> None:
        """Close the control socket, which is how the program hears of it."""
        self._control.close()
