# SPDX-License-Identifier: ISC
"""Which chains are served warm, and which words of one are found wrong at the start."""

import os
import posix
import sys
from pathlib import Path

import pytest

from qtools.chain import handover
from qtools.errors import Hard
from qtools.server import own_chain
from qtools.server.warm import chain as warm
from qtools.server.warm.chain import WarmChain
from tests.support import TOP

CHAIN = ["popup", "mx.example", "checkpw", "pop3d", "Maildir"]


@pytest.fixture(autouse=True)
def environ(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[bytes, bytes]:
    """Make this process look like popserver in a PATH with our programs."""
    path = f"{TOP / 'bin'}:{tmp_path}:/usr/bin:/bin"
    kept: dict[bytes, bytes] = {b"PATH": os.fsencode(path)}
    monkeypatch.setattr(posix, "environ", kept)
    monkeypatch.setattr(sys, "argv", [str(TOP / "bin/popserver")])
    monkeypatch.setattr(sys, "path", [os.path.realpath(TOP), *sys.path])
    return kept


def read(*words: str) -> WarmChain:
    found = warm.read([*words])
    assert found is not None
    return found


def test_our_own_chain_is_served_warm() -> None:
    found = read(*CHAIN)
    assert (found.program, found.hostname) == ("popup", "mx.example")
    assert found.session == ["pop3d", "Maildir"]
    assert dict(found.front) == dict(found.checker) == {}
    assert (found.idle_seconds, found.write_seconds) == (1200.0, 1200.0)
    assert found.log_descriptor == 5


def test_each_program_has_its_own_options() -> None:
    bin_ = TOP / "bin"
    found = read(
        *(str(bin_ / "popup"), "-a5", "-t", "60", "-w7", "-l", "9", "--", "mx"),
        *(str(bin_ / "checkpw"), "-a", "system", "--allow-root", "-v"),
        *(str(bin_ / "pop3d"), "-a", "Maildir"),
    )
    assert (found.program, found.hostname) == ("popup", "mx")
    assert found.front["attempts"] == "5"
    assert (found.idle_seconds, found.write_seconds) == (60.0, 7.0)
    assert found.log_descriptor == 9
    assert dict(found.checker) == {
        "accounts": "system",
        "allow-root": "",
        "verbose": "",
    }
    assert found.session == [str(bin_ / "pop3d"), "-a", "Maildir"]


def test_a_link_to_a_program_of_ours_is_one_by_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "qmail-popup").symlink_to(TOP / "bin/popup")
    assert read("qmail-popup", *CHAIN[1:]).program == "qmail-popup"


@pytest.mark.parametrize("place", [0, 2, 3])
def test_a_foreign_link_is_run_as_tcpserver_would(tmp_path: Path, place: int) -> None:
    foreign = tmp_path / CHAIN[place]
    foreign.write_text("#!/bin/sh\n")
    foreign.chmod(0o755)
    words = list(CHAIN)
    words[place] = str(foreign)
    assert warm.read(words) is None


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["env", *CHAIN],
        ["checkpw", "pop3d", "Maildir"],
        ["popup", "mx", "pop3d", "Maildir"],
        ["popup", "mx", "checkpw", "env", "pop3d", "Maildir"],
        ["popup", "mx", "checkpw"],
        ["popup", "-x", "mx", "checkpw", "pop3d"],
        ["popup", "mx", "checkpw", "-x", "pop3d"],
    ],
)
def test_a_chain_that_is_not_all_ours_or_asks_for_exec(words: list[str]) -> None:
    assert warm.read(words) is None


def test_the_environment_asks_for_exec(environ: dict[bytes, bytes]) -> None:
    environ[handover.FORCE_EXEC] = b""
    assert warm.read(CHAIN) is None


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["no-such-program", "mx"], "no such program in PATH"),
        (["popup", "mx", "no-such-program"], "no such program in PATH"),
        (["popup"], "usage: popup"),
        (["popup", "mx"], "usage: popup"),
        (["popup", "-Z", *CHAIN[1:]], "unknown option"),
        (["popup", "-a0", *CHAIN[1:]], "--attempts takes"),
        (["popup", "-t", "soon", *CHAIN[1:]], "--timeout takes"),
        (["popup", "-t0", *CHAIN[1:]], "--timeout takes"),
        (["popup", "-w0", *CHAIN[1:]], "--write-timeout takes"),
        (["popup", "-l", "five", *CHAIN[1:]], "--log-fd takes"),
        (["popup", "-m", "scram", *CHAIN[1:]], "unknown SASL mechanism"),
        (["popup", "-p", "never", *CHAIN[1:]], "allow or refuse"),
        (["popup", "mx", "checkpw", "-Z", "pop3d"], "unknown option"),
        (["popup", "mx", "checkpw", "-a"], "needs an argument"),
    ],
)
def test_a_word_that_is_wrong_is_found_at_the_start(words: list[str], why: str) -> None:
    with pytest.raises(Hard, match=why):
        warm.read(words)


def test_the_environment_of_all_clients_is_looked_at_too(
    environ: dict[bytes, bytes],
) -> None:
    environ[b"POP3PLAINTEXT"] = b"perhaps"
    with pytest.raises(Hard, match="allow or refuse"):
        warm.read(CHAIN)


def test_a_chain_of_words_alone_is_the_same() -> None:
    """As for a demo: no program has to be found."""
    words = ["popup", "-t9", "mx", "checkpw", "-v", "pop3d", "-x"]
    mine = own_chain.read(words, "popserver")
    theirs = read(*words)
    assert mine.program == "popserver"
    for name in ("front", "hostname", "checker", "session", "idle_seconds"):
        assert getattr(mine, name) == getattr(theirs, name)
