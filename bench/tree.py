# SPDX-License-Identifier: ISC
"""What a server and everything it started hold: memory, descriptors, dead children.

Memory is PSS: a page that several processes share counts in parts, so that the sum over
a tree is what it really takes. All our descendants belong to the server, because the
load generator lives in the harness itself.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import NamedTuple

from bench.cost import own_children

_PAUSE_SECONDS = 0.1
_SETTLING_SECONDS = 10.0
_CALM = 0.002  # of the whole: a difference between two looks that means nothing


class Process(NamedTuple):
    """One process of the server's."""

    pid: int
    name: str
    uid: int
    state: str
    pss_kibibytes: int
    descriptors: int

    @property
    def is_zombie(self) -> bool:
        """Say whether it has ended and nobody has asked how."""
        return self.state == "Z"


def processes() -> list[Process]:
    """Give all processes below us, parents before children."""
    found = []
    waiting = own_children()
    while waiting:
        pid = waiting.pop(0)
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found.append(_look(pid))
            waiting += _children(pid)
    return found


def pss_kibibytes() -> int:
    """Give the memory of the whole tree, as soon as it stays the same."""
    deadline = time.monotonic() + _SETTLING_SECONDS
    before, now = -1, _sum()
    while abs(now - before) > now * _CALM and time.monotonic() < deadline:
        time.sleep(_PAUSE_SECONDS)
        before, now = now, _sum()
    return now


def _sum() -> int:
    return sum(process.pss_kibibytes for process in processes())


def _children(pid: int) -> list[int]:
    """Give the children of all threads of a process."""
    words: list[str] = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        path = Path(f"/proc/{pid}/task/{thread}/children")
        words += path.read_text(encoding="ascii").split()
    return [int(word) for word in words]


def _look(pid: int) -> Process:
    fields = {}
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        fields[name] = value.split()
    state = fields["State"][0]
    return Process(
        pid,
        fields["Name"][0],
        int(fields["Uid"][1]),
        state,
        0 if state == "Z" else _pss(pid),
        0 if state == "Z" else len(os.listdir(f"/proc/{pid}/fd")),
    )


def _pss(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    for line in text.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0
