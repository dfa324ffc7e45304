# SPDX-License-Identifier: ISC
"""Whether a server stays what it was over many logins: memory, descriptors, processes.

The processes that are there at the start, in the middle and at the end are listed one
by one; what grows from start to end without stopping is a leak.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bench import tree
from bench.cost import BenchError
from bench.load import Limits, drive, visit
from bench.people import Household
from bench.standing import POPSERVER, everybody
from bench.table import show

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Sequence

    from bench.cost import Server
    from bench.load import Script
    from bench.standing import Row

_WIDTH = 8
_FIRST = 1000  # what a server does once, it has done after so many sessions
_LOOKS = 10
_HEADS = ("sessions", "sessions/s", "p99 ms", "PSS KiB", "processes", "fds", "zombies")


class Look(NamedTuple):
    """What there was after so many sessions."""

    sessions: int
    rate: float
    slow_seconds: float
    processes: Sequence[tree.Process]

    def row(self) -> list[str]:
        """Give the line of the table."""
        return [
            str(self.sessions),
            f"{self.rate:.0f}",
            f"{self.slow_seconds * 1000:.1f}",
            str(sum(process.pss_kibibytes for process in self.processes)),
            str(len(self.processes)),
            str(sum(process.descriptors for process in self.processes)),
            str(sum(process.is_zombie for process in self.processes)),
        ]


def options(parser: ArgumentParser) -> None:
    """Add what can be chosen on the command line."""
    parser.add_argument("sessions", type=int, nargs="?", default=100_000)
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--only", default=POPSERVER, help="the one with this name")


def run(chosen: Namespace) -> None:
    """Make users, log in, look now and then, print what changed."""
    with Household(max(_WIDTH, chosen.users), "md5") as household:
        rows = [row for row in everybody(household) if row.name == chosen.only]
        if not rows:
            raise BenchError(f"nobody is called {chosen.only}")
        looks = _endure(rows[0], [visit(user) for user in household.users], chosen)
    show(f"{rows[0].name}, {_WIDTH} at a time", _HEADS, [look.row() for look in looks])
    _show_processes([looks[0], looks[len(looks) // 2], looks[-1]])


def _endure(row: Row, scripts: Sequence[Script], chosen: Namespace) -> list[Look]:
    server = row.start()
    try:
        looks = [_look(server, scripts, 0, min(_FIRST, chosen.sessions))]
        part = max(1, (chosen.sessions - looks[0].sessions) // _LOOKS)
        while looks[-1].sessions < chosen.sessions:
            count = min(part, chosen.sessions - looks[-1].sessions)
            looks.append(_look(server, scripts, looks[-1].sessions, count))
            print(f"bench: {looks[-1].sessions} sessions", flush=True)
    finally:
        server.stop()
    return looks


def _look(server: Server, scripts: Sequence[Script], before: int, count: int) -> Look:
    """Have so many sessions, wait until all is calm, and look."""
    burst = drive(server.port, scripts, Limits(count), _WIDTH)
    tree.pss_kibibytes()
    rate = burst.sessions / burst.wall_seconds
    return Look(before + count, rate, burst.percentile(99), tree.processes())


def _show_processes(looks: Sequence[Look]) -> None:
    """Print a line for each process that was there at the end."""
    heads = ["process"]
    for what in ("PSS KiB", "fds"):
        heads += [f"{what} {look.sessions}" for look in looks]
    seen = [{process.pid: process for process in look.processes} for look in looks]
    lines = []
    for pid, process in seen[-1].items():
        states = [state.get(pid) for state in seen]
        lines.append(
            [
                f"{process.name} {pid} uid {process.uid}",
                *("-" if one is None else str(one.pss_kibibytes) for one in states),
                *("-" if one is None else str(one.descriptors) for one in states),
            ]
        )
    show("processes that stayed, or came last", heads, lines)
