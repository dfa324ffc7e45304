# SPDX-License-Identifier: ISC
"""The account database: a login against a million accounts beside one against ten.

And whether the time of a refusal tells known names from unknown ones; see refusals.
"""

from __future__ import annotations

import os
import pwd
import time
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from bench.client import SECRET, log_in_often
from bench.contestants import HOST, Contestant, installed
from bench.cost import BenchError, free_port
from bench.people import Household
from bench.population import SAMPLES, database, sample, settle
from bench.refusals import Row, refuse
from bench.standing import Daemon
from bench.table import Figures, cell, rotated, show
from qtools.accounts.db.reader import Database, prepare

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Sequence
    from pathlib import Path

_LOOKS = 200  # calls of verify() in a round


class Population(NamedTuple):
    """A database, how many accounts are in it, and who of them logs in."""

    accounts: int
    path: Path
    users: list[str]

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return f"{self.accounts:,} accounts"


def options(parser: ArgumentParser) -> None:
    """Add what can be chosen on the command line."""
    parser.add_argument("--counts", default="10,1000000", help="default: %(default)s")
    parser.add_argument("--sessions", type=int, default=100, help="a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--refusals", type=int, default=400, help="of either kind")


def run(chosen: Namespace) -> None:
    """Make the databases, run all rounds, print the tables."""
    counts = [int(word) for word in chosen.counts.split(",")]
    if min(counts) < SAMPLES:
        raise BenchError(f"fewer accounts than {SAMPLES}")
    with Household(1, "md5") as household:
        place = installed(household)
        if place is None:
            return
        entry = pwd.getpwnam(household.users[0])
        home = household.home(household.users[0])
        populations = []
        for count in counts:
            path = database(count)
            settle(path, count, (entry.pw_uid, entry.pw_gid), home)
            populations.append(Population(count, path, sample(count)))
        _look(populations, chosen.rounds)
        _log_in(populations, place, chosen)
        largest = populations[-1]
        offered = ("--delay", "0", "--mechanisms", "plain,scram-sha-256")
        chains = [
            Row("cold", _chain(place, largest, *offered)),
            Row("warm", _warm(place, largest, *offered)),
        ]
        refuse(chains, largest.users, chosen.refusals, largest.name)


def _look(populations: Sequence[Population], rounds: int) -> None:
    """Time verify(), with and without opening the file before."""
    prepare()
    opened = {each.name: _open(each) for each in populations}
    open_figures, stand_figures = Figures(), Figures()
    for number in range(rounds):
        for each in rotated(populations, number):
            open_figures.add(each.name, _time(each, partial(_open, each)))
            stand_figures.add(
                each.name, _time(each, partial(opened.__getitem__, each.name))
            )
    rows = [
        [
            each.name,
            cell(stand_figures.median(each.name), 1),
            stand_figures.ratio(each.name, populations[0].name),
            cell(open_figures.median(each.name), 1),
            open_figures.ratio(each.name, populations[0].name),
        ]
        for each in populations
    ]
    heads = ("database", "verify us", "ratio", "open+verify us", "ratio")
    show(f"verify(), {rounds} rounds of {_LOOKS}", heads, rows)


def _open(each: Population) -> Database:
    return Database(os.fsencode(each.path))


def _time(each: Population, source: Callable[[], Database]) -> float:
    """Give the median microseconds of one look."""
    taken = []
    for number in range(_LOOKS):
        user = each.users[number % SAMPLES].encode()
        began = time.perf_counter()
        source().verify(user, SECRET, b"")
        taken.append(time.perf_counter() - began)
    return median(taken) * 1e6


def _chain(place: Path, each: Population, *options: str) -> Contestant:
    popup, checkpw, pop3d = (
        str(place / name) for name in ("popup", "checkpw", "pop3d")
    )
    source = ("--accounts", f"db:{each.path}")
    return Contestant(
        each.name, (popup, *options, HOST, checkpw, *source, pop3d, "Maildir")
    )


def _warm(place: Path, each: Population, *options: str) -> Daemon:
    cold = _chain(place, each, *options)
    port = free_port()
    words = ("-c", "500", "--per-source", "0", "--min-delay", "0", "-R", "-H", "-l0")
    server = (str(place / "popserver"), *words, "127.0.0.1", str(port))
    return Daemon(each.name, (*server, *cold.program), port)


def _log_in(populations: Sequence[Population], place: Path, chosen: Namespace) -> None:
    """Time logins through the cold chain."""
    processor, wait = Figures(), Figures()
    for number in range(chosen.rounds):
        for each in rotated(populations, number):
            server = _chain(place, each).start()
            try:
                load = log_in_often(server.port, each.users, chosen.sessions, 1)
            finally:
                spent = server.stop()
            processor.add(each.name, spent * 1000 / load.sessions)
            wait.add(each.name, median(load.session_seconds) * 1000)
    first = populations[0].name
    rows = [
        [
            each.name,
            cell(processor.median(each.name)),
            processor.ratio(each.name, first),
            cell(wait.median(each.name)),
            wait.ratio(each.name, first),
        ]
        for each in populations
    ]
    title = f"login+STAT+QUIT, cold chain, {chosen.rounds} rounds of {chosen.sessions}"
    show(title, ("database", "CPU ms", "ratio", "p50 ms", "ratio"), rows)
