# SPDX-License-Identifier: ISC
"""Changing passwords in the database: who may, when that is looked at, who is told."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from qtools.accounts import changers
from qtools.accounts.cli.changer import DatabaseChanger
from qtools.accounts.db.files import create
from qtools.accounts.db.store import Store
from qtools.accounts.refusals import NotAllowed, Unfit
from qtools.errors import Hard, Refused
from qtools.protocol import digests

STAMP = b"<1.2@h>"


@pytest.fixture
def path(tmp_path: Path) -> str:
    made = tmp_path / "accounts"
    create(os.fsencode(made))
    with Store(os.fsencode(made)) as store:
        store.set_option("method", b"md5")
        store.set_option("iterations", b"0")
        store.add(b"joe", None, b"/home", b"")
        store.set_secret(b"joe", b"old", clear=True)
        store.set_aliases(b"joe", ["alias"])
    return str(made)


@pytest.fixture
def changer(path: str) -> Iterator[DatabaseChanger]:
    made = changers.load(changers.word(f"db:{path}", {}), 100)()
    assert isinstance(made, DatabaseChanger)
    yield made
    made.end()


def secret(path: str) -> bytes:
    return Store(os.fsencode(path)).credentials(b"joe")["clear"]


def test_the_old_password_is_needed(changer: DatabaseChanger, path: str) -> None:
    for attempt in ((b"joe", b"wrong"), (b"nobody", b"old"), (b"joe", b"")):
        with pytest.raises(Refused):
            changer.authenticate(*attempt, b"")
        with pytest.raises(NotAllowed):
            changer.change(b"new")
    assert secret(path) == b"old"
    changer.authenticate(b"joe", b"old", b"")
    changer.change(b"new")
    assert secret(path) == b"new"


def test_a_digest_or_an_alias_will_do(changer: DatabaseChanger, path: str) -> None:
    changer.authenticate(b"alias", digests.apop(STAMP, b"old"), STAMP)
    changer.change(b"new")
    assert secret(path) == b"new"


def test_a_password_that_can_not_be_changes_nothing(
    changer: DatabaseChanger, path: str
) -> None:
    changer.authenticate(b"joe", b"old", b"")
    for new in (b"", b"a\0b", b"x" * 249):
        with pytest.raises(Unfit):
            changer.change(new)
    assert secret(path) == b"old"


@pytest.mark.parametrize("denial", ["may-change", "disabled", "removed"])
def test_a_denial_counts_at_once(
    changer: DatabaseChanger, path: str, denial: str
) -> None:
    changer.authenticate(b"joe", b"old", b"")
    with Store(os.fsencode(path)) as store:
        if denial == "may-change":
            store.set_may_change(b"joe", may_change=False)
        elif denial == "disabled":
            store.set_enabled(b"joe", is_enabled=False)
        else:
            store.remove(b"joe")
    is_gone = denial == "removed"
    why = "account has changed" if is_gone else "not allowed for this account"
    with pytest.raises(NotAllowed, match=why):
        changer.change(b"new")
    if not is_gone:
        assert secret(path) == b"old"


def test_who_gets_a_name_gets_no_change_of_who_had_it(
    changer: DatabaseChanger, path: str
) -> None:
    changer.authenticate(b"joe", b"old", b"")
    with Store(os.fsencode(path)) as store:
        store.rename(b"joe", b"joseph")
        store.set_aliases(b"joseph", [])
        store.add(b"joe", None, b"/home", b"")
        store.set_secret(b"joe", b"other", clear=True)
    with pytest.raises(NotAllowed, match="log in again"):
        changer.change(b"new")
    assert secret(path) == b"other"
    assert Store(os.fsencode(path)).credentials(b"joseph")["clear"] == b"old"


def test_the_hook_is_told_when_it_is_done(
    changer: DatabaseChanger, path: str, tmp_path: Path
) -> None:
    hook = tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\necho $1 $2 >>{tmp_path}/told\n", encoding="ascii")
    hook.chmod(0o755)
    with Store(os.fsencode(path)) as store:
        store.set_option("hook", os.fsencode(hook))
    changer.authenticate(b"joe", b"old", b"")
    changer.change(b"new")
    told = tmp_path / "told"
    assert not told.exists() or "joe" not in told.read_text()
    assert changer.settle() == ""
    lines = told.read_text().splitlines()
    assert "password joe" in lines
    changer.end()
    assert told.read_text().splitlines() == lines


def test_a_file_that_is_not_there_is_found_out(tmp_path: Path) -> None:
    changer = changers.load(f"db:{tmp_path}/none", 100)()
    with pytest.raises(Hard):
        changer.authenticate(b"joe", b"old", b"")
