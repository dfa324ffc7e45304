# SPDX-License-Identifier: ISC
"""Every point at which QUIT can be cut short, and every error the disk can give.

A stand-in for posix in the maildrop's modules counts the system calls that change
something. One run counts them all; then each of them in turn is the last one, before
it is carried out or behind it.
"""

import errno
import os
import posix
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qtools.maildrop import folders, maildir, update
from qtools.maildrop.folders import Folders
from qtools.maildrop.maildir import Maildir
from tests.pop3 import add, contents, make_maildir, names

COUNT = 200
DELETED = frozenset(range(1, COUNT + 1, 3))
CHANGING = ("unlink", "link", "rename")
READING = ("stat", "listdir")


class Killed(BaseException):
    """What kill -9 is to the process; no except clause of the product catches it."""


class Faulty:
    """posix, but for calls that change something: they come to an end, or fail."""

    def __init__(
        self, last: int = 0, *, behind: bool = False, error: int = 0, only: str = ""
    ) -> None:
        self.calls = 0
        self._last = last
        self._behind = behind
        self._error = error
        self._only = only

    def __getattr__(self, name: str) -> Any:
        real = getattr(posix, name)
        return self._guarded(name, real) if name in CHANGING else real

    def _guarded(self, name: str, real: Any) -> Any:
        def call(*arguments: object, **named: object) -> None:
            if self._error:
                if name == (self._only or name):
                    raise OSError(self._error, os.strerror(self._error))
                real(*arguments, **named)
                return
            self.calls += 1
            if self.calls == self._last and not self._behind:
                raise Killed
            real(*arguments, **named)
            if self.calls == self._last:
                raise Killed

        return call


@pytest.fixture
def patched(monkeypatch: pytest.MonkeyPatch) -> Any:
    def patch(faulty: Faulty) -> Faulty:
        monkeypatch.setattr(update, "posix", faulty)
        monkeypatch.setattr(maildir, "posix", faulty)
        monkeypatch.setattr(folders, "posix", faulty)
        return faulty

    return patch


def box_of(path: Path, count: int = COUNT) -> Path:
    """Make a Maildir with messages in new/ and cur/, some with a name that is taken."""
    stored = {}
    for number in range(count):
        where = "cur/{}.x.h:2,S" if number % 4 == 0 else "new/{}.x.h"
        stored[where.format(number)] = b"message %d\n" % number
    return make_maildir(path, stored)


def messages(numbers: Iterator[int] | range) -> list[bytes]:
    return sorted(b"message %d\n" % (number - 1) for number in numbers)


def quit_session(path: Path, deleted: frozenset[int]) -> int:
    drop = Maildir(os.fsencode(path))
    try:
        failed = drop.update(deleted)
        drop.tidy()
        return failed
    finally:
        drop.close()


def kept(deleted: frozenset[int], count: int = COUNT) -> list[bytes]:
    return messages(number for number in range(1, count + 1) if number not in deleted)


class Copies:
    """Copies of one Maildir by hard links, which say which message a file is."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._whole = box_of(path / "whole")
        self._names = names(self._whole)
        self._messages = {
            os.stat(self._whole / name).st_ino: (self._whole / name).read_bytes()
            for name in self._names
        }

    def make(self, name: str) -> Path:
        box = make_maildir(self._path / name, {})
        for each in self._names:
            os.link(self._whole / each, box / each)
        return box

    def contents(self, box: Path) -> list[bytes]:
        """Give the messages that are there, a file with two names once."""
        there = {os.stat(box / name).st_ino for name in names(box)}
        return sorted(self._messages[number] for number in there)


@pytest.mark.slow
@pytest.mark.parametrize("behind", [False, True], ids=["before", "behind"])
def test_kill_at_every_step_loses_nothing(
    tmp_path: Path, patched: Any, *, behind: bool
) -> None:
    copies = Copies(tmp_path)
    counter = patched(Faulty())
    assert quit_session(copies.make("counted"), DELETED) == 0
    assert counter.calls > COUNT
    for step in range(1, counter.calls + 1):
        box = copies.make(f"{step}")
        patched(Faulty(step, behind=behind))
        with pytest.raises(Killed):
            quit_session(box, DELETED)
        there = copies.contents(box)
        lost = set(messages(range(1, COUNT + 1))).difference(there)
        assert lost <= set(messages(iter(DELETED)))
        # The next session sees each message once, and completes the work.
        patched(Faulty())
        drop = Maildir(os.fsencode(box))
        assert drop.count == len(there)
        assert drop.update(()) == 0
        drop.close()
        assert copies.contents(box) == there
        assert len(names(box)) == len(there)
        assert os.listdir(box / "new") == []


@pytest.mark.parametrize(
    "number",
    [errno.EACCES, errno.EROFS, errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EPERM],
)
def test_a_disk_that_refuses_to_remove(
    tmp_path: Path, patched: Any, number: int
) -> None:
    box = box_of(tmp_path / "M", 20)
    before = contents(box)
    patched(Faulty(error=number, only="unlink"))
    assert quit_session(box, frozenset((1, 2, 3))) == 3
    assert contents(box) == before
    patched(Faulty())
    drop = Maildir(os.fsencode(box))
    assert drop.count == 20  # although some have two names now
    assert drop.update((1, 2, 3)) == 0
    drop.close()
    assert contents(box) == kept(frozenset((1, 2, 3)), 20)
    assert len(names(box)) == 17


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EIO])
def test_a_disk_that_refuses_everything(
    tmp_path: Path, patched: Any, number: int
) -> None:
    box = box_of(tmp_path / "M", 20)
    before = names(box)
    patched(Faulty(error=number))
    assert quit_session(box, frozenset((5, 7))) == 2
    assert names(box) == before


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK])
def test_without_hard_links_messages_move_all_the_same(
    tmp_path: Path, patched: Any, number: int
) -> None:
    box = box_of(tmp_path / "M", 20)
    (box / "cur/1.x.h:2,").write_bytes(b"another\n")
    patched(Faulty(error=number, only="link"))
    assert quit_session(box, frozenset()) == 0
    assert contents(box) == sorted([*kept(frozenset(), 20), b"another\n"])
    assert os.listdir(box / "new") == ["1.x.h"]  # its name in cur/ was taken


def test_a_full_table_of_descriptors_is_not_a_removed_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = box_of(tmp_path / "M", 4)
    drop = Maildir(os.fsencode(box))
    for name in names(box):
        os.rename(box / name, box / "cur" / (name[4:].partition(":")[0] + ":2,RS"))

    def listing(_folders: Folders, _folder: bytes) -> list[bytes]:
        raise OSError(errno.EMFILE, "too many")

    monkeypatch.setattr(Folders, "_names", listing)
    assert drop.update((1, 2)) == 2
    monkeypatch.undo()
    assert drop.update((1, 2)) == 0
    assert len(names(box)) == 2
    drop.close()


def test_messages_renamed_under_our_hands_are_followed_for_a_while(
    tmp_path: Path, patched: Any
) -> None:
    box = box_of(tmp_path / "M", 2)

    class Restless(Faulty):
        def _guarded(self, name: str, real: Any) -> Any:
            def unlink(path: bytes, **named: object) -> None:
                # Somebody changes the flags right before each of our calls.
                self.calls += 1
                old = os.fsencode(box) + b"/" + path
                os.rename(old, old.partition(b":")[0] + b":2,%d" % self.calls)
                real(path, **named)

            return unlink if name == "unlink" else real

    patched(Restless())
    drop = Maildir(os.fsencode(box), moves=False)
    assert drop.update((1, 2)) == 2  # given up, and told so
    patched(Faulty())
    assert drop.update((1, 2)) == 0
    assert names(box) == set()
    drop.close()


class Meeting:
    """posix, with somebody who acts before the call of this number, counted from 1."""

    def __init__(self, step: int, act: Callable[[], object]) -> None:
        self.has_met = False
        self._left = step
        self._act = act

    def __getattr__(self, name: str) -> Any:
        real = getattr(posix, name)
        return self._counted(real) if name in (*CHANGING, *READING) else real

    def _counted(self, real: Any) -> Any:
        def call(*arguments: object, **named: object) -> Any:
            self._left -= 1
            if not self._left:
                self.has_met = True
                self._act()
            return real(*arguments, **named)

        return call


MEETINGS = [
    ((), (1, 3, 4)),
    ((1, 3, 4), ()),
    ((1, 2), (2, 3)),
    ((1, 2, 3, 4), (1, 2, 3, 4)),
]


def texts(drop: Maildir) -> list[bytes]:
    """Read all messages, in order."""
    found = []
    for number in range(1, drop.count + 1):
        with open(drop.open(number), "rb") as file:
            found.append(file.read())
    return found


@pytest.mark.parametrize("namesakes", [False, True])
@pytest.mark.parametrize(("mine", "theirs"), MEETINGS)
def test_two_sessions_end_at_once(
    tmp_path: Path,
    patched: Any,
    mine: tuple[int, ...],
    theirs: tuple[int, ...],
    *,
    namesakes: bool,
) -> None:
    """What either was asked to remove is gone, and all else is there once."""
    replies: list[int] = []
    step = 0
    has_met = True
    while has_met:
        step += 1
        box = box_of(tmp_path / f"{step}", 6)
        if namesakes:
            add(box, "cur/1.x.h:2,", b"another\n")
            add(box, "cur/4.x.h:2,F", b"one more\n")
        first, other = Maildir(os.fsencode(box)), Maildir(os.fsencode(box))
        stored = texts(first)
        asked = {stored[number - 1] for number in (*mine, *theirs)}
        left = sorted(text for text in stored if text not in asked)

        def act(other: Maildir = other) -> None:
            replies.append(other.update(theirs))

        meeting = patched(Meeting(step, act))
        replies.append(first.update(mine))
        has_met = meeting.has_met
        patched(Faulty())
        if has_met:
            assert contents(box) == left
            assert len(names(box)) == len(left)
        first.close()
        other.close()
    assert step > 8
    assert not any(replies)
