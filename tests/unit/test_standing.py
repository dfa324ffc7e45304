# SPDX-License-Identifier: ISC
"""Sources that stay open: a change of a file is seen, and nothing is opened twice."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from qtools.accounts import registry, standing
from qtools.accounts.db import reader as database
from qtools.accounts.interface import Identity
from qtools.accounts.standing import Standing
from qtools.errors import Hard, Refused
from tests.unit.test_registry import Fake


def users(folder: Path, text: str, name: str = "users") -> Path:
    """Put an authuser file into its place, as an administrator should."""
    fresh = folder / "fresh"
    fresh.write_text(text)
    return fresh.rename(folder / name)


def verify(stand: Standing, secret: bytes) -> Identity:
    return registry.verify(stand.sources(), b"joe", secret, b"")


def test_sources_are_opened_when_they_are_needed(tmp_path: Path) -> None:
    stand = Standing([f"authuser:{tmp_path}/users"])
    with pytest.raises(Hard, match="No such file"):
        stand.sources()
    users(tmp_path, "joe:one\n")
    assert verify(stand, b"one").name == b""


def test_what_has_not_changed_is_opened_once(tmp_path: Path) -> None:
    users(tmp_path, "joe:one\n")
    stand = Standing([f"authuser:{tmp_path}/users", "system"])
    first = stand.sources()
    assert len(first) == 2
    assert all(stand.sources() is first for _ in range(3))


def test_a_file_that_is_replaced_is_read_anew(tmp_path: Path) -> None:
    users(tmp_path, "joe:one\n")
    stand = Standing([f"authuser:{tmp_path}/users"])
    verify(stand, b"one")
    users(tmp_path, "joe:two\n")
    with pytest.raises(Refused):
        verify(stand, b"one")
    verify(stand, b"two")


def test_a_file_that_is_written_is_read_anew(tmp_path: Path) -> None:
    path = users(tmp_path, "joe:one\n")
    stand = Standing([f"authuser:{path}"])
    verify(stand, b"one")
    with path.open("a") as file:
        file.write("joe:two\n")
    verify(stand, b"two")
    os.utime(path, ns=(1, 1))
    before = stand.sources()
    os.utime(path, ns=(1, 2))
    assert stand.sources() is not before, "of as many octets, but of another time"


def test_a_file_that_goes_is_not_remembered(tmp_path: Path) -> None:
    path = users(tmp_path, "joe:one\n")
    stand = Standing([f"authuser:{path}"])
    verify(stand, b"one")
    path.unlink()
    for _ in range(2):
        with pytest.raises(Hard, match="No such file"):
            stand.sources()
    users(tmp_path, "joe:one\n")
    verify(stand, b"one")


def test_one_source_that_fails_fails_all_until_it_is_well(tmp_path: Path) -> None:
    """Another of that name may be the user's; see registry."""
    users(tmp_path, "joe:one\n", "first")
    words = [f"authuser:{tmp_path}/{name}" for name in ("first", "second")]
    stand = Standing(words)
    with pytest.raises(Hard):
        stand.sources()
    users(tmp_path, "ann:one\n", "second")
    assert len(stand.sources()) == 2


def test_a_change_of_any_file_opens_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [users(tmp_path, "joe:one\n", name) for name in ("a", "b")]
    opened: list[str] = []

    def open_source(word: str) -> Fake:
        opened.append(word)
        return Fake(b"joe", b"one")

    def load(words: list[str]) -> list[Callable[[], Fake]]:
        return [partial(open_source, word) for word in words]

    monkeypatch.setattr(registry, "load", load)
    words = [f"db:{path}" for path in paths]
    stand = standing.Standing(words)
    stand.sources()
    stand.sources()
    assert opened == words
    users(tmp_path, "joe:three\n", "b")
    stand.sources()
    assert opened == words * 2


def test_a_word_without_a_file_has_nothing_that_changes() -> None:
    stand = Standing(["system"])
    assert stand.sources() is stand.sources()


def test_libraries_are_loaded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare() -> None:
        raise Hard("no library")

    monkeypatch.setattr(database, "prepare", prepare)
    with pytest.raises(Hard, match="no library"):
        Standing(["db:/a"])
