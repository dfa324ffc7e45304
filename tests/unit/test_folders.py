# SPDX-License-Identifier: ISC
"""A Maildir that others rename while it is read.

A stand-in for posix has somebody else act right before one of the reader's calls; each
test does so at every call there is.
"""

import errno
import os
import posix
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qtools.errors import Temporary
from qtools.maildrop import folders
from qtools.maildrop.folders import Folders
from qtools.maildrop.maildir import Maildir
from tests.pop3 import make_maildir, names

READING = ("listdir", "stat", "open")


class Crowded:
    """posix, with somebody who acts before the call of this number, counted from 1."""

    def __init__(self, step: int = 0, act: Callable[[], object] | None = None) -> None:
        self.calls = 0
        self._step = step
        self._act = act

    def __getattr__(self, name: str) -> Any:
        real = getattr(posix, name)
        if name not in READING:
            return real

        def call(*arguments: object, **named: object) -> Any:
            self.calls += 1
            if self._act and self.calls == self._step:
                self._act()
            return real(*arguments, **named)

        return call


@pytest.fixture
def box(tmp_path: Path) -> Path:
    return make_maildir(
        tmp_path / "Maildir",
        {"new/1.a": b"1\n", "cur/2.b:2,": b"22\n", "cur/3.c:2,S": b"333\n"},
    )


def opened(box: Path) -> Maildir:
    return Maildir(os.fsencode(box))


def seen(drop: Maildir) -> dict[bytes, bytes]:
    """Give each message by its unique-id."""
    return {drop.uid(each + 1): read(drop, each + 1) for each in range(drop.count)}


def read(drop: Maildir, number: int) -> bytes:
    with open(drop.open(number), "rb") as file:
        return file.read()


def at_each_step(
    monkeypatch: pytest.MonkeyPatch, box: Path, act: Callable[[], object]
) -> list[dict[bytes, bytes]]:
    """Open it with an act at each call in turn and give what each session saw."""
    before = {name: (box / name).read_bytes() for name in names(box)}
    saw = []
    calls = step = 1
    while step <= calls:
        crowded = Crowded(step, act)
        monkeypatch.setattr(folders, "posix", crowded)
        drop = opened(box)
        monkeypatch.undo()
        calls = crowded.calls
        assert drop.count == len(drop.all_octets())
        saw.append(seen(drop))
        drop.close()
        for name in names(box):
            (box / name).unlink()
        for name, data in before.items():
            (box / name).write_bytes(data)
            os.utime(box / name, (10**9, 10**9))
        step += 1
    return saw


ALL = {b"1.a": b"1\n", b"2.b": b"22\n", b"3.c": b"333\n"}


@pytest.mark.parametrize("name", ["cur/3.c:2,FS", "cur/3.c:2,", "cur/3.c"])
def test_other_flags_at_any_step(
    box: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    saw = at_each_step(
        monkeypatch, box, lambda: os.rename(box / "cur/3.c:2,S", box / name)
    )
    assert saw == [ALL] * len(saw)
    assert len(saw) > 6


@pytest.mark.parametrize("name", ["cur/1.a:2,", "cur/1.a:2,RS", "cur/1.a"])
def test_a_move_to_cur_at_any_step(
    box: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    saw = at_each_step(monkeypatch, box, lambda: os.rename(box / "new/1.a", box / name))
    assert saw == [ALL] * len(saw)


@pytest.mark.parametrize("name", ["new/3.c:2,S", "new/3.c"])
def test_a_move_back_to_new_at_any_step(
    box: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    saw = at_each_step(
        monkeypatch, box, lambda: os.rename(box / "cur/3.c:2,S", box / name)
    )
    assert saw == [ALL] * len(saw)


def test_folders_at_rest_are_read_once(
    box: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("new", "cur"):
        os.utime(box / folder, (10**9, 10**9))
    monkeypatch.setattr(folders, "posix", crowded := Crowded())
    opened(box).close()
    # The Maildir, two listings, each folder's time twice, three messages.
    assert crowded.calls == 1 + 2 + 4 + 3


@pytest.mark.parametrize("name", ["cur/1.a:2,", "new/1.a:2,S"])
def test_half_a_move_at_any_step(
    box: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    saw = at_each_step(monkeypatch, box, lambda: os.link(box / "new/1.a", box / name))
    assert saw == [ALL] * len(saw)


def test_many_names_of_one_file_are_one_message(box: Path) -> None:
    for name in ("cur/1.a:2,", "cur/1.a:2,S", "new/1.a:2,"):
        os.link(box / "new/1.a", box / name)
    for deleted, left in ((), 3), ((1,), 2):
        drop = opened(box)
        assert drop.count == 3
        assert drop.update(deleted) == 0
        drop.close()
        assert len(names(box)) == left


@pytest.mark.slow
def test_sessions_that_begin_while_another_moves_a_long_backlog(tmp_path: Path) -> None:
    count = 3000
    box = make_maildir(tmp_path / "M", {f"new/{each}.x": b"" for each in range(count)})
    first = opened(box)
    process = os.fork()
    if not process:
        try:
            first.update(())
            first.tidy()
        finally:
            os._exit(0)
    try:
        is_done = False
        while not is_done:
            is_done = os.waitpid(process, os.WNOHANG) != (0, 0)
            drop = opened(box)
            assert drop.count == count
            assert not any(uid.startswith(b":") for uid in drop.all_uids())
            drop.close()
    finally:
        if not is_done:
            os.waitpid(process, 0)
        first.close()


def test_flags_that_change_all_the_time_are_no_missing_message(
    box: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        (old,) = (name for name in os.listdir(box / "cur") if name.startswith("3"))
        os.rename(box / "cur" / old, box / f"cur/3.c:2,{turns}")

    real = Folders._look

    def look(held: Folders, paths: list[bytes]) -> Any:
        turn()
        return real(held, paths)

    monkeypatch.setattr(Folders, "_look", look)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(Temporary, match="renamed"):
        opened(box)
    assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.parametrize("name", ["new/1.a", "cur/3.c:2,S"])
def test_a_message_removed_at_any_step(
    box: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    data = (box / name).read_bytes()
    left = {uid: kept for uid, kept in ALL.items() if kept != data}
    calls = 0
    monkeypatch.setattr(folders, "posix", counter := Crowded())
    opened(box).close()
    monkeypatch.undo()
    for step in range(1, counter.calls + 1):
        crowded = Crowded(step, (box / name).unlink)
        monkeypatch.setattr(folders, "posix", crowded)
        drop = opened(box)
        monkeypatch.undo()
        ids = {bytes(uid) for uid in drop.all_uids()}
        assert left.keys() <= ids <= ALL.keys()
        calls += drop.count == 2
        drop.close()
        (box / name).write_bytes(data)
    assert calls > 2


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ENOMEM])
def test_a_message_that_cannot_be_looked_at_does_not_vanish(
    box: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    class Failing:
        def __getattr__(self, name: str) -> Any:
            return getattr(posix, name)

        def stat(self, path: bytes, **named: Any) -> os.stat_result:
            if path.startswith(b"cur/3") and named.get("follow_symlinks", True):
                raise OSError(number, os.strerror(number))
            return posix.stat(path, **named)

    monkeypatch.setattr(folders, "posix", Failing())
    with pytest.raises(Exception, match="unable to read maildir"):
        opened(box)


def test_links_that_lead_nowhere_are_no_messages(box: Path) -> None:
    (box / "cur/4.self:2,").symlink_to("4.self:2,")
    (box / "cur/5.none:2,").symlink_to("nothing")
    (box / "cur/6.file:2,").symlink_to("2.b:2,/below")
    drop = opened(box)
    assert seen(drop) == ALL
    drop.close()
