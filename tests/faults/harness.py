# SPDX-License-Identifier: ISC
"""popserver with a warm chain, accounts and mail, in a folder of a test's own."""

import os
import select
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.certificates import Pair
from tests.chain.popup import spawn
from tests.conftest import Tools
from tests.faults import tree
from tests.faults.client import Client
from tests.support import IS_ROOT, OWNER, PATIENCE_SECONDS, wait_for

HOST = "127.0.0.1"
NAME = "mx.example"
SECRET = b"sesame"


class Resident(NamedTuple):
    """An account: its name, its ids, its Maildir."""

    name: bytes
    ids: tuple[int, int]
    maildir: Path

    def put(self, number: int, octets: bytes, folder: str = "new") -> Path:
        """Deliver a message."""
        path = self.maildir / folder / f"{1_000_000_000 + number}.{number}.h"
        fresh = self.maildir / "tmp" / path.name
        fresh.write_bytes(octets)
        if IS_ROOT:
            os.chown(fresh, *self.ids)
        fresh.rename(path)
        return path

    def mail(self) -> list[bytes]:
        """Give what lies there."""
        places = [*self.maildir.glob("new/*"), *self.maildir.glob("cur/*")]
        return sorted(path.read_bytes() for path in places)


class Village:
    """Accounts with clear passwords, in a file of qmail-authuser's."""

    def __init__(self, room: Path) -> None:
        self.room = room
        self.accounts = room / "accounts"
        self._lines: list[str] = []
        self.residents: dict[bytes, Resident] = {}

    @property
    def source(self) -> str:
        """The word for checkpw."""
        return f"authuser:{self.accounts}"

    def settle(
        self, name: str, mail: int = 1, ids: tuple[int, int] | None = None
    ) -> Resident:
        """Make an account with so many messages."""
        home = self.room / name
        uid, gid = found = ids or OWNER
        resident = Resident(name.encode(), found, home / "Maildir")
        home.mkdir()
        for folder in ("", "tmp", "new", "cur"):
            (resident.maildir / folder).mkdir(0o700)
        for number in range(mail):
            resident.put(number, f"Subject: {number}\n\nfor {name}\n".encode())
        for place in (home, *home.rglob("*")):
            if IS_ROOT:
                os.chown(place, *found)
        where = f"#:{name}:uid={uid} gid={gid} home={home}"
        self._lines += [f"{name}:{SECRET.decode()}", where]
        self.accounts.write_text("\n".join(self._lines) + "\n", encoding="ascii")
        self.residents[resident.name] = resident
        return resident


class Server:
    """A popserver that runs, and what can be seen of it."""

    def __init__(self, argv: list[str], env: dict[str, str], folder: Path) -> None:
        self._argv, self.env = argv, env
        self.folder = folder
        self.log_path, self.errors_path = folder / "log", folder / "errors"
        self.code: int | None = None
        self.pid = self.port = 0
        self.places: dict[int, int] = {}

    def limit(self, command: str) -> None:
        """Have a shell, which becomes the server, run a command before."""
        self.prefix("/bin/sh", "-c", f'{command}; exec "$@"', "sh")

    def prefix(self, *words: str) -> None:
        """Have another program start it."""
        self._argv = [*words, *self._argv]

    def start(self) -> None:
        """Start it and wait for its port."""
        opened = [
            os.open("/dev/null", os.O_RDONLY),
            os.open(self.errors_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            os.open(self.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
        ]
        nothing, errors, log = opened
        told, telling = os.pipe()
        places = {0: nothing, 1: telling, 2: errors, 5: log, **self.places}
        self.pid = spawn(self._argv, self.env, places)
        self._process = os.pidfd_open(self.pid)
        self.code = None
        for descriptor in (*opened, telling):
            os.close(descriptor)
        with open(told, "rb") as lines:
            if select.select([lines], [], [], PATIENCE_SECONDS)[0]:
                self.port = int(lines.readline() or 0)

    @property
    def ports(self) -> list[int]:
        """All it listens on."""
        return tree.ports(self.pid)

    @property
    def errors(self) -> str:
        """What it has complained of on descriptor 2, but for not being root."""
        text = self.errors_path.read_text(encoding="ascii")
        lines = text.splitlines(keepends=True)
        return "".join(line for line in lines if "not root: " not in line)

    @property
    def log(self) -> str:
        """What it has written on descriptor 5."""
        return self.log_path.read_text(encoding="ascii")

    def crew(self, kind: str) -> list[int]:
        """Give the processes of a kind."""
        return [self.pid] if kind == tree.MASTER else tree.crew(self.pid).get(kind, [])

    def one(self, kind: str) -> int:
        """Give a process of a kind, as soon as there is one."""
        pid = wait_for(lambda: (self.crew(kind) or [0])[0])
        return int(pid)

    def is_whole(self, verifiers: int = 2, relays: int = 0) -> bool:
        """Tell whether there is a full crew, and nobody else but idle sessions."""
        wanted = {tree.NURSERY: 1, tree.WORKER: 1}
        wanted |= {tree.VERIFIER: verifiers, tree.TLS: relays}
        found = {kind: len(pids) for kind, pids in tree.crew(self.pid).items()}
        found.pop(tree.SESSION, None)
        return found == {kind: number for kind, number in wanted.items() if number}

    def client(self, way: str = "plain", port: int = 0) -> Client:
        """Connect, and read the greeting."""
        return Client((HOST, port or self.ports[way == "tls"]), way)

    def signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def end(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Wait for its end; give its exit code, negative for a signal."""
        if self.code is None:
            if not select.select([self._process], [], [], seconds)[0]:
                raise TimeoutError
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            os.close(self._process)
        return self.code

    def stop(self) -> int:
        """Have it end in order; give its exit code."""
        if self.code is None:
            self.signal(signal.SIGTERM)
        return self.end()

    def kill(self) -> None:
        """End it and all it has forked, whatever they do."""
        if self.code is not None:
            return
        below = tree.descendants(self.pid)
        self.signal(signal.SIGKILL)
        self.end()
        for pid in below:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


class Servers:
    """What starts servers for a village, and ends them."""

    def __init__(self, tools: Tools, village: Village) -> None:
        self._tools = tools
        self.village = village
        self._made: list[Server] = []

    def make(
        self,
        *options: str,
        front: Sequence[str] = ("-d", "0"),
        checker: Sequence[str] = (),
        pair: Pair | None = None,
        ports: Sequence[int] = (0, 0),
    ) -> Server:
        """Give a server that is not started yet.

        front: popup's options. checker: checkpw's, in place of the village's. pair: a
        certificate; there is a listener for TLS then, too. ports: of both.
        """
        words = ["-1", "--per-source", "0"]
        if pair is not None:
            words += ["--certificate", str(pair.certificate), "--key", str(pair.key)]
            words += ["--listen", f"tls:{HOST}:{ports[1]}"]
        checker = checker or ["-a", self.village.source]
        chain = ["popup", *front, NAME, "checkpw", *checker, "pop3d", "Maildir"]
        program = str(self._tools.bin / "popserver")
        folder = self.village.room / f"server{len(self._made)}"
        folder.mkdir()
        argv = [program, *words, *options, HOST, str(ports[0]), *chain]
        server = Server(argv, self._tools.environment(), folder)
        self._made.append(server)
        return server

    def start(
        self,
        *options: str,
        front: Sequence[str] = ("-d", "0"),
        checker: Sequence[str] = (),
        pair: Pair | None = None,
        env: dict[str, str] | None = None,
    ) -> Server:
        """Give a server that serves; see make(). env: more for its environment."""
        server = self.make(*options, front=front, checker=checker, pair=pair)
        server.env |= env or {}
        server.start()
        assert server.port, server.errors
        return server

    def close(self) -> None:
        """End all that runs."""
        for server in self._made:
            if server.pid:
                server.kill()
