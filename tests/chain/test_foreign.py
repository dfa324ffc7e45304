# SPDX-License-Identifier: ISC
"""popserver with a chain of others, beside tcpserver; limits, rules, troubles."""

import os
import re
import resource
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from qtools.server.foreign.signals import terminate
from tests.chain.foreign import HOST, NAME, Make, Running, Servers, read_all, script
from tests.conftest import Tools
from tests.support import UNPRIVILEGED, foreign, free_port, need, need_root, wait_for

QUIET = ["-RHl", NAME]  # what every program in the field is started with


@pytest.fixture
def start(tools: Tools, room: Path) -> Iterator[Make]:
    servers = Servers(tools, room)
    yield servers.start
    servers.close()


def tcpserver() -> str:
    return need("tcpserver", "ucspi-tcp")


def without_ports(environment: dict[str, str]) -> dict[str, str]:
    return {
        name: "PORT" if name.endswith("PORT") else value
        for name, value in environment.items()
    }


STALE = {"TCPREMOTEHOST": "stale", "TCPREMOTEINFO": "stale", "UCSPITLS": "kept"}


def test_environment_has_all_that_tcpserver_gives(start: Make) -> None:
    ours = start(*QUIET, env=STALE).environment()
    theirs = start(*QUIET, env=STALE, program=tcpserver()).environment()
    assert without_ports(theirs).items() <= without_ports(ours).items()
    assert {name[:4] for name in set(ours) - set(theirs)} == {"TCP6"}


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_environment_is_that_of_tcpserver_for_ipv6(start: Make, host: str) -> None:
    program = foreign("ucspi-tcp-ipv6", "usr/bin/tcpserver")
    env = {**STALE, "TCP6REMOTEHOST": "stale", "LC_ALL": "C"}
    ours = start(*QUIET, host=host, env=env).environment(host=host)
    theirs = start(*QUIET, host=host, env=env, program=program).environment(host=host)
    assert without_ports(ours) == without_ports(theirs)
    assert ours["TCPREMOTEPORT"] == ours["TCP6REMOTEPORT"] != "0"


def test_without_a_name_of_ours_none_is_told(start: Make) -> None:
    assert "TCPLOCALHOST" not in start("-RH").environment()


def test_a_client_over_both_families_listener_is_ipv4(start: Make) -> None:
    found = start(*QUIET, host="::").environment()
    assert (found["PROTO"], found["TCPREMOTEIP"]) == ("TCP", "127.0.0.1")


DIGITS = re.compile(r"\b\d{2,}\b")


def masked(lines: list[str]) -> list[str]:
    """Replace process numbers and ports."""
    return [DIGITS.sub("N", line.replace("127.0.0.1", "IP")) for line in lines]


def test_lines_are_those_of_tcpserver(start: Make, room: Path) -> None:
    seven = script(room, "seven", "exit 7")
    killed = script(room, "killed", "kill -9 $$")
    lines = []
    for program in ("", tcpserver()):
        servers = [
            start("-v", *QUIET, "--", chain, program=program)
            for chain in (seven, killed)
        ]
        for server in servers:
            server.read()
            server.has("end .*")
            wait_for(lambda: len(server.lines) == 6)  # noqa: B023  # called at once
        lines.append([masked(server.lines) for server in servers])
    assert lines[0] == lines[1]
    assert lines[0][0] == [
        "status: 0/N",
        "status: 1/N",
        "pid N from IP",
        f"ok N {NAME}:IP:N :IP::N",
        "end N status N",
        "status: 0/N",
    ]


def test_lines_only_when_asked_for(start: Make) -> None:
    server = start(*QUIET)
    server.read()
    assert server.stop() == 0
    assert server.lines == []


SHOW = """
import os, signal, socket, sys
there = sorted(int(one) for one in os.listdir("/proc/self/fd"))
open_ones = []
for one in there:
    try: os.fstat(one)
    except OSError: continue
    open_ones.append(one)
same = os.path.sameopenfile(0, 1)
blocked = sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))
status = open("/proc/self/status").read().split()
ignored = status[status.index("SigIgn:") + 1]
print(open_ones, same, os.get_blocking(0), blocked, ignored, flush=True)
"""


def test_descriptors_and_signals_are_those_under_tcpserver(
    start: Make, room: Path
) -> None:
    show = script(room, "show", SHOW, first="#!/usr/bin/python3 -IS\n")
    log = os.open(room / "session", os.O_WRONLY | os.O_CREAT)
    chain = ("--", show)
    seen = [
        start(*QUIET, *chain, program=program, places={5: log, 17: log}).read()
        for program in ("", tcpserver())
    ]
    os.close(log)
    assert seen[0] == seen[1]
    assert seen[0].startswith(b"[0, 1, 2, 5, 17] True True [] ")


def test_nagle_is_up_to_the_option(start: Make, room: Path) -> None:
    lines = (
        "import socket",
        "s = socket.socket(fileno=0)",
        "print(s.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), flush=True)",
    )
    show = script(room, "nagle", *lines, first="#!/usr/bin/python3 -IS\n")
    options = ((), ("-D",), ("-D", "-d"))
    seen = [start(*QUIET, *words, "--", show).read() for words in options]
    assert seen == [b"0\n", b"1\n", b"0\n"]


def test_octets_go_both_ways_and_the_end_is_seen(start: Make) -> None:
    server = start("--", "cat")
    data = bytes(range(256)) * 1000
    with server.connect() as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == data


def test_a_banner_comes_first_as_it_is(start: Make) -> None:
    assert start("-B", "hello\r\n", "--", "echo", "you").read() == b"hello\r\nyou\n"


def test_the_port_is_printed(start: Make) -> None:
    port = start().port
    assert 0 < port < 65536


# Programs that can't be run


def test_a_program_that_is_missing_costs_a_connection_111(start: Make) -> None:
    server = start("-v", "--", "./no-such-program")
    assert server.read() == b""
    server.has(r"end \d+ status 28416")
    server.has(r"warning: dropping connection, unable to run \./no-such-program: .*")
    assert server.read() == b""


def test_a_program_may_be_replaced_and_missing_meanwhile(
    start: Make, room: Path
) -> None:
    path = script(room, "changing", "echo before")
    server = start("--", "changing", env={"PATH": f"{room}:/usr/bin:/bin"})
    assert server.read() == b"before\n"
    os.unlink(path)
    assert server.read() == b""
    server.has("warning: dropping connection, unable to run changing: .*")
    script(room, "changing", "echo now")
    assert server.read() == b"now\n"


def test_a_script_that_names_no_shell_is_run_by_one(start: Make, room: Path) -> None:
    assert start("--", script(room, "plain", "echo sh", first="")).read() == b"sh\n"


# Limits


def test_at_the_limit_nobody_is_accepted_until_one_has_ended(start: Make) -> None:
    server = start("-v", "-c", "1", "-B", "in", "--", "cat")
    with server.connect() as first, server.connect() as second:
        assert first.recv(2) == b"in"
        second.setblocking(False)
        with pytest.raises(BlockingIOError):
            second.recv(2)
        first.close()
        second.settimeout(30)
        assert second.recv(2) == b"in"
    assert "status: 2/1" not in server.lines


def test_at_the_limit_words_are_said_if_there_are_any(start: Make) -> None:
    server = start("-c", "1", "--refuse", "-ERR [SYS/TEMP] too busy", "--", "cat")
    with server.connect() as first:
        first.sendall(b"x")
        assert first.recv(1) == b"x"
        for _ in range(3):
            assert server.read(b"unread") == b"-ERR [SYS/TEMP] too busy\r\n"
    assert server.lines == ["refused 127.0.0.1: too many connections"]
    wait_for(lambda: not server.children())
    with server.connect() as again:
        again.sendall(b"y")
        assert again.recv(1) == b"y"


def test_each_source_has_its_limit(start: Make) -> None:
    server = start("-v", "--per-source", "1", "--", "cat")
    with server.connect() as first:
        first.sendall(b"x")
        assert first.recv(1) == b"x"
        assert server.read() == b""
        server.has(r"refused 127\.0\.0\.1: too many connections from it")
        with socket.create_connection(
            (HOST, server.port), source_address=("127.0.0.2", 0)
        ) as other:
            other.sendall(b"y")
            assert other.recv(1) == b"y"
    wait_for(lambda: server.lines[-1] == "status: 0/40")
    with server.connect() as again:
        again.sendall(b"z")
        assert again.recv(1) == b"z"


def test_a_short_connection_counts_for_a_while(start: Make) -> None:
    server = start("-v", "--per-source", "1", "--min-delay", "3600", "--", "true")
    server.read()
    server.has("end .*")
    server.read()
    server.has(r"refused .* from it")


# Rules


def rules(room: Path, *lines: str) -> str:
    """Compile rules, as the administrator does while the server runs."""
    text = "".join(line + "\n" for line in lines)
    words = [need("tcprules", "ucspi-tcp"), "rules.cdb", "rules.tmp"]
    subprocess.run(words, input=text, text=True, cwd=room, check=True)
    return str(room / "rules.cdb")


def test_rules_let_in_with_variables(start: Make, room: Path) -> None:
    path = rules(room, '127.0.0.1:allow,A="x",UCSPITLS="",TCPLOCALHOST="y"', ":deny")
    found = start(*QUIET, "-x", path).environment()
    assert (found["A"], found["UCSPITLS"], found["TCPLOCALHOST"]) == ("x", "", "y")


def test_who_is_denied_gets_nothing(start: Make, room: Path) -> None:
    path = rules(room, ":deny")
    server = start("-v", *QUIET, "-x", path, "--", "touch", str(room / "run"))
    assert server.read() == b""
    server.has(rf"deny \d+ {NAME}:127\.0\.0\.1:\d+ :127\.0\.0\.1::\d+")
    server.has(r"end \d+ status 25600")
    assert not (room / "run").exists()


def test_rules_are_read_anew_for_each_connection(start: Make, room: Path) -> None:
    server = start("-x", rules(room, ":deny"))
    assert server.environment() == {}
    rules(room, ':allow,NOW="yes"')
    assert server.environment()["NOW"] == "yes"


def test_missing_rules_keep_everybody_out_but_for_x(start: Make, room: Path) -> None:
    path = str(room / "rules.cdb")
    server = start("-v", "-x", path)
    assert server.read() == b""
    server.has(rf"warning: dropping connection, unable to read {path}: .*")
    server.has(r"end \d+ status 28416")
    assert start("-X", "-x", path).read() != b""


def test_damaged_rules_keep_everybody_out(start: Make, room: Path) -> None:
    path = room / "rules.cdb"
    path.write_bytes(b"\xff" * 3000)
    for words in (("-x", str(path)), ("-X", "-x", str(path))):
        server = start("-v", *words)
        assert server.read() == b""
        server.has(r"end \d+ status 28416")


# Names


def test_the_clients_name_is_looked_up_only_when_asked_for(start: Make) -> None:
    name = socket.getnameinfo((HOST, 0), 0)[0]
    if name == HOST:
        pytest.skip("needs a name for 127.0.0.1 in /etc/hosts")
    for words in (["-h"], ["-h", "-p"]):
        found = start(*words).environment()
        assert found["TCPREMOTEHOST"] == found["TCP6REMOTEHOST"] == name.lower()
    assert "TCPREMOTEHOST" not in start("-p").environment()
    assert "TCPREMOTEHOST" not in start("-h", "-H").environment()


# The PROXY header

TEXT = b"PROXY TCP4 192.0.2.7 198.51.100.1 4321 110\r\n"
BINARY = b"\r\n\r\n\0\r\nQUIT\n!\x11\0\x0c" + bytes(
    (192, 0, 2, 7, 198, 51, 100, 1, 0x10, 0xE1, 0, 110)
)
FROM = ("--proxy-from", "127.0.0.0/8")


@pytest.mark.parametrize("header", [TEXT, BINARY])
def test_a_proxy_tells_who_the_client_is(
    start: Make, room: Path, header: bytes
) -> None:
    path = rules(room, '192.0.2.7:allow,SEEN="yes"', ":deny")
    server = start("-v", *QUIET, *FROM, "-x", path)
    found = server.environment(header)
    assert found["SEEN"] == "yes"
    assert found["TCPREMOTEIP"] == "192.0.2.7"
    assert found["TCP6REMOTEIP"] == "::ffff:192.0.2.7"
    assert (found["TCPLOCALIP"], found["TCPLOCALPORT"]) == ("198.51.100.1", "110")
    server.has(r"pid \d+ from 192\.0\.2\.7")
    server.has(rf"ok \d+ {NAME}:198\.51\.100\.1:110 :192\.0\.2\.7::4321")


def test_what_follows_the_header_is_the_programs(start: Make) -> None:
    server = start(*FROM, "--", "cat")
    with server.connect() as client:
        for part in (TEXT[:9], TEXT[9:] + b"US", b"ER joe\r\n"):
            client.sendall(part)
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"USER joe\r\n"


@pytest.mark.parametrize("sent", [b"USER joe\r\n", b"PROXY TCP4 x\r\n", b"\r\n\r\n\0x"])
def test_without_a_header_a_proxy_gets_nothing(
    start: Make, room: Path, sent: bytes
) -> None:
    server = start("-v", *FROM, "--", "touch", str(room / "run"))
    assert server.read(sent) == b""
    server.has("warning: dropping connection, malformed PROXY header")
    server.has(r"end \d+ status 28416")
    assert not (room / "run").exists()


def test_a_header_that_stops_halfway_is_none(start: Make) -> None:
    server = start(*FROM)
    with server.connect() as client:
        client.sendall(TEXT[:20])
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b""
    server.has("warning: dropping connection, no PROXY header before the end")


def test_who_is_no_proxy_is_not_believed(start: Make) -> None:
    server = start("--proxy-from", "192.0.2.0/24", "--", "cat")
    with server.connect() as client:
        client.sendall(TEXT)
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == TEXT


def test_a_proxys_clients_count_for_no_source(start: Make) -> None:
    server = start(*FROM, "--per-source", "1", "--", "cat")
    clients = [server.connect() for _ in range(3)]
    for client in clients:
        client.sendall(TEXT + b"x")
        assert client.recv(1) == b"x"
        client.close()


def test_a_proxy_tells_of_tls(start: Make) -> None:
    values = b"\x01" + bytes(4) + b"\x21\0\x07TLSv1.3" + b"\x23\0\x03AES"
    block = BINARY[16:] + b"\x02\0\x05a.net" + b"\x20\0%c" % len(values) + values
    found = start(*FROM).environment(BINARY[:15] + b"%c" % len(block) + block)
    assert found["SSL_PROTOCOL"] == "TLSv1.3"
    assert found["SSL_CIPHER"] == "AES"
    assert found["SSL_TLS_SNI_SERVERNAME"] == "a.net"


# A UNIX socket


@pytest.mark.parametrize("own", ["", "\0abstract", "192.0.2.7"])
def test_a_unix_socket_serves_as_well(
    start: Make, room: Path, monkeypatch: pytest.MonkeyPatch, own: str
) -> None:
    monkeypatch.chdir(room)  # a client can call his end whatever he likes
    path = room / "socket"
    start("--listen", f"unix:{path}", "--proxy-from", "192.0.2.7")
    with socket.socket(socket.AF_UNIX) as client:
        if own:
            client.bind(own + room.name if own[0] == "\0" else own)
        client.settimeout(30)
        client.connect(str(path))
        said = read_all(client).split(b"\0")
    assert b"PROTO=UNIX" in said
    assert b"UNIXLOCALPATH=%b" % os.fsencode(path) in said
    assert not any(each.startswith(b"TCP") for each in said)


# The end, and troubles


def test_a_drain_waits_for_what_runs(start: Make) -> None:
    server = start("-v", "--", "cat")
    with server.connect() as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        server.signal(signal.SIGTERM)
        wait_for(lambda: is_refused(server.port) or None)
        client.sendall(b"y")
        assert client.recv(1) == b"y"
    assert server.end() == 0
    server.has("end .*")


def is_refused(port: int) -> bool:
    """Tell whether nobody listens; one who was let in meanwhile is reset."""
    try:
        with suppress(ConnectionResetError):
            socket.create_connection((HOST, port)).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize(("words", "repeats"), [(("--drain", "0"), 0), ((), 1)])
def test_a_drain_without_patience_ends_what_runs(
    start: Make, words: tuple[str, ...], repeats: int
) -> None:
    server = start("-v", *words, "--", "cat")
    with server.connect() as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        server.signal(signal.SIGTERM)
        wait_for(lambda: is_refused(server.port) or None)
        for _ in range(repeats):
            server.signal(signal.SIGTERM)
        assert read_all(client) == b""
    assert server.end() == 0
    server.has(r"end \d+ status 15")


def test_a_hangup_is_no_end(start: Make) -> None:
    server = start("-v", "--", "echo", "here")
    server.has("status: 0/40")
    server.signal(signal.SIGHUP)
    assert server.read() == b"here\n"
    assert server.stop() == 0


# New settings


class Words:
    """An options file, and the server that goes by it."""

    def __init__(self, start: Make, room: Path) -> None:
        self._start, self.path = start, room / "options"

    def start(self, text: str, *words: str) -> Running:
        self.path.write_text(text, encoding="ascii")
        self.server = self._start("-v", f"--config={self.path}", *words)
        self.server.has(r"status: 0/\d+")
        return self.server

    def change(self, text: str) -> None:
        self.path.write_text(text, encoding="ascii")
        self.server.signal(signal.SIGHUP)


@pytest.fixture
def words(start: Make, room: Path) -> Words:
    return Words(start, room)


def test_a_hangup_has_settings_read_anew(words: Words) -> None:
    server = words.start("banner one", "--", "true")
    assert server.read() == b"one"
    port = free_port()
    words.change(f"banner two\nlisten {HOST}:{port}\nconcurrency 7")
    wait_for(lambda: server.read() == b"two")
    with server.connect(port) as client:
        assert read_all(client) == b"two"
    server.has("status: 0/7")
    words.change("banner three")
    wait_for(lambda: is_refused(port))
    assert server.read() == b"three"


@pytest.mark.parametrize(
    "text", ["no such option", "concurrency many", "implicit-tls", "listen nowhere:x"]
)
def test_settings_that_can_not_be_leave_the_old_ones(words: Words, text: str) -> None:
    server = words.start("banner one", "--", "true")
    words.change(f"banner two\n{text}")
    server.has("not reloaded: .*")
    assert server.read() == b"one"
    words.change("banner three")
    wait_for(lambda: server.read() == b"three")


def test_new_limits_hold_for_who_is_there(words: Words) -> None:
    server = words.start("per-source 2\nbanner one", "--", "cat")
    with server.connect() as first:
        assert first.recv(3) == b"one"
        words.change("per-source 1\nrefuse no\nbanner two\nconcurrency 7")
        server.has("status: 1/7")
        assert server.read() == b"no\r\n"
        first.sendall(b"x")
        assert first.recv(1) == b"x"
    server.has(r"end \d+ .*")
    with server.connect() as again:
        assert again.recv(3) == b"two"


def test_options_of_our_own_chain_are_warned_of(start: Make, room: Path) -> None:
    words = ("--metrics", str(room / "metrics"), "--journal")
    server = start(*words, "--", "true")
    server.read()
    heads = [line.partition(" has")[0] for line in server.lines]
    assert heads == ["--metrics", "--journal"]
    quiet = start("-q", *words, "--", "true")
    quiet.read()
    assert quiet.lines == []


def test_no_listener_is_left_of_settings_that_can_not_be(words: Words) -> None:
    server = words.start("banner one", "--", "true")
    port = free_port()
    for _ in range(2):
        before = len(server.lines)
        words.change(f"implicit-tls\nlisten {HOST}:{port}")
        wait_for(lambda: len(server.lines) > before)  # noqa: B023  # called at once
        assert (
            server.lines[-1] == "not reloaded: a listener with TLS needs --certificate"
        )
        assert is_refused(port)


# What the service manager hears


def test_a_manager_hears_of_each_state(words: Words, room: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(room / "notify"))
        manager.settimeout(30)
        words.path.write_text("", encoding="ascii")
        env = {"NOTIFY_SOCKET": str(room / "notify")}
        server = words._start(f"--config={words.path}", "--", "true", env=env)
        assert manager.recv(99) == b"READY=1"
        server.signal(signal.SIGHUP)
        assert manager.recv(99).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert manager.recv(99) == b"READY=1"
        assert server.stop() == 0
        assert manager.recv(99) == b"STOPPING=1"


def test_a_supervisor_gets_one_line(start: Make) -> None:
    reader, writer = os.pipe()
    server = start("--notify-fd", "9", "--", "echo", "here", places={9: writer})
    os.close(writer)
    with open(reader, "rb") as told:
        assert told.read() == b"\n"  # and it is closed
        assert server.read() == b"here\n"


def test_the_server_lets_go_of_0_and_1(start: Make) -> None:
    server = start("-v", "--", "true")
    server.has("status: 0/40")
    places = [os.readlink(f"/proc/{server.pid}/fd/{number}") for number in (0, 1)]
    assert places == ["/dev/null", "/dev/null"]


def test_nothing_is_left_of_what_has_ended(start: Make) -> None:
    server = start("--", "true")
    for _ in range(20):
        server.read()
    wait_for(lambda: not server.children())


def limits(server: Running, which: int, soft: int) -> None:
    _, hard = resource.prlimit(server.pid, which)
    resource.prlimit(server.pid, which, (soft, hard))


def processor_ticks(pid: int) -> int:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(words[11]) + int(words[12])


def test_without_descriptors_the_server_waits_and_says_so_once(start: Make) -> None:
    server = start("-v", "--", "echo", "here")
    server.has("status: 0/40")
    open_ones = len(os.listdir(f"/proc/{server.pid}/fd"))
    before = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)[0]
    limits(server, resource.RLIMIT_NOFILE, open_ones)
    ticks = processor_ticks(server.pid)
    with server.connect() as client:
        server.has("unable to accept: Too many open files")
        client.settimeout(0.35)  # some tries later
        with pytest.raises(TimeoutError):
            client.recv(1)
        assert processor_ticks(server.pid) - ticks < 5
        limits(server, resource.RLIMIT_NOFILE, before)
        client.settimeout(30)
        assert client.recv(5) == b"here\n"
    assert len([line for line in server.lines if line.startswith("unable")]) == 1


def test_without_processes_a_connection_is_closed_and_the_next_served(
    start: Make,
) -> None:
    need_root()  # it takes a user of whom nothing else runs
    uid, gid = str(UNPRIVILEGED[0] + 7), str(UNPRIVILEGED[1])
    before = resource.getrlimit(resource.RLIMIT_NPROC)
    resource.setrlimit(resource.RLIMIT_NPROC, (2, before[1]))
    try:
        server = start("-v", "-u", uid, "-g", gid, "--", "cat")
    finally:
        resource.setrlimit(resource.RLIMIT_NPROC, before)
    with server.connect() as first:
        first.sendall(b"x")
        assert first.recv(1) == b"x"
        assert server.read() == b""
        server.has("warning: dropping connection, unable to fork: .*")
    wait_for(lambda: server.lines[-1] == "status: 0/40")
    with server.connect() as again:
        again.sendall(b"y")
        assert again.recv(1) == b"y"


def test_a_log_that_is_gone_or_full_costs_no_connection(start: Make) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    full = os.open("/dev/full", os.O_WRONLY)
    for log in (writer, full):
        server = start("-v", "--", "echo", "here", places={2: log})
        os.close(log)
        for _ in range(2):
            assert server.read() == b"here\n"
        assert server.stop() == 0


def test_a_log_that_nobody_reads_stops_nothing(start: Make) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    server = start("-v", "--", "echo", "here", places={2: writer})
    with suppress(BlockingIOError):
        while os.write(writer, b"x" * 512):
            pass
    os.set_blocking(writer, True)  # which is the server's as well
    os.close(writer)
    for _ in range(2):
        assert server.read() == b"here\n"
    assert server.stop() == 0
    os.close(reader)


def test_a_client_that_goes_at_once_is_no_trouble(start: Make) -> None:
    server = start("-v", "--", "echo", "here")
    for _ in range(5):
        with socket.create_connection((HOST, server.port)) as client:
            linger = b"\1\0\0\0\0\0\0\0"
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    assert server.read() == b"here\n"


def test_the_whole_server_becomes_another_user(start: Make) -> None:
    need_root()
    uid, gid = map(str, UNPRIVILEGED)
    said = start("-u", uid, "-g", gid, "--", "id").read().decode()
    assert said.startswith(f"uid={uid} gid={gid}")
    assert "root" not in said


def test_the_user_may_be_told_by_variables(start: Make) -> None:
    need_root()
    uid, gid = map(str, UNPRIVILEGED)
    said = start("-U", "--", "id", env={"UID": uid, "GID": gid}).read().decode()
    assert said.startswith(f"uid={uid} gid={gid}")


def test_a_user_that_variables_do_not_tell_is_hard(tools: Tools) -> None:
    words = [str(tools.bin / "popserver"), "-U", HOST, "0", "true"]
    environ = tools.environment(UID="1", GID="")
    made = subprocess.run(words, capture_output=True, check=False, env=environ)
    assert made.returncode == 100
    assert b"gid" in made.stderr


def test_a_program_that_became_another_user_is_not_asked_to_end() -> None:
    need_root()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            os.setresuid(*UNPRIVILEGED[:1] * 3)
            terminate(os.getppid())
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


def test_a_port_in_use_is_temporary(tools: Tools) -> None:
    with socket.create_server((HOST, 0)) as held:
        words = [str(tools.bin / "popserver"), HOST, str(held.getsockname()[1]), "true"]
        made = subprocess.run(words, capture_output=True, check=False)
    assert made.returncode == 111
    assert b"unable to bind" in made.stderr


def test_a_tls_listener_needs_a_certificate(tools: Tools) -> None:
    port = str(free_port())
    words = [str(tools.bin / "popserver"), "--implicit-tls", HOST, port, "true"]
    made = subprocess.run(words, capture_output=True, check=False, text=True)
    assert made.returncode == 100
    assert "certificate" in made.stderr


# Our own programs behind it


@pytest.mark.parametrize("env", [{}, {"QTOOLS_EXEC": "1"}], ids=["called", "executed"])
def test_our_popup_runs_behind_it(start: Make, env: dict[str, str]) -> None:
    server = start(*QUIET, "--", "popup", "mx.example", "false", env=env)
    assert server.read(b"NOOP\r\nQUIT\r\n") == b"+OK\r\n+OK \r\n+OK \r\n"
    wait_for(lambda: not server.children())
