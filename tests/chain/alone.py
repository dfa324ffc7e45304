# SPDX-License-Identifier: ISC
"""Run a pop3d that logs in by itself as inetd would, and be its client."""

import os
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from tests.support import OWNER, PATIENCE_SECONDS

HOST = "127.0.0.1"


class Process(NamedTuple):
    """What /proc tells of a process."""

    pid: int
    parent: int
    uid: int
    root: str
    groups: str
    capabilities: int
    sleeps: int  # how often it has gone to sleep, so woken up


class Alone:
    """One connection, and the pop3d that inetd has started for it.

    The connection is on 0 and 1, with inetd on 2 as well: then errors is "".
    """

    def __init__(
        self,
        argv: list[str],
        env: dict[str, str] | None = None,
        *,
        has_errors: bool = True,
        user: int | None = None,
    ) -> None:
        with socket.create_server((HOST, 0)) as listener:
            place = listener.getsockname()
            self.client = socket.create_connection(place, PATIENCE_SECONDS)
            theirs, _ = listener.accept()
        self.lines = self.client.makefile("rb")
        with theirs:
            errors = subprocess.PIPE if has_errors else theirs.fileno()
            self.process = subprocess.Popen(
                argv,
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=errors,
                cwd="/",
                env={"PATH": "/usr/bin:/bin", **(env or {})},
                user=user,
                group=None if user is None else OWNER[1],
                extra_groups=None if user is None else (),
            )

    def __enter__(self) -> Self:
        """Leave nothing behind."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        why: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.lines.close()
        self.client.close()
        for process in reversed(self.processes()):
            kill(process)
        self.process.communicate(timeout=PATIENCE_SECONDS)

    def line(self) -> bytes:
        """Give the next line without its end; empty when the server has closed."""
        return self.lines.readline().removesuffix(b"\r\n")

    def ask(self, *commands: bytes) -> bytes:
        """Send commands in one piece; give the reply to the last, each one line."""
        reply = b""
        self.send(*commands)
        for _ in commands:
            reply = self.line()
        return reply

    def send(self, *commands: bytes) -> None:
        """Send commands in one piece."""
        self.client.sendall(b"".join(command + b"\r\n" for command in commands))

    def rest(self) -> bytes:
        """Give all that still comes."""
        with suppress(ConnectionResetError):
            return self.lines.read()
        return b""

    def end(self) -> tuple[int, str]:
        """Wait for the end; give the exit code, and what was said on descriptor 2."""
        errors = self.process.communicate(timeout=PATIENCE_SECONDS)[1]
        return self.process.returncode, (errors or b"").decode()

    def processes(self) -> list[Process]:
        """Give the process that was started, and those that come from it, if any."""
        found: list[Process] = []
        pids = [self.process.pid]
        for pid in pids:
            with suppress(OSError):  # one that has ended meanwhile
                found.append(look(pid))
                pids += children(pid)
        return found

    def dialogue(self) -> Process:
        """Give the process that speaks with the client before the login."""
        (found,) = [each for each in self.processes() if each.root != "/"]
        return found


def children(pid: int) -> list[int]:
    """Give the processes forked by one."""
    with suppress(OSError):
        return [
            int(word)
            for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    return []


def look(pid: int) -> Process:
    """Read what there is about a process."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    told = dict(line.split(":", 1) for line in text.splitlines())
    return Process(
        pid,
        int(told["PPid"]),
        int(told["Uid"].split()[1]),
        os.readlink(f"/proc/{pid}/root"),
        told["Groups"].strip(),
        int(told["CapEff"], 16),
        int(told["voluntary_ctxt_switches"]),
    )


def is_there(pid: int) -> bool:
    """Tell whether a process is there and has not ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def kill(process: Process) -> None:
    """End one of its processes, whatever it does."""
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
