# SPDX-License-Identifier: ISC
"""SIGHUP and SIGTERM, while people are connected and settings are wrong."""

import os
import signal
import socket
import ssl
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.certificates import Pair, authority
from tests.faults import tree
from tests.faults.client import WAYS
from tests.faults.harness import HOST, NAME, SECRET, Server, Servers, Village
from tests.faults.test_kills import Connect, settle
from tests.faults.traffic import Traffic
from tests.faults.tree import SESSION, TLS, WORKER
from tests.support import IS_NIGHTLY, free_port, wait_for

HANGUPS = 200 if IS_NIGHTLY else 5
AT_ONCE = 5.0  # seconds; far less than the drain that is not waited for
LONG = "600"


def log_in(server: Server, way: str = "plain") -> None:
    with server.client(way) as client:
        assert client.log_in(b"joe", SECRET).startswith(b"+OK")
        assert client.ask(b"QUIT") == b"+OK "


def certificate_of(server: Server) -> bytes:
    """Give what the server shows to clients."""
    with server.client("tls") as client:
        assert isinstance(client.socket, ssl.SSLSocket)
        return client.socket.getpeercert(binary_form=True) or b""


def reload(server: Server) -> None:
    """Have settings read anew; wait until there is another login worker."""
    old = server.one(WORKER)
    server.signal(signal.SIGHUP)
    wait_for(lambda: (server.crew(WORKER) or [old])[-1] != old)


def is_not_reloaded(server: Server) -> str:
    """Have settings read anew, which must fail; give the reason."""
    crew, before = sorted(tree.children(server.pid)), server.errors
    server.signal(signal.SIGHUP)
    wait_for(lambda: len(server.errors) > len(before))
    said = server.errors.removeprefix(before)
    assert said.startswith("popserver: not reloaded: ")
    assert sorted(tree.children(server.pid)) == crew
    return said


# SIGHUP.


@pytest.mark.slow
def test_a_reload_costs_nobody_his_session(
    servers: Servers, village: Village, pair: Pair
) -> None:
    residents = settle(village, 4)
    server = servers.start("--tls-workers", "1", pair=pair)
    with Traffic(residents, Connect(server.ports)) as traffic:
        for _ in range(HANGUPS):
            traffic.goes_on()
            reload(server)
        traffic.goes_on()
    traffic.check()
    assert [(reader.lost, reader.later) for reader in traffic.readers] == [(0, 0)] * 4
    wait_for(lambda: server.is_whole(relays=1))
    assert server.errors == ""


def test_who_is_connected_stays_so_over_a_reload(servers: Servers, pair: Pair) -> None:
    server = servers.start("--tls-workers", "1", pair=pair)
    wait_for(lambda: server.is_whole(relays=1))
    with ExitStack() as stack:
        sessions = [stack.enter_context(server.client(way)) for way in WAYS]
        before = [stack.enter_context(server.client(way)) for way in WAYS]
        for client in sessions:
            assert client.log_in(b"joe", SECRET).startswith(b"+OK")
        reload(server)
        for client in before:
            assert client.log_in(b"ann", SECRET).startswith(b"+OK")
        for client, count in [*zip(sessions, b"333", strict=True)]:
            assert client.ask(b"STAT").startswith(b"+OK %c " % count)
        for client in (*sessions, *before):
            assert client.ask(b"QUIT") == b"+OK "
    wait_for(lambda: server.is_whole(relays=1))


def copy(pair: Pair, folder: Path) -> Pair:
    """Put a certificate where it can be replaced."""
    made = Pair(folder / "cert.pem", folder / "key.pem")
    made.certificate.write_bytes(pair.certificate.read_bytes())
    made.key.touch(0o600)
    made.key.write_bytes(pair.key.read_bytes())
    return made


@pytest.mark.parametrize("broken", ["certificate", "key", "missing"])
def test_a_certificate_that_is_no_good_leaves_the_old_one(
    servers: Servers, village: Village, pair: Pair, broken: str
) -> None:
    ours = copy(pair, village.room)
    server = servers.start("--tls-workers", "1", pair=ours)
    wait_for(lambda: server.is_whole(relays=1))
    shown = certificate_of(server)
    if broken == "missing":
        ours.certificate.unlink()
    else:
        (ours.key if broken == "key" else ours.certificate).write_text("nonsense")
    is_not_reloaded(server)
    assert certificate_of(server) == shown
    log_in(server, "stls")
    fresh = authority(village.room / "ca").server(NAME)
    ours.certificate.write_bytes(fresh.certificate.read_bytes())
    ours.key.write_bytes(fresh.key.read_bytes())
    reload(server)
    wait_for(lambda: certificate_of(server) != shown)
    wait_for(lambda: server.is_whole(relays=1))


def test_without_a_certificate_that_is_good_it_does_not_start(
    servers: Servers, village: Village, pair: Pair
) -> None:
    ours = copy(pair, village.room)
    ours.key.write_text("nonsense")
    server = servers.make(pair=ours)
    server.start()
    assert server.end() == 100
    assert str(ours.key) in server.errors or str(ours.certificate) in server.errors


BAD_SETTINGS = (
    "nonsense",
    "concurrency many",
    "rules /nowhere/rules.cdb",
    "rules /etc/passwd",
    "listen tls:127.0.0.1:{fresh}",
    "listen 127.0.0.1:{taken}",
    "certificate /nowhere/cert.pem",
)


@pytest.mark.parametrize("line", BAD_SETTINGS)
def test_settings_that_are_wrong_leave_the_old_ones(
    servers: Servers, village: Village, line: str
) -> None:
    more, fresh = free_port(), free_port()
    config = village.room / "config"
    config.write_text(f"listen {HOST}:{more}\n")
    server = servers.start("--config", str(config))
    wait_for(server.is_whole)
    with socket.create_server((HOST, 0)) as other:
        config.write_text(line.format(fresh=fresh, taken=other.getsockname()[1]))
        is_not_reloaded(server)
    for port in (server.port, more):
        with server.client(port=port) as client:
            assert client.log_in(b"joe", SECRET).startswith(b"+OK")
    os.kill(old := server.one(WORKER), signal.SIGKILL)
    wait_for(lambda: old not in tree.children(server.pid) and server.is_whole())
    with server.client(port=more) as client:
        assert client.log_in(b"joe", SECRET).startswith(b"+OK")
    config.write_text(f"listen {HOST}:{fresh}\n")
    reload(server)
    with server.client(port=fresh) as client:
        assert client.log_in(b"joe", SECRET).startswith(b"+OK")
    wait_for(server.is_whole)
    with pytest.raises(ConnectionRefusedError):
        server.client(port=more)


def test_readiness_is_told_once(servers: Servers) -> None:
    told, telling = os.pipe()
    server = servers.make("--notify-fd", "7")
    server.places[7] = telling
    server.start()
    os.close(telling)
    with open(told, "rb") as lines:
        assert lines.readline() == b"\n"
        reload(server)
        reload(server)
        log_in(server)
        assert server.stop() == 0
        assert lines.read() == b""
    assert server.errors == ""


# SIGTERM.


def test_who_has_nobody_ends_at_once(servers: Servers, pair: Pair) -> None:
    server = servers.start("--drain", LONG, "--tls-workers", "1", pair=pair)
    for way in WAYS:
        log_in(server, way)
    below = tree.descendants(server.pid)
    server.signal(signal.SIGTERM)
    assert server.end(AT_ONCE) == 0
    wait_for(lambda: not any(map(tree.is_there, below)))


@pytest.mark.parametrize("way", WAYS)
def test_a_session_is_finished_and_nobody_new_comes(
    servers: Servers, village: Village, pair: Pair, way: str
) -> None:
    mail = village.residents[b"joe"].mail()
    server = servers.start("--drain", LONG, "--tls-workers", "1", pair=pair)
    ports = server.ports
    below = tree.descendants(server.pid)
    with server.client(way) as client:
        assert client.log_in(b"joe", SECRET).startswith(b"+OK")
        below += tree.descendants(server.pid)
        server.signal(signal.SIGTERM)
        wait_for(lambda: not is_open(ports[0]) and not is_open(ports[1]))
        server.signal(signal.SIGHUP)  # there is nothing to reload for
        assert client.retrieve(1) == mail[0]
        assert client.ask(b"DELE 1").startswith(b"+OK")
        assert client.ask(b"QUIT") == b"+OK "
        assert client.rest() == b""
    assert server.end(AT_ONCE) == 0
    assert village.residents[b"joe"].mail() == mail[1:]
    assert "why=served" in server.log  # whose writer was waited for
    wait_for(lambda: not any(map(tree.is_there, below)))


def is_open(port: int) -> bool:
    """Tell whether somebody listens; how many wait there matters nothing."""
    try:
        with socket.create_connection((HOST, port), 1):
            return True
    except ConnectionRefusedError:
        return False


def test_who_is_connected_may_still_log_in(servers: Servers) -> None:
    server = servers.start("--drain", LONG)
    with server.client() as client:
        server.signal(signal.SIGTERM)
        wait_for(lambda: not is_open(server.port))
        assert client.log_in(b"joe", SECRET).startswith(b"+OK")
        assert client.ask(b"QUIT") == b"+OK "
    assert server.end(AT_ONCE) == 0


@pytest.mark.slow
@pytest.mark.parametrize("again", [False, True])
def test_a_session_that_does_not_end_is_ended(
    servers: Servers, village: Village, pair: Pair, *, again: bool
) -> None:
    """At the deadline, or when the signal comes a second time."""
    mail = village.residents[b"joe"].mail()
    words = ["--drain", LONG if again else "1", "--tls-workers", "1"]
    server = servers.start(*words, pair=pair)
    below = tree.descendants(server.pid)
    with ExitStack() as stack:
        clients = [stack.enter_context(server.client(way)) for way in WAYS]
        for client in clients:
            assert client.log_in(b"joe", SECRET).startswith(b"+OK")
            assert client.ask(b"DELE 1").startswith(b"+OK")
        waiting = stack.enter_context(server.client())
        below += tree.descendants(server.pid)
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        if again:
            wait_for(lambda: not is_open(server.port))
            server.signal(signal.SIGTERM)
        for client in (*clients, waiting):
            assert client.rest() == b""
        assert server.end(AT_ONCE) == 0
    assert again or time.monotonic() - began > 0.9
    assert village.residents[b"joe"].mail() == mail
    wait_for(lambda: not any(map(tree.is_there, below)))


def test_a_signal_to_everybody_is_for_the_master(servers: Servers, pair: Pair) -> None:
    """As a service manager sends it that knows of the group only."""
    server = servers.start("--drain", LONG, "--tls-workers", "1", pair=pair)
    with server.client() as plain, server.client("tls") as inside:
        for client in (plain, inside):
            assert client.log_in(b"joe", SECRET).startswith(b"+OK")
        below = tree.descendants(server.pid)
        assert len(server.crew(SESSION)) == 2
        assert len(server.crew(TLS)) == 1
        for pid in (server.pid, *below):
            os.kill(pid, signal.SIGTERM)
        for client in (plain, inside):
            assert client.ask(b"STAT").startswith(b"+OK 3 ")
            assert client.ask(b"QUIT") == b"+OK "
    assert server.end(AT_ONCE) == 0
    wait_for(lambda: not any(map(tree.is_there, below)))
