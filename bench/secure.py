# SPDX-License-Identifier: ISC
"""What TLS costs: logins with a handshake each, and one large message fetched.

The same key and certificate for everybody, TLS 1.3 with the library's first cipher, and
a client that resumes nothing.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench import tlstalk
from bench.client import Reader
from bench.cost import BenchError
from bench.dovecot import DEFAULT, ONE_UID, TUNED, dovecots
from bench.identity import KINDS, identity
from bench.load import Limits, visit
from bench.people import Household
from bench.retr import message
from bench.round import HEADS, Results, Task, compare, fit
from bench.standing import popservers
from bench.table import Figures, cell, rotated, show

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Sequence

    from bench.standing import Row

_BESIDE = {"dovecot": DEFAULT, "tuned": TUNED, "1 uid": ONE_UID}
_MEGABYTE = 1_000_000
_MESSAGE_HEADS = ("contestant", "MB/s", "CPU ms/MB")


def options(parser: ArgumentParser) -> None:
    """Add what can be chosen on the command line."""
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--sessions", type=int, default=400, help="a round, at most")
    parser.add_argument("--seconds", type=float, default=2.0, help="a round, at most")
    parser.add_argument("--megabytes", type=int, default=50, help="of the one message")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="names that contain this word")


def run(chosen: Namespace) -> None:
    """Make users and certificates, run all rounds, print the tables."""
    width = chosen.connections
    with Household(max(width, chosen.users), "md5") as household:
        visits = [visit(user) for user in household.users]
        limits = Limits(chosen.sessions, chosen.seconds)
        rows: list[Row] = []
        for kind in KINDS:
            shown = identity(household.folder, kind)
            found: list[Row] = [*popservers(household, shown)]
            found += dovecots(household, shown)
            rows = [row for row in found if chosen.only in row.name]
            scripts = [tlstalk.with_stls(script) for script in visits]
            task = Task(scripts, width, limits, tlstalk.StlsTalk, warming=width)
            _logins(f"{kind}, STLS", rows, task, chosen.rounds)
            task = Task(visits, width, limits, tlstalk.TlsTalk, width, is_tls=True)
            _logins(f"{kind}, TLS at once", rows, task, chosen.rounds)
        _fetches(household, rows, chosen)


def _logins(what: str, rows: Sequence[Row], task: Task, rounds: int) -> None:
    able = fit(rows, task)
    if not able:
        return
    results = compare(able, task, rounds)
    heads = ("contestant", *HEADS, *(f"rate/{word}" for word in _BESIDE), "CPU/tuned")
    lines = [_line(row.name, results) for row in able]
    title = f"handshake+login+STAT+QUIT, {what}, {task.width} at a time"
    show(f"{title}, {rounds} rounds", heads, lines)


def _line(name: str, results: Results) -> list[str]:
    beside = [results.rate.ratio(name, other) for other in _BESIDE.values()]
    ratio = results.cpu_milliseconds.ratio(name, TUNED)
    return [name, *results.cells(name), *beside, ratio]


def _fetches(household: Household, rows: Sequence[Row], chosen: Namespace) -> None:
    """Fetch the one large message over TLS, as often as there are rounds."""
    user = household.users[0]
    text = message(chosen.megabytes * _MEGABYTE, 1)
    for path in household.deliver(user, [text]):
        virtual = household.virtual_home(user) / "Maildir/cur" / path.name
        household.put(virtual, text, household.make_virtual())
    rate, cpu = Figures(), Figures()
    for number in range(chosen.rounds):
        for row in rotated(rows, number):
            seconds, spent = _fetch(row, user)
            rate.add(row.name, len(text) / _MEGABYTE / seconds)
            cpu.add(row.name, spent * 1000 * _MEGABYTE / len(text))
    lines = [
        [
            row.name,
            cell(rate.median(row.name), 0),
            cell(cpu.median(row.name)),
            *(rate.ratio(row.name, other) for other in _BESIDE.values()),
        ]
        for row in rows
    ]
    heads = (*_MESSAGE_HEADS, *(f"rate/{word}" for word in _BESIDE))
    title = f"RETR of {len(text):,} octets over TLS, {chosen.rounds} rounds"
    show(title, heads, lines)


def _fetch(row: Row, user: str) -> tuple[float, float]:
    """Fetch the message twice in a session; give seconds and CPU of the second."""
    server = row.start()
    spent = 0.0
    server.cpu_seconds()  # until it has started all it wants to have
    try:
        with Reader(row.tls_port, user, tlstalk.wrap) as reader:
            reader.fetch(1)
            before = server.cpu_seconds()
            began = time.perf_counter()
            reader.fetch(1)
            seconds = time.perf_counter() - began
            after = server.cpu_seconds()
            if before is not None and after is not None:
                spent = after - before
            reader.quit()
    except (BenchError, OSError) as why:
        raise BenchError(f"{row.name}: {why}") from why
    finally:
        server.stop()
    return seconds, spent
