# SPDX-License-Identifier: ISC
"""Where a complaint goes: to the operator, and never to the client."""

import socket
import subprocess

import pytest

from tests.conftest import Tools
from tests.support import PATIENCE_SECONDS

WRONG = {"popup": 100, "checkpw": 2, "pop3d": 100}


@pytest.mark.parametrize("tool", WRONG)
def test_descriptor_2_has_one_line(tools: Tools, tool: str) -> None:
    command = [str(tools.bin / tool), "--no-such-option"]
    made = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    assert made.returncode == WRONG[tool]
    assert made.stdout == b""
    assert made.stderr.startswith(tool.encode() + b": unknown option --no-such-option")
    assert made.stderr.count(b"\n") == 1


@pytest.mark.parametrize("tool", WRONG)
def test_the_client_reads_nothing_of_it_under_inetd(tools: Tools, tool: str) -> None:
    """Inetd puts the connection on 0, 1 and 2."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        code = subprocess.call(
            [str(tools.bin / tool), "--no-such-option"],
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=theirs.fileno(),
        )
        assert code == WRONG[tool]
        theirs.close()
        ours.settimeout(PATIENCE_SECONDS)
        assert ours.recv(100) == b""


def test_descriptor_2_counts_when_there_is_no_client(tools: Tools) -> None:
    made = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", tools.pop3d, "--no-such-option"],
        capture_output=True,
        check=False,
    )
    assert made.returncode == WRONG["pop3d"]
    assert b"unknown option" in made.stderr
