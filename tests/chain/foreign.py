# SPDX-License-Identifier: ISC
"""Run popserver, or tcpserver, with a chain of others, and be its clients."""

import os
import re
import select
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.chain.popup import spawn
from tests.conftest import Tools
from tests.support import PATIENCE_SECONDS, wait_for

Make = Callable[..., "Running"]

HOST = "127.0.0.1"
NAME = "srv.example"
ENV = ("env", "-0")


class Running:
    """A server on a free port, found out by -1; its lines on descriptor 2."""

    def __init__(
        self, argv: list[str], folder: Path, env: dict[str, str], places: dict[int, int]
    ) -> None:
        self._log = folder / f"log-{len(list(folder.iterdir()))}"
        nothing = os.open("/dev/null", os.O_RDONLY)
        log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        told, telling = os.pipe()
        self.pid = spawn(argv, env, {0: nothing, 1: telling, 2: log, **places})
        self._process = os.pidfd_open(self.pid)
        for descriptor in (nothing, log, telling):
            os.close(descriptor)
        self.code: int | None = None
        self.port = 0
        with open(told, "rb") as lines:
            if select.select([lines], [], [], PATIENCE_SECONDS)[0]:
                self.port = int(lines.readline() or 0)

    @property
    def lines(self) -> list[str]:
        """What has been written on descriptor 2, without the program's name."""
        text = self._log.read_text(encoding="ascii")
        return [line.partition(": ")[2] for line in text.splitlines()]

    def has(self, line: str) -> None:
        """Wait for a line that is, as a regular expression, all of this."""
        pattern = re.compile(line)
        try:
            wait_for(lambda: any(map(pattern.fullmatch, self.lines)))
        except pytest.fail.Exception:
            pytest.fail(f"no line is {line!r} among {self.lines}")

    def connect(self, port: int = 0, host: str = HOST) -> socket.socket:
        """Give a connection."""
        client = socket.create_connection((host, port or self.port))
        client.settimeout(PATIENCE_SECONDS)
        return client

    def read(self, sent: bytes = b"", host: str = HOST) -> bytes:
        """Connect, send, and give all that comes."""
        with self.connect(host=host) as client:
            with suppress(BrokenPipeError, ConnectionResetError):
                client.sendall(sent)
            return read_all(client)

    def environment(self, sent: bytes = b"", host: str = HOST) -> dict[str, str]:
        """Connect to a server that runs env -0, and give what it says."""
        text = self.read(sent, host).decode()
        return dict(each.split("=", 1) for each in text.split("\0") if each)

    def children(self) -> list[int]:
        """Give the processes forked by it that are there, ended ones included."""
        place = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        return [int(word) for word in place.read_text().split()]

    def signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def end(self) -> int:
        """Wait for its end; give its exit code, negative for a signal."""
        if self.code is None:
            if not select.select([self._process], [], [], PATIENCE_SECONDS)[0]:
                raise TimeoutError
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            os.close(self._process)
        return self.code

    def stop(self) -> int:
        """End it; give its exit code."""
        if self.code is None:
            self.signal(signal.SIGTERM)
        return self.end()

    def kill(self) -> None:
        """End it whatever it does."""
        if self.code is None:
            self.signal(signal.SIGKILL)
            self.end()


def read_all(client: socket.socket) -> bytes:
    """Read to the end; a reset is one, too."""
    parts = []
    with suppress(ConnectionResetError):
        while part := client.recv(65536):
            parts.append(part)
    return b"".join(parts)


def script(folder: Path, name: str, *lines: str, first: str = "#!/bin/sh\n") -> str:
    """Write a program; give its path."""
    path = folder / name
    path.write_text(first + "\n".join(lines) + "\n", encoding="ascii")
    path.chmod(0o755)
    return str(path)


class Servers:
    """What starts servers and ends them."""

    def __init__(self, tools: Tools, room: Path) -> None:
        self._tools = tools
        self._room = room
        self._running: list[Running] = []

    def start(
        self,
        *words: str,
        host: str = HOST,
        program: str = "",
        env: dict[str, str] | None = None,
        places: dict[int, int] | None = None,
    ) -> Running:
        """Start popserver, or another program, with options, "--", a chain.

        The chain is env -0 unless it is given.
        """
        cut = words.index("--") if "--" in words else len(words)
        options, chain = words[:cut], words[cut + 1 :] or ENV
        argv = [program or str(self._tools.bin / "popserver"), "-1", *options]
        environ = self._tools.environment(**(env or {}))
        argv += [host, "0", *chain]
        server = Running(argv, self._room, environ, places or {})
        self._running.append(server)
        assert server.port, server.lines
        return server

    def close(self) -> None:
        """End all that runs."""
        for server in self._running:
            server.kill()
