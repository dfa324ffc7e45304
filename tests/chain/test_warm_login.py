# SPDX-License-Identifier: ISC
"""A login over popserver: what it does that a chain of programs could not do wrong.

Everybody's dialogue is in one process, sessions of one uid are in another, and between
them a connection changes hands. What a login has in common with the cold chain's is in
test_own_chain and test_popup.
"""

import os
import re
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import pytest

from tests import support
from tests.certificates import Pair, authority
from tests.chain import behind, warm
from tests.chain.popup import HOSTNAME, Client
from tests.chain.warm import Server, SessionProcess
from tests.conftest import Tools
from tests.faults.harness import SECRET, Resident, Village
from tests.faults.tree import descriptors
from tests.support import PATIENCE_SECONDS, free_port, need_root, wait_for

WAYS = ("plain", "stls", "at once")
LOGIN = b"USER joe\r\nPASS sesame\r\n"
REFUSED = b"-ERR [AUTH] authorization failed\r\n"
TEMPORARY = b"-ERR [SYS/TEMP] temporary failure, try again later\r\n"
PERMANENT = b"-ERR [SYS/PERM] the server is not set up for you\r\n"
OK = b"+OK \r\n"
SOURCE = "S:127.0.0.1:unknown"


class TlsClient(Client):
    """A client inside TLS, which it begins on a connection that is there."""

    def __init__(self, held: socket.socket) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self._socket = context.wrap_socket(held)
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
    """A popserver with its guests, for one test."""

    def __init__(self, tools: Tools, room: Path, pair: Pair) -> None:
        self.village = Village(room)
        self.joe = self.village.settle("joe", 3)
        self.room = room
        self._tools = tools
        self._pair = pair
        self._servers: list[Server] = []
        self._clients: list[Client] = []
        self.port = 0

    def open(
        self,
        *options: str,
        popup: str = "-d0",
        checker: tuple[str, ...] = (),
        pop3d: tuple[str, ...] = ("Maildir",),
        tls: bool = False,
        more: dict[int, int] | None = None,
    ) -> Server:
        """Start a popserver; tls: with a certificate, and a port for TLS at once."""
        words = [*options]
        if tls:
            self.port = free_port()
            cert = ["--certificate", str(self._pair.certificate)]
            words += [*cert, "--key", str(self._pair.key), "--tls-workers", "1"]
            words += ["--listen", f"tls:127.0.0.1:{self.port}"]
        source = checker or ("-a", self.village.source)
        chain = ["popup", *popup.split(), HOSTNAME, "checkpw", *source]
        chain += ["pop3d", *pop3d]
        path = f"{self.room}:{self._tools.bin}:/usr/bin:/bin"
        server = warm.server_of(
            self._tools, chain, *words, env={"PATH": path}, more=more
        )
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
        """Hang up and end what runs; it must not have gone wrong."""
        for client in self._clients:
            client.hang_up()
        for server in self._servers:
            server.close()


@pytest.fixture(scope="module")
def pair(session_room: Path) -> Pair:
    return authority(session_room / "inn").server(HOSTNAME)


@pytest.fixture
def inn(tools: Tools, room: Path, pair: Pair) -> Iterator[Inn]:
    made = Inn(tools, room, pair)
    yield made
    made.close()


every_way = pytest.mark.parametrize("way", WAYS)


def ends(server: Server) -> list[str]:
    """Give the last lines of connections so far."""
    return [line for line in server.lines() if line.startswith("Info::END")]


def end_of(server: Server, count: int = 1) -> str:
    """Wait for so many ends; give the last one."""
    wait_for(lambda: len(ends(server)) >= count)
    return ends(server)[count - 1]


# Whose octets are whose ------------------------------------------------------


@every_way
def test_all_of_it_in_one_packet(inn: Inn, way: str) -> None:
    server = inn.open(tls=way != "plain")
    client = inn.client(server, way)
    client.send(LOGIN + b"STAT\r\nNOOP\r\nDELE 1\r\nQUIT\r\n")
    replies = client.rest().split(b"\r\n")
    assert [each[:4] for each in replies] == [b"+OK "] * 6 + [b""]
    assert replies[2].startswith(b"+OK 3 ")
    assert len(inn.joe.mail()) == 2


@pytest.mark.slow
@every_way
def test_cut_at_any_octet_it_is_the_same(inn: Inn, way: str) -> None:
    server = inn.open(tls=way != "plain")
    whole = b"NOOP\r\n" + LOGIN + b"STAT\r\nQUIT\r\n"
    for cut in range(1, len(whole)):
        client = inn.client(server, way)
        client.send(whole[:cut])
        # Whoever has answered these lines has met the cut.
        first = client.replies(whole[:cut].count(b"\n"))
        client.send(whole[cut:])
        said = b"".join(first) + client.rest()
        assert said.split(b"\r\n")[:3] == [b"+OK "] * 3, cut
        assert said.count(b"+OK ") == said.count(b"\r\n") == 5, cut
        client.hang_up()


@every_way
@pytest.mark.parametrize("place", ["before", "behind"])
def test_twenty_thousand_octets_of_commands(inn: Inn, way: str, place: str) -> None:
    server = inn.open(tls=way != "plain")
    client = inn.client(server, way)
    noops = b"NOOP\r\n" * 3500
    lines = noops + LOGIN if place == "before" else LOGIN + noops
    client.send(lines + b"STAT\r\nQUIT\r\n")
    said = client.rest()
    assert said.count(b"+OK \r\n") == 3500 + 3
    assert said.split(b"\r\n")[-3].startswith(b"+OK 3 ")


@pytest.mark.parametrize("way", ["plain", "at once"])
def test_stls_in_a_burst_takes_nothing_of_what_is_behind(inn: Inn, way: str) -> None:
    """What is in the clear behind it meets the handshake, and TLS at once has none."""
    server = inn.open(tls=True)
    client = inn.client(server, way)
    client.send(b"NOOP\r\nSTLS\r\n" + LOGIN)
    assert client.reply() == OK
    if way == "plain":
        assert client.rest().startswith(b"+OK starting TLS negotiation\r\n")
        assert " why=tls-failed code=111 " in end_of(server)
    else:
        assert client.replies(3)[0] == b"-ERR STLS not available\r\n"
        client.send(b"QUIT\r\n")
        client.rest()


def test_refused_in_a_burst_the_rest_is_answered_in_order(inn: Inn) -> None:
    client = inn.client(inn.open())
    client.send(b"USER joe\r\nPASS x\r\nNOOP\r\n" + LOGIN + b"STAT\r\nQUIT\r\n")
    *before, stat, quit_ = client.replies(7)
    assert before == [OK, REFUSED, OK, OK, OK]
    assert stat.startswith(b"+OK 3 ")
    assert quit_ == OK


# Patience --------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "sent"),
    [("plain", b"USER jo"), ("stls", b""), ("stls", b"USER jo"), ("at once", b"")],
)
def test_who_falls_silent_ends(inn: Inn, way: str, sent: bytes) -> None:
    server = inn.open(popup="-d0 -t1", tls=way != "plain")
    client = inn.client(server, way)
    if sent:
        client.send(sent)
    assert client.rest() == b""
    assert " why=timeout code=111 seconds=1" in end_of(server)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["plain", "stls"])
def test_who_does_not_read_ends(inn: Inn, way: str) -> None:
    server = inn.open(popup="-d0 -w1", tls=way != "plain")
    client = inn.client(server, way)
    held = client._socket if isinstance(client, TlsClient) else None
    if held is None:
        os.set_blocking(client._out, False)
    else:
        held.setblocking(False)

    def fill() -> bool:
        try:
            client.send(b"LANG\r\n" * 1000)
        except (BlockingIOError, ssl.SSLWantWriteError):
            pass
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            return True
        return bool(ends(server))

    wait_for(fill)
    assert re.search(r" why=(timeout|eof) code=111 ", end_of(server))


@pytest.mark.slow
def test_the_delay_doubles_and_then_it_is_over(inn: Inn) -> None:
    server = inn.open(popup="-d1 -a2")
    client = inn.client(server)
    seen = []
    for _ in range(2):
        began = time.monotonic()
        client.send(b"USER joe\r\nPASS x\r\n")
        assert client.replies(2)[1] == REFUSED
        seen.append(time.monotonic() - began)
    assert client.rest() == b""
    assert 1 <= seen[0] < 2 <= seen[1]
    reject = f"Reject::AUTH::User P:POP3 {SOURCE} ?~ 'joe'"
    assert server.lines()[1:3] == [reject, reject]
    assert " why=refused code=1 " in end_of(server)


@pytest.mark.parametrize(("options", "most"), [("-d0", 3), ("-d0 -a1", 1)])
def test_after_so_many_refusals_it_is_over(inn: Inn, options: str, most: int) -> None:
    server = inn.open(popup=options)
    client = inn.client(server)
    client.send(b"USER joe\r\nPASS x\r\n" * most)
    assert client.rest() == (OK + REFUSED) * most
    lines = server.lines()
    assert sum(line.startswith("Reject::AUTH::User ") for line in lines) == most


# While a password is verified ------------------------------------------------

CHECKER = """#!/bin/sh
# A checkvpw that says when it runs, and waits to be told how to end.
echo >>{room}/asked
read code <{room}/answer
exit $code
"""


class Slow:
    """A checker that takes as long as the test wants."""

    def __init__(self, inn: Inn) -> None:
        self._asked, self._answer = inn.room / "asked", inn.room / "answer"
        program = inn.room / "checkvpw"
        program.write_text(CHECKER.format(room=inn.room))
        program.chmod(0o755)
        os.mkfifo(self._answer)
        uid, gid = support.OWNER
        users = inn.room / "slow"
        users.write_text(
            f"@:+\n#:@:uid={uid} gid={gid} home={inn.joe.maildir.parent}\n"
        )
        self.checker = ("-a", f"authuser:{users}")

    def wait(self, times: int = 1) -> None:
        """Wait until it has been asked so often."""
        wait_for(lambda: self._asked.exists() and len(self._asked.read_text()) >= times)

    def answer(self, code: int) -> None:
        """Have it end."""
        self._answer.write_text(f"{code}\n")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, ["Accept::AUTH::User", "Info::END::User"]),
        (1, ["Reject::AUTH::User", "Info::END::User"]),
        (2, ["Reject::AUTH::User", "Info::END::User"]),
    ],
)
@pytest.mark.parametrize("way", ["close", "reset"])
def test_who_hangs_up_while_his_password_is_verified(
    inn: Inn, code: int, words: list[str], way: str
) -> None:
    slow = Slow(inn)
    server = inn.open("--per-source", "1", checker=slow.checker)
    held = server.connect()
    assert held.recv(100) == b"+OK\r\n"
    held.sendall(LOGIN)
    slow.wait()
    if way == "reset":
        linger = (1).to_bytes(4, "little") + bytes(4)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    held.close()
    slow.answer(code)
    end_of(server)
    assert [line.split()[0] for line in server.lines()[1:]] == words
    # He counts no more: there is room for one.
    client = inn.client(server)
    client.send(LOGIN + b"QUIT\r\n")
    slow.wait(2)
    slow.answer(0)
    assert client.rest() == OK * 3
    assert len(inn.joe.mail()) == 3


def test_who_is_verified_slowly_holds_nobody_up(inn: Inn) -> None:
    slow = Slow(inn)
    both = ("-a", f"{inn.village.source} {slow.checker[1]}")
    server = inn.open(checker=both)
    waiting = inn.client(server)
    waiting.send(b"USER stranger\r\nPASS x\r\nSTAT\r\n")
    slow.wait()
    for _ in range(5):
        client = inn.client(server)
        client.send(LOGIN + b"QUIT\r\n")
        assert client.rest() == OK * 3
    slow.answer(0)
    assert waiting.replies(2) == [OK, OK]
    assert waiting.reply().startswith(b"+OK 3 ")


# Sessions and their users ----------------------------------------------------


def session_of(server: Server) -> int:
    """Give the process of the one session there is."""
    (found,) = SessionProcess(server).all()
    return found


def ids(pid: int) -> tuple[list[str], list[str], list[str]]:
    """Give uids, gids and groups."""
    text = Path(f"/proc/{pid}/status").read_text()
    rows = dict(line.split(":", 1) for line in text.splitlines())
    uids, gids, groups = (rows[name].split() for name in ("Uid", "Gid", "Groups"))
    return uids, gids, groups


def test_two_users_at_once_are_two_users(inn: Inn) -> None:
    need_root()
    ann = inn.village.settle("ann", 1, (54331, 54332))
    server = inn.open()
    seen: dict[int, Resident] = {}
    for resident in (inn.joe, ann):
        client = inn.client(server)
        client.send(b"USER %b\r\nPASS sesame\r\nSTAT\r\n" % resident.name)
        count = len(resident.mail())
        assert client.replies(3)[2].startswith(b"+OK %d " % count)
        found = set(SessionProcess(server).all()) - set(seen)
        (pid,) = found
        seen[pid] = resident
    for pid, resident in seen.items():
        uid, gid = map(str, resident.ids)
        uids, gids, groups = ids(pid)
        assert (uids, gids) == ([uid] * 4, [gid] * 4)
        assert groups in ([], [gid])
        assert os.readlink(f"/proc/{pid}/cwd") == str(resident.maildir.parent)


class Virtual:
    """Several accounts that share one uid, in one database."""

    def __init__(self, inn: Inn, tools: Tools, **maildirs: str) -> None:
        self.database = inn.room / "accounts.db"
        self.residents: dict[str, Resident] = {}
        uid, gid = map(str, support.OWNER)
        run = [tools.popaccount, "--db", str(self.database)]
        call([*run, "init"])
        for number, (name, maildir) in enumerate(maildirs.items(), 1):
            made = inn.village.settle(name, number)
            words = ["--home", str(made.maildir.parent), "--uid", uid, "--gid", gid]
            words += ["--maildir", maildir] if maildir else []
            call([*run, "add", name, *words], SECRET + b"\n")
            self.residents[name] = made

    @property
    def checker(self) -> tuple[str, str]:
        return ("-a", f"db:{self.database}")


def call(words: list[str], given: bytes = b"") -> None:
    subprocess.run(words, input=given, check=True, capture_output=True)


def log_in(inn: Inn, server: Server, name: str, before: bytes = b"") -> Client:
    """Log in and read the greeting of the session."""
    client = inn.client(server)
    client.send(before + f"USER {name}\r\nPASS sesame\r\n".encode())
    return client


@pytest.mark.slow
def test_accounts_of_one_uid_have_one_process_and_see_their_own(
    inn: Inn, tools: Tools
) -> None:
    virtual = Virtual(inn, tools, ann="", bob="", eve="")
    server = inn.open(checker=virtual.checker)
    pids, held = [], []
    for count, name in [(1, "ann"), (2, "bob"), (3, "eve"), (2, "bob"), (1, "ann")]:
        client = log_in(inn, server, name)
        assert client.replies(2) == [OK, OK]
        assert client.ask(b"STAT").startswith(b"+OK %d " % count)
        pid = session_of(server)
        home = virtual.residents[name].maildir.parent
        assert os.readlink(f"/proc/{pid}/cwd") == str(home)
        pids.append(pid)
        held.append(len(descriptors(pid)))
        client.send(b"RETR 1\r\n")
        assert f"for {name}".encode() in client.listing()
        assert client.ask(b"QUIT") == OK
        assert client.rest() == b""
        end_of(server, len(pids))
    assert len(set(pids)) == 1
    assert len(set(held)) == 1


@pytest.mark.slow
def test_a_session_that_fails_spoils_nothing_for_the_next(
    inn: Inn, tools: Tools
) -> None:
    virtual = Virtual(inn, tools, ann="", bob="Nowhere", eve="")
    server = inn.open(checker=virtual.checker)
    for count, name in [(1, "ann"), (0, "bob"), (3, "eve"), (0, "bob"), (1, "ann")]:
        client = log_in(inn, server, name)
        client.send(b"STAT\r\nQUIT\r\n")
        said = client.rest()
        if count:
            assert said.startswith(OK + OK + b"+OK %d " % count)
        else:
            assert said == OK + PERMANENT
    end_of(server, 5)
    whys = [re.search(r" why=(\w+ code=\d+) ", line) for line in ends(server)]
    good, bad = "served code=0", "failed code=100"
    assert [found and found[1] for found in whys] == [good, bad, good, bad, good]
    server.errors.until("pop3d: unable to read maildir Nowhere: No such file")


@pytest.mark.slow
def test_nothing_of_the_one_before_is_left_for_the_next(inn: Inn, tools: Tools) -> None:
    """His language, his own Maildir, his deletions: each by its effect."""
    virtual = Virtual(inn, tools, ann="", bob="Own")
    bob = virtual.residents["bob"].maildir
    bob.rename(bob.with_name("Own"))
    server = inn.open(checker=virtual.checker)
    first = log_in(inn, server, "bob", b"LANG de\r\nUTF8\r\n")
    first.replies(4)
    assert first.ask(b"RETR 9") == b"-ERR so viele Nachrichten sind nicht da\r\n"
    assert first.ask(b"STAT").startswith(b"+OK 2 ")
    first.ask(b"DELE 1")
    pid = session_of(server)
    first.hang_up()
    end_of(server)
    second = log_in(inn, server, "ann")
    second.replies(2)
    assert session_of(server) == pid
    assert second.ask(b"RETR 9") == b"-ERR not that many messages\r\n"
    assert second.ask(b"STAT").startswith(b"+OK 1 ")
    assert second.ask(b"QUIT") == OK
    second.rest()
    assert len(os.listdir(bob.with_name("Own") / "new")) == 2
    assert len(virtual.residents["ann"].mail()) == 1


# The log ---------------------------------------------------------------------

SESSIONS = [
    (b"QUIT\r\n", "end=quit retrieved=0 octets=0 deleted=0 left=3"),
    (b"RETR 1\r\nRETR 2\r\nQUIT\r\n", "end=quit retrieved=2 octets=N deleted=0 left=3"),
    (b"TOP 1 0\r\nQUIT\r\n", "end=quit retrieved=1 octets=N deleted=0 left=3"),
    (b"DELE 1\r\nDELE 3\r\nQUIT\r\n", "end=quit retrieved=0 octets=0 deleted=2 left=1"),
    (b"DELE 1\r\nRSET\r\nQUIT\r\n", "end=quit retrieved=0 octets=0 deleted=0 left=3"),
    (b"DELE 1\r\n", "end=connection-closed retrieved=0 octets=0 deleted=0 left=3"),
    (
        b"STAT\r\nRETR 9\r\n",
        "end=connection-closed retrieved=0 octets=0 deleted=0 left=3",
    ),
]


@pytest.mark.parametrize(("said", "shown"), SESSIONS)
def test_the_log_tells_what_a_session_did(inn: Inn, said: bytes, shown: str) -> None:
    server = inn.open()
    client = inn.client(server)
    client.send(LOGIN + said)
    client.stop_sending()
    client.rest()
    begin = f"Info::END::User P:POP3 {SOURCE} ?~ 'joe' why=served code=0 seconds="
    line = end_of(server)
    assert line.startswith(begin)
    line = re.sub(r" octets=[1-9]\d*", " octets=N", line.removeprefix(begin))
    assert re.fullmatch(rf"\d+ {shown} left-octets=(-|\d+)", line)


@pytest.mark.slow
def test_the_log_tells_of_a_session_that_fell_silent(inn: Inn) -> None:
    server = inn.open(pop3d=("-t1", "Maildir"))
    client = inn.client(server)
    client.send(LOGIN)
    assert client.rest() == OK + OK
    assert " why=served code=0 seconds=1 end=timeout " in end_of(server)


def test_a_session_that_is_killed_is_told_of(inn: Inn) -> None:
    server = inn.open()
    client = inn.client(server)
    client.send(LOGIN + b"DELE 1\r\nNOOP\r\n")
    client.replies(4)
    SessionProcess(server).kill()
    assert client.rest() == b""
    line = end_of(server)
    assert " why=failed code=111 " in line
    assert line.endswith(" signal=9")
    assert len(inn.joe.mail()) == 3


def test_an_accept_is_told_before_an_end(inn: Inn) -> None:
    """However short a session is: its end is told by another process."""
    names = [f"user{number}" for number in range(8)]
    for name in names:
        inn.village.settle(name, 0)
    server = inn.open()
    for _ in range(10):
        held = []
        for name in names:
            client = server.client()
            client.send(f"USER {name}\r\nPASS sesame\r\nQUIT\r\n".encode())
            held.append(client)
        for client in held:
            assert client.rest() == b"+OK\r\n" + OK * 3
            client.hang_up()
    end_of(server, 80)
    for name in names:
        mine = [line.split("::")[0] for line in server.lines() if f"'{name}'" in line]
        assert sorted(mine) == ["Accept"] * 10 + ["Info"] * 10
        steps = [1 if event == "Accept" else -1 for event in mine]
        assert min(accumulate(steps)) == 0


def test_who_is_served_when_the_server_ends_is_told_of(inn: Inn) -> None:
    server = inn.open()
    client = inn.client(server)
    client.send(LOGIN + b"NOOP\r\n")
    client.replies(3)
    waiting = inn.client(server)
    server.signal(signal.SIGTERM)
    # He who was there before may still log in.
    waiting.send(b"USER joe\r\nPASS sesame\r\nNOOP\r\n")
    assert waiting.replies(3) == [OK] * 3
    for each in (client, waiting):
        assert each.ask(b"QUIT") == OK
        assert each.rest() == b""
    assert server.code() == 0
    server.log.all()
    assert [line.split(" ")[0] for line in server.lines()[1:]].count(
        "Info::END::User"
    ) == 2


def test_a_log_that_nobody_reads_any_more_costs_nobody_his_mail(inn: Inn) -> None:
    there, here = os.pipe()
    server = inn.open(more={5: here})
    os.close(here)
    os.close(there)
    for _ in range(3):
        client = inn.client(server)
        client.send(b"USER joe\r\nPASS x\r\n" + LOGIN + b"QUIT\r\n")
        assert client.rest() == OK + REFUSED + OK * 3
    assert server.stop() == 0


def test_without_standard_descriptors_it_serves_as_well(inn: Inn) -> None:
    server = inn.open(more={0: -1, 2: -1})
    client = inn.client(server)
    client.send(LOGIN + b"DELE 1\r\nQUIT\r\n")
    assert client.rest() == OK * 4
    assert len(inn.joe.mail()) == 2


SOURCES = [
    (b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 110\r\n", "P:POP3 S:192.0.2.7:unknown"),
    (b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 995\r\n", "P:POP3S S:192.0.2.7:unknown"),
    (b"PROXY TCP6 2001:db8::1 ::1 4711 110\r\n", "P:POP3 S:2001:db8::1:unknown"),
    (b"PROXY TCP6 ::ffff:192.0.2.9 ::1 1 110\r\n", "P:POP3 S:192.0.2.9:unknown"),
]


@pytest.mark.parametrize(("header", "source"), SOURCES)
def test_where_the_client_comes_from(inn: Inn, header: bytes, source: str) -> None:
    """As test_popup has it, but that a proxy's word is what popserver goes by."""
    server = inn.open("--proxy-from", "127.0.0.1")
    client = server.client()
    client.send(header + LOGIN + b"QUIT\r\n")
    assert client.rest() == b"+OK\r\n" + OK * 3
    client.hang_up()
    assert end_of(server).startswith(f"Info::END::User {source} ?~ 'joe' ")
    assert all(f" {source} ?~ " in line for line in server.lines())


# What cannot be served -------------------------------------------------------

WRONG = [
    ("popup", "-z", HOSTNAME, "checkpw", "-a", "system", "pop3d", "Maildir"),
    ("popup", HOSTNAME),
    ("popup", "-a0", HOSTNAME, "checkpw", "-a", "system", "pop3d", "Maildir"),
    ("popup", "-m", "scram", HOSTNAME, "checkpw", "-a", "system", "pop3d", "M"),
    ("popup", "-p", "maybe", HOSTNAME, "checkpw", "-a", "system", "pop3d", "M"),
    ("popup", HOSTNAME, "checkpw", "-z", "pop3d", "Maildir"),
    ("popup", HOSTNAME, "checkpw", "-a", "nowhere:x", "pop3d", "Maildir"),
    ("popup", HOSTNAME, "checkpw", "-a", "system", "pop3d", "-z", "Maildir"),
    ("popup", HOSTNAME, "no-such-program"),
]


@pytest.mark.parametrize("chain", WRONG, ids=" ".join)
def test_words_that_are_wrong_are_told_before_the_first_client(
    tools: Tools, chain: tuple[str, ...]
) -> None:
    """A chain of programs would tell each client in turn that it can't be served."""
    argv = [tools.popserver, *warm.OPTIONS, "127.0.0.1", "0", *chain]
    server = Server(argv, tools.environment())
    try:
        assert server.code() == 100
        told = behind.ORDINARY.sub("", server.errors.all())
        assert re.fullmatch(r"popserver: [^\n]+\n", told)
    finally:
        server.close()


def test_what_is_left_out_elsewhere_is_there() -> None:
    """A test that was renamed would be put to popserver, or not, by accident."""
    folder = Path(__file__).parent
    listed = behind.NOT_BEHIND_A_SERVER | behind.NOT_WARM | behind.NOT_A_SESSION
    modules = {path.stem: path.read_text() for path in folder.glob("test_*.py")}
    text = "".join(modules.values())
    assert {name for name in listed if f"def {name}(" not in text} <= set(modules)
    assert set(behind.SESSIONS) <= set(modules)
