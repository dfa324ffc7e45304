# SPDX-License-Identifier: ISC
"""After thousands of logins every process is as it was after some hundred."""

import base64
import threading
from collections.abc import Callable
from itertools import count

import pytest

from tests.certificates import Pair
from tests.faults import tree
from tests.faults.client import Client
from tests.faults.harness import HOST, SECRET, Server, Servers
from tests.faults.tree import MASTER, NURSERY, SESSION, TLS, VERIFIER, WORKER
from tests.support import IS_NIGHTLY, wait_for

LOGINS = 100_000 if IS_NIGHTLY else 2000
BEFORE = 600  # that allocators and caches take to be content
THREADS = 4
ONE_IN_TLS = 10  # of so many
KINDS = (MASTER, NURSERY, WORKER, VERIFIER, TLS)
# One object a login would be more. A verifier remembers the challenges it gave out.
MOST_OCTETS = 8_000_000 if IS_NIGHTLY else 600_000
FRONT = ("-d", "0", "-m", "plain,login,cram-md5")
APOP = {"POP3AUTH": "+apop"}
PLAIN = base64.b64encode(b"\0joe\0" + SECRET)


def by_password(client: Client) -> None:
    assert client.log_in(b"joe", SECRET).startswith(b"+OK")
    assert client.ask(b"STAT").startswith(b"+OK 3 ")


def by_wrong_password(client: Client) -> None:
    assert client.log_in(b"joe", b"wrong") == b"-ERR [AUTH] authorization failed"


def by_digest(client: Client) -> None:
    assert client.apop(b"ann", SECRET).startswith(b"+OK")


def by_sasl(client: Client) -> None:
    assert client.ask(b"AUTH PLAIN " + PLAIN).startswith(b"+OK")


def by_nothing(client: Client) -> None:
    assert client.ask(b"CAPA").startswith(b"+OK")
    client.lines()


TRIES: tuple[Callable[[Client], None], ...] = (
    *(by_password, by_digest, by_sasl, by_wrong_password, by_nothing),
)


class Caller(threading.Thread):
    """Logs in, in turn, in each of these ways."""

    def __init__(self, ports: list[int], numbers: "count[int]", most: int) -> None:
        super().__init__(daemon=True)
        self._ports, self._numbers, self._most = ports, numbers, most
        self.wrong = ""

    def run(self) -> None:
        try:
            while (number := next(self._numbers)) < self._most:
                self._call(number)
        except Exception as why:  # noqa: BLE001  # a thread can't fail a test
            self.wrong = f"{type(why).__name__}: {why}"

    def _call(self, number: int) -> None:
        way = "tls" if number % ONE_IN_TLS == 0 else "plain"
        with Client((HOST, self._ports[way == "tls"]), way) as client:
            TRIES[number // ONE_IN_TLS % len(TRIES)](client)
            if number % 3:
                client.send(b"QUIT\r\n")
                assert client.rest() == b"+OK \r\n"


def call(ports: list[int], most: int) -> None:
    numbers = count()
    callers = [Caller(ports, numbers, most) for _ in range(THREADS)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert [caller.wrong for caller in callers] == [""] * THREADS


def used(server: Server) -> dict[str, int]:
    """Give the memory of the largest of each kind, when nobody is there any more."""
    wait_for(lambda: server.is_whole(relays=1))
    wait_for(lambda: tree.CLIENT not in tree.descriptors(server.one(WORKER)).values())
    wait_for(lambda: tree.CLIENT not in tree.descriptors(server.one(TLS)).values())
    return {kind: max(map(tree.memory, server.crew(kind))) for kind in KINDS}


def opened(server: Server) -> dict[str, list[int]]:
    """Give how many descriptors there are, but for a nursery's ways to sessions."""
    found = {kind: list(map(tree.count, server.crew(kind))) for kind in KINDS}
    found[NURSERY][0] -= len(server.crew(SESSION))
    return found


@pytest.mark.slow
def test_nobody_grows(servers: Servers, pair: Pair) -> None:
    server = servers.start("--tls-workers", "1", front=FRONT, pair=pair, env=APOP)
    wait_for(lambda: server.is_whole(relays=1))
    ports = server.ports
    call(ports, BEFORE)
    memory, descriptors = used(server), opened(server)
    call(ports, LOGINS)
    grown = {kind: octets - memory[kind] for kind, octets in used(server).items()}
    wait_for(lambda: opened(server) == descriptors)
    assert max(grown.values()) < MOST_OCTETS, grown
    for pid in (server.pid, server.one(NURSERY)):
        assert not tree.zombies(pid)
    assert server.errors == ""
