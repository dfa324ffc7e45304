# SPDX-License-Identifier: ISC
"""What a rehearsal leaves behind: nothing but a warm interpreter."""

import os
import posix
import subprocess
import sys
from pathlib import Path

import pytest

from qtools.server.warm import rehearsal
from qtools.tools import pop3d
from tests.support import TOP

PROBE = """
import os, sys
sys.path.insert(0, {top!r})
from qtools.server.warm import rehearsal
from qtools.tools import pop3d
rehearsal.PLACES = ({place!r},)

def state():
    links = {{}}
    for name in os.listdir("/proc/self/fd"):
        try:
            links[name] = os.readlink("/proc/self/fd/" + name)
        except FileNotFoundError:
            pass
    return links, dict(os.environb), os.getcwd(), os.getresuid(), os.getgroups()

served = []
serve = pop3d.read(["pop3d", "Maildir"]).serve
before = state()
rehearsal.rehearse(lambda: served.append(serve()) or served[-1], ["pop3d"], 2)
assert state() == before, (before, state())
print(len(served), set(served))
"""


def probe(place: Path) -> str:
    """Rehearse in a process of its own; give what it prints."""
    code = PROBE.format(top=str(TOP), place=os.fsencode(place))
    command = [sys.executable, "-ISBc", code]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not made.stderr
    return made.stdout


def test_every_session_of_it_goes_well_and_nothing_is_left(tmp_path: Path) -> None:
    assert probe(tmp_path) == f"{rehearsal.TIMES} {{0}}\n"
    assert not list(tmp_path.iterdir())


def test_what_one_left_that_was_killed_is_removed(tmp_path: Path) -> None:
    left = tmp_path / (rehearsal.PREFIX.decode() + "0")
    young = tmp_path / (rehearsal.PREFIX.decode() + "1")
    other = tmp_path / "qtools-other"
    for folder in ("new", "cur", "tmp"):
        (left / "Maildir" / folder).mkdir(parents=True)
    for name in rehearsal.MESSAGES:
        (left / "Maildir/cur" / name.decode()).touch()
    young.mkdir()
    other.mkdir()
    for place in (left, other):
        os.utime(place, (1, 1))
    probe(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([young, other])


def test_without_a_place_nothing_is_rehearsed(tmp_path: Path) -> None:
    assert probe(tmp_path / "missing") == "0 set()\n"


def test_a_place_that_cannot_be_listed_is_no_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listdir = posix.listdir

    def refuse(place: bytes) -> list[bytes]:
        if place == os.fsencode(tmp_path):
            raise PermissionError
        return listdir(place)

    monkeypatch.setattr(rehearsal, "PLACES", (os.fsencode(tmp_path),))
    monkeypatch.setattr(rehearsal, "TIMES", 1)
    monkeypatch.setattr(posix, "listdir", refuse)
    codes = []

    def serve() -> int:
        codes.append(pop3d.read(["pop3d", "Maildir"]).serve())
        return codes[-1]

    rehearsal.rehearse(serve, ["pop3d"], 99)
    assert codes == [0]
    monkeypatch.undo()
    assert not list(tmp_path.iterdir())


def test_its_directory_is_closed_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "PLACES", (os.fsencode(tmp_path),))
    seen = []

    def look() -> int:
        (made,) = tmp_path.iterdir()
        seen.append(made.stat().st_mode & 0o777)
        return pop3d.read(["pop3d", "Maildir"]).serve()

    environ = dict(posix.environ)
    monkeypatch.setattr(rehearsal, "TIMES", 1)
    rehearsal.rehearse(look, ["pop3d"], 99)
    assert seen == [0o700]
    assert posix.environ == environ
