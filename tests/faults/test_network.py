# SPDX-License-Identifier: ISC
"""Hostile clients: what they send out of turn, cut short, or too slowly."""

import os
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from qtools.protocol import proxy
from tests.certificates import Pair
from tests.faults import tree
from tests.faults.client import context
from tests.faults.harness import HOST, SECRET, Server, Servers
from tests.faults.tree import TLS, VERIFIER, WORKER
from tests.support import need, wait_for

PROXIES = "127.0.1.0/24"
OTHER = "127.0.1.1"  # one of them
SLOW = 1  # seconds of patience with them
DRIPPERS = 40
FLOOD = b"CAPA\r\n" * 60_000  # more than buffers hold of the answers


@pytest.fixture(scope="module")
def one(standing: Servers, pair: Pair) -> Server:
    made = standing.start("--tls-workers", "1", pair=pair)
    wait_for(lambda: made.is_whole(relays=1))
    return made


@pytest.fixture
def server(one: Server) -> Iterator[Server]:
    """Make sure that nobody died, nobody is left over, and others are served."""
    crew = {kind: one.crew(kind) for kind in (WORKER, TLS, VERIFIER)}
    yield one
    for way in ("plain", "stls"):
        log_in(one, way)
    assert crew == {kind: one.crew(kind) for kind in crew}
    wait_for(lambda: tree.CLIENT not in held_by(one, WORKER))
    wait_for(lambda: tree.CLIENT not in held_by(one, TLS))
    assert one.errors == ""


def log_in(server: Server, way: str = "plain") -> None:
    """Have somebody fetch mail as if nothing were."""
    with server.client(way) as client:
        assert client.log_in(b"joe", SECRET).startswith(b"+OK")
        assert client.ask(b"STAT").startswith(b"+OK 3 ")
        assert client.ask(b"QUIT") == b"+OK "


def raw(server: Server, port: int = 0, source: str = "") -> socket.socket:
    """Give a connection from which nothing has been read."""
    here = (source, 0) if source else None
    return socket.create_connection((HOST, port or server.port), 30, here)


def rest_of(held: socket.socket) -> bytes:
    parts = []
    with suppress(ConnectionError):
        while part := held.recv(65536):
            parts.append(part)
    return b"".join(parts)


def held_by(server: Server, kind: str) -> list[str]:
    return list(tree.descriptors(server.one(kind)).values())


# STLS and TLS.

INJECTIONS = (b"NOOP\r\n", b"USER joe\r\nPASS sesame\r\n", b"QUIT\r\n", b"x" * 600)


@pytest.mark.parametrize("behind", INJECTIONS)
@pytest.mark.parametrize("shakes_hands", [False, True])
def test_what_comes_behind_stls_is_never_answered(
    server: Server, behind: bytes, *, shakes_hands: bool
) -> None:
    with server.client() as client:
        client.send(b"STLS\r\n" + behind)
        assert client.line().startswith(b"+OK")
        if shakes_hands:
            client.send(hello())
        rest = client.rest()
    assert b"OK" not in rest
    assert b"ERR" not in rest


def test_what_is_sent_in_clear_after_the_answer_is_no_handshake(server: Server) -> None:
    with server.client() as client:
        assert client.ask(b"STLS").startswith(b"+OK")
        client.send(b"USER joe\r\nPASS sesame\r\nSTAT\r\n")
        rest = client.rest()
    assert b"OK" not in rest
    assert b"ERR" not in rest


def test_a_user_named_before_stls_is_forgotten(server: Server) -> None:
    with server.client() as client:
        assert client.ask(b"USER joe").startswith(b"+OK")
        client.start_tls()
        assert client.ask(b"PASS " + SECRET).startswith(b"-ERR")


def test_stls_is_refused_inside_tls(server: Server) -> None:
    with server.client("tls") as client:
        assert client.ask(b"STLS").startswith(b"-ERR")
        assert client.log_in(b"joe", SECRET).startswith(b"+OK")


@pytest.mark.parametrize("said", [b"USER joe\r\n", b"\x16\x03\x01\xff\xff", b"\0" * 70])
def test_who_speaks_something_else_to_the_port_for_tls_hears_no_pop3(
    server: Server, said: bytes
) -> None:
    with raw(server, server.ports[1]) as held:
        held.sendall(said)
        held.shutdown(socket.SHUT_WR)
        rest = rest_of(held)
    assert b"OK" not in rest
    assert b"ERR" not in rest


def hello() -> bytes:
    """Give the first octets of a client that speaks TLS."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context().wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("resets", [False, True])
def test_handshakes_that_are_cut_short_leave_nothing(
    server: Server, *, resets: bool
) -> None:
    whole = hello()
    before = tree.count(server.one(TLS))
    failed = server.log.count("why=tls-failed")
    cuts = (0, 1, 5, 6, 100, len(whole) - 1, len(whole))
    for octets in cuts:
        with raw(server, server.ports[1]) as held:
            held.sendall(whole[:octets])
            if resets:
                reset_on_close(held)
    wait_for(lambda: server.log.count("why=tls-failed") == failed + len(cuts))
    wait_for(lambda: tree.count(server.one(TLS)) == before)


def reset_on_close(held: socket.socket) -> None:
    linger = (1).to_bytes(4, "little") + bytes(4)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


def test_a_handshake_that_stops_is_given_up(servers: Servers, pair: Pair) -> None:
    server = servers.start("--handshake-timeout", "1", pair=pair)
    with raw(server, server.ports[1]) as held:
        held.sendall(hello()[:50])
        rest = rest_of(held)
    assert b"OK" not in rest


@pytest.mark.slow
def test_a_client_cannot_have_tls_negotiated_anew(server: Server) -> None:
    openssl = need("openssl", "openssl")
    words = ["s_client", "-tls1_2", "-connect", f"{HOST}:{server.ports[1]}"]
    made = subprocess.run(
        [openssl, *words], input=b"R\nQUIT\n", capture_output=True, check=False
    )
    said = made.stdout + made.stderr
    assert b"RENEGOTIATING" in said
    # The last, when it finds the greeting where it waits for a handshake.
    refusals = (b"no renegotiation", b"handshake failure", b"unexpected record")
    assert any(words in said for words in refusals)
    assert said.count(b"Verification") <= 2


@pytest.mark.parametrize("way", ["stls", "tls"])
def test_a_client_who_leaves_without_a_word_deletes_nothing(
    server: Server, standing: Servers, way: str
) -> None:
    mail = standing.village.residents[b"joe"].mail()
    with server.client(way) as client:
        assert client.log_in(b"joe", SECRET).startswith(b"+OK")
        assert client.ask(b"DELE 1").startswith(b"+OK")
        reset_on_close(client.socket)
    wait_for(lambda: tree.CLIENT not in held_by(server, TLS))
    assert standing.village.residents[b"joe"].mail() == mail


# Slow ones.


@pytest.mark.slow
def test_a_client_that_drips_idles_and_keeps_nobody_from_his_mail(
    servers: Servers,
) -> None:
    server = servers.start(front=("-d", "0", "-t", str(SLOW)))
    with ExitStack() as stack:
        drippers = [stack.enter_context(raw(server)) for _ in range(DRIPPERS)]
        rounds = 0

        def is_over() -> bool:
            nonlocal rounds
            rounds += 1
            for held in list(drippers):
                try:
                    held.send(b"N")
                except ConnectionError:
                    drippers.remove(held)
            return not drippers

        log_in(server)
        wait_for(is_over)
    assert rounds > 5
    assert server.log.count("why=timeout") == DRIPPERS


@pytest.mark.slow
def test_a_client_that_does_not_read_is_left(servers: Servers) -> None:
    server = servers.start(front=("-d", "0", "-w", str(SLOW)))
    with raw(server) as held:
        held.setblocking(False)
        unsent = memoryview(FLOOD)

        def is_left() -> bool:
            nonlocal unsent
            with suppress(BlockingIOError, ConnectionError):
                unsent = unsent[held.send(unsent) :]
            return "why=timeout" in server.log

        log_in(server)
        wait_for(is_left)


@pytest.mark.slow
def test_a_client_that_reads_slowly_is_waited_for(servers: Servers) -> None:
    """What counts is progress: all of it takes much longer than the limit."""
    server = servers.start(front=("-d", "0", "-w", str(SLOW)))
    with raw(server) as held:
        held.setblocking(False)
        unsent, said = memoryview(FLOOD + b"QUIT\r\n"), 0
        began = time.monotonic()
        while True:
            moment = time.monotonic() + SLOW / 4
            with suppress(BlockingIOError):
                unsent = unsent[held.send(unsent) :]
            wait_for(lambda moment=moment: time.monotonic() > moment)  # type: ignore[misc]
            part = held.recv(1 << 20)
            said += len(part)
            if part.endswith(b".\r\n+OK \r\n"):
                break
            assert part, server.log
        assert not unsent
    assert time.monotonic() - began > 1.5 * SLOW
    assert said > len(FLOOD) * 10
    wait_for(lambda: "why=quit" in server.log)


# PROXY headers.

HEADER = b"PROXY TCP4 192.0.2.9 192.0.2.1 4711 110\r\n"
BAD_HEADERS = (
    b"PROXY TCP4 192.0.2.9 192.0.2.1 4711\r\n",
    b"PROXY TCP4 " + b"1" * proxy.LONGEST,
    b"PROXY UDP4 192.0.2.9 192.0.2.1 4711 110\r\n",
    b"USER joe\r\nPASS sesame\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff" + bytes(600),
    b"\r\n\r\n\0\r\nQUIT\n\x31\x11\x00\x0c" + bytes(12),
    b"\x16\x03\x01\x02\x00\x01",
)


@pytest.fixture(scope="module")
def listed(standing: Servers) -> Server:
    return standing.start("--proxy-from", PROXIES)


@pytest.fixture
def behind(listed: Server) -> Server:
    """Give a server behind a proxy, with an empty log."""
    os.truncate(listed.log_path, 0)
    return listed


@pytest.mark.parametrize("number", range(len(BAD_HEADERS)))
def test_a_proxy_that_sends_no_good_header_hears_nothing(
    behind: Server, number: int
) -> None:
    # Of one address there is one line in ten seconds.
    header, source = BAD_HEADERS[number], f"127.0.1.{number + 2}"
    with raw(behind, source=source) as held:
        with suppress(ConnectionError):
            held.sendall(header)
        assert rest_of(held) == b""
    line = f"Reject::CONNECT::Proxy P:POP3 S:{source}:"
    wait_for(lambda: line in behind.log)
    assert behind.log.count(f"S:{source}:") == 1
    log_in(behind)


@pytest.mark.parametrize("header", [HEADER, *BAD_HEADERS[:3]])
def test_a_header_from_anybody_else_is_garbage(behind: Server, header: bytes) -> None:
    with behind.client() as client:
        client.send(header.removesuffix(b"\r\n") + b"\r\n")
        assert client.line().startswith(b"-ERR")
        assert client.log_in(b"joe", SECRET).startswith(b"+OK")
    wait_for(lambda: "Accept" in behind.log)
    assert "192.0.2.9" not in behind.log
    assert f"S:{HOST}:" in behind.log


def test_a_header_and_the_login_in_one_packet(behind: Server) -> None:
    with raw(behind, source=OTHER) as held:
        held.sendall(HEADER + b"USER joe\r\nPASS sesame\r\nQUIT\r\n")
        assert rest_of(held).count(b"+OK") == 4
    wait_for(lambda: behind.log.count("S:192.0.2.9:") == 2)
    assert OTHER not in behind.log


def test_a_header_that_comes_octet_by_octet(behind: Server) -> None:
    with raw(behind, source=OTHER) as held:
        held.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for octet in HEADER:
            held.sendall(bytes([octet]))
        held.sendall(b"QUIT\r\n")
        assert rest_of(held).count(b"+OK") == 2
