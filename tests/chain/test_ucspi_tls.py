# SPDX-License-Identifier: ISC
"""TLS in front of a chain of others: at once, or when the program asks for it."""

import hashlib
import os
import poplib
import re
import resource
import select
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any, cast

import pytest

from qtools.errors import Temporary
from qtools.server.foreign import tls
from qtools.server.tls.common import Limits
from qtools.server.tls.connection import ServerContext
from qtools.server.tls.worker import confirm, launch
from qtools.system.ucspi import TlsControl, TlsFailed
from tests.chain.foreign import HOST, NAME, Make, Running, Servers, read_all, script
from tests.chain.tls import Certificate, make_certificate
from tests.conftest import Tools
from tests.support import UNPRIVILEGED, need, need_root, wait_for

QUIET = ["-RHl", NAME]
DESCRIPTORS = ("SSLCTLFD", "SSLREADFD", "SSLWRITEFD")


@pytest.fixture(scope="module")
def certificate(session_room: Path) -> Certificate:
    folder = session_room / "ucspi"
    folder.mkdir()
    return make_certificate(folder)


@pytest.fixture
def start(tools: Tools, room: Path, certificate: Certificate) -> Iterator[Make]:
    """Give what starts popserver with a copy of the certificate and one TLS worker."""
    servers = Servers(tools, room)
    for path in certificate:
        shutil.copy(path, room)
    words = ["--certificate", str(room / certificate.certificate.name)]
    words += ["--key", str(room / certificate.key.name), "--tls-workers", "1"]

    def make(*more: str, env: dict[str, str] | None = None) -> Running:
        return servers.start(*words, *more, env=env)

    yield make
    servers.close()


@pytest.fixture
def client_context(certificate: Certificate) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificate.certificate)


def connect_tls(server: Running, context: ssl.SSLContext) -> ssl.SSLSocket:
    return context.wrap_socket(server.connect(), server_hostname="mx.example")


def read_tls(server: Running, context: ssl.SSLContext) -> bytes:
    """Read all that comes inside TLS; it must end in order."""
    raw = server.connect()
    with context.wrap_socket(
        raw, server_hostname="mx.example", suppress_ragged_eofs=False
    ) as client:
        return read_all(client)


def environment_in(text: bytes) -> dict[str, str]:
    pairs = text.decode().split("\0")
    return dict(each.split("=", 1) for each in pairs if each)


# TLS at once


def test_a_tls_listener_gives_the_program_cleartext(
    start: Make, client_context: ssl.SSLContext
) -> None:
    server = start("--implicit-tls", "--", "cat")
    with connect_tls(server, client_context) as client:
        for data in (b"x", bytes(range(256)) * 500):
            client.sendall(data)
            seen = b""
            while len(seen) < len(data):
                seen += client.recv(65536)
            assert seen == data


def test_a_second_listener_may_speak_tls(
    start: Make, room: Path, client_context: ssl.SSLContext
) -> None:
    path = room / "socket"
    server = start("--listen", f"tls:unix:{path}", "--", "echo", "here")
    assert server.read() == b"here\n"
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(str(path))
        with client_context.wrap_socket(raw, server_hostname="mx.example") as client:
            assert read_all(client) == b"here\n"


def test_inside_tls_sslservers_names_are_set_too(
    start: Make, client_context: ssl.SSLContext
) -> None:
    stale = {"SSLREMOTEHOST": "stale", "SSLCTLFD": "0", "SSLREADFD": "0"}
    server = start("--implicit-tls", *QUIET, env=stale)
    found = environment_in(read_tls(server, client_context))
    assert found["PROTO"] == "TCP"
    for side in ("LOCALIP", "LOCALPORT", "LOCALHOST", "REMOTEIP", "REMOTEPORT"):
        assert found["SSL" + side] == found["TCP" + side]
    assert not {"SSLREMOTEHOST", *DESCRIPTORS} & set(found)
    told = {name for name in found if name.startswith("SSL_")}
    assert told == {"SSL_SERVER_END_POINT"}


def test_a_program_inside_tls_knows_what_a_login_can_be_bound_to(
    start: Make, client_context: ssl.SSLContext
) -> None:
    server = start("--implicit-tls", *QUIET, env={"SSL_SERVER_END_POINT": "stale"})
    with connect_tls(server, client_context) as client:
        certificate = client.getpeercert(binary_form=True) or b""
        found = environment_in(read_all(client))
    expected = hashlib.sha256(certificate).hexdigest()
    assert found["SSL_SERVER_END_POINT"] == expected


def test_the_program_is_told_of_tls_when_asked_for(
    start: Make, client_context: ssl.SSLContext
) -> None:
    server = start("-s", *QUIET)
    with connect_tls(server, client_context) as client:
        cipher = client.cipher()
        found = environment_in(read_all(client))
    assert cipher
    assert found["SSL_PROTOCOL"] == "TLSv1.3"
    assert found["SSL_CIPHER"] == cipher[0]
    assert found["SSL_SERVER_S_DN_CN"] == "mx.example"
    assert found["SSL_TLS_SNI_SERVERNAME"] == "mx.example"
    assert "BEGIN CERTIFICATE" in found["SSL_SERVER_CERT"]
    assert not set(DESCRIPTORS) & set(found)


def test_without_a_handshake_the_program_is_not_run(start: Make, room: Path) -> None:
    server = start("-v", "--implicit-tls", "--", "touch", str(room / "run"))
    assert b"POP3" not in server.read(b"USER joe\r\n")
    server.has(r"warning: dropping connection, TLS handshake failed with 127\.0\.0\.1")
    server.has(r"end \d+ status 28416")
    assert not (room / "run").exists()


def test_a_banner_is_inside_tls(start: Make, client_context: ssl.SSLContext) -> None:
    server = start("--implicit-tls", "-B", "hello\r\n", "--", "echo", "you")
    assert read_tls(server, client_context) == b"hello\r\nyou\n"


def test_rules_come_before_tls(
    start: Make, room: Path, client_context: ssl.SSLContext
) -> None:
    words = [need("tcprules", "ucspi-tcp"), "rules.cdb", "rules.tmp"]
    subprocess.run(words, input=b":deny\n", cwd=room, check=True)
    server = start("-v", "--implicit-tls", "-x", str(room / "rules.cdb"))
    with pytest.raises(OSError, match=r"reset|EOF|closed"):
        connect_tls(server, client_context)
    server.has(r"deny .*")


def test_a_proxys_header_stands_before_tls(
    start: Make, client_context: ssl.SSLContext
) -> None:
    server = start("--implicit-tls", "--proxy-from", "127.0.0.1")
    raw = server.connect()
    raw.sendall(b"PROXY TCP4 192.0.2.7 198.51.100.1 4321 995\r\n")
    with client_context.wrap_socket(raw, server_hostname="mx.example") as client:
        found = environment_in(read_all(client))
    assert (found["TCPREMOTEIP"], found["SSLREMOTEIP"]) == ("192.0.2.7",) * 2


def test_whom_a_limit_keeps_out_hears_nothing_in_clear(
    start: Make, client_context: ssl.SSLContext
) -> None:
    server = start("-c", "1", "--refuse", "busy", "--implicit-tls", "--", "cat")
    with connect_tls(server, client_context) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        assert server.read() == b""


class Sink:
    """Stands for TLS workers that take a connection and say nothing."""

    def send(self, _serial: int, _descriptors: list[int]) -> bool:
        return True


def test_a_handshake_may_take_as_long_as_the_settings_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[float] = []

    def start(control: TlsControl, seconds: float) -> None:
        asked.append(seconds)
        for descriptor in {control.control, control.read, control.write}:
            os.close(descriptor)
        raise TlsFailed

    monkeypatch.setattr(TlsControl, "start", start)
    client, far = socket.socketpair()
    with far, pytest.raises(TlsFailed):
        tls.at_once(cast("Any", Sink()), 1, client, 100)
    assert asked[0] > 100


# TLS when the program asks for it


def test_the_program_finds_the_descriptors(start: Make) -> None:
    found = start("-n", *QUIET).environment()
    numbers = [int(found[name]) for name in DESCRIPTORS]
    assert len(set(numbers)) == 3
    assert min(numbers) >= 10
    assert found["UCSPITLS"] == ""
    assert found["SSLREMOTEIP"] == found["TCPREMOTEIP"]


def test_who_has_said_something_of_ucspitls_is_left_alone(
    start: Make, room: Path
) -> None:
    assert start("-n", env={"UCSPITLS": "!"}).environment()["UCSPITLS"] == "!"
    words = [need("tcprules", "ucspi-tcp"), "rules.cdb", "rules.tmp"]
    rule = b':allow,UCSPITLS="-"\n'
    subprocess.run(words, input=rule, cwd=room, check=True)
    found = start("-n", "-x", str(room / "rules.cdb")).environment()
    assert found["UCSPITLS"] == "-"


def test_without_an_option_there_is_no_tls(start: Make) -> None:
    server = start()
    found = server.environment()
    assert not {name for name in found if name.startswith(("SSL", "UCSPI"))}
    server.has("a certificate, and no TLS: .*")


def test_without_a_certificate_there_is_no_tls(tools: Tools, room: Path) -> None:
    servers = Servers(tools, room)
    stale = dict.fromkeys(DESCRIPTORS, "0")
    server = servers.start("-n", "-s", env=stale)
    found = server.environment()
    servers.close()
    assert server.lines == ["no TLS: -n and -s need --certificate"]
    assert not {*DESCRIPTORS, "UCSPITLS"} & set(found)


def test_who_never_asks_is_served_in_clear_to_the_end(start: Make) -> None:
    server = start("-n", "--", "cat")
    with server.connect() as client:
        for data in (b"x", b"y" * 100_000):
            client.sendall(data)
            seen = b""
            while len(seen) < len(data):
                seen += client.recv(65536)
            assert seen == data
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b""  # nobody else keeps it open


def test_the_client_is_a_blocking_socket_until_tls(start: Make, room: Path) -> None:
    show = script(
        room,
        "show",
        "import os",
        "print(os.get_blocking(0), flush=True)",
        first="#!/usr/bin/python3 -IS\n",
    )
    assert start("-n", "--", show).read() == b"True\n"


ASK = """
import os
names = ("SSLCTLFD", "SSLREADFD", "SSLWRITEFD")
control, read, write = (int(os.environ[name]) for name in names)
os.read(0, 1)
os.write(control, WORD)
told = b""
while part := os.read(control, 65536):
    told += part
os.write(write, b"[" + os.read(read, 100) + b"]" + told)
"""


@pytest.mark.parametrize("word", [b"y", b"Y"])
def test_both_words_of_the_control_socket(
    start: Make, room: Path, client_context: ssl.SSLContext, word: bytes
) -> None:
    text = ASK.replace("WORD", repr(word))
    ask = script(room, "ask", text, first="#!/usr/bin/python3 -IS\n")
    server = start("-n", "--", ask)
    raw = server.connect()
    raw.sendall(b"!")
    with client_context.wrap_socket(raw, server_hostname="mx.example") as client:
        client.sendall(b"hello")
        said = read_all(client)
    assert said.startswith(b"[hello]")
    if word == b"y":
        assert said == b"[hello]"
    else:
        assert b"SSL_PROTOCOL=TLSv1.3\0" in said
        assert said.endswith(b"\0\0")


def test_what_no_word_is_ends_the_connection_without_tls(
    start: Make, room: Path
) -> None:
    text = ASK.replace("WORD", repr(b"n"))
    ask = script(room, "ask", text, first="#!/usr/bin/python3 -IS\n")
    assert start("-n", "--", ask).read(b"!") == b""


@pytest.mark.parametrize("env", [{}, {"QTOOLS_EXEC": "1"}], ids=["called", "executed"])
def test_our_popup_starts_tls(
    start: Make, client_context: ssl.SSLContext, env: dict[str, str]
) -> None:
    server = start("-n", *QUIET, "--", "popup", "mx.example", "false", env=env)
    client = poplib.POP3(HOST, server.port, timeout=30)
    client.host = "mx.example"
    assert "STLS" in client.capa()
    client.stls(client_context)
    assert "STLS" not in client.capa()
    client.quit()
    wait_for(lambda: len(server.children()) == 1)  # the TLS worker


def test_our_popup_knows_that_tls_is_on(
    start: Make, client_context: ssl.SSLContext
) -> None:
    words = ("popup", "mx.example", "false")
    server = start("-s", "--implicit-tls", "--", *words)
    with connect_tls(server, client_context) as client:
        client.sendall(b"CAPA\r\nSTLS\r\nQUIT\r\n")
        said = read_all(client)
    assert b"STLS\r\n" not in said
    assert said.startswith(b"+OK")
    assert said.endswith(b"+OK \r\n")


def test_what_is_pipelined_behind_stls_is_not_obeyed(start: Make, room: Path) -> None:
    words = ("popup", "mx.example", "touch", str(room / "run"))
    server = start("-n", "--", *words)
    with server.connect() as raw:
        raw.sendall(b"STLS\r\nUSER joe\r\nPASS x\r\n")
        said = read_all(raw)
    assert b"\r\n+OK starting TLS negotiation\r\n" in said
    assert said.count(b"+OK") == 2
    assert not (room / "run").exists()


# Workers


def test_a_worker_that_does_not_get_ready_is_not_waited_for() -> None:
    def load() -> ServerContext:
        select.select([], [], [])
        raise AssertionError

    process = launch(load, "nobody", Limits())
    with pytest.raises(Temporary, match="not ready in time"):
        confirm(process, monotonic())
    assert not Path(f"/proc/{process.pid}").exists()


def workers(server: Running) -> list[int]:
    return server.children()


def test_a_worker_has_given_up_everything(start: Make) -> None:
    need_root()
    server = start("-v")
    server.has("status: 0/40")
    (worker,) = workers(server)
    status = Path(f"/proc/{worker}/status").read_text()
    ids = re.findall(r"^[UG]id:\s+(.*)$", status, re.MULTILINE)
    assert len(ids) == 2
    assert all("0" not in line.split() for line in ids)
    assert re.search(r"^Groups:\s*$", status, re.MULTILINE)
    assert os.listdir(f"/proc/{worker}/root") == []


def core_octets(pid: int) -> str:
    text = Path(f"/proc/{pid}/limits").read_text()
    found = re.search(r"^Max core file size +(\w+)", text, re.MULTILINE)
    assert found
    return found[1]


def test_a_worker_leaves_no_core(start: Make) -> None:
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    try:
        server = start("-v")
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)
    server.has("status: 0/40")
    (worker,) = workers(server)
    assert core_octets(worker) == "0"


def test_a_worker_has_nothing_of_the_starters(start: Make) -> None:
    server = start("-v")
    server.has("status: 0/40")
    (worker,) = workers(server)
    folder = Path(f"/proc/{worker}/fd")
    places = {int(p.name): os.readlink(p) for p in folder.iterdir()}
    assert places[0] == places[1] == "/dev/null"
    own = [place for number, place in places.items() if number > 2]
    assert [place for place in own if not place.startswith(("socket:", "anon"))] == []
    listening = Path("/proc/net/tcp").read_text()
    row = next(r for r in listening.splitlines() if f":{server.port:04X} " in r)
    assert f"socket:[{row.split()[9]}]" not in own


def test_a_worker_that_dies_is_replaced(
    start: Make, client_context: ssl.SSLContext
) -> None:
    server = start("-v", "--implicit-tls", "--", "echo", "here")
    server.has("status: 0/40")
    (worker,) = workers(server)
    os.kill(worker, signal.SIGKILL)
    server.has("a TLS worker died; another takes its place")
    wait_for(lambda: workers(server) not in ([], [worker]))
    assert read_tls(server, client_context) == b"here\n"


def test_workers_are_deaf_to_what_the_server_is_told(
    start: Make, client_context: ssl.SSLContext
) -> None:
    server = start("-v", "--implicit-tls", "--", "echo", "here")
    server.has("status: 0/40")
    (worker,) = workers(server)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        os.kill(worker, number)
    assert read_tls(server, client_context) == b"here\n"
    wait_for(lambda: workers(server) == [worker])


def test_a_hangup_brings_new_certificates(
    start: Make, room: Path, client_context: ssl.SSLContext
) -> None:
    server = start("-v", "--implicit-tls", "--", "cat")
    with connect_tls(server, client_context) as before:
        (old,) = workers(server)[:1]
        made = make_certificate(room)
        server.signal(signal.SIGHUP)
        wait_for(lambda: len(workers(server)) == 3)
        new_context = ssl.create_default_context(cafile=made.certificate)
        with connect_tls(server, new_context) as after:
            for client in (before, after):
                client.sendall(b"x")
                assert client.recv(1) == b"x"
        assert old in workers(server)
    wait_for(lambda: old not in workers(server))


def test_a_hangup_with_an_unusable_certificate_leaves_the_old_one(
    start: Make, room: Path, client_context: ssl.SSLContext
) -> None:
    server = start("-v", "--implicit-tls", "--", "echo", "here")
    server.has("status: 0/40")
    (room / "cert.pem").write_text("no certificate\n", encoding="ascii")
    server.signal(signal.SIGHUP)
    server.has(r"not reloaded: .*cert\.pem.*")
    assert read_tls(server, client_context) == b"here\n"


def test_tls_comes_and_goes_with_the_settings(
    tools: Tools,
    room: Path,
    certificate: Certificate,
    client_context: ssl.SSLContext,
) -> None:
    servers = Servers(tools, room)
    options = room / "options"
    files = f"certificate {certificate.certificate}\nkey {certificate.key}\n"
    try:
        options.write_text("banner one", encoding="ascii")
        server = servers.start("-v", f"--config={options}", "--", "true")
        assert server.read() == b"one"
        for count in (2, 1):
            more = f"tls-environment\ntls-workers {count}\nbanner two"
            options.write_text(files + more, encoding="ascii")
            server.signal(signal.SIGHUP)
            wait_for(lambda: len(workers(server)) == count)  # noqa: B023  # at once
            assert read_tls(server, client_context) == b"two"
        options.write_text("banner three", encoding="ascii")
        server.signal(signal.SIGHUP)
        wait_for(lambda: not workers(server))
        assert server.read() == b"three"
        assert server.stop() == 0
    finally:
        servers.close()


def test_an_unusable_certificate_is_hard(
    tools: Tools, room: Path, certificate: Certificate
) -> None:
    wrong = room / "wrong.pem"
    wrong.write_text("no certificate\n", encoding="ascii")
    for words in (
        ["--certificate", str(wrong)],
        ["--certificate", str(room / "missing.pem")],
        ["--certificate", str(certificate.certificate), "--key", str(wrong)],
    ):
        argv = [str(tools.bin / "popserver"), *words, HOST, "0", "true"]
        made = subprocess.run(argv, capture_output=True, check=False, text=True)
        assert made.returncode == 100, made.stderr
        assert ".pem" in made.stderr


def test_a_drain_lets_the_last_octets_out(
    start: Make, room: Path, client_context: ssl.SSLContext
) -> None:
    lines = ("head -c 3000000 /dev/zero",)
    server = start("-v", "--implicit-tls", "--", script(room, "much", *lines))
    with connect_tls(server, client_context) as client:
        seen = len(client.recv(1))
        server.signal(signal.SIGTERM)
        while part := client.recv(65536):
            seen += len(part)
    assert seen == 3_000_000
    assert server.end() == 0


def test_nothing_of_a_server_that_was_killed_is_left(start: Make) -> None:
    server = start("-v", "--implicit-tls", "--", "cat")
    server.has("status: 0/40")
    (worker,) = workers(server)
    process = os.pidfd_open(worker)
    server.kill()
    assert select.select([process], [], [], 30)[0]
    os.close(process)


# Another user


@pytest.fixture
def changed(start: Make) -> Running:
    """Give a server that has become another user, to whom the key is closed."""
    need_root()
    uid, gid = map(str, UNPRIVILEGED)
    words = ("-u", uid, "-g", gid, "--implicit-tls", "--drain", "0", "--", "cat")
    server = start("-v", *words)
    server.has("status: 0/40")
    return server


def echoes(server: Running, context: ssl.SSLContext) -> bool:
    with connect_tls(server, context) as client:
        client.sendall(b"x")
        return client.recv(1) == b"x"


def test_another_user_serves_tls_and_ends(
    changed: Running, client_context: ssl.SSLContext
) -> None:
    (worker,) = workers(changed)
    with connect_tls(changed, client_context) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        changed.signal(signal.SIGTERM)
        assert read_all(client) == b""
    assert changed.end() == 0
    wait_for(lambda: not Path(f"/proc/{worker}").exists())


def test_another_user_keeps_his_workers_at_a_hangup(
    changed: Running, client_context: ssl.SSLContext
) -> None:
    before = workers(changed)
    changed.signal(signal.SIGHUP)
    changed.has(r"the certificates stay as they were: .*key\.pem.*")
    assert echoes(changed, client_context)
    wait_for(lambda: workers(changed) == before)


def test_another_user_says_that_a_worker_is_not_replaced(changed: Running) -> None:
    (worker,) = workers(changed)
    os.kill(worker, signal.SIGKILL)
    changed.has(r"unable to start a TLS worker: .*key\.pem.*")
    assert changed.read() == b""
    changed.has("warning: dropping connection, no TLS worker takes it")
    assert changed.stop() == 0
