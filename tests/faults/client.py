# SPDX-License-Identifier: ISC
"""A POP3 client that believes nothing: every line it gets is looked at."""

import hashlib
import socket
import ssl
from typing import Self

from tests.support import PATIENCE_SECONDS

WAYS = ("plain", "stls", "tls")


class Gone(Exception):
    """The server has closed the connection."""


def context() -> ssl.SSLContext:
    """Give a context that takes any certificate."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    return made


CONTEXT = context()


class Client:
    """A connection after the greeting, in the clear or in one of two ways in TLS."""

    def __init__(
        self, place: tuple[str, int], way: str = "plain", source: str = ""
    ) -> None:
        here = (source, 0) if source else None
        self.socket = socket.create_connection(place, PATIENCE_SECONDS, here)
        self._unread = b""
        try:
            if way == "tls":
                self.wrap()
            self.greeting = self.line()
            if way == "stls":
                self.start_tls()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_why: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def wrap(self) -> None:
        """Begin TLS now.

        Raises: Gone.
        """
        try:
            self.socket = CONTEXT.wrap_socket(self.socket)
        except (ConnectionError, ssl.SSLError) as why:
            raise Gone from why

    def start_tls(self) -> None:
        """Ask for TLS and begin it."""
        assert self.ask(b"STLS").startswith(b"+OK")
        self.wrap()

    def send(self, octets: bytes) -> None:
        """Say anything.

        Raises: Gone.
        """
        try:
            self.socket.sendall(octets)
        except (ConnectionError, ssl.SSLError) as why:
            raise Gone from why

    def line(self) -> bytes:
        """Give the next line, without its end.

        Raises: Gone.
        """
        while b"\n" not in self._unread:
            try:
                part = self.socket.recv(65536)
            except (ConnectionError, ssl.SSLEOFError) as why:
                raise Gone from why
            if not part:
                raise Gone
            self._unread += part
        line, _, self._unread = self._unread.partition(b"\r\n")
        return line

    def rest(self) -> bytes:
        """Give all that comes until the end."""
        try:
            while part := self.socket.recv(65536):
                self._unread += part
        except (ConnectionError, ssl.SSLEOFError):
            pass
        rest, self._unread = self._unread, b""
        return rest

    def ask(self, command: bytes) -> bytes:
        """Send a command and give the line of its reply.

        Raises: Gone.
        """
        self.send(command + b"\r\n")
        return self.line()

    def lines(self) -> list[bytes]:
        """Give what comes up to the line of one dot.

        Raises: Gone.
        """
        found = []
        while (line := self.line()) != b".":
            found.append(line.removeprefix(b"."))
        return found

    def retrieve(self, number: int) -> bytes:
        """Give a message with the line ends of a file.

        Raises: Gone.
        """
        assert self.ask(b"RETR %d" % number).startswith(b"+OK")
        return b"".join(line + b"\n" for line in self.lines())

    def log_in(self, user: bytes, secret: bytes) -> bytes:
        """Log in by USER and PASS; give the reply to the latter.

        Raises: Gone.
        """
        assert self.ask(b"USER " + user).startswith(b"+OK")
        return self.ask(b"PASS " + secret)

    @property
    def stamp(self) -> bytes:
        """The challenge of the greeting."""
        return self.greeting[self.greeting.index(b"<") :]

    def apop(self, user: bytes, secret: bytes, stamp: bytes = b"") -> bytes:
        """Log in by APOP, to any challenge; give the reply.

        Raises: Gone.
        """
        digest = hashlib.md5(
            (stamp or self.stamp) + secret, usedforsecurity=False
        ).hexdigest()
        return self.ask(b"APOP " + user + b" " + digest.encode())
