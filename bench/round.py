# SPDX-License-Identifier: ISC
"""One round of a standing server: start, warm up, a timed burst, end."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bench.cost import BenchError
from bench.load import Limits, Talk, drive
from bench.standing import most_sessions
from bench.table import Figures, cell, rotated

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.cost import Server
    from bench.load import Burst, Opening, Script
    from bench.standing import Row

HEADS = ("sessions/s", "CPU ms", "p50 ms", "p99 ms", "client")


class Task(NamedTuple):
    """What is to be done in a round, the same for all contestants."""

    scripts: Sequence[Script]
    width: int
    limits: Limits
    opening: Opening = Talk
    warming: int = 0  # sessions before those that are timed
    prepare: Callable[[], None] = lambda: None  # before either of the two
    is_tls: bool = False  # the port is the one that speaks TLS at once


class Results:
    """All figures of one table."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.rate = Figures()
        self.cpu_milliseconds = Figures()
        self.middle_milliseconds = Figures()
        self.slow_milliseconds = Figures()
        self.client_percent = Figures()

    def add(self, name: str, burst: Burst, cpu_seconds: float) -> None:
        """Keep the figures of one round."""
        self.rate.add(name, burst.sessions / burst.wall_seconds)
        self.cpu_milliseconds.add(name, cpu_seconds * 1000 / burst.sessions)
        self.middle_milliseconds.add(name, burst.percentile(50) * 1000)
        self.slow_milliseconds.add(name, burst.percentile(99) * 1000)
        busy = burst.client_seconds / burst.wall_seconds
        self.client_percent.add(name, busy * 100)

    def cells(self, name: str) -> list[str]:
        """Give the medians, in the order of HEADS."""
        return [
            cell(self.rate.median(name), 0),
            cell(self.cpu_milliseconds.median(name)),
            cell(self.middle_milliseconds.median(name), 1),
            cell(self.slow_milliseconds.median(name), 1),
            cell(self.client_percent.median(name), 0) + "%",
        ]


def compare(rows: Sequence[Row], task: Task, rounds: int) -> Results:
    """Run the rounds, each contestant once in each."""
    results = Results()
    for number in range(rounds):
        for row in rotated(rows, number):
            run_once(row, task, results)
    return results


def fit(rows: Sequence[Row], task: Task) -> list[Row]:
    """Give the contestants that can do the task; say why of the others."""
    found = []
    one = task._replace(width=1, limits=Limits(1), warming=0)
    for row in rows:
        try:
            run_once(row, one, Results())
        except BenchError as why:
            print(f"bench: left out: {why}")
        else:
            found.append(row)
    return found


def run_once(row: Row, task: Task, results: Results) -> None:
    """Put one contestant through one round.

    The CPU time is that of the burst where control groups tell it, else that from the
    server's start to its end.
    """
    server = row.start()
    spent = None
    try:
        burst, spent = _burst(server, row, task)
    except (BenchError, OSError) as why:
        raise BenchError(f"{row.name}: {why}") from why
    finally:
        whole = server.stop()
    results.add(row.name, burst, whole if spent is None else spent)


def _burst(server: Server, row: Row, task: Task) -> tuple[Burst, float | None]:
    port = row.tls_port if task.is_tls else server.port
    server.cpu_seconds()  # until it has started all it wants to have
    if task.warming:
        task.prepare()
        drive(port, task.scripts, Limits(task.warming), task.width, task.opening)
    most = min(task.limits.sessions, most_sessions(row) - task.warming)
    limits = task.limits._replace(sessions=most)
    task.prepare()
    before = server.cpu_seconds()
    burst = drive(port, task.scripts, limits, task.width, task.opening)
    after = server.cpu_seconds()
    if before is None or after is None:
        return burst, None
    return burst, after - before
