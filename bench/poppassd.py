# SPDX-License-Identifier: ISC
"""What changing a password costs, beside Debian's poppassd under the same tcpserver.

Both change real passwords with pam_unix, of users in a copy of /etc that only they see.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench import peers
from bench.client import SECRET
from bench.contestants import installed_below
from bench.cost import LOOPBACK, BenchError, Server
from bench.people import crypt
from bench.table import Figures, cell, rotated, show

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Sequence

_DEBIAN = "Debian's"
_OURS = "qtools"
_FIRST_UID = 60000
_OTHER_SECRET = b"another secret altogether"
_PATIENCE_SECONDS = 60.0
_PARTS = ("passwd", "shadow", "group", "nsswitch.conf", "login.defs", "security")
_SERVICE = """auth required pam_unix.so nodelay
account required pam_unix.so
password required pam_unix.so sha512 rounds=1000
"""
# No /dev/log: nobody's log is to be filled.
_ENTER = """mount --bind {place}/etc /etc
mount --bind {place}/null /dev/log 2>/dev/null || :
exec "$@"
"""
_HEADS = ("", "CPU ms", "lowest-highest", "CPU/Debian", "per s", "rate/Debian", "ms")


class _Program(NamedTuple):
    name: str
    argv: tuple[str, ...]


class _Results:
    def __init__(self) -> None:
        self.cpu_milliseconds = Figures()
        self.rate = Figures()
        self.wait_milliseconds = Figures()

    def row(self, name: str) -> list[str]:
        cpu, rate = self.cpu_milliseconds, self.rate
        return [
            name,
            cell(cpu.median(name)),
            cpu.spread(name),
            cpu.ratio(name, _DEBIAN),
            cell(rate.median(name), 0),
            rate.ratio(name, _DEBIAN),
            cell(self.wait_milliseconds.median(name), 1),
        ]


def options(parser: ArgumentParser) -> None:
    """Add what can be chosen on the command line."""
    parser.add_argument("--connections", default="1,8", help="default: %(default)s")
    parser.add_argument("--sessions", type=int, default=40, help="a round and program")
    parser.add_argument("--rounds", type=int, default=5)


def run(chosen: Namespace) -> None:
    """Make users, run all rounds, print a table for each task and width."""
    widths = [int(word) for word in chosen.connections.split(",")]
    place = Path(tempfile.mkdtemp(prefix="qtbench-"))
    place.chmod(0o755)
    try:
        users = _furnish(place, max(widths))
        programs = _programs(place)
        for task in (_Greeting, _Refusal, _Change):
            for width in widths:
                _compare(place, programs, task, users[:width], chosen)
    finally:
        shutil.rmtree(place)


def _programs(place: Path) -> list[_Program]:
    debian = peers.program("BENCH_POPPASSD", "poppassd")
    ours = installed_below(place)
    found = []
    if debian is None:
        print("bench: Debian's poppassd left out: not found")
    else:
        found.append(_Program(_DEBIAN, (debian,)))
    if ours is not None:
        argv = (str(ours / "poppassd"), "--fail-delay=0")
        found.append(_Program(_OURS, argv))
    return found


def _furnish(place: Path, count: int) -> list[str]:
    """Make the copy of /etc with so many users; give their names."""
    etc = place / "etc"
    (etc / "pam.d").mkdir(parents=True)
    for name in _PARTS:
        subprocess.run(("cp", "-a", f"/etc/{name}", etc), check=True)
    (etc / "pam.d/poppassd").write_text(_SERVICE, encoding="ascii")
    users = [f"qtbench{number}" for number in range(count)]
    stored = crypt("md5")
    with (etc / "passwd").open("a") as passwd, (etc / "shadow").open("a") as shadow:
        for number, user in enumerate(users, _FIRST_UID):
            passwd.write(f"{user}:x:{number}:{number}::/nonexistent:/bin/false\n")
            shadow.write(f"{user}:{stored}:19000:0:99999:7:::\n")
    shutil.copy(etc / "shadow", place)
    (place / "null").touch()
    (place / "enter").write_text(_ENTER.format(place=place), encoding="ascii")
    return users


def _compare(
    place: Path,
    programs: Sequence[_Program],
    task: type[_Task],
    users: list[str],
    chosen: Namespace,
) -> None:
    results = _Results()
    for number in range(chosen.rounds):
        for program in rotated(programs, number):
            _round(place, program, [task(user) for user in users], chosen, results)
    lines = [results.row(program.name) for program in programs]
    what = f"{task.name}, {len(users)} at a time, {chosen.sessions} a round"
    show(f"{what}, {chosen.rounds} rounds", _HEADS, lines)


def _round(
    place: Path,
    program: _Program,
    tasks: list[_Task],
    chosen: Namespace,
    results: _Results,
) -> None:
    """Put one program through one round: each task on a connection after another."""
    tcpserver = peers.program("BENCH_TCPSERVER", "tcpserver")
    if tcpserver is None:
        raise BenchError("no tcpserver: install Debian's ucspi-tcp")
    enter = ("/usr/bin/unshare", "-m", "--propagation", "private", "sh")
    listen = (tcpserver, "-R", "-H", "-l0", "-c1000", "-b1000", LOOPBACK, "PORT")
    shutil.copy(place / "shadow", place / "etc/shadow")
    argv = [*enter, str(place / "enter"), *listen, *program.argv]
    server = Server(argv, {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
    try:
        often = chosen.sessions // len(tasks)
        began = time.monotonic()
        with ThreadPoolExecutor(len(tasks)) as pool:
            waits = list(pool.map(lambda task: task.often(server.port, often), tasks))
        took = time.monotonic() - began
    finally:
        cpu = server.stop()
    sessions = often * len(tasks)
    results.cpu_milliseconds.add(program.name, cpu * 1000 / sessions)
    results.rate.add(program.name, sessions / took)
    results.wait_milliseconds.add(program.name, sum(waits) * 1000 / sessions)


class _Task:
    """What is done on a connection, and how the last reply to it begins."""

    name = ""
    last = b""

    def __init__(self, user: str) -> None:
        self.user = user.encode()
        self.old, self.new = SECRET, _OTHER_SECRET

    def lines(self) -> list[bytes]:
        raise NotImplementedError

    def done(self) -> None:
        """Note that it was done."""

    def often(self, port: int, count: int) -> float:
        """Do it so often; give the seconds from connecting to the last reply."""
        waited = 0.0
        for _ in range(count):
            began = time.monotonic()
            self._once(port)
            waited += time.monotonic() - began
            self.done()
        return waited

    def _once(self, port: int) -> None:
        address = (LOOPBACK, port)
        with socket.create_connection(address, _PATIENCE_SECONDS) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with client.makefile("rb") as file:
                reply = file.readline()
                for line in self.lines():
                    client.sendall(line + b"\r\n")
                    reply = file.readline()
        if not reply.startswith(self.last):
            raise BenchError(f"{self.user!r} was told {reply!r}")


class _Greeting(_Task):
    name = "a greeting"
    last = b"500 Username required."

    def lines(self) -> list[bytes]:
        return [b"quit"]


class _Refusal(_Task):
    name = "a refusal"
    last = b"500 Old password is incorrect."

    def lines(self) -> list[bytes]:
        return [b"user " + self.user, b"pass wrong"]


class _Change(_Task):
    name = "a change"
    last = b"200 Bye."

    def lines(self) -> list[bytes]:
        return [
            b"user " + self.user,
            b"pass " + self.old,
            b"newpass " + self.new,
            b"quit",
        ]

    def done(self) -> None:
        self.old, self.new = self.new, self.old
