# SPDX-License-Identifier: ISC
"""Conversations over TLS 1.3, each with a handshake of its own and nothing resumed."""

from __future__ import annotations

import functools
import ssl
from typing import TYPE_CHECKING

from bench.cost import BenchError
from bench.load import Step, Talk

if TYPE_CHECKING:
    import socket

    from bench.load import Script

STLS = Step(b"STLS\r\n", b"\n")

_READ_OCTETS = 1 << 16
_PATIENCE_SECONDS = 60.0


@functools.cache
def _context() -> ssl.SSLContext:
    """Give what a client says: TLS 1.3 as the library has it, no name checked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def wrap(sock: socket.socket) -> socket.socket:
    """Do a handshake on a connection that may block."""
    sock.settimeout(_PATIENCE_SECONDS)
    return _context().wrap_socket(sock)


class TlsTalk(Talk):
    """A conversation that begins with a handshake."""

    __slots__ = ("_is_shaken", "_tls")

    def __init__(self, port: int, source: str, script: Script) -> None:
        """Connect; the first step of the script is the greeting."""
        super().__init__(port, source, script)
        self._is_shaken = False
        self._tls: ssl.SSLSocket | None = None
        self.secure()

    def secure(self) -> None:
        """Begin the handshake; the descriptor stays the same."""
        self._tls = _context().wrap_socket(self._sock, do_handshake_on_connect=False)
        self._sock = self._tls
        self._shake()

    def _shake(self) -> None:
        if self._tls is None:
            return
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return
        self._is_shaken = True
        self.shaken()

    def shaken(self) -> None:
        """Go on after the handshake: the server greets."""

    def step(self) -> bool:
        """Take what has come; true when the server has closed, at the right time."""
        if self._tls is None:
            return super().step()
        if not self._is_shaken:
            self._shake()
            return False
        try:
            while not self.take(self._tls.recv(_READ_OCTETS)):
                pass
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLEOFError:  # closed without a closing alert, as many do
            return self.take(b"")
        return True


class StlsTalk(TlsTalk):
    """A conversation that begins in the clear and has STLS in its script."""

    __slots__ = ()

    def secure(self) -> None:
        """Begin the handshake when the server has said yes to STLS, not before."""
        if self._at > 0:
            super().secure()

    def send(self, command: bytes) -> None:
        """Send a command; the one behind STLS waits for the handshake."""
        if self._at and self._script[self._at - 1] is STLS and not self._is_shaken:
            self.secure()
        else:
            super().send(command)

    def shaken(self) -> None:
        """Go on after the handshake: it is the client's turn."""
        super().send(self._script[self._at].command)


def with_stls(script: Script) -> Script:
    """Give the script with STLS behind the greeting."""
    if script[0].command:
        raise BenchError("a script begins with the greeting")
    return (script[0], STLS, *script[1:])
