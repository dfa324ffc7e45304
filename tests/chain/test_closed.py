# SPDX-License-Identifier: ISC
"""popserver -c 0: no listener is open until a reload says otherwise."""

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import Tools
from tests.support import PATIENCE_SECONDS, free_port, wait_for

pytestmark = pytest.mark.slow

HOST = "127.0.0.1"

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Give a function that starts a program, which is ended with its children."""
    started: list[subprocess.Popen[bytes]] = []

    def run(argv: list[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
        started.append(
            subprocess.Popen(
                argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
            )
        )
        return started[-1]

    yield run
    for each in started:
        each.send_signal(signal.SIGTERM)
        each.communicate(timeout=PATIENCE_SECONDS)


def greeting(port: int) -> bytes:
    """Give what is said first; empty when nobody listens."""
    with (
        suppress(ConnectionRefusedError, ConnectionResetError),
        socket.create_connection((HOST, port), PATIENCE_SECONDS) as client,
    ):
        return client.recv(100)
    return b""


@pytest.mark.parametrize("kind", ["warm", "foreign"])
def test_the_port_is_released_and_taken_again(
    tools: Tools, room: Path, start: Start, kind: str
) -> None:
    config, port = room / "options", free_port()
    chains = {
        "warm": [tools.popup, "-l", "2", "h", tools.checkpw, tools.pop3d, "Maildir"],
        "foreign": ["echo", "+OK"],
    }
    config.write_text("concurrency 3\n")
    words = [tools.popserver, "--config", str(config), HOST, str(port)]
    server = start([*words, *chains[kind]], tools.environment())

    def reload(concurrency: int) -> None:
        config.write_text(f"concurrency {concurrency}\n")
        os.kill(server.pid, signal.SIGHUP)

    wait_for(lambda: greeting(port).startswith(b"+OK"))
    reload(0)
    wait_for(lambda: greeting(port) == b"")
    reload(3)
    wait_for(lambda: greeting(port).startswith(b"+OK"))


def test_no_port_is_printed_where_there_is_none(tools: Tools, start: Start) -> None:
    words = [tools.popserver, "-1", "-c", "0", HOST, "0", "echo"]
    server = start(words, tools.environment())
    assert server.stdout
    assert server.stdout.read() == b""
    assert server.poll() is None
