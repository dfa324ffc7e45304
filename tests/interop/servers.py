# SPDX-License-Identifier: ISC
"""Superservers, one row each, and a way to run one for the length of a test.

Each is started as its users start it: by a run script that opens the session log on
descriptor 5. Those that close every descriptor above 2 (the inetd family) get the run
script as the service instead. s6-tcpserver is part of s6-networking, which Debian 12
does not have; of s6 there are its supervisor, here over tcpserver, and s6-ipcserver,
whose clients come through a UNIX socket.
"""

import os
import pwd
import shlex
import shutil
import signal
import socket
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import foreign, free_port, need, wait_for

HOST = "127.0.0.1"
HOSTNAME = "mx.example.org"
LISTENING = "0A"  # the state in /proc/net/tcp
ACCEPTING = "00010000"  # the flags in /proc/net/unix
MARK = "QTOOLS_INTEROP"  # in the environment of whatever a test has started


class Site(NamedTuple):
    """Where a superserver is to listen, and what it is to run.

    service: a script that runs the chain, with its environment and descriptor 5.
    """

    place: Path
    port: int
    service: Path
    chain: list[str]

    @property
    def socket(self) -> str:
        """The path of a UNIX socket."""
        return str(self.place / "socket")

    def write(self, name: str, text: str) -> str:
        """Write a configuration file; give its path."""
        path = self.place / name
        path.write_text(text, encoding="ascii")
        return str(path)


class Superserver(NamedTuple):
    """How a superserver is run.

    argv: makes its words. is_ucspi: it passes on descriptor 5 and tells who the client
    is. has_port: it listens on a port, not on a UNIX socket. is_counting: its log says
    what a session did.
    """

    name: str
    argv: Callable[[Site], list[str]]
    is_ucspi: bool = True
    has_port: bool = True
    is_counting: bool = False


def _tcpserver(site: Site) -> list[str]:
    program = need("tcpserver", "ucspi-tcp")
    options = ["-v", "-R", "-H", "-l", HOSTNAME, "-c", "40"]
    return [program, *options, HOST, str(site.port), *site.chain]


def _tcpsvd(site: Site) -> list[str]:
    program = need("tcpsvd", "ipsvd")
    return [program, "-v", "-l", HOSTNAME, HOST, str(site.port), *site.chain]


def _s6_supervise(site: Site) -> list[str]:
    """Let s6-svscan supervise a service directory whose run script is tcpserver."""
    program = need("s6-svscan", "s6")
    folder = site.place / "scan/pop3"
    folder.mkdir(parents=True)
    run = folder / "run"
    words = shlex.join(_tcpserver(site))
    run.write_text(f"#!/bin/sh\nexec {words}\n", encoding="ascii")
    run.chmod(0o755)
    return [program, "-t0", str(site.place / "scan")]


def _s6_ipcserver(site: Site) -> list[str]:
    program = need("s6-ipcserver", "s6")
    return [program, "-v", "-c", "40", site.socket, *site.chain]


def unpacked(package: str, program: str, *libraries: str) -> list[str]:
    """Give the start of a command: a program and the libraries it needs, unpacked."""
    folders = set()
    for library in libraries:
        top = Path(foreign(library, "."))
        folders |= {str(path.parent) for path in top.rglob("*.so*")}
    path = foreign(package, program)
    return ["env", f"LD_LIBRARY_PATH={':'.join(sorted(folders))}", path]


def of_systemd(program: str) -> list[str]:
    """Give the start of a command with a program of systemd's, which need not be here.

    A container has no use for it, so make test does not install it.
    """
    if installed := shutil.which(program):
        return [installed]
    libraries = ("libsystemd-shared", "libapparmor1", "libip4tc2", "libkmod2")
    return unpacked("systemd", f"usr/bin/{program}", *libraries)


def _inetd(site: Site) -> list[str]:
    user = pwd.getpwuid(os.geteuid()).pw_name
    row = f"{HOST}:{site.port} stream tcp nowait {user} {site.service} pop3\n"
    program = unpacked("openbsd-inetd", "usr/sbin/inetd", "libwrap0")
    return [*program, "-E", "-i", site.write("inetd.conf", row)]


def _xinetd(site: Site) -> list[str]:
    text = f"""
        service pop3
        {{
            type = UNLISTED
            id = pop3
            bind = {HOST}
            port = {site.port}
            socket_type = stream
            protocol = tcp
            wait = no
            user = {os.geteuid()}
            server = {site.service}
        }}
    """
    program = unpacked("xinetd", "usr/sbin/xinetd", "libwrap0")
    log = ["-filelog", str(site.place / "xinetd.log")]
    pid = ["-pidfile", str(site.place / "xinetd.pid")]
    configuration = site.write("xinetd.conf", text)
    return [*program, "-dontfork", *log, *pid, "-f", configuration]


def _systemd(site: Site) -> list[str]:
    program = of_systemd("systemd-socket-activate")
    listen = ["-l", f"{HOST}:{site.port}", "--accept", "--inetd"]
    return [*program, *listen, "-E", MARK, str(site.service)]


def popserver(*options: str, is_foreign: bool = False) -> Superserver:
    """Give a row for popserver, which stands beside the first program of the chain.

    is_foreign: the chain begins with a program that is not ours, so that popserver runs
    it as tcpserver would.
    """

    def argv(site: Site) -> list[str]:
        program = str(Path(site.chain[0]).with_name("popserver"))
        where = ["-R", "-H", "-l", HOSTNAME, *options, HOST, str(site.port)]
        return [program, *where, *(["env"] if is_foreign else []), *site.chain]

    name = "popserver with programs of others" if is_foreign else "popserver"
    return Superserver(name, argv, is_counting=not is_foreign)


TCPSERVER = Superserver("tcpserver", _tcpserver)
POPSERVER = popserver()
SUPERSERVERS = (
    TCPSERVER,
    POPSERVER,
    popserver(is_foreign=True),
    Superserver("tcpsvd", _tcpsvd),
    Superserver("s6-svscan and tcpserver", _s6_supervise),
    Superserver("s6-ipcserver", _s6_ipcserver, has_port=False),
    Superserver("inetd", _inetd, is_ucspi=False),
    Superserver("xinetd", _xinetd, is_ucspi=False),
    Superserver("systemd-socket-activate", _systemd, is_ucspi=False),
)


class Server:
    """A superserver that runs: its port, its socket, its logs, its processes."""

    def __init__(self, site: Site, mark: str, *, has_port: bool) -> None:
        self.port = site.port
        self.socket = site.socket
        self.has_port = has_port
        self._log = site.place / "log"
        self._errors = site.place / "errors"
        self._mark = mark

    @property
    def log(self) -> list[str]:
        """The lines of the session log so far."""
        if not self._log.exists():
            return []
        return self._log.read_text(encoding="ascii").splitlines()

    @property
    def errors(self) -> str:
        """What was written on descriptor 2 so far."""
        return self._errors.read_text(encoding="utf-8", errors="replace")

    def connect(self) -> socket.socket:
        """Give a connection to the server."""
        if self.has_port:
            return socket.create_connection((HOST, self.port), timeout=30)
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(30)
        client.connect(self.socket)
        return client

    def processes(self) -> dict[int, str]:
        """Give the processes that were started from here: number and name."""
        return marked(self._mark)


def marked(mark: str) -> dict[int, str]:
    """Give the processes with this mark in their environment: number and name."""
    found = {}
    wanted = f"{MARK}={mark}".encode()
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            environ = Path("/proc", name, "environ").read_bytes()
            if wanted in environ.split(b"\0"):
                found[int(name)] = Path("/proc", name, "comm").read_text()[:-1]
        except OSError:
            continue
    return found


def is_listening(site: Site, *, has_port: bool) -> bool:
    """Tell whether somebody listens, without troubling him."""
    with open(f"/proc/net/{'tcp' if has_port else 'unix'}", encoding="ascii") as file:
        rows = [line.split() for line in file]
    if has_port:
        wanted = f":{site.port:04X}"
        return any(row[1].endswith(wanted) and row[3] == LISTENING for row in rows[1:])
    return any(row[-1] == site.socket and row[3] == ACCEPTING for row in rows[1:])


def _script(path: Path, place: Path, environment: dict[str, str], chain: str) -> Path:
    """Write a run script; only what is asked for stands in its environment."""
    settings = [f"{name}={value}" for name, value in environment.items()]
    lines = (
        "#!/bin/sh",
        f"exec 2>>{place}/errors 5>>{place}/log",
        f"exec env -i {shlex.join(settings)} {chain}\n",
    )
    path.write_text("\n".join(lines), encoding="ascii")
    path.chmod(0o755)
    return path


@contextmanager
def running(
    superserver: Superserver,
    place: Path,
    chain: list[str],
    environment: dict[str, str],
) -> Iterator[Server]:
    """Run a superserver on a free port; at the end nothing of it may be left.

    place: a folder for its files. chain: absolute path and words of what it runs.
    """
    place.mkdir()
    mark = uuid.uuid4().hex
    environment = {**environment, MARK: mark}
    service = _script(place / "service", place, environment, shlex.join(chain))
    site = Site(place, free_port(), service, chain)
    words = shlex.join(superserver.argv(site))
    run = _script(place / "run", place, environment, words)
    server = Server(site, mark, has_port=superserver.has_port)
    process = subprocess.Popen([run], cwd="/", stdin=subprocess.DEVNULL)
    try:
        has_port = superserver.has_port
        wait_for(
            lambda: is_listening(site, has_port=has_port) or process.poll() is not None
        )
        assert process.poll() is None, server.errors
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        left = _drain(server)
    assert not left, f"still there when all was over: {left}\n{server.errors}"
    for word in ("Traceback", "Exception", "Warning"):
        assert word not in server.errors, server.errors


def _drain(server: Server) -> dict[int, str]:
    """Wait until all processes have ended; kill those that haven't, and give them."""
    try:
        wait_for(lambda: not server.processes(), 10)
    except pytest.fail.Exception:
        left = server.processes()
        for number in left:
            os.kill(number, signal.SIGKILL)
        return left
    return {}
