# SPDX-License-Identifier: ISC
"""The hook program: told after each commit, in order, until it has taken it."""

import os
import stat
from pathlib import Path

import pytest

from qtools.accounts import hashes
from qtools.accounts.db.files import create
from qtools.accounts.db.outbox import Outbox, run_hook
from qtools.accounts.db.store import Store
from qtools.errors import Refused
from tests import support
from tests.support import wait_for

HOOK = """#!/bin/sh
printf '%s\\n' "$# $*" >>{folder}/told
env >{folder}/environment
[ ! -e {folder}/broken ]
"""
SECRET = b"unmistakable secret"


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    row = hashes.CRYPT_METHODS["md5"]
    monkeypatch.setitem(hashes.CRYPT_METHODS, hashes.PREFERRED, row)


@pytest.fixture
def path(tmp_path: Path) -> bytes:
    made = bytes(tmp_path / "accounts")
    create(made)
    script(tmp_path / "hook", HOOK.format(folder=tmp_path))
    with Store(made) as accounts:
        accounts.set_option("hook", bytes(tmp_path / "hook"))
        accounts._change("DELETE FROM outbox")
    return made


def script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(stat.S_IRWXU)


def told(folder: Path) -> list[str]:
    """Give what the program was told, and forget it."""
    file = folder / "told"
    lines = file.read_text().splitlines() if file.exists() else []
    file.unlink(missing_ok=True)
    return lines


def waiting(path: bytes) -> int:
    return len(Outbox(path)._execute("SELECT 1 FROM outbox"))


def test_it_is_told_what_was_done_to_whom(path: bytes, tmp_path: Path) -> None:
    with Store(path) as accounts:
        accounts.add_domain("ex.org")
        accounts.add(b"joe@ex.org", None, b"/", b"")
        accounts.set_secret(b"Joe@ex.org", SECRET, clear=True)
        accounts.rename(b"joe@ex.org", b"ann@ex.org")
        accounts.remove(b"ann@ex.org")
    assert told(tmp_path) == [], "the transaction doesn't wait for it"
    assert run_hook(path) == ""
    assert told(tmp_path) == [
        "3 domain-add ex.org ",
        "3 add joe@ex.org ",
        "3 password joe@ex.org ",
        "3 rename joe@ex.org ann@ex.org",
        "3 remove ann@ex.org ",
    ]
    assert run_hook(path) == ""
    assert told(tmp_path) == []


def test_it_is_told_of_all_that_goes_with_a_domain(path: bytes, tmp_path: Path) -> None:
    with Store(path) as accounts:
        for domain in ("ex.org", "ex.com"):
            accounts.add_domain(domain)
        for user in (b"joe@ex.org", b"ann@ex.org", b"bob@ex.com", b"zoe"):
            accounts.add(user, None, b"/", b"")
        accounts.set_aliases(b"joe@ex.org", ["j@ex.org", "j@ex.com"])
        accounts.set_aliases(b"zoe", ["z@ex.org", "y@ex.org"])
        accounts._change("DELETE FROM outbox")
        with pytest.raises(Refused):
            accounts.remove_domain("ex.org")
    assert run_hook(path) == ""
    assert told(tmp_path) == [], "of what was not done"
    with Store(path) as accounts:
        assert accounts.alias_holders("ex.org") == ["zoe"]
        assert accounts.alias_holders("ex.com") == ["joe@ex.org"]
        accounts.remove_domain("ex.org", force=True)
    run_hook(path)
    assert told(tmp_path) == [
        "3 aliases zoe ",
        "3 remove ann@ex.org ",
        "3 remove joe@ex.org ",
        "3 domain-remove ex.org ",
    ]


def test_it_gets_no_secret_and_nothing_of_our_environment(
    path: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PASSWORD", os.fsdecode(SECRET))
    with Store(path) as accounts:
        accounts.add(b"joe", None, b"/", b"")
        accounts.set_secret(b"joe", SECRET, clear=True)
    run_hook(path)
    seen = (tmp_path / "environment").read_text()
    assert "QTOOLS_EVENT=password\n" in seen
    assert "QTOOLS_ACCOUNT=joe\n" in seen
    assert "PASSWORD=" not in seen
    assert os.fsdecode(SECRET) not in seen + "".join(told(tmp_path))
    rows = Outbox(path)._execute("SELECT * FROM sqlite_sequence")
    assert rows == [("outbox", 3)]


@pytest.mark.parametrize(
    "name", ["$(x${IFS}x)", "-rf", "'\";|&", "`id`", "%s\\n", "\u00fc*?", "../../x"]
)
def test_a_hostile_name_is_a_word_like_any(
    path: bytes, tmp_path: Path, name: str
) -> None:
    with Store(path) as accounts:
        accounts.add(name.encode(), None, b"/", b"")
    assert run_hook(path) == ""
    assert told(tmp_path) == [f"3 add {name.lower()} "]


def add_twice(accounts: Store) -> None:
    for _ in range(2):
        accounts.add(b"joe", None, b"/", b"")


def test_what_is_rolled_back_is_not_told(path: bytes, tmp_path: Path) -> None:
    with pytest.raises(Refused), Store(path) as accounts:
        add_twice(accounts)
    assert run_hook(path) == ""
    assert told(tmp_path) == []


def test_what_fails_is_told_again_after_the_next_commit(
    path: bytes, tmp_path: Path
) -> None:
    (tmp_path / "broken").touch()
    with Store(path) as accounts:
        accounts.add(b"joe", None, b"/", b"")
        accounts.add(b"ann", None, b"/", b"")
    assert run_hook(path).endswith("ended with 1")
    assert told(tmp_path) == ["3 add joe "], "and what is behind it waits"
    (tmp_path / "broken").unlink()
    with Store(path) as accounts:
        accounts.set_enabled(b"joe", is_enabled=False)
    assert run_hook(path) == ""
    assert told(tmp_path) == ["3 add joe ", "3 add ann ", "3 disable joe "]


@pytest.mark.slow
def test_a_program_that_hangs_is_killed_with_its_children(
    path: bytes, tmp_path: Path
) -> None:
    text = f"#!/bin/sh\nsleep 1000 & echo $! >{tmp_path}/child; wait\n"
    script(tmp_path / "hook", text)
    with Store(path) as accounts:
        accounts.set_option("hook-timeout", b"1")
    assert run_hook(path).endswith("took longer than 1 seconds")
    child = int((tmp_path / "child").read_text())
    wait_for(lambda: _is_gone(child))
    assert waiting(path) == 1


def _is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


@pytest.mark.parametrize("hook", ["none", "", "accounts"])
def test_a_program_that_can_not_run_is_named(
    path: bytes, tmp_path: Path, hook: str
) -> None:
    with Store(path) as accounts:
        accounts.set_option("hook", bytes(tmp_path / hook))
    assert f"unable to run the hook {tmp_path / hook}" in run_hook(path)
    assert waiting(path) == 1


@pytest.mark.parametrize(
    ("mode", "owner"), [(0o660, 0), (0o620, 0), (0o600, 4711), (0o640, 4711)]
)
def test_root_runs_nothing_that_others_have_chosen(
    path: bytes, tmp_path: Path, mode: int, owner: int
) -> None:
    support.need_root()
    with Store(path) as accounts:
        accounts.add(b"joe", None, b"/", b"")
    os.chown(path, owner, -1)
    os.chmod(path, mode)
    assert run_hook(path) == (
        f"others than root may write {os.fsdecode(path)}: no program it names is run"
    )
    assert (told(tmp_path), waiting(path)) == ([], 1)
    os.chown(path, 0, -1)
    os.chmod(path, 0o640)
    assert run_hook(path) == ""
    assert told(tmp_path) == ["3 add joe "]


def test_one_process_tells_at_a_time(path: bytes, tmp_path: Path) -> None:
    with Store(path) as accounts:
        accounts.add(b"joe", None, b"/", b"")
    first = Outbox(path)
    event = first.next()
    assert event is not None
    assert event[1:3] == ("add", "joe")
    assert run_hook(path) == ""
    assert told(tmp_path) == []
    first.finish(event, is_told=False)
    assert run_hook(path) == ""
    assert told(tmp_path) == ["3 add joe "]


@pytest.mark.parametrize("ahead", [-1, 10**6])
def test_one_that_was_killed_is_not_waited_for(
    path: bytes, tmp_path: Path, ahead: int
) -> None:
    with Store(path) as accounts:
        accounts.add(b"joe", None, b"/", b"")
    outbox = Outbox(path)
    assert outbox.next() is not None
    with outbox:
        query = (
            "UPDATE meta SET value = CAST(value + ? AS TEXT) WHERE name = 'hook-busy'"
        )
        outbox._change(query, ahead if ahead > 0 else -1000)
    assert run_hook(path) == ""
    assert told(tmp_path) == ["3 add joe "]


def test_without_a_program_nothing_is_kept_for_it(path: bytes) -> None:
    with Store(path) as accounts:
        accounts.add(b"joe", None, b"/", b"")
        accounts.set_option("hook", b"")
        accounts.add(b"ann", None, b"/", b"")
    assert waiting(path) == 0
    assert run_hook(path) == ""


def test_a_database_that_has_gone_is_said(tmp_path: Path) -> None:
    assert "unable to open" in run_hook(bytes(tmp_path / "none"))
