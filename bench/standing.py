# SPDX-License-Identifier: ISC
"""Servers compared with popserver: those that stay, and chains under tcpserver.

A row has a name and can be started; what it runs is its own business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from bench import peers
from bench.contestants import (
    C_CHAIN,
    HOST,
    READY,
    REPOSITORY,
    bare_python,
    c_chain,
    database,
    debian,
    installed,
)
from bench.cost import Server, free_port
from bench.dovecot import dovecots

if TYPE_CHECKING:
    from pathlib import Path

    from bench.identity import Identity
    from bench.people import Household

POPSERVER = "popserver"
MOST_USERS = 200
POPSERVER_SPARE = "popserver spare"
POPSERVER_DB = "popserver db"
POPA3D_DAEMON = "popa3d daemon"
SOLID = "solid-pop3d"
MOST_CLIENTS = 12_000

_POPA3D_PORT = 110  # Debian's binary knows no other
# One popa3d lets in 500 sessions in 10 seconds, and nothing can change that.
_POPA3D_SESSIONS = 450
_UNLIMITED = 1 << 30


class Row(Protocol):
    """A contestant."""

    @property
    def name(self) -> str:
        """Its name in the table."""

    @property
    def tls_port(self) -> int:
        """The port on which it speaks TLS at once; 0 for none."""

    def start(self) -> Server:
        """Start it on its port."""


class Daemon(NamedTuple):
    """A server that stays, started from a command line."""

    name: str
    argv: tuple[str, ...]
    port: int
    tls_port: int = 0

    def start(self) -> Server:
        """Start it."""
        return Server(self.argv, {"PATH": "/usr/bin:/bin"}, self.port)


def ready() -> Daemon:
    """Give the ceiling: a server that says +OK to everything."""
    port = free_port()
    script = str(REPOSITORY / "bench/ready_server.py")
    return Daemon(READY, (bare_python(), "-IS", script, str(port)), port)


def popservers(household: Household, identity: Identity | None = None) -> list[Daemon]:
    """Give our own server with system users, and with an account database.

    By the first row each login is a fork; by the second a process waits for every user
    who comes again, which the default does for 32. All accounts of the database have
    one uid.
    """
    place = installed(household)
    if place is None:
        return []
    if not (place / "popserver").exists():
        print("bench: popserver left out: make install has not put one in place")
        return []
    rows = [
        _popserver(place, POPSERVER, (), identity, spare=0),
        _popserver(place, POPSERVER_SPARE, (), identity, spare=MOST_USERS),
    ]
    accounts = database(household, place, household.make_virtual())
    if accounts is not None:
        source = ("--accounts", f"db:{accounts}")
        rows.append(_popserver(place, POPSERVER_DB, source, identity, spare=64))
    return rows


def _popserver(
    place: Path,
    name: str,
    source: tuple[str, ...],
    identity: Identity | None,
    *,
    spare: int,
) -> Daemon:
    port, tls_port = free_port(), 0
    options = ["-c", str(MOST_CLIENTS), "--per-source", "0", "--min-delay", "0"]
    options += ["-R", "-H", "-l0", "--spare-sessions", str(spare)]
    if identity is not None:
        tls_port = free_port()
        options += ["--certificate", str(identity.certificate)]
        options += ["--key", str(identity.key)]
        options += ["--listen", f"tls:127.0.0.1:{tls_port}"]
    programs = (
        str(place / word) for word in ("popserver", "popup", "checkpw", "pop3d")
    )
    server, popup, checkpw, pop3d = programs
    chain = (popup, HOST, checkpw, *source, pop3d, "Maildir")
    argv = (server, *options, "127.0.0.1", str(port), *chain)
    return Daemon(name, argv, port, tls_port)


def popa3d(household: Household) -> list[Daemon]:
    """Give popa3d as a server of its own; it serves mboxes."""
    program = peers.program("BENCH_POPA3D", "popa3d")
    if program is None:
        return []
    household.servant("popa3d", "/var/lib/popa3d")
    return [Daemon(POPA3D_DAEMON, (program, "-D"), _POPA3D_PORT)]


def everybody(household: Household) -> list[Row]:
    """Give all rows for sessions in the clear."""
    chains = [row for chain in c_chain() for row in (chain, chain.with_nodelay())]
    solid = [row for row in debian(household) if row.name == SOLID]
    return [
        *popservers(household),
        *chains,
        *popa3d(household),
        *solid,
        *dovecots(household),
    ]


def selected(rows: list[Row], word: str) -> list[Row]:
    """Give the rows whose name contains a word, and the C chain."""
    return [row for row in rows if word in row.name or row.name == C_CHAIN]


def most_sessions(row: Row) -> int:
    """Give how many sessions one start of a server lets in before it slows down."""
    return _POPA3D_SESSIONS if row.name == POPA3D_DAEMON else _UNLIMITED
