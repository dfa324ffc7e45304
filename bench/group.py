# SPDX-License-Identifier: ISC
"""A control group for a server: the kernel adds up the CPU time of all its processes.

Unlike RUSAGE_CHILDREN it can be read while the server runs, so the start of a server
that stays is not charged to its sessions. Where control groups (version 2) can't be
made, in most containers, there is none, and the caller counts from start to end.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_MOUNTS = Path("/proc/self/mounts")
_MICROSECONDS = 1_000_000
# Puts itself into the group, then becomes the server.
ENTER = ("/bin/sh", "-c", 'echo $$ >"$0"/cgroup.procs && exec "$@"')


def _root() -> Path | None:
    """Give the place where version 2 is mounted, alone or beside version 1."""
    for line in _MOUNTS.read_text(encoding="utf-8").splitlines():
        _, place, kind, *_ = line.split(" ")
        if kind == "cgroup2":
            return Path(place)
    return None


class Group:
    """One control group, for one server."""

    def __init__(self) -> None:
        """Make it; a group that can't be made has no path."""
        root = _root()
        self.path: Path | None = None
        if root is not None:
            path = root / f"qtbench-{os.getpid()}"
            try:
                path.mkdir(exist_ok=True)
            except OSError:
                return
            self.path = path

    def enter(self) -> tuple[str, ...]:
        """Give the words to put before a command line that shall run in the group."""
        return () if self.path is None else (*ENTER, str(self.path))

    def cpu_seconds(self) -> float | None:
        """Give the time of all its processes so far, user and system, ended or not."""
        if self.path is None:
            return None
        for line in (self.path / "cpu.stat").read_text(encoding="ascii").splitlines():
            name, value = line.split()
            if name == "usage_usec":
                return int(value) / _MICROSECONDS
        return None

    def remove(self) -> None:
        """Remove it, when the last process has ended."""
        if self.path is not None:
            with contextlib.suppress(OSError):  # busy for a moment more: used again
                self.path.rmdir()
            self.path = None
