# SPDX-License-Identifier: ISC
"""What a login costs: CPU milliseconds of a login+STAT+QUIT on an empty mailbox.

The yardstick is a bare interpreter start, taken in the same rounds, because nothing
written in Python can cost less; the qmail chain shows what C costs for the same work.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from bench.client import log_in_often
from bench.contestants import BARE, C_CHAIN, bare_python, c_chain, debian, qtools, ready
from bench.cost import BenchError, bare_start_seconds
from bench.people import Household, hash_seconds
from bench.table import Figures, cell, rotated, show

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Sequence

    from bench.contestants import Contestant

_HEADS = (
    "contestant",
    "CPU ms",
    "lowest-highest",
    "bare starts",
    "promised",
    "CPU/C",
    "logins/s",
    "rate/C",
    "p50 ms",
)


class _Results:
    """All figures of one number of connections."""

    def __init__(self) -> None:
        self.cpu_milliseconds = Figures()
        self.rate = Figures()
        self.wait_milliseconds = Figures()

    def row(self, name: str, limit: str) -> list[str]:
        cpu, rate = self.cpu_milliseconds, self.rate
        return [
            name,
            cell(cpu.median(name)),
            cpu.spread(name),
            cpu.ratio(name, BARE),
            limit or "-",
            cpu.ratio(name, C_CHAIN),
            cell(rate.median(name), 0),
            rate.ratio(name, C_CHAIN),
            cell(self.wait_milliseconds.median(name), 1),
        ]


def options(parser: ArgumentParser) -> None:
    """Add what can be chosen on the command line."""
    parser.add_argument("--connections", default="1,8", help="default: %(default)s")
    parser.add_argument("--sessions", type=int, default=60, help="a round and server")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--hash", default="des", choices=("des", "md5", "sha512"))
    parser.add_argument("--only", default="", help="names that contain this word")


def run(chosen: Namespace) -> None:
    """Make users, run all rounds, print a table for each number of connections."""
    widths = [int(word) for word in chosen.connections.split(",")]
    with Household(max(widths), chosen.hash) as household:
        found = [
            ready(),
            *c_chain(),
            *debian(household),
            *qtools(household, every_way=True),
        ]
        rows = [row for row in found if chosen.only in row.name or row.name == C_CHAIN]
        rows = [row for row in rows if _is_fit(row, household.users[0])]
        spent = hash_seconds(chosen.hash) * 1000
        print(f"\na {chosen.hash} hash: {spent:.3f} CPU ms, part of each login below")
        for width in widths:
            results = _measure(rows, household.users[:width], chosen)
            lines = [results.row(row.name, row.limit) for row in rows]
            lines.insert(0, results.row(BARE, ""))
            title = f"login+STAT+QUIT, {width} at a time, {chosen.sessions} a round"
            show(f"{title}, {chosen.rounds} rounds", _HEADS, lines)


def _is_fit(row: Contestant, user: str) -> bool:
    """Try one login; a contestant that fails it is left out, and that is said."""
    try:
        _measure_one(row, [user], 1, _Results())
    except BenchError as why:
        print(f"bench: left out: {why}")
        return False
    return True


def _measure(
    rows: Sequence[Contestant], users: Sequence[str], chosen: Namespace
) -> _Results:
    """Run the rounds for one number of connections, one for each user."""
    results = _Results()
    for number in range(chosen.rounds):
        for row in rotated([None, *rows], number):
            if row is None:
                spent = bare_start_seconds(bare_python(), max(20, chosen.sessions // 3))
                results.cpu_milliseconds.add(BARE, spent * 1000)
            else:
                _measure_one(row, users, chosen.sessions, results)
    return results


def _measure_one(
    row: Contestant, users: Sequence[str], sessions: int, results: _Results
) -> None:
    """Put one contestant through one round."""
    server = row.start()
    try:
        load = log_in_often(server.port, users, max(sessions, len(users)), len(users))
    except (BenchError, OSError) as why:
        raise BenchError(f"{row.name}: {why}") from why
    finally:
        spent = server.stop()
    results.cpu_milliseconds.add(row.name, spent * 1000 / load.sessions)
    results.rate.add(row.name, load.sessions / load.wall_seconds)
    results.wait_milliseconds.add(row.name, median(load.session_seconds) * 1000)
