# SPDX-License-Identifier: ISC
"""Processes of popserver are killed, one after the other, while people fetch mail."""

import os
import random
import signal
import statistics
import sys
import time
from contextlib import suppress

import pytest

from tests import support
from tests.certificates import Pair
from tests.faults import tree
from tests.faults.client import WAYS, Client, Gone
from tests.faults.harness import HOST, SECRET, Resident, Server, Servers, Village
from tests.faults.traffic import Traffic
from tests.faults.tree import MASTER, NURSERY, SESSION, TLS, VERIFIER, WORKER
from tests.support import IS_NIGHTLY, OWNER, free_port, wait_for

KILLS = 200 if IS_NIGHTLY else 6  # of each kind
KINDS = (NURSERY, WORKER, VERIFIER, TLS, SESSION)
MASTERS_KILLS = 30 if IS_NIGHTLY else 3
READERS = 6
MOST_SECONDS = 15.0  # to full service; it takes one, on a machine that has time
MEDIAN_SECONDS = 3.0  # of a kind; one alone may meet with a busy machine
RELAYS = 2


def settle(village: Village, count: int) -> list[Resident]:
    """Give people of whom some share a uid: their processes are lent."""
    made = []
    for number in range(count):
        uid = OWNER[0] + (0 if number < 2 or not support.IS_ROOT else number)
        made.append(village.settle(f"u{number}", 0, (uid, OWNER[1])))
    return made


def is_served(connect: "Connect", way: str) -> bool:
    """Tell whether somebody can log in."""
    with suppress(Gone, ConnectionError), connect(way) as client:
        return client.log_in(b"joe", SECRET).startswith(b"+OK")
    return False


class Connect:
    """Connects in each of the ways, with ports that are looked up once."""

    def __init__(self, ports: list[int]) -> None:
        self._ports = ports

    def __call__(self, way: str) -> Client:
        return Client((HOST, self._ports[way == "tls"]), way)


def held(server: Server) -> list[int]:
    """Give how many descriptors master, nursery and login worker hold.

    But for the nursery's ways to sessions, of which some are idle.
    """
    counts = [tree.count(server.one(kind)) for kind in (MASTER, NURSERY, WORKER)]
    return [counts[0], counts[1] - len(server.crew(SESSION)), counts[2]]


def kill_one(server: Server, kind: str, chooser: random.Random) -> None:
    """Kill any process of a kind."""

    def is_killed() -> bool:
        found = server.crew(kind)
        with suppress(ProcessLookupError):  # a session may have ended by itself
            os.kill(chooser.choice(found or [0]) or 2**22 + 1, signal.SIGKILL)
            return bool(found)
        return False

    wait_for(is_killed)


def show(took: dict[str, list[float]]) -> None:
    """Print how long it took to be served again, for each kind that was killed."""
    for kind, seconds in took.items():
        median, longest = statistics.median(seconds), max(seconds)
        figures = f"{len(seconds)} kills, {median:.2f} s, at most {longest:.2f} s"
        sys.stdout.write(f"{kind}: {figures}\n")


@pytest.mark.slow
def test_nobody_is_told_a_wrong_thing_and_no_mail_is_lost(
    servers: Servers, village: Village, pair: Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    residents = settle(village, READERS)
    server = servers.start("--tls-workers", str(RELAYS), pair=pair)
    wait_for(lambda: server.is_whole(relays=RELAYS))
    connect = Connect(server.ports)
    assert all(is_served(connect, way) for way in WAYS)
    wait_for(lambda: server.is_whole(relays=RELAYS))
    before = held(server)
    kinds = [*KINDS] * KILLS
    chooser = random.Random(1)
    chooser.shuffle(kinds)
    took: dict[str, list[float]] = {}
    with Traffic(residents, connect) as traffic:
        traffic.goes_on()
        for kind in kinds:
            kill_one(server, kind, chooser)
            began = time.monotonic()
            for way in WAYS:
                wait_for(lambda way=way: is_served(connect, way))  # type: ignore[misc]
            took.setdefault(kind, []).append(time.monotonic() - began)
        traffic.goes_on()
    traffic.check()
    if IS_NIGHTLY:
        with capsys.disabled():
            show(took)
    assert max(map(max, took.values())) < MOST_SECONDS
    assert max(map(statistics.median, took.values())) < MEDIAN_SECONDS
    wait_for(lambda: server.is_whole(relays=RELAYS))
    wait_for(lambda: held(server) == before)
    assert not any(map(tree.zombies, (server.pid, server.one(NURSERY))))
    below = tree.descendants(server.pid)
    assert server.stop() == 0
    wait_for(lambda: not any(map(tree.is_there, below)))


def test_a_verifier_that_hangs_is_replaced(servers: Servers, village: Village) -> None:
    server = servers.start("--verify-timeout", "1", "--verifiers", "1")
    wait_for(lambda: server.is_whole(verifiers=1))
    before = server.one(VERIFIER)
    words = village.accounts.read_bytes()
    village.accounts.unlink()
    os.mkfifo(village.accounts)  # nobody will ever write there
    with server.client() as client, pytest.raises(Gone):
        client.log_in(b"joe", SECRET)
    village.accounts.unlink()
    village.accounts.write_bytes(words)
    connect = Connect(server.ports)
    wait_for(lambda: is_served(connect, "plain"))
    assert server.one(VERIFIER) != before
    assert server.log.count("Info::END::") >= 1
    assert server.log.count("why=verifier-died code=111") == 1


@pytest.mark.slow
def test_without_the_master_sessions_go_on_and_all_others_end(
    servers: Servers, village: Village, pair: Pair
) -> None:
    joe = village.residents[b"joe"]
    mail = joe.mail()
    server = servers.start("--tls-workers", "1", pair=pair)
    wait_for(lambda: server.is_whole(relays=1))
    crew = tree.crew(server.pid)
    with (
        server.client() as waiting,
        server.client() as plain,
        server.client("tls") as t,
    ):
        assert plain.log_in(b"joe", SECRET).startswith(b"+OK")
        assert t.log_in(b"ann", SECRET).startswith(b"+OK")
        (nursery,), sessions = crew[NURSERY], server.crew(SESSION)
        server.signal(signal.SIGKILL)
        server.end()
        assert waiting.rest() == b""
        wait_for(lambda: not any(map(tree.is_there, crew[WORKER] + crew[VERIFIER])))
        assert sorted(plain.retrieve(n + 1) for n in range(len(mail))) == mail
        assert plain.ask(b"DELE 1").startswith(b"+OK")
        for client in (plain, t):
            client.send(b"QUIT\r\n")
            assert client.rest() == b"+OK \r\n"
    assert joe.mail() == mail[1:]
    wait_for(lambda: not any(map(tree.is_there, [nursery, *sessions, *crew[TLS]])))


@pytest.mark.slow
def test_the_master_is_killed_and_started_again(
    servers: Servers, village: Village, pair: Pair
) -> None:
    residents = settle(village, READERS)
    ports = [free_port(), free_port()]
    connect = Connect(ports)
    below: set[int] = set()
    server = servers.make("--tls-workers", "1", pair=pair, ports=ports)

    def is_started() -> bool:
        server.start()  # its port may still be taken by those who are about to end
        if not server.port:
            server.end()
        return bool(server.port)

    wait_for(is_started)
    with Traffic(residents, connect) as traffic:
        for _ in range(MASTERS_KILLS):
            traffic.goes_on()
            below |= set(tree.descendants(server.pid))
            server.signal(signal.SIGKILL)
            server.end()
            wait_for(is_started)
        traffic.goes_on()
    traffic.check()
    below |= set(tree.descendants(server.pid))
    assert server.stop() == 0
    wait_for(lambda: not any(map(tree.is_there, below)))
