# SPDX-License-Identifier: ISC
"""database and store: what is written is read, and every wrong file is named."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qtools.accounts import hashes, limits
from qtools.accounts.db import opening, schema
from qtools.accounts.db.files import create
from qtools.accounts.db.reader import Database, open_source
from qtools.accounts.db.store import Store
from qtools.accounts.interface import Unknown
from qtools.errors import Failure, Hard, Refused, Temporary
from qtools.protocol import digests
from tests.support import TOP

STAMP = b"<1.2@h>"


@pytest.fixture
def path(tmp_path: Path) -> bytes:
    made = bytes(tmp_path / "accounts ?#%41\u00fc.db")
    create(made)
    return made


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash with a method that costs nothing where none is named."""
    row = hashes.CRYPT_METHODS["md5"]
    monkeypatch.setitem(hashes.CRYPT_METHODS, hashes.PREFERRED, row)


def add(path: bytes, user: bytes, *, clear: bool = False, method: str = "") -> None:
    with Store(path) as accounts:
        accounts.add(user, (7, 8), b"/home/joe", b"/mail/joe", make_domain=True)
        accounts.set_secret(user, b"secret", method, clear=clear)


def raw(path: bytes, query: str) -> None:
    """Run a statement as somebody with other tools would, in another process."""
    code = (
        "import sqlite3, sys\n"
        "sqlite3.connect(sys.argv[1], isolation_level=None).execute(sys.argv[2])"
    )
    subprocess.run([sys.executable, "-c", code, path, query], check=True)


def test_the_file_is_its_owners_alone(path: bytes) -> None:
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_an_account_is_found(path: bytes) -> None:
    add(path, b"Joe@Ex.com")
    who = Database(path).verify(b"jOE@ex.COM", b"secret", b"")
    assert who.name == b"joe@ex.com"
    assert (who.uid, who.gid, who.groups) == (7, 8, [8])
    assert (who.home, who.maildir, who.shell) == (b"/home/joe", b"/mail/joe", b"")


def test_a_maildir_alone_gives_a_home(path: bytes) -> None:
    with Store(path) as accounts:
        accounts.add(b"joe", None, b"", b"/srv/j\xff/Maildir")
        accounts.set_secret(b"joe", b"secret", "", clear=False)
    who = Database(path).verify(b"joe", b"secret", b"")
    assert (who.uid, who.gid, who.groups) == (-1, -1, [])
    assert (who.home, who.maildir) == (b"/srv/j\xff", b"/srv/j\xff/Maildir")


@pytest.mark.parametrize("secret", [b"", b"Secret", b"secret\0", b"$1$", b"x" * 500])
def test_a_wrong_secret_is_refused(path: bytes, secret: bytes) -> None:
    add(path, b"joe", clear=True)
    for challenge in (b"", STAMP):
        with pytest.raises(Refused, match="wrong secret"):
            Database(path).verify(b"joe", secret, challenge)


@pytest.mark.parametrize("digest", [digests.apop, digests.cram_md5])
def test_digests_need_the_clear_secret(path: bytes, digest: object) -> None:
    add(path, b"joe", clear=True)
    add(path, b"ann")
    assert callable(digest)
    made = digest(STAMP, b"secret")
    assert Database(path).verify(b"joe", made, STAMP).name == b"joe"
    with pytest.raises(Refused):
        Database(path).verify(b"joe", made, b"")
    with pytest.raises(Refused):
        Database(path).verify(b"ann", made, STAMP)


@pytest.mark.parametrize("user", [b"ann", b"", b"\xff", b"' OR 1 --", b"jo", b"joe "])
def test_a_stranger_is_unknown(path: bytes, user: bytes) -> None:
    add(path, b"joe")
    with pytest.raises(Unknown):
        Database(path).verify(user, b"secret", b"")


def test_a_disabled_account_is_refused_until_enabled(path: bytes) -> None:
    add(path, b"joe")
    with Store(path) as accounts:
        accounts.set_enabled(b"JOE", is_enabled=False)
    with pytest.raises(Refused, match="disabled"):
        Database(path).verify(b"joe", b"secret", b"")
    with pytest.raises(Refused, match="wrong"):
        Database(path).verify(b"joe", b"guess", b"")
    with Store(path) as accounts:
        accounts.set_enabled(b"joe", is_enabled=True)
    assert Database(path).verify(b"joe", b"secret", b"").name == b"joe"


def test_an_account_without_a_secret_lets_nobody_in(path: bytes) -> None:
    with Store(path) as accounts:
        accounts.add(b"joe", None, b"/", b"")
    for secret in (b"", b"secret"):
        with pytest.raises(Refused):
            Database(path).verify(b"joe", secret, STAMP)


def test_a_new_secret_replaces_all_of_the_old(path: bytes) -> None:
    add(path, b"joe", clear=True)
    with Store(path) as accounts:
        accounts.set_secret(b"joe", b"other", "", clear=False)
        assert not accounts.show(b"joe").has_clear
    with pytest.raises(Refused):
        Database(path).verify(b"joe", b"secret", b"")
    with pytest.raises(Refused):
        Database(path).verify(b"joe", digests.apop(STAMP, b"secret"), STAMP)
    Database(path).verify(b"joe", b"other", b"")


def octets(path: bytes) -> bytes:
    """Give what is in the file and in its log."""
    names = (os.fsdecode(path), os.fsdecode(path) + "-wal")
    return b"".join(Path(name).read_bytes() for name in names)


def test_what_is_replaced_or_removed_is_wiped(path: bytes) -> None:
    secret = b"unmistakable secret"
    with Store(path) as accounts:
        accounts.add(b"joe", None, b"/", b"")
        accounts.set_secret(b"joe", secret, "", clear=True)
    assert secret in octets(path)
    with Store(path) as accounts:
        accounts.set_secret(b"joe", b"other secret", "", clear=True)
    assert secret not in octets(path)
    with Store(path) as accounts:
        accounts.remove(b"joe")
    assert b"other secret" not in octets(path)


def test_the_decoy_follows_the_method(path: bytes) -> None:
    add(path, b"joe", method="md5")
    assert Database(path).decoy().startswith(b"$1$")
    with Store(path) as accounts:
        accounts.set_secret(b"joe", b"secret", "sha512", clear=False)
    assert Database(path).decoy().startswith(b"$6$")
    raw(path, "DELETE FROM meta")
    assert Database(path).decoy() == b""


def test_the_decoys_secret_can_be_hashed(
    path: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "urandom", lambda octets: b"\0" * octets)
    add(path, b"joe")
    assert Database(path).decoy().startswith(b"$1$")


def test_nothing_is_changed_when_something_fails(path: bytes) -> None:
    accounts = Store(path)
    with pytest.raises(Refused, match="empty"), accounts:
        add_without_secret(accounts)
    assert list(accounts.list()) == []


def add_without_secret(accounts: Store) -> None:
    accounts.add(b"joe", None, b"/", b"")
    accounts.set_secret(b"joe", b"", "", clear=False)


def test_no_account_twice_and_none_that_is_not_there(path: bytes) -> None:
    add(path, b"joe")
    with pytest.raises(Refused, match="already"):
        add(path, b"JOE")
    with Store(path) as accounts:
        for call in (
            lambda: accounts.show(b"ann"),
            lambda: accounts.remove(b"ann"),
            lambda: accounts.set_enabled(b"ann", is_enabled=True),
            lambda: accounts.set_secret(b"ann", b"secret", "", clear=False),
        ):
            with pytest.raises(Refused, match="no account ann"):
                call()


@pytest.mark.parametrize(
    "user", [b"", b"a b", b"a\tb", b"a\nb", b"a\0b", b"\xff", b"\xc2\x85", b"x" * 249]
)
def test_impossible_names_are_refused(path: bytes, user: bytes) -> None:
    with pytest.raises(Refused, match="name is"):
        add(path, user)


@pytest.mark.parametrize("secret", [b"", b"a\0b", b"a\nb", b"a\rb", b"x" * 249])
def test_impossible_secrets_are_refused(secret: bytes) -> None:
    with pytest.raises(Refused, match="password"):
        limits.check_secret(secret)


def test_accounts_are_listed_by_name(path: bytes) -> None:
    for user in (b"joe", b"ann", b"z\xc3\xb6e"):
        add(path, user)
    assert [account.user for account in Store(path).list()] == [
        "ann",
        "joe",
        "z\u00f6e",
    ]
    account = Store(path).show(b"joe")
    assert (account.uid, account.gid, account.is_enabled) == (7, 8, True)
    assert (account.home, account.maildir) == ("/home/joe", "/mail/joe")
    assert account.method == "$1$"
    assert account.created <= account.changed
    assert not any("secret" in str(value) for value in vars(account).values())


def test_init_overwrites_nothing(path: bytes) -> None:
    with pytest.raises(Refused, match="exists already"):
        create(path)


MAKER = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from qtools.accounts.db import files, ledger, migrations

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

owner, _, name = sys.argv[3].rpartition(".")
setattr(eval(owner), name, die)
files.create(os.fsencode(sys.argv[2]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "is_there"),
    [
        ("migrations.build", False),
        ("os.link", False),
        ("os.unlink", True),
        ("ledger.log_ahead", True),
    ],
)
def test_init_killed_at_any_step_can_be_repeated(
    tmp_path: Path, step: str, *, is_there: bool
) -> None:
    path = tmp_path / "accounts"
    killed = subprocess.run([sys.executable, "-c", MAKER, TOP, path, step], check=False)
    assert killed.returncode == -9
    assert path.exists() == is_there
    if not is_there:
        create(bytes(path))
    add(bytes(path), b"joe")
    assert Database(bytes(path)).verify(b"joe", b"secret", b"").name == b"joe"


def test_init_leaves_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = bytes(tmp_path / "accounts")
    monkeypatch.setitem(schema.STEPS, 2, "no such statement")
    with pytest.raises(Temporary):
        create(path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    create(path)
    with pytest.raises(Refused, match="exists already"):
        create(path)
    names = sorted(entry.name for entry in tmp_path.iterdir())
    assert names == ["accounts", "accounts-shm", "accounts-wal"]


def test_init_says_where_it_can_not_be(tmp_path: Path) -> None:
    with pytest.raises(Hard, match="unable to make"):
        create(bytes(tmp_path / "no" / "folder"))


# --------------------------------------------------------------------------------
# files that are wrong


def both(path: bytes) -> Iterator[Failure]:
    """Give the failures of reader and writer, which must be alike."""
    for opener in (Database, Store):
        with pytest.raises(Failure) as caught:
            opener(path).verify(b"joe", b"x", b"") if opener is Database else Store(
                path
            ).show(b"joe")
        yield caught.value


def test_a_missing_file_is_hard(tmp_path: Path) -> None:
    for why in both(bytes(tmp_path / "none")):
        assert isinstance(why, Hard)
        assert "unable to open" in str(why)
    assert list(tmp_path.iterdir()) == []


def test_another_kind_of_file_is_hard(tmp_path: Path) -> None:
    text, empty, foreign = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    text.write_bytes(b"joe:secret\n" * 1000)
    empty.touch()
    raw(bytes(foreign), "CREATE TABLE account (user)")
    for file in (text, empty, foreign):
        file.chmod(0o600)
        for why in both(bytes(file)):
            assert isinstance(why, Hard)
            assert "is not an account database" in str(why)


@pytest.mark.parametrize(("version", "age"), [(3, "a newer"), (0, "an older")])
def test_another_version_is_hard(path: bytes, version: int, age: str) -> None:
    raw(path, f"PRAGMA user_version = {version}")
    for why in both(path):
        assert isinstance(why, Hard)
        assert f"{age} format, {version}; this program knows 2" in str(why)


def test_a_damaged_file_is_hard(path: bytes) -> None:
    add(path, b"joe")
    file = Path(os.fsdecode(path))
    file.write_bytes(file.read_bytes()[:4096] + b"\xa5" * 40960)
    for why in both(path):
        assert isinstance(why, Hard)
        assert "damaged" in str(why)


@pytest.mark.parametrize("mode", [0o644, 0o602, 0o601])
def test_a_file_open_to_everybody_is_hard(path: bytes, mode: int) -> None:
    os.chmod(path, mode)
    for why in both(path):
        assert isinstance(why, Hard)
        assert "has mode 600" in str(why)
        assert "chmod" not in str(why)  # who mistypes a name must not mend that file
    os.chmod(path, 0o640)  # for a verifier that isn't root
    add(path, b"joe")
    Database(path).verify(b"joe", b"secret", b"")


def test_a_missing_table_is_temporary(path: bytes) -> None:
    raw(path, "DROP TABLE credential")
    with pytest.raises(Temporary, match="no such table"):
        Database(path).verify(b"joe", b"secret", b"")


def test_a_writer_waits_for_another_and_no_reader_for_any(
    path: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(path, b"joe")
    monkeypatch.setattr(opening, "BUSY_SECONDS", 0.01)
    with Store(path) as holder:
        holder.set_enabled(b"joe", is_enabled=True)
        with pytest.raises(Temporary, match="locked"), Store(path) as late:
            late.set_enabled(b"joe", is_enabled=False)
        Database(path).verify(b"joe", b"secret", b"")


def test_the_file_name_is_absolute() -> None:
    with pytest.raises(Hard, match="absolute"):
        open_source(b"accounts.db")


@pytest.mark.slow
@given(st.binary(max_size=600), st.integers(0, 40960))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_damage_crashes(path: bytes, data: bytes, place: int) -> None:
    file = Path(os.fsdecode(path))
    if not list(Store(path).list()):
        add(path, b"joe")
    whole = file.read_bytes()
    broken = whole[:place] + data + whole[place + len(data) :]
    file.write_bytes(broken)
    try:
        Database(path).verify(b"joe", b"guess", b"")
    except (Failure, ValueError):
        pass
    finally:
        file.write_bytes(whole)


WRITER = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from qtools.accounts.db.store import Store
accounts = Store(os.fsencode(sys.argv[2]))
if sys.argv[3] == "delete":
    accounts._execute("PRAGMA journal_mode = DELETE")
accounts._execute("PRAGMA cache_size = 1")
accounts._execute("PRAGMA cache_spill = 1")
accounts.__enter__()
for number in range(500):
    accounts.add(b"user%d" % number, None, b"/" + b"x" * 200, b"")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "left"), [("wal", "-wal"), ("delete", "-journal")])
def test_what_a_killed_writer_left_is_rolled_back(
    path: bytes, mode: str, left: str
) -> None:
    add(path, b"joe")
    words = [sys.executable, "-c", WRITER, str(TOP), os.fsdecode(path), mode]
    assert subprocess.run(words, check=False).returncode == -9
    assert os.stat(path + left.encode()).st_size > 16_000
    assert Database(path).verify(b"joe", b"secret", b"").name == b"joe"
    assert [account.user for account in Store(path).list()] == ["joe"]
