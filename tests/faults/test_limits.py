# SPDX-License-Identifier: ISC
"""Many clients at once, too many of one source, and who may not come at all."""

import os
import resource
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.certificates import Pair
from tests.faults import tree
from tests.faults.client import Client, Gone
from tests.faults.harness import HOST, NAME, SECRET, Server, Servers
from tests.faults.tree import WORKER
from tests.support import IS_NIGHTLY, need, wait_for

IDLE = 10_000 if IS_NIGHTLY else 1000
MOST_OCTETS_EACH = 16_384  # of the login worker's memory, for one who waits
FLOOD = 200
FEW = 5  # that one source may have
REFUSAL = "come back later"
SOURCES = [f"127.0.0.{number}" for number in range(2, 10)]
SOURCE = SOURCES[0]


def log_in(server: Server, source: str = "", user: bytes = b"joe") -> None:
    """Have somebody fetch mail."""
    with Client((HOST, server.port), source=source) as client:
        assert client.log_in(user, SECRET).startswith(b"+OK")
        assert client.ask(b"QUIT") == b"+OK "


@contextmanager
def many_files(count: int) -> Iterator[None]:
    """Have so many descriptors, and for those whom we start, too."""
    limit = resource.RLIMIT_NOFILE
    before = resource.getrlimit(limit)
    wanted = max(count, before[0])
    resource.setrlimit(limit, (wanted, max(wanted, before[1])))
    yield
    resource.setrlimit(limit, before)


@pytest.mark.slow
def test_those_who_never_log_in_are_held_by_one_process(servers: Servers) -> None:
    with many_files(IDLE + 500), ExitStack() as stack:
        server = servers.start("-c", str(IDLE + 10), "-b", "1024")
        wait_for(server.is_whole)
        log_in(server)
        crew, worker = tree.children(server.pid), server.one(WORKER)
        before = tree.memory(worker)
        clients = []
        for _ in range(IDLE):
            clients.append(stack.enter_context(server.client(port=server.port)))
            assert clients[-1].greeting.startswith(b"+OK")
        assert tree.count(worker) > IDLE
        used = tree.ticks(worker)
        for _ in range(5):
            log_in(server)
        assert tree.children(server.pid) == crew
        assert tree.memory(worker) - before < IDLE * MOST_OCTETS_EACH
        # Those who wait cost nothing while others come.
        assert tree.ticks(worker) - used < os.sysconf("SC_CLK_TCK")
        assert clients[IDLE // 2].log_in(b"ann", SECRET).startswith(b"+OK")
    wait_for(lambda: tree.count(worker) < 30)


@pytest.mark.slow
def test_a_flood_from_one_source_leaves_others_alone(servers: Servers) -> None:
    server = servers.start("--per-source", str(FEW))
    with ExitStack() as stack:
        greeted = 0
        for _ in range(FLOOD):
            with suppress(Gone, ConnectionError):
                stack.enter_context(Client((HOST, server.port), source=SOURCE))
                greeted += 1
        assert greeted == FEW
        for source in SOURCES[1:]:
            log_in(server, source)
    wait_for(lambda: "why=eof" in server.log)
    log_in(server, SOURCE)
    # Of all that were turned away the log has one line in ten seconds.
    assert 1 <= server.log.count("Reject::CONNECT::Source") <= 3


def test_sessions_count_for_their_source_until_they_end(servers: Servers) -> None:
    server = servers.start("--per-source", "1")
    with Client((HOST, server.port), source=SOURCE) as client:
        assert client.log_in(b"joe", SECRET).startswith(b"+OK")
        with pytest.raises(Gone):
            Client((HOST, server.port), source=SOURCE)
        assert client.ask(b"QUIT") == b"+OK "

    def is_let_in() -> bool:
        with suppress(Gone):
            log_in(server, SOURCE)
            return True
        return False

    wait_for(is_let_in)


def test_sessions_count_for_their_source_when_the_login_worker_is_another(
    servers: Servers,
) -> None:
    server = servers.start("--per-source", "1")
    with Client((HOST, server.port), source=SOURCE) as client:
        assert client.log_in(b"joe", SECRET).startswith(b"+OK")
        os.kill(old := server.one(WORKER), 9)
        wait_for(lambda: old not in tree.children(server.pid) and server.is_whole())
        log_in(server)
        with pytest.raises(Gone):
            Client((HOST, server.port), source=SOURCE)
        assert client.ask(b"QUIT") == b"+OK "


@pytest.mark.parametrize("limit", [("-c", "1"), ("--per-source", "1")])
def test_who_is_refused_is_told_why(servers: Servers, limit: tuple[str, str]) -> None:
    server = servers.start(*limit, "--refuse", f"-ERR {REFUSAL}")
    with server.client() as first, Client((HOST, server.port)) as second:
        assert second.greeting == f"-ERR {REFUSAL}".encode()
        assert second.rest() == b""
        assert first.log_in(b"joe", SECRET).startswith(b"+OK")


def test_without_a_word_for_them_who_is_one_too_many_waits(servers: Servers) -> None:
    server = servers.start("-c", "2")
    with ExitStack() as stack:
        held = [stack.enter_context(server.client()) for _ in range(2)]
        waiting = stack.enter_context(socket.create_connection((HOST, server.port)))
        waiting.setblocking(False)
        assert held[0].log_in(b"joe", SECRET).startswith(b"+OK")
        for _ in range(3):
            assert held[1].ask(b"NOOP").startswith(b"+OK")
        with pytest.raises(BlockingIOError):
            waiting.recv(1)
        assert held[0].ask(b"QUIT") == b"+OK "
        waiting.settimeout(30)
        assert waiting.recv(100).startswith(b"+OK")


# Rules, compiled by tcprules itself.

DENIED, REFUSING, CHALLENGED, WITHOUT, DEMANDING, MEANINGLESS, *_ = SOURCES
RULES = f"""\
{DENIED}:deny
{REFUSING}:allow,POP3PLAINTEXT="refuse"
{CHALLENGED}:allow,POP3AUTH="+apop"
{WITHOUT}:allow,UCSPITLS="-"
{DEMANDING}:allow,UCSPITLS="!"
{MEANINGLESS}:allow,POP3PLAINTEXT="perhaps"
:allow
"""


def compile_rules(path: Path, text: str) -> None:
    """Have tcprules replace the file, which it does by a rename."""
    program = need("tcprules", "ucspi-tcp")
    fresh = path.with_suffix(".new")
    subprocess.run([program, path, fresh], input=text.encode(), check=True)


@pytest.fixture
def rules(servers: Servers) -> Path:
    path = servers.village.room / "rules.cdb"
    compile_rules(path, RULES)
    return path


@pytest.fixture
def ruled(servers: Servers, pair: Pair, rules: Path) -> Server:
    return servers.start("--tls-workers", "1", "-x", str(rules), pair=pair)


def come(server: Server, source: str, way: str = "plain") -> Client:
    return Client((HOST, server.ports[way == "tls"]), way, source)


def is_denied(server: Server, source: str) -> bool:
    """Tell whether a connection is closed without a word."""
    place, here = (HOST, server.port), (source, 0)
    with suppress(ConnectionError), socket.create_connection(place, 30, here) as held:
        return held.recv(100) == b""
    return True


def test_rules_decide_from_the_first_connection_on(ruled: Server) -> None:
    """It listens before it has forked anybody, and TLS takes its time to start."""
    assert is_denied(ruled, DENIED)
    log_in(ruled)


def test_rules_decide_behind_a_new_login_worker(ruled: Server) -> None:
    for _ in range(3):
        os.kill(old := ruled.one(WORKER), 9)
        wait_for(lambda old=old: old not in tree.children(ruled.pid))  # type: ignore[misc]
        assert is_denied(ruled, DENIED)
    log_in(ruled)


def test_variables_of_rules_are_popups(ruled: Server) -> None:
    with come(ruled, REFUSING) as client:
        assert client.ask(b"USER joe").startswith(b"-ERR [AUTH]")
        client.start_tls()
        assert client.log_in(b"joe", SECRET).startswith(b"+OK")
    with come(ruled, CHALLENGED) as client:
        assert client.greeting.endswith(f"@{NAME}>".encode())
        assert client.apop(b"joe", SECRET).startswith(b"+OK")
    with come(ruled, HOST) as client:
        assert client.greeting == b"+OK"
    with come(ruled, WITHOUT) as client:
        assert client.ask(b"STLS").startswith(b"-ERR")
    with come(ruled, DEMANDING) as client:
        assert client.ask(b"USER joe").startswith(b"-ERR [AUTH]")
        client.start_tls()
        assert client.log_in(b"joe", SECRET).startswith(b"+OK")


def test_a_word_that_means_nothing_harms_nobody_else(ruled: Server) -> None:
    worker = ruled.one(WORKER)
    for _ in range(3):
        assert is_denied(ruled, MEANINGLESS)
    log_in(ruled)
    assert ruled.crew(WORKER) == [worker]
    assert "allow or refuse, not perhaps" in ruled.errors


def test_rules_that_are_replaced_hold_from_then_on(ruled: Server, rules: Path) -> None:
    with come(ruled, HOST) as staying:
        compile_rules(rules, f"{HOST}:deny\n:allow\n")
        wait_for(lambda: is_denied(ruled, HOST))
        assert not is_denied(ruled, DENIED)
        assert staying.log_in(b"joe", SECRET).startswith(b"+OK")


@pytest.mark.parametrize("octets", [b"", b"no rules" * 1000])
def test_rules_that_are_damaged_let_nobody_in_who_was_kept_out(
    ruled: Server, rules: Path, octets: bytes
) -> None:
    assert is_denied(ruled, DENIED)
    fresh = rules.with_suffix(".bad")
    fresh.write_bytes(octets)
    fresh.rename(rules)
    wait_for(lambda: ruled.errors or is_denied(ruled, HOST))
    assert is_denied(ruled, DENIED)
    compile_rules(rules, f"{DENIED}:deny\n:allow\n")
    wait_for(lambda: not is_denied(ruled, HOST))
    assert is_denied(ruled, DENIED)


def test_rules_that_are_away_let_nobody_in_who_was_kept_out(
    ruled: Server, rules: Path
) -> None:
    log_in(ruled)
    rules.unlink()
    wait_for(lambda: "old rules hold" in ruled.errors)
    assert is_denied(ruled, DENIED)
    log_in(ruled)
    os.kill(old := ruled.one(WORKER), 9)
    wait_for(lambda: old not in tree.children(ruled.pid))
    compile_rules(rules, f"{DENIED}:deny\n:allow\n")
    assert is_denied(ruled, DENIED)
    log_in(ruled)
