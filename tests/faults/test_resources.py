# SPDX-License-Identifier: ISC
"""No descriptors, no processes, no room on disk: what goes on, and what comes back."""

import fcntl
import os
import re
import resource
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from tests.certificates import Pair
from tests.faults import tree
from tests.faults.client import WAYS, Gone
from tests.faults.harness import SECRET, Server, Servers, Village
from tests.faults.test_signals import copy
from tests.faults.tree import NURSERY, TLS, VERIFIER, WORKER
from tests.support import IS_ROOT, OWNER, need, wait_for

LATER = "-ERR [SYS/TEMP]"
LOGINS = 25
BLOCK, MOST_LOG = 512, 4096  # octets
FEW = 24


def log_in(server: Server, way: str = "plain") -> None:
    with server.client(way) as client:
        assert client.log_in(b"joe", SECRET).startswith(b"+OK")
        assert client.ask(b"QUIT") == b"+OK "


def try_to_log_in(server: Server, way: str = "plain") -> str:
    """Give how it went: +OK, the reply's beginning, or gone."""
    try:
        with server.client(way) as client:
            reply = client.log_in(b"joe", SECRET)
            client.send(b"QUIT\r\n")
            rest = client.rest()
            assert rest in (b"", b"+OK \r\n"), rest
            return "+OK" if reply.startswith(b"+OK") else reply[:15].decode()
    except (Gone, ConnectionError):
        return "gone"


# Descriptors.


@contextmanager
def no_descriptors(pid: int) -> Iterator[None]:
    """Leave a running process, which is as we are, no number for a descriptor more."""
    limit = resource.RLIMIT_NOFILE
    taken = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    before = resource.prlimit(pid, limit)
    free = next(number for number in range(before[0]) if number not in taken)
    resource.prlimit(pid, limit, (free, before[1]))
    yield
    if tree.is_there(pid):
        resource.prlimit(pid, limit, before)


def small_server(servers: Servers, pair: Pair) -> Server:
    """Start a server none of whose processes can have more than FEW descriptors."""
    server = servers.make("--tls-workers", "1", pair=pair)
    server.limit(f"ulimit -n {FEW}")
    server.start()
    wait_for(lambda: server.is_whole(relays=1))
    return server


@pytest.mark.slow
def test_a_login_worker_without_descriptors_turns_away_and_goes_on(
    servers: Servers, pair: Pair
) -> None:
    server = small_server(servers, pair)
    worker = server.one(WORKER)
    with ExitStack() as stack:
        greeted = []
        for _ in range(FEW):
            with suppress(Gone, ConnectionError):
                greeted.append(stack.enter_context(server.client()))
        assert 1 <= len(greeted) < FEW
        used = tree.ticks(worker)
        wait_for(lambda: "out of descriptors" in server.errors)
        # Who is in can do all but start TLS.
        assert greeted[0].log_in(b"joe", SECRET).startswith(b"+OK")
        assert greeted[0].ask(b"QUIT") == b"+OK "
        assert tree.ticks(worker) - used < os.sysconf("SC_CLK_TCK")
    wait_for(lambda: try_to_log_in(server) == "+OK")
    for way in WAYS:
        log_in(server, way)
    assert server.one(WORKER) == worker
    assert server.errors.count("out of descriptors") <= 2


@pytest.mark.slow
def test_a_login_worker_without_descriptors_survives_dying_helpers(
    servers: Servers, pair: Pair
) -> None:
    """Their successors' channels can't be taken; later ones' can."""
    server = small_server(servers, pair)
    worker = server.one(WORKER)
    with ExitStack() as stack:
        for _ in range(FEW):
            with suppress(Gone, ConnectionError):
                stack.enter_context(server.client())
        for kind in (VERIFIER, TLS):
            os.kill(server.one(kind), signal.SIGKILL)
        wait_for(lambda: server.errors.count("a new one comes") >= 2)
    wait_for(lambda: server.is_whole(relays=1))
    for way in WAYS:
        wait_for(lambda way=way: try_to_log_in(server, way) == "+OK")  # type: ignore[misc]
    assert server.one(WORKER) == worker


@pytest.mark.slow
def test_a_tls_worker_without_descriptors_goes_on(servers: Servers, pair: Pair) -> None:
    server = small_server(servers, pair)
    relay = server.one(TLS)
    with ExitStack() as stack:
        inside = []
        for number in range(FEW):
            with suppress(Gone, ConnectionError):
                way = WAYS[1 + number % 2]
                client = stack.enter_context(server.client(way))
                # Logged in, they are nothing to the login worker any more.
                if client.log_in(b"joe", SECRET).startswith(b"+OK"):
                    inside.append(client)
        assert 1 <= len(inside) < FEW // 2
        assert inside[0].ask(b"STAT").startswith(b"+OK 3 ")
        log_in(server)
    for way in WAYS:
        wait_for(lambda way=way: try_to_log_in(server, way) == "+OK")  # type: ignore[misc]
    assert server.one(TLS) == relay


@pytest.mark.slow
@pytest.mark.parametrize("kind", [NURSERY, VERIFIER])
def test_without_descriptors_for_a_login_nobody_is_told_a_wrong_thing(
    servers: Servers, kind: str
) -> None:
    server = servers.start("--verifiers", "1", "-c", "3")
    wait_for(lambda: server.is_whole(verifiers=1))
    log_in(server)  # whoever has to open something at the start has done so
    starved = server.one(kind)
    with no_descriptors(starved):
        seen = {try_to_log_in(server) for _ in range(LOGINS)}
        # A verifier that can't get a client ends, and another takes its place.
        assert "gone" in seen
        assert seen <= {"gone", LATER, *(["+OK"] if kind == VERIFIER else [])}
    wait_for(lambda: try_to_log_in(server) == "+OK")
    # None of them counts any more: the limit is three.
    for _ in range(4):
        log_in(server)


@pytest.mark.slow
def test_a_master_without_descriptors_replaces_who_died_when_it_can(
    servers: Servers, pair: Pair
) -> None:
    server = servers.start("--tls-workers", "1", pair=pair)
    wait_for(lambda: server.is_whole(relays=1))
    with no_descriptors(server.pid):
        log_in(server)
        for kind in (VERIFIER, TLS):
            os.kill(server.one(kind), signal.SIGKILL)
        wait_for(lambda: "unable to start a " in server.errors)
        log_in(server)  # by the verifier that is left
        os.kill(server.one(WORKER), signal.SIGKILL)
        wait_for(lambda: not server.crew(WORKER))
    wait_for(lambda: server.is_whole(relays=1))
    for way in WAYS:
        log_in(server, way)
    assert not tree.zombies(server.pid)
    assert server.stop() == 0


# Processes.


def as_owner(server: Server) -> None:
    """Have a server run as support.OWNER, whose processes can be counted."""
    if IS_ROOT:
        uid, gid = OWNER
        words = [need("setpriv", "util-linux"), "--clear-groups", f"--reuid={uid}"]
        server.prefix(*words, f"--regid={gid}", "--")


def limit_processes(pids: list[int], most: str) -> None:
    """Change the limit on processes, as their owner may."""
    for pid in pids:
        words = [need("prlimit", "util-linux"), f"--pid={pid}", f"--nproc={most}:"]
        ids = OWNER if IS_ROOT else (None, None)
        subprocess.run(words, check=True, user=ids[0], group=ids[1])


@pytest.mark.slow
def test_when_nobody_can_be_forked_who_comes_is_told_to_come_later(
    servers: Servers, village: Village, pair: Pair
) -> None:
    ours = copy(pair, village.room)
    for path in (*ours, village.room):
        os.chown(path, *OWNER)
    server = servers.make("--tls-workers", "1", "-c", "3", pair=ours)
    as_owner(server)
    server.start()
    wait_for(lambda: server.is_whole(relays=1))
    forkers = [server.pid, server.one(NURSERY)]
    limit_processes(forkers, "0")
    assert {try_to_log_in(server, way) for way in WAYS * 3} == {LATER}
    assert "Accept" in server.log
    for kind in (VERIFIER, TLS):
        os.kill(server.one(kind), signal.SIGKILL)
    wait_for(lambda: server.errors.count("unable to start a ") >= 2)
    assert try_to_log_in(server) == LATER  # by the verifier that is left
    os.kill(server.one(WORKER), signal.SIGKILL)
    wait_for(lambda: "unable to start a login worker" in server.errors)
    limit_processes(forkers, "10000")
    wait_for(lambda: server.is_whole(relays=1))
    for way in WAYS * 2:
        log_in(server, way)
    assert not tree.zombies(server.pid)
    assert server.stop() == 0


# The log.


LINE = r"popup: pid \d+ (Accept::AUTH::User .* 'joe'|Info::END::User .* left-octets=-)"
LOST = r"popserver: (\d+) lines of this log were lost"
EOL = "\n"


def test_a_log_on_a_full_device_costs_nobody_his_mail(servers: Servers) -> None:
    server = servers.make()
    server.places[5] = os.open("/dev/full", os.O_WRONLY)
    server.start()
    os.close(server.places[5])
    for _ in range(LOGINS):
        log_in(server)
    assert server.errors == ""


def test_a_log_with_room_again_gets_whole_lines_and_their_number(
    servers: Servers,
) -> None:
    server = servers.make()
    server.limit(f"ulimit -f {MOST_LOG // BLOCK}")
    server.start()
    logins = 0

    def is_full() -> bool:
        nonlocal logins
        log_in(server)
        logins += 1
        return len(server.log) == MOST_LOG

    wait_for(is_full)
    for _ in range(5):
        log_in(server)
    before = server.log
    assert len(before) == MOST_LOG
    os.truncate(server.log_path, 0)
    log_in(server)
    # the ends of sessions are told when they are told
    wait_for(lambda: accounted(before + server.log) >= 2 * (logins + 6))
    check_log(before + server.log, 2 * (logins + 6))


def check_log(text: str, expected: int) -> None:
    """Make sure that each line is whole, but for one, and that none is unaccounted."""
    assert accounted(text) == expected
    lines = text.splitlines()
    assert sum(bool(re.fullmatch(LOST, line)) for line in lines) == 1
    assert sum(not re.fullmatch(LINE, line) for line in lines) <= 2  # one is cut


def accounted(text: str) -> int:
    """Count the lines that are there, whole, and those that are said to be lost."""
    lines = text.splitlines()
    lost = [re.fullmatch(LOST, line) for line in lines]
    number = sum(int(found[1]) for found in lost if found)
    return number + sum(bool(re.fullmatch(LINE, line)) for line in lines)


def test_a_log_nobody_reads_costs_nobody_his_mail(servers: Servers) -> None:
    server = servers.make()
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 8192)
    server.places[5] = writer
    server.start()
    os.close(writer)
    for _ in range(LOGINS):
        log_in(server)
    os.set_blocking(reader, False)
    text = os.read(reader, 65536).decode()
    assert len(text) <= 8192
    log_in(server)

    def is_told() -> bool:
        nonlocal text
        with suppress(BlockingIOError):
            text += os.read(reader, 65536).decode()
        return accounted(text) >= 2 * (LOGINS + 1)

    wait_for(is_told)
    check_log(text, 2 * (LOGINS + 1))
    os.close(reader)
    for _ in range(2):
        log_in(server)  # now there is nobody at the other end at all
    assert server.stop() == 0


# Counters.


@pytest.mark.slow
def test_counters_without_room_stay_as_they_were(
    servers: Servers, village: Village
) -> None:
    path = village.room / "metrics"
    path.write_text("of before")
    server = servers.make("--metrics", str(path))
    server.limit("ulimit -f 1")
    server.start()
    log_in(server)
    wait_for(lambda: "unable to write" in server.errors)
    assert server.stop() == 0
    assert path.read_text() == "of before"
    assert not [entry for entry in village.room.iterdir() if "metrics." in entry.name]
