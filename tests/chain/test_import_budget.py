# SPDX-License-Identifier: ISC
"""What each tool imports on the hot path, against the list in import_budget.txt.

Every login pays for every module. A scenario is one run of an installed tool; the
interpreter reports its imports (-X importtime), those of forked children as well, and
whatever a bare interpreter loads is taken off. To add a scenario, add a row here and a
line there.
"""

import importlib.util
import re
import socket
import subprocess
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from qtools.accounts import registry
from tests.conftest import PYTHON, Tools
from tests.support import IS_ROOT, OWNER, PATIENCE_SECONDS, TOP

IMPORT = re.compile(r"^import time: +\d+ \| +\d+ \| *([\w.]+)$", re.MULTILINE)
BUDGET = Path(__file__).with_name("import_budget.txt")


class Scenario(NamedTuple):
    """One run: its name in the list, the words of the command, what is said to it.

    The first word is a tool's path, the rest may lead on into a folder with an account
    database and a Maildir. The client's octets stand on a socket at 0 and 1, and its
    side is then shut down. The run must print what is expected.
    """

    name: str
    argv: Callable[[Tools, Path], list[str]]
    client: bytes
    expected: bytes


SCENARIOS = (
    Scenario(
        "popup-quit",
        lambda tools, _: [tools.popup, "mx.example", "/bin/false"],
        b"CAPA\r\nQUIT\r\n",
        b"PIPELINING",
    ),
    Scenario(
        "popup-refused",
        lambda tools, _: [tools.popup, "-a1", "-d0", "mx.example", "/bin/false"],
        b"USER ada\r\nPASS wrong\r\n",
        b"-ERR [AUTH]",
    ),
    Scenario(
        "pop3d",
        lambda tools, room: [tools.pop3d, f"{room}/Maildir"],
        b"STAT\r\nLIST\r\nUIDL\r\nRETR 1\r\nTOP 2 3\r\nDELE 1\r\nQUIT\r\n",
        b"Lunch on Thursday",
    ),
    Scenario(
        "chain-db",
        lambda tools, room: [
            *(tools.popup, "mx.example", tools.checkpw, "-a", f"db:{room}/accounts"),
            *(tools.pop3d, "Maildir"),
        ],
        b"USER ada\r\nPASS sesame\r\nRETR 1\r\nQUIT\r\n",
        b"Lunch on Thursday",
    ),
    Scenario(
        "pop3d-login",
        lambda tools, room: [tools.pop3d, "--accounts", f"db:{room}/accounts"],
        b"USER ada\r\nPASS sesame\r\nRETR 1\r\nQUIT\r\n",
        b"Lunch on Thursday",
    ),
    Scenario(
        "pop3d-login-pam",
        lambda tools, _: [tools.pop3d, "-A", "--delay", "0"],
        b"USER nobody-at-all\r\nPASS wrong\r\n",
        b"-ERR [",
    ),
    Scenario(
        "chain-scram",
        lambda tools, room: [
            *(tools.popup, "-d0", "-m", "scram-sha-256", "mx.example"),
            *(tools.checkpw, "-a", f"db:{room}/accounts", tools.pop3d, "Maildir"),
        ],
        b"AUTH SCRAM-SHA-256 %b\r\n%b\r\nQUIT\r\n"
        % (b64encode(b"n,,n=nobody,r=abc"), b64encode(b"c=biws,r=abc")),
        b"-ERR [AUTH]",
    ),
)


def imported(
    *argv: str, client: bytes = b"", user: int | None = None
) -> tuple[set[str], bytes]:
    """Run Python with its options; give the modules it imported and what it printed."""
    ours, theirs = socket.socketpair()
    with (
        ours,
        subprocess.Popen(
            [PYTHON, "-IS", "-X", "importtime", *argv],
            user=user,
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=subprocess.PIPE,
            env={"PATH": "/usr/bin:/bin", "TCPREMOTEIP": "192.0.2.1", "PROTO": "TCP"},
            text=True,
        ) as process,
    ):
        theirs.close()
        ours.settimeout(PATIENCE_SECONDS)
        ours.sendall(client)
        ours.shutdown(socket.SHUT_WR)
        said = b""
        while data := ours.recv(65536):
            said += data
        assert process.stderr
        report = process.stderr.read()
    return set(IMPORT.findall(report)), said


@pytest.fixture
def mailbox(tools: Tools, room: Path, maildir: Path) -> Path:
    """Give a folder with a Maildir and the account of its owner."""
    popaccount = [tools.popaccount, "--db", str(room / "accounts")]
    uid, gid = map(str, OWNER)
    subprocess.run([*popaccount, "init"], check=True)
    subprocess.run(
        [
            *(*popaccount, "add", "ada", "--stdin", "--hash", "md5"),
            *("--home", str(maildir.parent), "--uid", uid, "--gid", gid),
        ],
        input=b"sesame\n",
        check=True,
    )
    return room


def budget() -> dict[str, list[str]]:
    """Read the allow list: a line per scenario, its modules behind a colon."""
    lines = BUDGET.read_text(encoding="ascii").splitlines()
    rows = [line.split(":") for line in lines if line and not line.startswith("#")]
    return {name: modules.split() for name, modules in rows}


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_tool_stays_within_its_budget(
    tools: Tools, mailbox: Path, scenario: Scenario
) -> None:
    bare, _ = imported("-c", "pass")
    is_alone = IS_ROOT and scenario.name == "pop3d"  # serves nothing as uid 0
    user = OWNER[0] if is_alone else None
    loaded, said = imported(
        *scenario.argv(tools, mailbox), client=scenario.client, user=user
    )
    assert scenario.expected in said
    foreign = {name for name in loaded - bare if name.split(".")[0] != "qtools"}
    allowed = budget()[scenario.name]
    assert foreign - {name.rstrip("?") for name in allowed} == set()
    unused = {name for name in allowed if not name.endswith("?")} - foreign
    assert unused == set(), "allowed, but no longer imported"


LAZY = {
    *("qtools.protocol.gs2", "qtools.protocol.scram", "qtools.protocol.bearer"),
    *("qtools.accounts.scram", "qtools.chain.interview"),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "loaded"),
    [("chain-db", set()), ("chain-scram", LAZY - {"qtools.protocol.bearer"})],
)
def test_what_mechanisms_need_is_loaded_with_them(
    mailbox: Path, name: str, loaded: set[str]
) -> None:
    """From a checkout: what is linked is loaded without an import."""
    (scenario,) = (each for each in SCENARIOS if each.name == name)
    found, said = imported(
        *scenario.argv(Tools(TOP, PYTHON), mailbox), client=scenario.client
    )
    assert scenario.expected in said
    assert "qtools.sessions.exchange" in found
    assert found & LAZY == loaded


def test_the_list_has_a_line_for_each_scenario() -> None:
    assert sorted(budget()) == sorted(scenario.name for scenario in SCENARIOS)


@pytest.mark.parametrize("name", sorted({n for row in budget().values() for n in row}))
def test_what_is_allowed_is_compiled(name: str) -> None:
    """A module of Python source costs ten times one of C: none is to slip in here."""
    spec = importlib.util.find_spec(name.rstrip("?"))
    if spec is None and name.endswith("?"):
        return  # of another version of Python
    assert spec
    assert spec.origin
    assert not spec.origin.endswith(".py")


@pytest.mark.parametrize("kind", registry.MODULES)
def test_a_source_imports_nothing_but_what_is_compiled(kind: str) -> None:
    bare, _ = imported("-c", "pass")
    load = f"from qtools.accounts import registry; registry.load([{kind!r}])"
    loaded, _ = imported("-c", f"import sys; sys.path.insert(0, {str(TOP)!r}); {load}")
    assert registry.MODULES[kind] in loaded
    foreign = {name for name in loaded - bare if name.split(".")[0] != "qtools"}
    for name in foreign:
        test_what_is_allowed_is_compiled(name)


def test_a_careless_import_is_found() -> None:
    bare, _ = imported("-c", "pass")
    loaded, _ = imported("-c", "import re")
    assert {"re", "enum"} <= loaded - bare
