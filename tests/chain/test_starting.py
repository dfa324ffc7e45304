# SPDX-License-Identifier: ISC
"""What popserver is started with: descriptors, variables, port 995."""

import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from qtools.server import listeners, running
from qtools.server.settings import Settings
from tests import certificates
from tests.conftest import Tools
from tests.support import PATIENCE_SECONDS, free_port

CHAIN = ("popup", "-d0", "mx.example", "checkpw", "pop3d", "Maildir")


@contextmanager
def started(
    tools: Tools, *words: str, shell: str = "", **more: str
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Start popserver on a free port, by a shell that prepares descriptors."""
    script = f'{shell} exec "$@"'
    argv = [tools.popserver, "-1", "--per-source", "0", *words, "127.0.0.1", "0"]
    server = subprocess.Popen(
        ["sh", "-c", script, "sh", *argv, *CHAIN],
        env={**tools.environment(), **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert server.stdout is not None
    try:
        yield server, int(server.stdout.readline() or b"0")
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=PATIENCE_SECONDS)


def greeted(port: int) -> bytes:
    """Say QUIT and give what was said by the server."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS) as client:
        client.sendall(b"CAPA\r\nQUIT\r\n")
        with client.makefile("rb") as said:
            return said.read()


@pytest.mark.parametrize("listeners", [1, 2, 3])
def test_a_log_that_nobody_opened_is_none(tools: Tools, listeners: int) -> None:
    more = ["--listen", "127.0.0.1:0"] * (listeners - 1)
    with started(tools, *more, shell="exec 5>&-;") as (server, port):
        for _ in range(20):
            assert greeted(port).startswith(b"+OK")
    assert server.stderr is not None
    assert server.returncode == 0


def test_a_log_that_was_opened_is_written(tools: Tools, room: Path) -> None:
    log = room / "log"
    with started(tools, shell=f"exec 5>{log};") as (_, port):
        greeted(port)
    assert b"Info::END::None" in log.read_bytes()


def test_notice_goes_only_where_somebody_waits(tools: Tools) -> None:
    done = subprocess.run(
        [tools.popserver, "--notify-fd", "6", "127.0.0.1", "0", *CHAIN],
        env=tools.environment(),
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 100
    assert b"nobody has opened 6" in done.stderr


def test_words_about_an_older_connection_are_dropped(tools: Tools) -> None:
    stale = {"SSL_PROTOCOL": "TLSv1.3", "SSL_CIPHER": "x", "UCSPITLS": "!"}
    with started(tools, **stale) as (_, port):
        assert b"SASL" not in greeted(port)  # it is not TLS, and TLS is asked for


def test_every_listener_on_995_speaks_tls_at_once(
    room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = certificates.authority(room).combined("localhost")
    port = free_port()
    monkeypatch.setattr(listeners, "TLS_PORT", port)
    words = ["popserver", "--certificate", str(made), "--listen", f"127.0.0.1:{port}"]
    settings = Settings([*words, "127.0.0.1", "0", *CHAIN])
    opened = running.Listening({}).open(settings)
    assert [is_tls for _, is_tls in opened] == [False, True]
    for held, _ in opened:
        held.close()
