# SPDX-License-Identifier: ISC
"""What an odd starter, a full table and an upgrade in the middle do to a login."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chain.popup import DIALOGUES
from tests.conftest import PYTHON, Tools, make_install
from tests.support import PATIENCE_SECONDS, TOP

LOGIN = b"USER joe\r\nPASS secret\r\n"
REFUSED = b"-ERR [AUTH] authorization failed\r\n"
TEMPORARY = b"-ERR [SYS/TEMP] temporary failure, try again later\r\n"


def words(dialogue: str) -> list[str]:
    return ["-a1", "-d0", *(["-n"] if dialogue == "no-split" else []), "mx.example"]


@pytest.mark.parametrize("dialogue", DIALOGUES)
@pytest.mark.parametrize(
    ("before", "reply"),
    [
        # Children of a process that ignores SIGCHLD leave no status behind.
        ("trap '' CHLD", REFUSED),
        ("trap '' TERM PIPE HUP", REFUSED),
    ],
)
def test_signals_that_the_starter_ignores(
    tools: Tools, dialogue: str, before: str, reply: bytes
) -> None:
    made = subprocess.run(
        [
            *("sh", "-c", f'{before}; exec "$@"', "sh"),
            *(tools.popup, *words(dialogue), "sh", "-c", "exit 1"),
        ],
        input=LOGIN,
        env=tools.environment(),
        capture_output=True,
        check=False,
    )
    assert (made.returncode, made.stderr) == (1, b"")
    assert made.stdout == b"+OK\r\n+OK \r\n" + reply


@pytest.mark.parametrize("most", range(4, 11))
def test_no_descriptors_left_is_the_servers_trouble(tools: Tools, most: int) -> None:
    command = ["sh", "-c", f'ulimit -n {most}; exec "$@"', "sh", tools.popup]
    made = subprocess.run(
        [*command, *words("no-split"), "sh", "-c", "exit 1"],
        input=LOGIN,
        env=tools.environment(),
        capture_output=True,
        check=False,
    )
    assert made.stdout == b"+OK\r\n+OK \r\n" + TEMPORARY
    assert made.stderr.startswith(b"popup: un")
    assert made.stderr.count(b"\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("dialogue", DIALOGUES)
def test_an_upgrade_between_greeting_and_login(room: Path, dialogue: str) -> None:
    """Install replaces the linked file; what was begun goes on without it."""
    make_install(room / "prefix")
    (linked,) = (room / "prefix/lib/qtools").glob("linked.*")
    ours, theirs = socket.socketpair()
    words_of_chain = ["checkpw", "-a", "authuser:/nonexistent", "pop3d", "Maildir"]
    with (
        ours,
        subprocess.Popen(
            [room / "prefix/bin/popup", *words(dialogue), *words_of_chain],
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=subprocess.PIPE,
            env={"PATH": f"{room}/prefix/bin:/usr/bin:/bin"},
        ) as popup,
    ):
        theirs.close()
        ours.settimeout(PATIENCE_SECONDS)
        assert ours.recv(100) == b"+OK\r\n"
        head = linked.read_bytes()[:4096]
        (room / "fresh").write_bytes(head + b"\xff" * 400_000)
        (room / "fresh").replace(linked)
        ours.sendall(LOGIN)
        said = b""
        while data := ours.recv(1000):
            said += data
        _, complaints = popup.communicate()
    assert said == b"+OK \r\n" + TEMPORARY
    assert complaints.startswith(b"checkpw: unable to read /nonexistent")


def test_after_stls_the_raw_connection_gets_no_complaint(tools: Tools) -> None:
    """Inetd put it on 2 as well, and 0 is the cleartext now."""
    code = "from qtools.system.guard import complain; complain(['popup'], 'after STLS')"
    library = tools.prefix / "lib/qtools"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        raw, _ = listener.accept()
    with client, raw:
        subprocess.run(
            [PYTHON, "-IS", "-c", f"import sys; sys.path[:0] = ['{library}']; {code}"],
            stdin=subprocess.DEVNULL,
            stderr=raw.fileno(),
            check=True,
        )
        raw.close()
        client.settimeout(PATIENCE_SECONDS)
        assert client.recv(100) == b""


def test_a_damaged_installation_says_nothing_to_the_client(room: Path) -> None:
    stub = (TOP / "bin/popup").read_text()
    broken = room / "popup"
    broken.write_text(stub.replace("qtools.linked", "qtools.no_such_module"))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        code = subprocess.call(
            [sys.executable, "-IS", broken],
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=theirs.fileno(),
            env={**os.environ},
        )
        theirs.close()
        assert (code, ours.recv(100)) == (111, b"")
