# SPDX-License-Identifier: ISC
"""A client for transcripts: it shows the octets, and understands none of them."""

from typing import Self

from tests.interop.servers import Server

END = b"\r\n.\r\n"


class Talk:
    """One connection."""

    def __init__(self, server: Server) -> None:
        self.socket = server.connect()
        self._held = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def read_to(self, end: bytes) -> bytes:
        """Give the octets up to and with an end; fewer if the connection ends."""
        while end not in self._held:
            data = self.socket.recv(65536)
            if not data:
                found, self._held = self._held, b""
                return found
            self._held += data
        found, end, self._held = self._held.partition(end)
        return found + end

    def line(self) -> bytes:
        """Give one line, its CRLF with it; b"" at the end of the connection."""
        return self.read_to(b"\n")

    def rest(self) -> bytes:
        """Give everything up to the end of the connection."""
        found, self._held = self._held, b""
        while data := self.socket.recv(65536):
            found += data
        return found

    def send(self, octets: bytes) -> None:
        """Send octets as they are."""
        self.socket.sendall(octets)

    def ask(self, command: bytes) -> bytes:
        """Send a command; give the one line of its reply."""
        self.send(command + b"\r\n")
        return self.line()

    def ask_long(self, command: bytes) -> bytes:
        """Send a command; give all of its reply, to the dot if it is a good one."""
        first = self.ask(command)
        if not first.startswith(b"+OK"):
            return first
        self._held = b"\r\n" + self._held  # so that the dot may be the only line
        return first + self.read_to(END)[2:]

    def login(self, user: str, secret: str) -> bytes:
        """Read the greeting and log in; give the reply to PASS."""
        self.line()
        self.ask(b"USER " + user.encode())
        return self.ask(b"PASS " + secret.encode())
