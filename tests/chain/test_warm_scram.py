# SPDX-License-Identifier: ISC
"""SCRAM over popserver: a dialogue between a client and one verifier, through others.

What of it a warm chain has in common with a cold one is in test_scram; other people's
clients are in tests/interop.
"""

import hashlib
import os
import signal
import socket
import ssl
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certificates import Pair, authority
from tests.chain import warm
from tests.chain.popup import HOSTNAME, Client
from tests.chain.warm import Server
from tests.conftest import Tools
from tests.faults import tree
from tests.scram import ScramClient
from tests.support import OWNER, PATIENCE_SECONDS, free_port, need, wait_for

WAYS = ("plain", "stls", "at once")
TLS_WAYS = WAYS[1:]
BOUND = b"p=tls-server-end-point,,"
REFUSED = b"-ERR [AUTH] authorization failed\r\n"
TEMPORARY = b"-ERR [SYS/TEMP] temporary failure, try again later\r\n"
CANCELLED = b"-ERR authentication cancelled\r\n"
OK = b"+OK \r\n"
MESSAGE = "Subject: SCRAM\n\nfor joe\n"
PLAIN, PLUS = b"SCRAM-SHA-256", b"SCRAM-SHA-256-PLUS"


class TlsClient(Client):
    """A client inside TLS; binding: of the certificate that it was shown."""

    def __init__(self, held: socket.socket) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self._socket = context.wrap_socket(held)
        shown = self._socket.getpeercert(binary_form=True)
        assert shown
        self.binding = hashlib.sha256(shown).digest()
        super().__init__(-1, -1)

    def read(self) -> bytes:
        try:
            return self._socket.recv(65536)
        except (ConnectionResetError, ssl.SSLEOFError):
            return b""

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def hang_up(self) -> None:
        self._socket.close()


class Inn:
    """A popserver before an account database."""

    def __init__(self, tools: Tools, room: Path, pair: Pair) -> None:
        self._tools = tools
        self._pair = pair
        self._database = room / "accounts"
        self._servers: list[Server] = []
        self._clients: list[Client] = []
        self.port = 0
        home = room / "joe"
        for folder in ("", "tmp", "new", "cur"):
            (home / "Maildir" / folder).mkdir(parents=True, exist_ok=True)
        (home / "Maildir/new/1.mx").write_text(MESSAGE)
        for place in (home, *home.rglob("*")):
            os.chown(place, *OWNER)
        uid, gid = map(str, OWNER)
        self.popaccount("init")
        who = ("--home", str(home), "--uid", uid, "--gid", gid)
        self.popaccount("add", "joe", "--stdin", "--hash", "md5", *who)

    def popaccount(self, *words: str) -> None:
        argv = [self._tools.popaccount, "--db", str(self._database), *words]
        subprocess.run(argv, input=b"sesame\n", check=True)

    def open(
        self, *options: str, popup: str = "", first: str = "", more: str = ""
    ) -> Server:
        """Start it, with a port for TLS at once; first, more: account sources."""
        self.port = free_port()
        words = ["--certificate", str(self._pair.certificate)]
        words += ["--key", str(self._pair.key), "--tls-workers", "1", *options]
        words += ["--listen", f"tls:127.0.0.1:{self.port}"]
        mechanisms = "scram-sha-256-plus,scram-sha-256,plain"
        chain = ["popup", "-d0", "-m", mechanisms, *popup.split(), HOSTNAME]
        sources = f"{first} db:{self._database} {more}"
        chain += ["checkpw", "-a", sources, "pop3d", "Maildir"]
        env = {"PATH": f"{self._tools.bin}:/usr/bin:/bin"}
        server = warm.server_of(self._tools, chain, *words, env=env)
        self._servers.append(server)
        return server

    def client(self, server: Server, way: str = "plain") -> Client:
        """Connect, read the greeting, begin TLS if that is the way."""
        if way == "at once":
            held = socket.create_connection(("127.0.0.1", self.port), PATIENCE_SECONDS)
            made: Client = TlsClient(held)
            assert made.reply() == b"+OK\r\n"
        elif way == "stls":
            held = server.connect()
            assert held.recv(100) == b"+OK\r\n"
            held.sendall(b"STLS\r\n")
            assert held.recv(100) == b"+OK starting TLS negotiation\r\n"
            made = TlsClient(held)
        else:
            made = server.client()
            assert made.reply() == b"+OK\r\n"
        self._clients.append(made)
        return made

    def close(self) -> None:
        for client in self._clients:
            client.hang_up()
        for server in self._servers:
            server.close()


@pytest.fixture(scope="module")
def pair(session_room: Path) -> Pair:
    return authority(session_room / "scram-inn").server(HOSTNAME)


@pytest.fixture
def inn(tools: Tools, room: Path, pair: Pair) -> Iterator[Inn]:
    made = Inn(tools, room, pair)
    yield made
    made.close()


def challenge(reply: bytes) -> bytes:
    assert reply.startswith(b"+ "), reply
    return b64decode(reply[2:-2], validate=True)


def begin(client: Client, scram: ScramClient, name: bytes = PLAIN) -> bytes:
    """Give the server's first message."""
    line = b"AUTH " + name + b" " + b64encode(scram.first())
    return challenge(client.ask(line))


def log_in(client: Client, scram: ScramClient, name: bytes = PLAIN) -> bytes:
    """Go through the whole exchange; give the last reply."""
    final = scram.final(begin(client, scram, name))
    reply = client.ask(b64encode(final))
    if reply.startswith(b"-ERR"):
        return reply
    assert challenge(reply) == scram.expected
    return client.ask(b"")


def offered(client: Client) -> bytes:
    client.send(b"CAPA\r\n")
    (line,) = [line for line in client.listing() if line.startswith(b"SASL")]
    return line


@pytest.mark.parametrize("way", WAYS)
def test_a_session(inn: Inn, way: str) -> None:
    server = inn.open()
    client = inn.client(server, way)
    assert log_in(client, ScramClient(b"joe", b"sesame")) == OK
    assert client.ask(b"STAT").startswith(b"+OK 1 ")
    assert client.ask(b"QUIT") == OK
    server.log.until("Info::END::Scram-Sha-256 .*'joe' why=served .* end=quit")
    assert "Accept::AUTH::Scram-Sha-256 " in server.log.text


@pytest.mark.parametrize("way", TLS_WAYS)
def test_a_session_that_is_bound_to_its_tls(inn: Inn, way: str) -> None:
    server = inn.open()
    client = inn.client(server, way)
    assert isinstance(client, TlsClient)
    assert offered(client) == b"SASL SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN"
    scram = ScramClient(b"joe", b"sesame", BOUND, client.binding)
    assert log_in(client, scram, PLUS) == OK
    server.log.until("Accept::AUTH::Scram-Sha-256-Plus ")


@pytest.mark.parametrize("way", TLS_WAYS)
def test_bound_to_another_tls_nobody_comes_in(inn: Inn, way: str) -> None:
    server = inn.open(popup="-a9")
    client = inn.client(server, way)
    assert isinstance(client, TlsClient)
    for binding in (bytes(32), client.binding[:-1], client.binding + b"\0", b""):
        scram = ScramClient(b"joe", b"sesame", BOUND, binding)
        assert log_in(client, scram, PLUS) == REFUSED
    deceived = ScramClient(b"joe", b"sesame", b"y,,")
    line = b"AUTH SCRAM-SHA-256 " + b64encode(deceived.first())
    assert client.ask(line) == REFUSED
    assert log_in(client, ScramClient(b"joe", b"sesame")) == OK


def test_without_tls_there_is_nothing_to_be_bound_to(inn: Inn) -> None:
    client = inn.client(inn.open())
    assert offered(client) == b"SASL SCRAM-SHA-256 PLAIN"
    scram = ScramClient(b"joe", b"sesame", BOUND, bytes(32))
    line = b"AUTH SCRAM-SHA-256-PLUS " + b64encode(scram.first())
    assert client.ask(line).startswith(b"-ERR")
    assert log_in(client, ScramClient(b"joe", b"sesame", b"y,,")) == OK


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("user", [b"joe", b"nobody"])
def test_who_does_not_know_the_password_is_refused(
    inn: Inn, way: str, user: bytes
) -> None:
    server = inn.open()
    client = inn.client(server, way)
    for _ in range(2):
        assert log_in(client, ScramClient(user, b"wrong")) == REFUSED
    assert log_in(client, ScramClient(user, b"wrong")) == REFUSED
    assert client.rest() == b""
    assert server.log.text.count("Accept") == 0


NOT_ALLOWED = 77  # EX_NOPERM, with which mpop reports a refused login


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_mpop(inn: Inn, room: Path, way: str) -> None:
    server = inn.open()
    port = inn.port if way == "at once" else server.port
    fetched = room / "fetched"
    for folder in ("tmp", "new", "cur"):
        (fetched / folder).mkdir(parents=True)
    for password, code in (("wrong", NOT_ALLOWED), ("sesame", 0)):
        rows = (
            *("account default", "host 127.0.0.1", f"port {port}"),
            f"tls {'off' if way == 'plain' else 'on'}",
            f"tls_starttls {'on' if way == 'stls' else 'off'}",
            *(["tls_certcheck off"] if way != "plain" else []),
            *("auth scram-sha-256", "user joe", f"password {password}"),
            *("received_header off", f"uidls_file {room}/uidls"),
            f"delivery maildir {fetched}",
        )
        config = room / "mpoprc"
        config.write_text("\n".join(rows) + "\n")
        config.chmod(0o600)
        argv = [need("mpop", "mpop"), "-C", str(config)]
        assert subprocess.run(argv, capture_output=True, check=False).returncode == code
    assert [path.read_text() for path in fetched.glob("new/*")] == [MESSAGE]
    server.log.until("Accept::AUTH::Scram-Sha-256 ")
    assert server.log.text.count("Reject::AUTH::Scram-Sha-256 ") == 1


def test_many_talk_at_the_same_time(inn: Inn) -> None:
    server = inn.open("--verifiers", "3")
    clients = [inn.client(server) for _ in range(30)]
    scrams = [ScramClient(b"joe", b"sesame") for _ in clients]
    pairs = list(zip(clients, scrams, strict=True))
    finals = [scram.final(begin(client, scram)) for client, scram in pairs]
    for (client, scram), final in reversed(list(zip(pairs, finals, strict=True))):
        assert challenge(client.ask(b64encode(final))) == scram.expected
    for client in clients:
        assert client.ask(b"") == OK


def test_an_answer_to_anothers_challenge_is_refused(inn: Inn) -> None:
    server = inn.open("--verifiers", "1")
    one, other = inn.client(server), inn.client(server)
    scram = ScramClient(b"joe", b"sesame")
    final = b64encode(scram.final(begin(one, scram)))
    begin(other, scram)
    assert other.ask(final) == REFUSED
    assert challenge(one.ask(final)) == scram.expected
    assert one.ask(b"") == OK


@pytest.mark.parametrize("after", [1, 2])
def test_who_gives_up_can_begin_anew(inn: Inn, after: int) -> None:
    server = inn.open()
    client = inn.client(server)
    scram = ScramClient(b"joe", b"sesame")
    final = scram.final(begin(client, scram))
    if after == 2:
        challenge(client.ask(b64encode(final)))
    assert client.ask(b"*") == CANCELLED
    assert log_in(client, ScramClient(b"joe", b"sesame")) == OK


def test_sources_that_need_a_process_each_are_not_in_the_way(inn: Inn) -> None:
    server = inn.open("--verifiers", "1", more="command:/bin/false")
    client = inn.client(server)
    assert log_in(client, ScramClient(b"joe", b"wrong")) == REFUSED
    assert log_in(client, ScramClient(b"joe", b"sesame")) == OK
    client = inn.client(server)
    client.send(b"AUTH PLAIN " + b64encode(b"\0joe\0sesame") + b"\r\n")
    assert client.reply() == OK
    client = inn.client(server)
    client.send(b"AUTH PLAIN " + b64encode(b"\0ann\0sesame") + b"\r\n")
    assert client.reply() == REFUSED


@pytest.mark.parametrize("more", ["", "command:/bin/false"])
def test_who_is_barred_in_an_earlier_source_is_so_by_any_way(
    inn: Inn, room: Path, more: str
) -> None:
    """Whose password counts is no matter of the mechanism."""
    barring = room / "authuser"
    server = inn.open("--verifiers", "1", first=f"authuser:{barring}", more=more)
    for line, reply in (("!ann:\n", OK), ("!joe: !\n", REFUSED), ("!jim\n", OK)):
        barring.write_text(line)
        client = inn.client(server)
        assert log_in(client, ScramClient(b"joe", b"sesame")) == reply
        client = inn.client(server)
        client.send(b"AUTH PLAIN " + b64encode(b"\0joe\0sesame") + b"\r\n")
        assert client.reply() == reply


def test_more_than_scram_has_room_for_is_refused(inn: Inn) -> None:
    client = inn.client(inn.open())
    scram = ScramClient(b"joe", b"sesame")
    final = scram.final(begin(client, scram))
    challenge(client.ask(b64encode(final)))
    assert client.ask(b64encode(b"more")) == REFUSED
    begin(client, scram)
    assert client.ask(b64encode(bytes(4000))).startswith(b"-ERR")


def verifier_of(server: Server) -> int:
    (found,) = tree.crew(server.pid)[tree.VERIFIER]
    return found


def test_whose_verifier_dies_over_it_can_begin_anew(inn: Inn) -> None:
    server = inn.open("--verifiers", "1")
    client = inn.client(server)
    scram = ScramClient(b"joe", b"sesame")
    final = scram.final(begin(client, scram))
    before = verifier_of(server)
    os.kill(before, signal.SIGKILL)
    server.errors.until("a verifier ended with -9; a new one comes")
    wait_for(lambda: not tree.is_there(before))
    assert client.ask(b64encode(final)) == TEMPORARY
    assert log_in(client, ScramClient(b"joe", b"sesame")) == OK
    server.errors.text = ""  # so was it to be


def test_a_verifier_holds_nothing_of_those_it_talks_with(inn: Inn) -> None:
    server = inn.open("--verifiers", "1")
    assert log_in(inn.client(server), ScramClient(b"joe", b"sesame")) == OK
    verifier = verifier_of(server)
    begin(inn.client(server), ScramClient(b"joe", b"sesame"))
    before = tree.count(verifier)
    clients = [inn.client(server) for _ in range(10)]
    for client in clients:
        begin(client, ScramClient(b"joe", b"sesame"))
    # A challenge may be here before its verifier has let go of whom it is for.
    wait_for(lambda: tree.count(verifier) <= before)
    for client in clients:
        client.hang_up()
    wait_for(lambda: server.log.look() and server.log.text.count("why=eof") >= 10)


def test_a_dialogue_outlives_a_reload(inn: Inn) -> None:
    server = inn.open("--verifiers", "1")
    client = inn.client(server)
    scram = ScramClient(b"joe", b"sesame")
    final = scram.final(begin(client, scram))
    server.signal(signal.SIGHUP)
    wait_for(lambda: len(tree.crew(server.pid)[tree.VERIFIER]) == 2)
    assert challenge(client.ask(b64encode(final))) == scram.expected
    assert client.ask(b"") == OK


def test_a_new_password_counts_at_once(inn: Inn) -> None:
    server = inn.open("--verifiers", "1")
    assert log_in(inn.client(server), ScramClient(b"joe", b"sesame")) == OK
    words = [inn._tools.popaccount, "--db", str(inn._database)]
    words += ["passwd", "joe", "--stdin", "--hash", "md5"]
    subprocess.run(words, input=b"open up\n", check=True)
    client = inn.client(server)
    assert log_in(client, ScramClient(b"joe", b"sesame")) == REFUSED
    assert log_in(client, ScramClient(b"joe", b"open up")) == OK
