# SPDX-License-Identifier: ISC
"""What a mail program's visit costs: STAT, UIDL, LIST, 5 RETR, DELE, QUIT.

Twenty messages, one of them new since the last visit to the same server. Servers that
answer in two small writes wait for the client's delayed acknowledgement here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.contestants import C_CHAIN, C_CHAIN_NODELAY
from bench.dovecot import DEFAULT, ONE_UID, TUNED
from bench.load import LINE, LINES, Limits, Step, greeting, login_steps
from bench.people import Household
from bench.refill import Refill
from bench.retr import message
from bench.round import HEADS, Results, Task, compare, fit
from bench.standing import POPA3D_DAEMON, everybody, selected
from bench.table import show

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from bench.load import Script

_MESSAGES = 20
_OCTETS = 20_000
_FETCHED = 5
_WIDTH = 8
_BESIDE = {
    "C": C_CHAIN,
    "C -D": C_CHAIN_NODELAY,
    "popa3d": POPA3D_DAEMON,
    "dovecot": DEFAULT,
    "tuned": TUNED,
    "1 uid": ONE_UID,
}


def options(parser: ArgumentParser) -> None:
    """Add what can be chosen on the command line."""
    parser.add_argument("--users", type=int, default=100, help="one session each")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="names that contain this word")


def run(chosen: Namespace) -> None:
    """Make users with mail, run all rounds, print the table."""
    with Household(max(chosen.users, _WIDTH), "md5") as household:
        texts = [message(_OCTETS, number) for number in range(_MESSAGES)]
        scripts = [typical(user) for user in household.users]
        count = len(scripts)
        task = Task(scripts, _WIDTH, Limits(count), warming=count)
        task = task._replace(prepare=Refill(household, texts))
        rows = fit(selected(everybody(household), chosen.only), task)
        results = compare(rows, task, chosen.rounds)
        heads = ("contestant", *HEADS, *(f"rate/{word}" for word in _BESIDE), "CPU/C")
        title = f"typical check, {_MESSAGES} x {_OCTETS:,} octets, {_FETCHED} fetched"
        lines = [_line(row.name, results) for row in rows]
        show(f"{title}, {_WIDTH} at a time, {chosen.rounds} rounds", heads, lines)


def typical(user: str) -> Script:
    """Give the session of a mail program: the latest messages, and one less to keep."""
    fetched = range(_MESSAGES - _FETCHED + 1, _MESSAGES + 1)
    return (
        greeting(),
        *login_steps(user),
        Step(b"STAT\r\n", LINE),
        Step(b"UIDL\r\n", LINES),
        Step(b"LIST\r\n", LINES),
        *(Step(b"RETR %d\r\n" % number, LINES) for number in fetched),
        Step(b"DELE 1\r\n", LINE),
        Step(b"QUIT\r\n", LINE),
    )


def _line(name: str, results: Results) -> list[str]:
    beside = [results.rate.ratio(name, other) for other in _BESIDE.values()]
    ratio = results.cpu_milliseconds.ratio(name, C_CHAIN)
    return [name, *results.cells(name), *beside, ratio]
