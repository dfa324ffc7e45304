# SPDX-License-Identifier: ISC
"""What a waiting client costs in memory: logged in, or connected and no more.

Each figure is the PSS of the whole tree with the clients less that without them, for
each client; the server has served some sessions before.
"""

from __future__ import annotations

import resource
import select
from typing import TYPE_CHECKING

from bench import tree
from bench.cost import BenchError
from bench.dovecot import ONE_UID, TUNED
from bench.load import LINE, Limits, Step, Talk, drive, greeting, login_steps, sources
from bench.load import visit as whole_visit
from bench.people import Household
from bench.standing import (
    POPA3D_DAEMON,
    POPSERVER,
    POPSERVER_DB,
    POPSERVER_SPARE,
    everybody,
    most_sessions,
    selected,
)
from bench.table import cell, show

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Sequence

    from bench.cost import Server
    from bench.load import Script
    from bench.standing import Row

_WARMING = 100
_WARMING_WIDTH = 8
_PATIENCE_SECONDS = 30.0
_DESCRIPTORS = 15_000
_MANY = 1000  # more than so many are for servers without a process for each
_EVENT_DRIVEN = (POPSERVER, POPSERVER_SPARE, POPSERVER_DB, TUNED, ONE_UID)
# What other servers have room for as they come; more clients would wait for ever.
_ROOM = {POPA3D_DAEMON: 400, "dovecot": 100}


def options(parser: ArgumentParser) -> None:
    """Add what can be chosen on the command line."""
    parser.add_argument("--sessions", type=int, default=100, help="logged in")
    parser.add_argument("--waiting", default="1000,10000", help="not logged in")
    parser.add_argument("--only", default="", help="names that contain this word")


def run(chosen: Namespace) -> None:
    """Make users, hold connections open to each server in turn, print the table."""
    _raise_limit()
    counts = [int(word) for word in chosen.waiting.split(",") if word]
    heads = ["contestant", "tree KiB", f"{chosen.sessions} logged in, KiB each"]
    heads += [f"{count} waiting, KiB each" for count in counts]
    lines = []
    with Household(chosen.sessions, "md5") as household:
        users = household.users
        inside = [
            (greeting(), *login_steps(user), Step(b"STAT\r\n", LINE)) for user in users
        ]
        for row in selected(everybody(household), chosen.only):
            print(f"bench: memory of {row.name}", flush=True)
            crowds: list[list[Script]] = [list(inside)]
            crowds += [[(greeting(),)] * count for count in counts]
            try:
                lines.append(_line(row, users, crowds))
            except BenchError as why:
                print(f"bench: left out: {row.name}: {why}")
    show("memory, PSS", heads, lines)


def _line(row: Row, users: Sequence[str], crowds: Sequence[list[Script]]) -> list[str]:
    cells, base = [], 0.0
    for crowd in crowds:
        if _has_room(row, len(crowd)):
            base, each = _hold(row, users, crowd)
            cells.append(cell(each, 1))
        else:
            cells.append("-")
    return [row.name, cell(base, 0), *cells]


def _has_room(row: Row, count: int) -> bool:
    most = _ROOM.get(row.name, _MANY)
    return row.name in _EVENT_DRIVEN or count <= most


def _hold(
    row: Row, users: Sequence[str], crowd: Sequence[Script]
) -> tuple[float, float]:
    """Start the server, let the crowd in; give KiB without it, and KiB for each."""
    server = row.start()
    talks: list[Talk] = []
    try:
        warming = min(_WARMING, most_sessions(row) // 4)
        scripts = [whole_visit(user) for user in users]
        drive(server.port, scripts, Limits(warming), min(_WARMING_WIDTH, len(users)))
        base = tree.pss_kibibytes()
        _open(server, crowd, talks)
        full = tree.pss_kibibytes()
    except OSError as why:
        raise BenchError(str(why)) from why
    finally:
        for talk in talks:
            talk.close()
        server.stop()
    return base, (full - base) / len(crowd)


def _open(server: Server, crowd: Sequence[Script], talks: list[Talk]) -> None:
    """Let one client after the other come as far as its script goes, and stay there."""
    for script, source in zip(crowd, sources(), strict=False):
        talk = Talk(server.port, source, script)
        talks.append(talk)
        poll = select.poll()
        poll.register(talk.fileno(), select.POLLIN)
        while not talk.is_done:
            if not poll.poll(_PATIENCE_SECONDS * 1000):
                raise BenchError(f"silent to client {len(talks)}")
            if talk.step():
                raise BenchError(f"closed on client {len(talks)}")


def _raise_limit() -> None:
    """Allow ourselves, and the servers after us, descriptors enough."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < _DESCRIPTORS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_DESCRIPTORS, _DESCRIPTORS))
    else:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_DESCRIPTORS, hard))
