# SPDX-License-Identifier: ISC
"""A popserver that runs for a test: its port, its log, its complaints, its sessions."""

import os
import re
import select
import signal
import socket
import time
from pathlib import Path

from tests.chain.popup import Client, spawn
from tests.conftest import Tools
from tests.support import PATIENCE_SECONDS

OPTIONS = ["-v", "-1", "-R", "-H", "-l0", "--per-source", "0"]
END = re.compile(r" Info::END::.* why=\S+ code=(-?\d+) seconds=")

# What a popserver that is well never says.
UNEXPECTED = re.compile(
    r"^popserver: .*(unexpected|must not|a new one comes)", re.MULTILINE
)
# Nor does a warm one; a program of a chain that is cut short may.
UNTIDY = re.compile(r"^Exception ignored|Warning: ", re.MULTILINE)
IS_FOREIGN = "popserver: status: "


class Stream:
    """What comes from a descriptor, as text, read while it comes."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.text = ""
        self._is_over = False

    def look(self, seconds: float = 0.0) -> bool:
        """Read what is there; tell whether there can be more."""
        if not self._is_over and select.select([self.descriptor], [], [], seconds)[0]:
            data = os.read(self.descriptor, 65536)
            self.text += data.decode("ascii")
            self._is_over = not data
        return not self._is_over

    def until(self, pattern: "str | re.Pattern[str]", start: int = 0) -> re.Match[str]:
        """Read until the text from there on has this in it."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        wanted = re.compile(pattern)
        while not (found := wanted.search(self.text, start)):
            left = deadline - time.monotonic()
            if not self.look(max(left, 0.0)) or left < 0:
                found = wanted.search(self.text, start)
                assert found, f"no {wanted.pattern!r} in {self.text!r}"
        return found

    def all(self) -> str:
        """Read to the end."""
        before = ""
        while self.look(PATIENCE_SECONDS):
            assert self.text != before, f"it lasts: {self.text!r}"
            before = self.text
        return self.text

    def close(self) -> None:
        """Read no more."""
        os.close(self.descriptor)


def children_of(number: int) -> list[int]:
    """Give the children of a process that may have gone."""
    try:
        text = Path(f"/proc/{number}/task/{number}/children").read_text()
    except OSError:
        return []
    return [int(word) for word in text.split()]


class Server:
    """A popserver on a free port of the loopback, its log and its complaints."""

    def __init__(
        self,
        argv: list[str],
        env: dict[str, str],
        more: dict[int, int] | None = None,
    ) -> None:
        """Start it; more places descriptors, -1 closes one."""
        (log, log_in), (errors, errors_in) = os.pipe(), os.pipe()
        told, telling = os.pipe()
        nothing = os.open("/dev/null", os.O_RDWR)
        places = {0: nothing, 1: telling, 2: errors_in, 5: log_in} | (more or {})
        self.log, self.errors = Stream(log), Stream(errors)
        self.pid = spawn(argv, env, {k: v for k, v in places.items() if v >= 0})
        self._process = os.pidfd_open(self.pid)
        self._code: int | None = None
        for descriptor in (log_in, errors_in, telling, nothing):
            os.close(descriptor)
        with open(told, "rb") as line:
            self.port = int(line.readline() or 0)

    def connect(self, source: str = "127.0.0.1") -> socket.socket:
        """Give a connection from some address of the loopback."""
        client = socket.create_connection(
            ("127.0.0.1", self.port), PATIENCE_SECONDS, source_address=(source, 0)
        )
        client.settimeout(PATIENCE_SECONDS)
        return client

    def client(self, source: str = "127.0.0.1") -> Client:
        """Give a connection as the tests' client."""
        with self.connect(source) as held:
            held.setblocking(True)
            descriptor = os.dup(held.fileno())
        return Client(descriptor, os.dup(descriptor))

    def lines(self) -> list[str]:
        """Give the lines of the session log so far, without the program's name."""
        self.log.look()
        lines = self.log.text.splitlines()
        return [re.sub(r"^popup: pid \d+ ", "", line) for line in lines]

    def signal(self, number: signal.Signals) -> None:
        """Send the master a signal."""
        os.kill(self.pid, number)

    def descendants(self) -> list[int]:
        """Give the processes it has forked, and those that these have."""
        found, fresh = [], [self.pid]
        while fresh:
            fresh = [child for each in fresh for child in children_of(each)]
            found += fresh
        return found

    def code(self) -> int:
        """Wait for its end; give its exit code, negative for a signal."""
        if self._code is None:
            if not select.select([self._process], [], [], PATIENCE_SECONDS)[0]:
                raise TimeoutError
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._code

    def stop(self) -> int:
        """Let those who are served finish; give its exit code."""
        if self._code is None:
            self.signal(signal.SIGTERM)
        return self.code()

    def close(self) -> None:
        """End it, whoever is still served; nothing of it may have gone wrong."""
        if self._code is None:
            self.signal(signal.SIGTERM)
            self.signal(signal.SIGTERM)
        try:
            self.code()
        except TimeoutError:
            self.signal(signal.SIGKILL)
            self.code()
            raise
        finally:
            while self.errors.look():
                if not select.select([self.errors.descriptor], [], [], 0)[0]:
                    break
            for each in (self.log, self.errors):
                each.close()
            os.close(self._process)
        text = self.errors.text
        assert not UNEXPECTED.search(text), text
        assert IS_FOREIGN in text or not UNTIDY.search(text), text


class SessionProcess:
    """The process that serves the one session of a popserver."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        for found in self.all():
            os.kill(found, number)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)

    def all(self) -> list[int]:
        """Give those that have a client on descriptor 0."""
        found = []
        for number in self._server.descendants():
            try:
                if os.readlink(f"/proc/{number}/fd/0").startswith("socket:"):
                    found.append(number)
            except OSError:
                continue
        return found

    def wait(self, _seconds: float = PATIENCE_SECONDS) -> int:
        """Wait for the session's end; give the code, negative for a signal."""
        line = self._server.log.until(r" Info::END::.*\n")[0]
        killed = re.search(r" signal=(\d+)", line)
        code = END.search(line)
        assert code
        return -int(killed[1]) if killed else int(code[1])


def server_of(
    tools: Tools,
    chain: list[str],
    *options: str,
    env: dict[str, str] | None = None,
    more: dict[int, int] | None = None,
) -> Server:
    """Start a popserver before a chain."""
    argv = [tools.popserver, *OPTIONS, *options, "127.0.0.1", "0", *chain]
    server = Server(argv, tools.environment(**(env or {})), more)
    assert server.port, server.errors.all()
    return server
