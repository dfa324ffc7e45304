# SPDX-License-Identifier: ISC
"""What a login costs a server that stays: rate, CPU time and waiting, beside others.

Empty Maildirs of many users, the same hash for everybody; in the end once more with the
hash that distributions use today, where the hash is most of the work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.contestants import C_CHAIN, C_CHAIN_NODELAY, READY
from bench.dovecot import DEFAULT, ONE_UID, TUNED
from bench.load import Limits, visit
from bench.people import SALTS, Household, hash_seconds
from bench.round import HEADS, Results, Task, compare, fit
from bench.standing import POPA3D_DAEMON, everybody, ready, selected
from bench.table import show

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Sequence

    from bench.standing import Row

_BESIDE = {
    "C": C_CHAIN,
    "popa3d": POPA3D_DAEMON,
    "dovecot": DEFAULT,
    "tuned": TUNED,
    "1 uid": ONE_UID,
}
_SLOW_HASH = "yescrypt"


def options(parser: ArgumentParser) -> None:
    """Add what can be chosen on the command line."""
    parser.add_argument("--connections", default="1,8,64", help="default: %(default)s")
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--sessions", type=int, default=400, help="a round, at most")
    parser.add_argument("--seconds", type=float, default=2.0, help="a round, at most")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slow-rounds", type=int, default=2, help="with " + _SLOW_HASH)
    parser.add_argument("--hash", default="md5", choices=tuple(SALTS))
    parser.add_argument("--only", default="", help="names that contain this word")


def run(chosen: Namespace) -> None:
    """Make users, run all rounds, print a table for each number of connections."""
    widths = [int(word) for word in chosen.connections.split(",")]
    with Household(max(*widths, chosen.users), chosen.hash) as household:
        scripts = [visit(user) for user in household.users]
        limits = Limits(chosen.sessions, chosen.seconds)
        rows = _rows(household, chosen, Task(scripts, 1, limits))
        for width in widths:
            task = Task(scripts, width, limits, warming=width)
            _table(rows, task, chosen.rounds, chosen.hash)
        if chosen.slow_rounds and chosen.hash != _SLOW_HASH:
            household.set_hash(_SLOW_HASH)
            rows = _rows(household, chosen, Task(scripts, 1, limits))
            width = min(8, max(widths))
            task = Task(scripts, width, limits, warming=width)
            _table(rows, task, chosen.slow_rounds, _SLOW_HASH)


def _rows(household: Household, chosen: Namespace, task: Task) -> list[Row]:
    """Give the contestants with the present hash, and the ceiling."""
    found = fit(selected(everybody(household), chosen.only), task)
    return [ready(), *found]


def _table(rows: Sequence[Row], task: Task, rounds: int, kind: str) -> None:
    results = compare(rows, task, rounds)
    heads = ("contestant", *HEADS, *(f"rate/{word}" for word in _BESIDE))
    lines = [_line(row.name, results) for row in rows]
    title = f"login+STAT+QUIT, {task.width} at a time, {len(task.scripts)} users"
    spent = f"{kind} hash ({hash_seconds(kind) * 1000:.2f} CPU ms)"
    show(
        f"{title}, {spent}, {rounds} rounds",
        (*heads, "rate/C -D", "CPU/C", "p99/C"),
        lines,
    )


def _line(name: str, results: Results) -> list[str]:
    beside = [results.rate.ratio(name, other) for other in _BESIDE.values()]
    cpu = results.cpu_milliseconds
    if name == READY:
        return [name, *results.cells(name)] + ["-"] * (len(beside) + 3)
    return [
        name,
        *results.cells(name),
        *beside,
        results.rate.ratio(name, C_CHAIN_NODELAY),
        cpu.ratio(name, C_CHAIN),
        results.slow_milliseconds.ratio(name, C_CHAIN),
    ]
