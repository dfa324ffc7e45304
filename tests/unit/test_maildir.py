# SPDX-License-Identifier: ISC
"""A Maildir on a disk: what is a message, in which order, and what becomes of it."""

import os
import time
from pathlib import Path

import pytest

from qtools.errors import Hard
from qtools.maildrop import maildir, update
from qtools.maildrop.folders import Folders
from qtools.maildrop.interface import Gone
from qtools.maildrop.maildir import Maildir
from tests import corpus
from tests.pop3 import add, contents, make_maildir, names


def opened(path: Path, *, moves: bool = True, needs_cur: bool = True) -> Maildir:
    return Maildir(os.fsencode(path), moves=moves, needs_cur=needs_cur)


def read(drop: Maildir, number: int) -> bytes:
    descriptor = drop.open(number)
    with open(descriptor, "rb") as file:
        return file.read()


@pytest.fixture
def box(tmp_path: Path) -> Path:
    return make_maildir(
        tmp_path / "Maildir",
        {"cur/3.c:2,S": b"c\n", "new/2.b": b"b\n", "cur/1.a:2,": b"a\nA\n"},
    )


def test_numbers_follow_time_then_name(box: Path) -> None:
    add(box, "cur/9.z:2,", b"z", 1_000_000_001)
    drop = opened(box)
    assert [bytes(uid) for uid in drop.all_uids()] == [b"3.c", b"2.b", b"9.z", b"1.a"]
    assert list(drop.all_octets()) == [3, 3, 3, 6]
    assert [drop.uid(4), drop.octets(4), read(drop, 4)] == [b"1.a", 6, b"a\nA\n"]
    drop.close()


def test_only_regular_files_without_a_leading_dot_are_messages(box: Path) -> None:
    (box / "new/.hid").write_bytes(b"x")
    (box / "cur/folder").mkdir()
    (box / "cur/nowhere").symlink_to("missing")
    (box / "cur/folder2").symlink_to("folder")
    os.mkfifo(box / "new/fifo")
    (box / "outside").write_bytes(b"linked\n")
    (box / "cur/8.link:2,").symlink_to("../outside")
    drop = opened(box)
    assert drop.count == 4
    assert {bytes(uid) for uid in drop.all_uids()} == {
        b"1.a",
        b"2.b",
        b"3.c",
        b"8.link",
    }
    drop.close()


def test_a_message_of_this_second_or_of_the_future_is_shown(box: Path) -> None:
    add(box, "new/4.now", b"x", int(time.time()))
    add(box, "new/5.future", b"x", int(time.time()) + 100_000)
    drop = opened(box)
    assert list(drop.all_uids())[-2:] == [b"4.now", b"5.future"]
    drop.close()


def test_very_long_and_strange_names(tmp_path: Path) -> None:
    strange = ("n" * 255, "a b", "\xe4", "x\ny", ":2,", "back\\slash")
    box = make_maildir(tmp_path / "M", {f"new/{name}": b"x\n" for name in strange})
    drop = opened(box)
    assert drop.count == len(strange)
    assert drop.update([]) == 0
    moved = {"a b:2,", "\xe4:2,", "x\ny:2,", ":2,", "back\\slash:2,"}
    assert names(box) == {"new/" + "n" * 255, *(f"cur/{name}" for name in moved)}
    drop.close()


@pytest.mark.parametrize("lacking", ["", "new", "cur"])
def test_what_is_not_there_is_hard(tmp_path: Path, lacking: str) -> None:
    if lacking:
        (make_maildir(tmp_path / "M", {}) / lacking).rmdir()
    with pytest.raises(Hard, match="unable to read maildir"):
        opened(tmp_path / "M")


def test_a_missing_cur_can_be_an_empty_one(tmp_path: Path) -> None:
    box = make_maildir(tmp_path / "M", {"new/1.a": b"a", "new/2.b": b"b"})
    (box / "cur").rmdir()
    drop = opened(box, needs_cur=False)
    assert drop.count == 2
    (box / "new/1.a").unlink()
    with pytest.raises(Gone):
        drop.open(1)
    assert drop.update([2]) == 0
    assert os.listdir(box / "new") == []
    drop.close()


def test_opening_many_leaves_no_descriptor(tmp_path: Path, box: Path) -> None:
    before = os.listdir("/proc/self/fd")
    for _ in range(10):
        opened(box).close()
        with pytest.raises(Hard):
            opened(tmp_path / "none")
        with pytest.raises(Hard):
            opened(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_octets_are_those_of_the_file_unless_its_name_is_right(tmp_path: Path) -> None:
    made = {f"{each.folder}/{each.name}": each for each in corpus.messages()}
    box = make_maildir(tmp_path / "M", {key: each.stored for key, each in made.items()})
    drop = opened(box)
    expected = [len(each.wire) for each in corpus.messages()]
    assert [drop.octets(number + 1) for number in range(drop.count)] == expected
    assert list(drop.all_octets()) == expected
    drop.close()


def test_a_message_that_cannot_be_counted_has_no_octets(box: Path) -> None:
    drop = opened(box)
    (box / "new/2.b").unlink()
    assert drop.octets(2) == 0
    drop.close()


def test_another_program_changes_all_flags(box: Path) -> None:
    drop = opened(box)
    os.rename(box / "new/2.b", box / "cur/2.b:2,RS")
    os.rename(box / "cur/3.c:2,S", box / "cur/3.c:2,FS")
    assert [read(drop, number) for number in (1, 2, 3)] == [b"c\n", b"b\n", b"a\nA\n"]
    os.rename(box / "cur/2.b:2,RS", box / "new/2.b")
    assert read(drop, 2) == b"b\n"
    os.rename(box / "cur/1.a:2,", box / "cur/1.a:2,T")
    assert drop.update([1, 2, 3]) == 0
    assert names(box) == set()
    drop.close()


def test_what_another_session_removed_is_gone(box: Path) -> None:
    drop, other = opened(box), opened(box)
    assert other.update([1]) == 0
    with pytest.raises(Gone):
        drop.open(1)
    assert drop.update([1, 2]) == 0
    assert names(box) == {"cur/1.a:2,"}
    drop.close()
    other.close()


def test_looking_again_costs_one_listing_until_something_changes(
    box: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop = opened(box)
    for name in names(box):
        (box / name).unlink()
    listings: list[bytes] = []
    names_of = Folders._names

    def listing(folders: Folders, folder: bytes) -> list[bytes]:
        listings.append(folder)
        return names_of(folders, folder)

    monkeypatch.setattr(Folders, "_names", listing)
    for folder in ("new", "cur"):
        os.utime(box / folder, (10**9, 10**9))
    for number in (1, 2, 3, 1, 2, 3):
        with pytest.raises(Gone):
            drop.open(number)
    assert listings == [b"new/", b"cur/"]
    drop.close()


def test_two_changes_within_a_tick_of_the_clock(box: Path) -> None:
    drop = opened(box)
    os.rename(box / "cur/3.c:2,S", box / "cur/3.c:2,FS")
    stamp = (box / "cur").stat().st_mtime_ns
    assert read(drop, 1) == b"c\n"
    os.rename(box / "cur/1.a:2,", box / "cur/1.a:2,S")
    os.utime(box / "cur", ns=(stamp, stamp))
    assert read(drop, 3) == b"a\nA\n"
    os.rename(box / "cur/3.c:2,FS", box / "cur/3.c:2,T")
    os.utime(box / "cur", ns=(stamp, stamp))
    assert drop.update([1]) == 0
    assert names(box) == {"cur/2.b:2,", "cur/1.a:2,S"}
    drop.close()


def test_equal_base_names_are_never_mistaken_for_each_other(tmp_path: Path) -> None:
    box = make_maildir(tmp_path / "M", {"new/1.a": b"one\n", "cur/1.a:2,S": b"two\n"})
    drop = opened(box)
    assert drop.count == 2
    assert all(uid.startswith(b":") for uid in drop.all_uids())
    os.rename(box / "cur/1.a:2,S", box / "cur/1.a:2,FS")
    assert read(drop, 2) == b"two\n"
    (box / "new/1.a").unlink()
    os.rename(box / "cur/1.a:2,FS", box / "cur/1.a:2,T")
    with pytest.raises(Gone):
        drop.open(1)
    drop.update([1])
    assert names(box) == {"cur/1.a:2,T"}
    drop.close()


def test_a_name_that_became_another_message_s(tmp_path: Path) -> None:
    box = make_maildir(tmp_path / "M", {"cur/1.a:2,": b"old\n", "new/1.a": b"new\n"})
    first, other = opened(box), opened(box)
    old, new = (1, 2) if read(first, 1) == b"old\n" else (2, 1)
    assert other.update([old]) == 0
    assert names(box) == {"cur/1.a:2,"}
    with pytest.raises(Gone):
        first.open(old)
    assert read(first, new) == b"new\n"
    assert first.update([old]) == 0
    assert contents(box) == [b"new\n"]
    os.rename(box / "cur/1.a:2,", box / "cur/1.a:2,S")
    assert first.update([new]) == 0
    assert names(box) == set()
    first.close()
    other.close()


def test_a_name_that_became_another_message_s_between_dele_and_quit(
    tmp_path: Path,
) -> None:
    box = make_maildir(tmp_path / "M", {"cur/1.a:2,": b"old\n", "new/1.a": b"new\n"})
    first = opened(box)
    old = 1 if read(first, 1) == b"old\n" else 2
    os.rename(box / "new/1.a", box / "cur/1.a:2,")
    assert first.update([old]) == 0
    assert contents(box) == [b"new\n"]
    first.close()


def test_a_message_with_two_names_is_found_under_a_third(box: Path) -> None:
    os.link(box / "new/2.b", box / "cur/2.b:2,")
    drop = opened(box)
    os.rename(box / "cur/2.b:2,", box / "cur/2.b:2,S")
    assert read(drop, 2) == b"b\n"
    os.rename(box / "cur/2.b:2,S", box / "cur/2.b:2,T")
    assert drop.update([2]) == 0
    assert names(box) == {"cur/3.c:2,S", "cur/1.a:2,"}
    drop.close()


def ids(box: Path) -> dict[bytes, bytes]:
    """Give the unique-id of each message by its text."""
    drop = opened(box)
    found = {read(drop, each + 1): drop.uid(each + 1) for each in range(drop.count)}
    drop.close()
    return found


def test_the_id_of_a_namesake_is_never_that_of_another(tmp_path: Path) -> None:
    box = make_maildir(
        tmp_path / "M",
        {"cur/1.a:2,": b"one\n", "cur/1.a:2,F": b"two\n", "new/1.a": b"three\n"},
    )
    first = ids(box)
    assert len(set(first.values())) == 3
    os.rename(box / "cur/1.a:2,", box / "cur/1.a:2,T")
    assert ids(box) == first
    opened(box).update(())  # moves new/1.a
    assert "cur/1.a:2," in names(box)
    assert ids(box) == first
    (box / "cur/1.a:2,T").unlink()
    del first[b"one\n"]
    assert ids(box) == first
    (box / "cur/1.a:2,F").unlink()
    assert ids(box) == {b"three\n": b"1.a"}


def test_two_names_of_one_file_are_one_message(box: Path) -> None:
    os.link(box / "new/2.b", box / "cur/2.b:2,")
    os.link(box / "cur/3.c:2,S", box / "new/3.c")
    drop = opened(box)
    assert list(drop.all_uids()) == [b"3.c", b"2.b", b"1.a"]
    assert drop.update([1]) == 0
    assert names(box) == {"cur/2.b:2,", "cur/1.a:2,"}
    drop.close()


def test_update_moves_without_overwriting(box: Path) -> None:
    add(box, "new/4.d:2,F", b"d\n")
    add(box, "new/5.e", b"new e\n")
    add(box, "cur/5.e:2,", b"old e\n")
    (box / "outside").write_bytes(b"linked\n")
    (box / "new/6.l").symlink_to("../outside")
    before = contents(box)
    drop = opened(box)
    assert drop.update([]) == 0
    assert contents(box) == before
    assert names(box) == {
        *("cur/3.c:2,S", "cur/2.b:2,", "cur/1.a:2,", "cur/4.d:2,F", "cur/6.l:2,"),
        *("new/5.e", "cur/5.e:2,"),
    }
    assert (box / "cur/6.l:2,").is_symlink()
    drop.close()


def test_nothing_moves_when_told_so(box: Path) -> None:
    drop = opened(box, moves=False)
    assert drop.update([1]) == 0
    drop.tidy()
    assert names(box) == {"new/2.b", "cur/1.a:2,"}
    drop.close()


def test_a_long_backlog_moves_after_the_reply(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maildir, "MOVES_BEFORE_REPLY", 3)
    box = make_maildir(tmp_path / "M", {f"new/{each}": b"x" for each in range(7)})
    drop = opened(box)
    drop.update([])
    assert len(os.listdir(box / "cur")) == 3
    drop.tidy()
    assert len(os.listdir(box / "cur")) == 7
    drop.close()


def test_tmp_is_cleaned_of_files_untouched_for_36_hours(
    box: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(box, "tmp/old", b"x", 1)
    add(box, "tmp/.old", b"x", 1)
    (box / "tmp/folder").mkdir()
    # The status change is of now and can't be set back, so the clock is set forward.
    drop = opened(box)
    later = time.time() + update.TMP_SECONDS
    monkeypatch.setattr(update, "time", lambda: later - 60)
    drop.tidy()
    assert (box / "tmp/old").exists()
    monkeypatch.setattr(update, "time", lambda: later + 60)
    drop.tidy()
    assert set(os.listdir(box / "tmp")) == {".old", "folder"}
    drop.close()


def test_tmp_is_cleaned_in_parts(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        add(box, f"tmp/{number}", b"x")
    monkeypatch.setattr(update, "TMP_FILES", 2)
    monkeypatch.setattr(update, "time", lambda: time.time_ns() / 1e9 + 10**6)
    drop = opened(box)
    drop.tidy()
    assert len(os.listdir(box / "tmp")) == 3
    drop.close()


def test_a_missing_tmp_is_no_matter(box: Path) -> None:
    (box / "tmp").rmdir()
    drop = opened(box)
    drop.tidy()
    drop.close()
