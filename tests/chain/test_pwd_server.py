# SPDX-License-Identifier: ISC
"""poppassd --pwd -D: channels, listeners, addresses, TLS, and a reload."""

import base64
import contextlib
import hashlib
import os
import signal
import socket
import ssl
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.certificates import authority
from tests.chain.pwdclient import SECRET, Bureau
from tests.chain.test_pwd import client_final, encoded
from tests.conftest import Tools
from tests.interop.servers import MARK, marked
from tests.support import PATIENCE_SECONDS, free_port, wait_for

pytestmark = pytest.mark.slow

HOST = "127.0.0.1"
FULL = b"400 too many connections, try again later\r\n"


class Client:
    """A connection; the greeting has been read."""

    def __init__(self, port: int, source: str, context: ssl.SSLContext | None) -> None:
        place = (HOST, port)
        self.socket = socket.create_connection(place, PATIENCE_SECONDS, (source, 0))
        if context is not None:
            self.begin_tls(context)
        self.lines = self.socket.makefile("rb")
        self.greeting = b""
        with contextlib.suppress(ConnectionResetError):
            self.greeting = self.lines.readline()

    def begin_tls(self, context: ssl.SSLContext) -> None:
        if hasattr(self, "lines"):
            self.lines.close()
        self.socket = context.wrap_socket(self.socket, server_hostname="mx.example")
        self.lines = self.socket.makefile("rb")

    def ask(self, *lines: bytes) -> bytes:
        """Say some lines at once, give the reply to the last one."""
        self.socket.sendall(b"".join(line + b"\r\n" for line in lines))
        return [self.lines.readline() for _ in lines][-1].rstrip()

    def close(self) -> None:
        self.lines.close()
        self.socket.close()


class Server:
    """One server on a free port; config: its options file."""

    def __init__(self, bureau: Bureau, config: Path, *options: str) -> None:
        self.port = free_port()
        self.config = config
        self._mark = uuid.uuid4().hex
        self._clients: list[Client] = []
        listen = ["--listen", f"{HOST}:{self.port}", "--config", str(config)]
        self._log = config.with_suffix(".log")
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*bureau.words("-D", *listen, *options)],
                env={**bureau.tools.environment(), MARK: self._mark},
                stdin=subprocess.DEVNULL,
                stderr=log,
            )

    def said(self, text: str) -> bool:
        """Tell whether there is a complaint since the last one that was found."""
        found = text in self._log.read_text(encoding="ascii")
        if found:
            os.truncate(self._log, 0)
        return found

    def connect(
        self,
        source: str = HOST,
        port: int = 0,
        context: ssl.SSLContext | None = None,
    ) -> Client:
        """Give a connection whose greeting has been read."""
        made = Client(port or self.port, source, context)
        self._clients.append(made)
        return made

    def is_open(self) -> bool:
        """Tell whether anybody listens."""
        with contextlib.suppress(ConnectionRefusedError):
            self.connect().close()
            return True
        return False

    def reload(self, *lines: str) -> None:
        """Have other options read."""
        self.config.write_text("".join(f"{line}\n" for line in lines))
        os.kill(self.process.pid, signal.SIGHUP)

    def end(self) -> None:
        for client in self._clients:
            client.close()
        for pid in marked(self._mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


Start = Callable[..., Server]


@pytest.fixture
def bureau(tools: Tools, room: Path) -> Bureau:
    return Bureau(tools, room)


@pytest.fixture
def start(bureau: Bureau, room: Path) -> Iterator[Start]:
    """Give a function that starts a server with some lines in its options file."""
    servers: list[Server] = []

    def make(*lines: str, options: tuple[str, ...] = ("--foreground",)) -> Server:
        config = room / f"options-{len(servers)}"
        config.write_text("".join(f"{line}\n" for line in lines))
        servers.append(Server(bureau, config, *options))
        wait_for(servers[-1].is_open)
        return servers[-1]

    yield make
    for server in servers:
        server.end()


def test_a_session(start: Start, bureau: Bureau) -> None:
    client = start().connect()
    assert client.greeting.startswith(b"200 ")
    said = client.ask(b"USER postmaster", f"PASS {SECRET}".encode(), b"INLINE")
    assert said == b"200 OK"
    assert client.ask(b"ListDomains") == b'201 ("a.b","c.d")'
    assert client.ask(b"NEWPASS other") == b"200 password changed"
    assert client.ask(b"QUIT") == b"200 PWD connection closed"
    assert bureau.knows("postmaster", "other")


def test_channels_are_a_limit_and_the_client_is_to_come_again(start: Start) -> None:
    server = start("channels 2", "per-source 0")
    first = held(server)
    second = held(server)
    third = server.connect()
    assert third.greeting == FULL
    assert third.lines.read() == b""
    assert first.ask(b"NOOP") == second.ask(b"NOOP") == b"200 OK"
    first.ask(b"QUIT")
    assert held(server).ask(b"NOOP") == b"200 OK"


def held(server: Server) -> Client:
    """Give a connection once there is a place for it."""
    found: list[Client] = []

    def has_come() -> bool:
        found.append(server.connect())
        return found[-1].greeting.startswith(b"200")

    wait_for(has_come)
    return found[-1]


def test_no_channels_release_the_port_and_come_back(start: Start) -> None:
    server = start("channels 3")
    client = held(server)
    server.reload("channels 0")
    wait_for(lambda: not server.is_open())
    with socket.socket() as other:  # the port is free for somebody else
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind((HOST, server.port))
    assert client.ask(b"NOOP") == b"200 OK"  # who is there already stays
    server.reload("channels 3")
    wait_for(server.is_open)


def test_what_is_wrong_in_the_file_changes_nothing(start: Start) -> None:
    server = start("channels 5")
    for wrong in ("chanels 0", "log-level 9", "apop maybe", "mechanisms foo"):
        server.reload("channels 5", wrong)
        wait_for(lambda: server.said("poppassd: not reloaded"))
        assert held(server).ask(b"NOOP") == b"200 OK"
    server.reload("channels 5", "attempts 1")
    wait_for(lambda: _is_closed_after_one(server))


def _is_closed_after_one(server: Server) -> bool:
    """Tell whether a wrong password is the end of a connection."""
    client = held(server)
    client.socket.sendall(b"USER joe\r\nPASS wrong\r\nQUIT\r\n")
    with contextlib.suppress(ConnectionResetError):
        return b"closed" not in client.lines.read()
    return True


def test_one_source_has_so_many_connections(start: Start) -> None:
    server = start("per-source 2")
    wait_for(lambda: not _is_full(server))
    clients = [held(server), held(server)]
    assert _is_full(server)
    assert server.connect("127.0.0.2").greeting.startswith(b"200")
    assert clients[0].ask(b"NOOP") == b"200 OK"


def _is_full(server: Server) -> bool:
    client = server.connect()
    is_full = client.greeting == FULL
    if not is_full:
        client.ask(b"QUIT")
        client.close()
    return is_full


def test_addresses_are_let_in_by_a_list(start: Start, room: Path) -> None:
    listed = room / "clients"
    listed.write_text("127.0.0.0/24 ; ours\n!127.0.0.3-127.0.0.5\n")
    server = start(f"clients {listed}")
    assert server.connect("127.0.0.2").greeting.startswith(b"200")
    for source in ("127.0.0.4", "127.0.1.1"):
        assert server.connect(source).greeting == b""
    listed.write_text("127.0.0.1\n127.0.0.4\n")
    server.reload(f"clients {listed}")
    wait_for(lambda: server.connect("127.0.0.4").greeting.startswith(b"200"))
    assert server.connect("127.0.0.2").greeting == b""


def test_there_may_be_several_listeners_some_of_them_none(start: Start) -> None:
    other = free_port()
    server = start(options=("--foreground", f"--listen={HOST}:{other}"))
    assert server.connect(port=other).greeting.startswith(b"200")
    for none in (f"{HOST}:0", f"{HOST}:00", "tls:[::1]:0"):
        server = start(options=("--foreground", f"--listen={none}"))
        assert server.connect().greeting.startswith(b"200")
        assert listening(server) == [server.port]


def listening(server: Server) -> list[int]:
    """Give the ports on which a process listens, as the kernel has it."""
    folder = Path(f"/proc/{server.process.pid}")
    sockets = {os.readlink(each) for each in (folder / "fd").iterdir()}
    found = []
    for table in ("net/tcp", "net/tcp6"):
        for line in (folder / table).read_text(encoding="ascii").splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A" and f"socket:[{inode}]" in sockets:
                found.append(int(local.rpartition(":")[2], 16))
    return found


def test_options_of_one_letter_may_be_one_word(bureau: Bureau) -> None:
    made = subprocess.run(
        [bureau.tools.poppassd, "--pwd", "-Dadb:/nowhere", "--foreground"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert made.returncode == 100
    assert "/nowhere" in made.stderr


def prove(client: Client, seen: socket.socket) -> bytes:
    """Log in by SCRAM, bound to the certificate that was seen; give the last reply."""
    assert isinstance(seen, ssl.SSLSocket)
    certificate = seen.getpeercert(binary_form=True) or b""
    header = b"p=tls-server-end-point,,"
    bare = b"n=joe,r=abcdef"
    said = client.ask(b"AUTH SCRAM-SHA-256-PLUS " + encoded(header + bare))
    first = base64.b64decode(said.removeprefix(b"300 "))
    bound = header + hashlib.sha256(certificate).digest()
    final, signature = client_final(bare, first, SECRET.encode(), bound)
    said = client.ask(encoded(final))
    if not said.startswith(b"300 "):
        return said
    assert base64.b64decode(said.removeprefix(b"300 ")) == b"v=" + signature
    return client.ask(b"")


def test_tls_at_once_and_on_demand(start: Start, room: Path, bureau: Bureau) -> None:
    ours = authority(room / "ca")
    pair = ours.server("mx.example")
    context = ssl.create_default_context(cafile=str(ours.ca))
    inside = free_port()
    options = (
        *("--foreground", f"--listen=tls:{HOST}:{inside}", "--plaintext=refuse"),
        *(f"--certificate={pair.certificate}", f"--key={pair.key}"),
    )
    server = start(options=options)
    client = server.connect(port=inside, context=context)
    assert b"SCRAM-SHA-256-PLUS" in client.ask(b"AUTH", b"NOOP")
    assert client.lines.readline() == b"200 OK\r\n"
    assert prove(client, client.socket) == b"200 login OK"
    client = server.connect()
    assert client.ask(b"USER joe") == b"501 start TLS first"
    assert client.ask(b"STLS") == b"200 begin TLS negotiation"
    client.begin_tls(context)
    assert client.ask(b"STLS") == b"501 STLS is not available"
    assert client.ask(b"USER joe", f"PASS {SECRET}".encode()) == b"200 login OK"
    assert client.ask(b"NEWPASS other") == b"200 password changed"
    assert bureau.knows("joe", "other")


def test_what_comes_in_the_clear_behind_stls_is_never_heard(
    start: Start, room: Path
) -> None:
    ours = authority(room / "ca")
    pair = ours.server("mx.example")
    context = ssl.create_default_context(cafile=str(ours.ca))
    server = start(
        options=(
            *("--foreground", f"--certificate={pair.certificate}"),
            f"--key={pair.key}",
        )
    )
    client = server.connect()
    client.socket.sendall(b"STLS\r\nUSER joe\r\n")
    assert client.lines.readline().startswith(b"200")
    with contextlib.suppress(OSError):
        client.begin_tls(context)
        pytest.fail("somebody has taken words in the clear for a handshake")


def test_a_daemon_leaves_when_it_serves(start: Start) -> None:
    server = start(options=())
    assert server.process.wait(PATIENCE_SECONDS) == 0
    assert held(server).ask(b"NOOP") == b"200 OK"


def test_a_daemon_that_can_not_be_says_why(bureau: Bureau, start: Start) -> None:
    server = start()
    words = bureau.words("-D", f"--listen={HOST}:{server.port}")
    made = subprocess.run(words, check=False, capture_output=True, text=True)
    assert made.returncode == 111
    assert "in use" in made.stderr
    words = bureau.words("-D", "--clients=/nowhere", "--listen=127.0.0.1:1")
    made = subprocess.run(words, check=False, capture_output=True, text=True)
    assert made.returncode == 100
    assert "nowhere" in made.stderr
