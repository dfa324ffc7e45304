# SPDX-License-Identifier: ISC
"""Who is compared: one row each, all of them under the same tcpserver.

The rows of the qmail chain exist only where the environment names its programs; the
project neither holds nor builds them.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench import peers
from bench.client import SECRET
from bench.cost import BenchError, Server

if TYPE_CHECKING:
    from bench.people import Household

REPOSITORY = Path(__file__).resolve().parent.parent
BARE = "bare start"
READY = "ready replies"
C_CHAIN = "C chain"
C_CHAIN_NODELAY = "C chain -D"
POPA3D = "popa3d"
POPA3D_NODELAY = "popa3d -D"

HOST = "bench.example"
_DATABASE_HASHES = {"des": "md5"}  # it has no DES
_SOLID_CONFIGURATION = """<Global>
\tMailDropName "Maildir"
\tMailDropType maildir
\tAddBulletins no
\tLogStatistics no
</Global>
"""


class Contestant(NamedTuple):
    """A server to be timed."""

    name: str
    program: tuple[str, ...]  # what tcpserver is to run
    is_nodelay: bool = False  # tcpserver -D: sets TCP_NODELAY for the program
    library_path: str = ""  # for packages that are unpacked, not installed
    limit: str = ""  # "2.0" where the project promises so many bare starts a login
    tls_port: int = 0  # none

    def start(self) -> Server:
        """Start a listener that runs the program for each connection."""
        tcpserver = peers.program("BENCH_TCPSERVER", "tcpserver")
        if tcpserver is None:
            raise BenchError(
                "no tcpserver: install Debian's ucspi-tcp or set BENCH_TCPSERVER"
            )
        environment = {"PATH": "/usr/bin:/bin"}
        if self.library_path:
            environment["LD_LIBRARY_PATH"] = self.library_path
        argv = [tcpserver, "-R", "-H", "-l0", "-c12000", "-b1000", "127.0.0.1", "PORT"]
        if self.is_nodelay:
            argv.insert(1, "-D")
        return Server([*argv, *self.program], environment)

    def with_nodelay(self) -> Contestant:
        """Give the same server under tcpserver -D."""
        return self._replace(name=self.name + " -D", is_nodelay=True)


def bare_python() -> str:
    """Give the interpreter whose start is the yardstick."""
    return os.environ.get("BENCH_PYTHON", "/usr/bin/python3")


def ready(*message: Path) -> Contestant:
    """Give the floor: a Python program that answers without doing any work."""
    script = str(REPOSITORY / "bench/ready.py")
    program = (bare_python(), "-IS", script, *map(str, message))
    return Contestant(READY, program)


def c_chain() -> list[Contestant]:
    """Give qmail-popup, checkpassword and qmail-pop3d, where the environment can."""
    names = ("BENCH_QMAIL_POPUP", "BENCH_CHECKPASSWORD", "BENCH_QMAIL_POP3D")
    popup, checkpassword, pop3d = (os.environ.get(name, "") for name in names)
    if not (popup and checkpassword and pop3d):
        print(f"bench: C chain left out: set {', '.join(names)}")
        return []
    return [Contestant(C_CHAIN, (popup, HOST, checkpassword, pop3d, "Maildir"))]


def debian(household: Household) -> list[Contestant]:
    """Give popa3d and solid-pop3d, with the users and files they ask for."""
    rows = []
    popa3d = peers.program("BENCH_POPA3D", "popa3d")
    if popa3d is None:
        print("bench: popa3d left out: not found")
    else:
        household.servant("popa3d", "/var/lib/popa3d")
        rows.append(Contestant(POPA3D, (popa3d,)))
    solid = peers.program("BENCH_SOLID_POP3D", "solid-pop3d")
    if solid is None:
        print("bench: solid-pop3d left out: not found")
    else:
        household.servant("spop3d", "/var/lib/solid-pop3d")
        configuration = household.folder / "spop3d.conf"
        configuration.write_text(_SOLID_CONFIGURATION, encoding="ascii")
        program = (solid, "-f", str(configuration))
        library_path = peers.library_path()
        rows.append(Contestant("solid-pop3d", program, library_path=library_path))
    return rows


def installed(household: Household) -> Path | None:
    """Give the folder of our own programs, installing them for this run if need be."""
    return installed_below(household.folder)


def installed_below(folder: Path) -> Path | None:
    """Give the folder of our own programs, which may have to be below this one."""
    given = os.environ.get("BENCH_QTOOLS")
    if given:
        return Path(given) / "bin"
    prefix = folder / "qtools"
    if prefix.exists():
        return prefix / "bin"
    command = ("make", "-s", "install", f"PREFIX={prefix}")
    done = subprocess.run(
        command, cwd=REPOSITORY, check=False, capture_output=True, text=True
    )
    if done.returncode != 0:
        print(f"bench: qtools left out: make install says {done.stderr.strip()[-300:]}")
        return None
    return prefix / "bin"


def qtools(household: Household, *, every_way: bool) -> list[Contestant]:
    """Give our own chain; in every way it can run, or just as it runs by default."""
    place = installed(household)
    if place is None:
        return []
    programs = ("popup", "checkpw", "pop3d")
    popup, checkpw, pop3d = (str(place / name) for name in programs)

    def row(name: str, limit: str, options: str = "", check: str = "") -> Contestant:
        chain = (HOST, checkpw, *check.split(), pop3d, "Maildir")
        return Contestant(name, (popup, *options.split(), *chain), limit=limit)

    rows = [row("qtools", "2.0")]
    if every_way:
        rows += [
            row("qtools no split", "1.7", "--no-split"),
            row("qtools exec", "", "--exec", "--exec"),
            row("qtools exec no split", "4.0", "--no-split --exec", "--exec"),
            Contestant("pop3d alone", (pop3d, "--accounts", "system")),
        ]
        accounts = database(household, place)
        if accounts is not None:
            source = f"--accounts db:{accounts}"
            rows += [
                row("qtools db", "", "", source),
                row("qtools db no split", "2.3", "--no-split", source),
                Contestant("pop3d alone db", (pop3d, *source.split())),
            ]
    return rows


def database(household: Household, place: Path, owner: str = "") -> Path | None:
    """Make an account database of the household's users; None if that fails.

    With an owner, they have the virtual homes, which are all that user's.
    """
    kind = household.hash_kind
    path = household.folder / f"accounts-{kind}{owner}.db"
    if path.exists():
        return path
    command = (str(place / "popaccount"), "--db", str(path))
    method = ("--stdin", "--hash", _DATABASE_HASHES.get(kind, kind))
    words: list[tuple[str, ...]] = [(*command, "init")]
    for user in household.users:
        entry = pwd.getpwnam(owner or user)
        home = household.virtual_home(user) if owner else household.home(user)
        place_of = ("--home", str(home), "--uid", str(entry.pw_uid))
        numbers = ("--gid", str(entry.pw_gid))
        words.append((*command, "add", user, *place_of, *numbers, *method))
    for argv in words:
        done = subprocess.run(
            argv, input=SECRET + b"\n", check=False, capture_output=True
        )
        if done.returncode != 0:
            print(f"bench: db: rows left out: {done.stderr.decode(errors='replace')}")
            return None
    return path
