# SPDX-License-Identifier: ISC
"""Run a server and learn what it and everything it started cost in CPU time.

The harness makes itself a child subreaper, so whatever a server leaves behind comes
to us to be waited for, and RUSAGE_CHILDREN then counts the whole tree. The load
generator lives in the harness itself and is therefore never counted.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench.group import Group

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LOOPBACK = "127.0.0.1"
BARE_START = ("-IS", "-c", "import posix; posix._exit(0)")

_PR_SET_CHILD_SUBREAPER = 36
_PATIENCE_SECONDS = 20.0  # for a server to listen, and for its children to go
_PAUSE_SECONDS = 0.01
_APPENDING = os.O_WRONLY | os.O_CREAT | os.O_APPEND
_SETTLING_PAUSE_SECONDS = 0.05
_SETTLING_SECONDS = 2.0
_IDLE_SECONDS = 0.0005  # of CPU in a pause: a server with less to do is idle


class BenchError(Exception):
    """The bench cannot go on; the text says why."""


def become_subreaper() -> None:
    """Adopt every orphan among our descendants, so that its cost can be counted."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def children_seconds() -> float:
    """Give the CPU seconds of all children waited for so far, user and system."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def free_port() -> int:
    """Give a port of the loopback that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def bare_start_seconds(python: str, starts: int) -> float:
    """Give the CPU seconds of one interpreter start that does nothing at all."""
    total = 0.0
    for _ in range(starts):
        pid = os.posix_spawn(python, [python, *BARE_START], {})
        _, status, used = os.wait4(pid, 0)
        if status != 0:
            raise BenchError(f"{python} did not start")
        total += used.ru_utime + used.ru_stime
    return total / starts


def _complaints() -> str:
    """Give the file to which servers write their standard error."""
    return os.environ.get("BENCH_STDERR", os.devnull)


class Server:
    """A listening program on a port, with its cost from start to the last child.

    The mark of the start is taken before the spawn; a listener's own start-up (about
    one millisecond with tcpserver) is thus in the sum and is spread over all sessions.
    For servers that take longer to start there is cpu_seconds().
    """

    def __init__(
        self, argv: Sequence[str], environment: Mapping[str, str], port: int = 0
    ) -> None:
        """Start the program; the word PORT in argv is replaced by the port, a free one.

        A port is given where the program knows it from elsewhere.
        """
        self.port = port or free_port()
        self._group = Group()
        words = [str(self.port) if word == "PORT" else word for word in argv]
        words[:0] = self._group.enter()
        self._mark_seconds = children_seconds()
        self._pid = os.posix_spawn(
            words[0],
            words,
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, _complaints(), _APPENDING, 0o600),
            ],
        )
        try:
            self._await_listening()
        except BenchError:
            self.stop()
            raise

    def _await_listening(self) -> None:
        """Wait until the port is in LISTEN, without making a connection.

        A program that ends with 0 before that has put itself into the background.
        """
        wanted = f":{self.port:04X} 00000000:0000 0A"
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while wanted not in Path("/proc/net/tcp").read_text(encoding="ascii"):
            options = os.WEXITED | os.WNOHANG | os.WNOWAIT
            ended = os.waitid(os.P_PID, self._pid, options)
            if time.monotonic() > deadline or (ended and ended.si_status != 0):
                raise BenchError("the server did not begin to listen")
            time.sleep(_PAUSE_SECONDS)

    def cpu_seconds(self) -> float | None:
        """Give the CPU seconds of the whole tree so far; None without control groups.

        Waits a moment until what the last session has left to do is done.
        """
        before, now = -_IDLE_SECONDS, self._group.cpu_seconds()
        deadline = time.monotonic() + _SETTLING_SECONDS
        while (
            now is not None
            and now - before >= _IDLE_SECONDS
            and time.monotonic() < deadline
        ):
            time.sleep(_SETTLING_PAUSE_SECONDS)
            before, now = now, self._group.cpu_seconds()
        return now

    def stop(self) -> float:
        """End the server, wait for all it started, and give their CPU seconds."""
        ended = os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        for pid in own_children() if ended else (self._pid,):
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self._group.remove()
                return children_seconds() - self._mark_seconds
            if pid == 0:
                if time.monotonic() > deadline:
                    for left in own_children():
                        os.kill(left, signal.SIGKILL)
                time.sleep(_PAUSE_SECONDS)


def own_children() -> list[int]:
    """Give the ids of our children, the adopted ones among them."""
    me = os.getpid()
    listed = Path(f"/proc/{me}/task/{me}/children").read_text(encoding="ascii")
    return [int(word) for word in listed.split()]
