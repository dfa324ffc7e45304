# SPDX-License-Identifier: ISC
"""Run popup with every descriptor where the test wants it, and be its client."""

import json
import os
import re
import select
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import F_DUPFD_CLOEXEC, fcntl
from pathlib import Path
from typing import Any, NamedTuple

from tests.conftest import Tools
from tests.support import IS_ROOT, PATIENCE_SECONDS

HOSTNAME = "mx.example"

# Two ways to run the dialogue and two to run the next program: what the tests try.
DIALOGUES = ("split", "no-split") if IS_ROOT else ("no-split",)
WIRES = ("unix", "tcp", "pipe")

PEER = {
    "PROTO": "TCP",
    "TCPREMOTEIP": "192.0.2.7",
    "TCPREMOTEHOST": "c.example",
    "TCPLOCALPORT": "110",
}

STANDIN = Path(__file__).with_name("standin")


class Wire(NamedTuple):
    """Four descriptors: what popup reads and writes, and the client's ends."""

    server_in: int
    server_out: int
    client_in: int
    client_out: int


def make_wire(kind: str) -> Wire:
    """Join client and server by pipes, a UNIX socket pair or TCP."""
    if kind == "pipe":
        server_in, client_out = os.pipe()
        client_in, server_out = os.pipe()
        return Wire(server_in, server_out, client_in, client_out)
    if kind == "unix":
        server, client = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname())
            server, _ = listener.accept()
    server_in, client_in = server.detach(), client.detach()
    return Wire(server_in, os.dup(server_in), client_in, os.dup(client_in))


def descriptors() -> list[int]:
    """Give what is open here."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            os.fstat(int(name))
        except OSError:
            continue  # the one that listdir used
        found.append(int(name))
    return found


def is_inheritable(descriptor: int) -> bool:
    """Tell whether a child would have it; another thread may have closed it."""
    try:
        return os.get_inheritable(descriptor)
    except OSError:
        return False


def spawn(argv: list[str], env: dict[str, str], places: dict[int, int]) -> int:
    """Start a program with just these descriptors: number there, number here."""
    inherited = [number for number in descriptors() if is_inheritable(number)]
    copies = {
        there: fcntl(here, F_DUPFD_CLOEXEC, 300) for there, here in places.items()
    }
    actions: list[tuple[int, int] | tuple[int, int, int]] = [
        (os.POSIX_SPAWN_CLOSE, number) for number in inherited
    ]
    actions += [(os.POSIX_SPAWN_DUP2, copy, there) for there, copy in copies.items()]
    try:
        return os.posix_spawn(
            argv[0], argv, env, file_actions=actions, setsigdef=[signal.SIGPIPE]
        )
    finally:
        for copy in copies.values():
            os.close(copy)


def read_some(descriptor: int) -> bytes:
    """Read what comes, within the time of patience; empty at the end."""
    try:
        return _read_some(descriptor)
    except ConnectionResetError:
        return b""


def _read_some(descriptor: int) -> bytes:
    if not select.select([descriptor], [], [], PATIENCE_SECONDS)[0]:
        raise TimeoutError
    return os.read(descriptor, 65536)


class Client:
    """A client by hand, on the two descriptors it reads and writes."""

    def __init__(self, client_in: int, client_out: int) -> None:
        self.said = b""  # all that the server has said so far
        self.was_reset = False  # the connection, by which a last reply can be lost
        self._unread = b""
        self._in, self._out = client_in, client_out

    def send(self, data: bytes) -> None:
        """Send octets as they are."""
        os.write(self._out, data)

    def read(self) -> bytes:
        """Read what comes, within the time of patience; empty at the end."""
        try:
            return _read_some(self._in)
        except ConnectionResetError:
            self.was_reset = True
            return b""

    def reply(self) -> bytes:
        """Read one line."""
        while b"\n" not in self._unread:
            data = self.read()
            assert data, f"ended after {self.said!r}; {self.errors()}"
            self.said += data
            self._unread += data
        line, self._unread = self._unread.split(b"\n", 1)
        return line + b"\n"

    def replies(self, count: int) -> list[bytes]:
        """Read so many lines."""
        return [self.reply() for _ in range(count)]

    def ask(self, line: bytes) -> bytes:
        """Send a line and read a line."""
        self.send(line + b"\r\n")
        return self.reply()

    def listing(self) -> list[bytes]:
        """Read lines up to a dot, without their ends."""
        lines = []
        while (line := self.reply()) != b".\r\n":
            lines.append(line[:-2])
        return lines

    def rest(self) -> bytes:
        """Read to the end, and give what is left unread."""
        while data := self.read():
            self.said += data
            self._unread += data
        rest, self._unread = self._unread, b""
        return rest

    def hang_up(self) -> None:
        """Close the client's side."""
        for descriptor in {self._in, self._out} - {-1}:
            os.close(descriptor)
        self._in = self._out = -1

    def stop_sending(self) -> None:
        """Close the client's sending side only."""
        if self._in != self._out:
            with socket_on(self._out) as there:
                if there is not None:
                    there.shutdown(socket.SHUT_WR)
            os.close(self._out)
            self._out = self._in

    def errors(self) -> str:
        """Give what the server complained of."""
        return ""


class Popup(Client):
    """One running popup, and the client's side of it."""

    def __init__(
        self,
        argv: list[str],
        env: dict[str, str],
        wire: Wire,
        more: dict[int, int] | None = None,
    ) -> None:
        super().__init__(wire.client_in, wire.client_out)
        self.environ = env
        self._log, log = os.pipe()
        self._errors, errors = os.pipe()
        places = {0: wire.server_in, 1: wire.server_out, 2: errors, 5: log}
        places |= more or {}
        self.pid = spawn(argv, env, {k: v for k, v in places.items() if v >= 0})
        self._process = os.pidfd_open(self.pid)
        self._code: int | None = None
        for descriptor in (log, errors, wire.server_in, wire.server_out):
            os.close(descriptor)

    def code(self) -> int:
        """Wait for popup's end; give its exit code, negative for a signal."""
        if self._code is None:
            ended = select.select([self._process], [], [], PATIENCE_SECONDS)[0]
            if not ended:
                raise TimeoutError
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._code

    def is_running(self) -> bool:
        """Tell whether it has not ended yet."""
        return not select.select([self._process], [], [], 0)[0]

    def errors(self) -> str:
        """Give what stands on descriptor 2, after the end."""
        return b"".join(iter(lambda: read_some(self._errors), b"")).decode()

    def log(self) -> list[str]:
        """Give the session log, after the end of all that hold it; pids as N."""
        text = b"".join(iter(lambda: read_some(self._log), b"")).decode("ascii")
        assert not text or text.endswith("\n")
        found = re.findall(r"^popup: pid ([0-9]+) ", text, re.MULTILINE)
        assert set(found) <= {str(self.pid)}
        lines = re.sub(r"seconds=[0-9]+", "seconds=N", text).splitlines()
        return [line.replace(f"popup: pid {self.pid} ", "", 1) for line in lines]

    def log_line(self) -> str:
        """Wait for one line of the log while popup runs."""
        line = b""
        while not line.endswith(b"\n"):
            if not select.select([self._log], [], [], PATIENCE_SECONDS)[0]:
                raise TimeoutError
            line += os.read(self._log, 1)
        return line.decode("ascii").partition(f"popup: pid {self.pid} ")[2].rstrip()

    def close(self) -> None:
        """Let go of everything; the process as well."""
        if self._in >= 0:
            self.hang_up()
        if self._code is None:
            os.kill(self.pid, signal.SIGKILL)
            self.code()
        for descriptor in (self._log, self._errors, self._process):
            os.close(descriptor)


@contextmanager
def socket_on(descriptor: int) -> Iterator[socket.socket | None]:
    """Give the socket on a descriptor, if one is there."""
    copy = os.dup(descriptor)
    try:
        found = socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        yield None
        return
    with found:
        yield found


class House:
    """Where popups are started, and their stand-ins report."""

    def __init__(self, tools: Tools, room: Path) -> None:
        self.tools = tools
        self.room = room
        self.report = room / "report"
        self.standin = str(room / "standin")
        shutil.copy(STANDIN, self.standin)
        self.running: list[Popup] = []

    def popup(
        self,
        *words: str,
        options: str = "-d0",
        dialogue: str = "no-split",
        wire: str | Wire = "unix",
        env: dict[str, str] | None = None,
        more: dict[int, int] | None = None,
    ) -> Popup:
        """Start popup before a subprogram; more places descriptors, -1 closes one."""
        argv = [self.tools.popup, *options.split()]
        argv += ["--no-split"] * (dialogue == "no-split")
        environ = self.tools.environment(**{**PEER, **(env or {})})
        ends = make_wire(wire) if isinstance(wire, str) else wire
        one = Popup([*argv, HOSTNAME, *words], environ, ends, more)
        self.running.append(one)
        return one

    def play(self, *steps: str) -> list[str]:
        """Give the words of a stand-in that reports and then plays its part."""
        return [self.standin, str(self.report), *steps]

    def told(self) -> dict[str, Any]:
        """Give the stand-in's report; wait for it."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self.report.exists():
            assert time.monotonic() < deadline
            select.select([], [], [], 0.005)
        told: dict[str, Any] = json.loads(self.report.read_text(encoding="ascii"))
        self.report.unlink()
        return told

    def close(self) -> None:
        """End what still runs."""
        for one in self.running:
            one.close()
