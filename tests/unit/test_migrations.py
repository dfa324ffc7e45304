# SPDX-License-Identifier: ISC
"""Files of earlier versions: read as they are, brought up to date, never half."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from qtools.accounts import hashes, registry
from qtools.accounts.db import schema
from qtools.accounts.db.files import backup, create, migrate
from qtools.accounts.db.reader import Database
from qtools.accounts.db.store import Store
from qtools.accounts.interface import Unknown
from qtools.accounts.standing import Standing
from qtools.errors import Failure, Hard, Refused
from qtools.protocol import digests
from tests.support import TOP

# What the program of version 1 has written, as sqlite3's .dump gives it. The secrets
# are "secret" of joe and "another" of the two others, whose domains and case differ.
VERSION_1 = """
PRAGMA application_id = 1903452515;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE meta (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES('decoy',X'2431242F50484F6B4A376424486F724F75756B6D4C624A6A77\
4F4437443571726A30');
CREATE TABLE account (
    id INTEGER PRIMARY KEY,
    user TEXT NOT NULL UNIQUE,
    enabled INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)),
    uid INTEGER,
    gid INTEGER,
    home,
    maildir,
    created INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    CHECK ((uid IS NULL) = (gid IS NULL))
);
INSERT INTO account VALUES(1,'joe',1,7,8,'/home/joe',NULL,1763700000,1763700001);
INSERT INTO account VALUES(2,'ann@ex.org',1,NULL,NULL,NULL,X'2F6D2FFF',1763700002,\
1763700002);
INSERT INTO account VALUES(4,'a@b@ex.com',0,7,8,'/h',NULL,1763700003,1763700003);
INSERT INTO account VALUES(5,'odd@',1,7,8,'/h',NULL,1763700004,1763700004);
CREATE TABLE credential (
    account INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    value BLOB NOT NULL,
    changed INTEGER NOT NULL,
    PRIMARY KEY (account, kind)
) WITHOUT ROWID;
INSERT INTO credential VALUES(1,'clear',X'736563726574',1763700001);
INSERT INTO credential VALUES(1,'hash',@secret,1763700001);
INSERT INTO credential VALUES(2,'hash',@another,1763700002);
INSERT INTO credential VALUES(4,'hash',@another,1763700003);
COMMIT;
"""


def blob(secret: bytes) -> str:
    return f"X'{hashes.make(secret, 'md5').hex()}'"


@pytest.fixture
def old(tmp_path: Path) -> bytes:
    """Give a file as version 1 has left it."""
    path = tmp_path / "accounts"
    text = VERSION_1.replace("@secret", blob(b"secret"))
    connection = sqlite3.connect(path)
    connection.executescript(text.replace("@another", blob(b"another")))
    connection.close()
    path.chmod(0o600)
    return bytes(path)


def version(path: bytes) -> int:
    connection = sqlite3.connect(path)
    number: int = connection.execute("PRAGMA user_version").fetchone()[0]
    connection.close()
    return number


def check_old(path: bytes) -> None:
    """Look whether everybody of version 1 still comes in."""
    database = Database(path)
    joe = database.verify(b"joe", b"secret", b"")
    assert (joe.uid, joe.gid, joe.home) == (7, 8, b"/home/joe")
    digest = digests.apop(b"<1@h>", b"secret")
    assert database.verify(b"JOE", digest, b"<1@h>").name == b"joe"
    ann = database.verify(b"Ann@ex.org", b"another", b"")
    assert (ann.uid, ann.maildir) == (-1, b"/m/\xff")
    with pytest.raises(Refused, match="disabled"):
        database.verify(b"a@b@ex.com", b"another", b"")
    with pytest.raises(Unknown):
        database.verify(b"ann", b"another", b"")
    assert database.decoy().startswith(b"$1$")
    assert database.keys(b"ann@ex.org") == b""
    database.close()


def test_a_reader_takes_an_old_file_as_it_is(old: bytes) -> None:
    before = Path(os.fsdecode(old)).read_bytes()
    check_old(old)
    assert Database(old).iterations(b"zoe") == 0
    assert Path(os.fsdecode(old)).read_bytes() == before
    assert os.listdir(os.path.dirname(old)) == [b"accounts"]


def test_an_old_file_is_brought_up_to_date_once(old: bytes) -> None:
    assert migrate(old) == (1, 2)
    assert migrate(old) == (2, 2)
    assert version(old) == 2
    check_old(old)
    accounts = Store(old)
    assert accounts.domains() == ["ex.com", "ex.org"]
    found = {account.user: account for account in accounts.list()}
    assert list(found) == ["a@b@ex.com", "ann@ex.org", "joe", "odd@"]
    assert [account.user for account in accounts.list("ex.com")] == ["a@b@ex.com"]
    assert [account.user for account in accounts.list("")] == ["joe", "odd@"]
    assert (found["joe"].created, found["joe"].changed) == (1763700000, 1763700001)
    assert all(account.may_change for account in found.values())
    assert len(Database(old).salt_key()) == 64
    with accounts:
        accounts.set_aliases(b"ann@ex.org", ["ann"])
    assert Database(old).verify(b"ann", b"another", b"").name == b"ann@ex.org"


def test_a_reader_that_stays_sees_what_a_migration_has_made(old: bytes) -> None:
    """The writer stays as well, so that all of it is in the log and not in the file."""
    log = sqlite3.connect(os.fsdecode(old))
    log.execute("PRAGMA journal_mode = WAL")
    log.close()
    stand = Standing([f"db:{os.fsdecode(old)}"])
    before, stamp = stand.sources(), os.stat(old)
    assert registry.verify(before, b"joe", b"secret", b"").name == b"joe"
    accounts = Store(old)
    with accounts:
        accounts.set_main_domain("ex.org")
        accounts.set_aliases(b"joe", ["me"])
    assert os.stat(old).st_mtime_ns == stamp.st_mtime_ns
    for user in (b"joe", b"joe@ex.org", b"me@ex.org", b"Me"):
        assert registry.verify(stand.sources(), user, b"secret", b"").name == b"joe"
    assert before[0].canonical(b"Zoe@EX.org") == b"zoe"  # type: ignore[attr-defined]
    accounts.close()


def test_a_writer_brings_it_up_to_date_by_itself(old: bytes) -> None:
    with Store(old) as accounts:
        accounts.set_secret(b"joe", b"secret", "md5")
    assert version(old) == 2
    check_old(old)


def test_a_file_that_was_new_and_one_that_was_old_are_alike(
    old: bytes, tmp_path: Path
) -> None:
    migrate(old)
    create(bytes(tmp_path / "new"))
    kinds = []
    for path in (old, bytes(tmp_path / "new")):
        query = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name"
        accounts = Store(path)
        kinds.append(accounts._execute(query))
        assert accounts._execute("PRAGMA foreign_key_check") == []
        assert accounts._execute("PRAGMA integrity_check") == [("ok",)]
        assert accounts._execute("PRAGMA journal_mode") == [("wal",)]
    assert kinds[0] == kinds[1]


def test_a_step_that_fails_leaves_the_old_file(
    old: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Path(os.fsdecode(old)).read_bytes()
    monkeypatch.setitem(schema.STEPS, 2, schema.SECOND + "no such statement;")
    for opener in (migrate, Store):
        with pytest.raises(Failure, match="syntax error"):
            opener(old)
    assert Path(os.fsdecode(old)).read_bytes() == before
    check_old(old)
    monkeypatch.undo()
    assert migrate(old) == (1, 2)


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from qtools.accounts.db import files
from qtools.system.ffi.statements import Writable

count, run = int(sys.argv[3]), Writable.run

def die(*words):
    global count
    count -= 1
    if count < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return run(*words)

Writable.run = die
files.migrate(os.fsencode(sys.argv[2]))
"""


@pytest.mark.slow
def test_a_migration_killed_anywhere_leaves_the_old_file_or_the_new(old: bytes) -> None:
    file = Path(os.fsdecode(old))
    before, seen = file.read_bytes(), set()
    for count in range(100):
        words = [sys.executable, "-c", KILLED, str(TOP), str(file), str(count)]
        code = subprocess.run(words, check=False).returncode
        check_old(old)
        seen.add(version(old))
        assert migrate(old)[1] == 2
        check_old(old)
        if code == 0:
            break
        assert code == -9
        for suffix in ("", "-wal", "-shm", "-journal"):
            Path(str(file) + suffix).unlink(missing_ok=True)
        file.write_bytes(before)
        file.chmod(0o600)
    else:
        pytest.fail("it never came to its end")
    assert count > len(schema.SECOND.split(";"))
    assert seen == {1, 2}


def test_two_writers_at_once_migrate_once(old: bytes) -> None:
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1])\n"
        "from qtools.accounts.db.files import migrate\n"
        "sys.stdin.read(1); print(migrate(os.fsencode(sys.argv[2]))[0])"
    )
    words = [sys.executable, "-c", code, str(TOP), os.fsdecode(old)]
    pipe = subprocess.PIPE
    runs = [subprocess.Popen(words, stdin=pipe, stdout=pipe) for _ in range(4)]
    for run in runs:  # all of them are ready by then, or nearly
        assert run.stdin
        run.stdin.write(b"!")
        run.stdin.flush()
    outputs = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0] * 4
    assert {*outputs} <= {b"1\n", b"2\n"}
    check_old(old)
    assert version(old) == 2


# --------------------------------------------------------------------------------
# copies


def test_a_copy_is_whole_while_somebody_writes(old: bytes, tmp_path: Path) -> None:
    to = bytes(tmp_path / "copy")
    with Store(old) as accounts:
        accounts.add(b"bob", None, b"/", b"")
        backup(old, to)
    assert os.stat(to).st_mode & 0o777 == 0o600
    check_old(to)
    assert [account.user for account in Store(to).list()][-2:] == ["joe", "odd@"]
    assert "bob" in [account.user for account in Store(old).list()]


def test_a_copy_has_what_is_in_the_log_only(old: bytes, tmp_path: Path) -> None:
    holder = Store(old)
    with Store(old) as accounts:
        accounts.add(b"bob", None, b"/", b"")
    assert os.stat(old + b"-wal").st_size > 0
    backup(old, bytes(tmp_path / "copy"))
    holder.close()
    names = sorted(entry.name for entry in tmp_path.iterdir())
    assert names == ["accounts", "accounts-shm", "accounts-wal", "copy"]
    assert Store(bytes(tmp_path / "copy")).show(b"bob").user == "bob"


def test_a_copy_of_an_old_file_is_as_old(old: bytes, tmp_path: Path) -> None:
    backup(old, bytes(tmp_path / "copy"))
    assert version(bytes(tmp_path / "copy")) == 1
    check_old(bytes(tmp_path / "copy"))


def test_a_copy_takes_no_file_away(old: bytes, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("mine")
    taken.chmod(0o600)
    with pytest.raises(Refused, match="taken exists already"):
        backup(old, bytes(taken))
    assert taken.read_text() == "mine"
    with pytest.raises(Hard, match="unable to make"):
        backup(old, bytes(tmp_path / "no" / "folder"))
    with pytest.raises(Hard, match="not an account database"):
        backup(bytes(taken), bytes(tmp_path / "copy"))
    assert not (tmp_path / "copy").exists()


def test_nothing_is_put_beside_what_is_left_of_another(
    old: bytes, tmp_path: Path
) -> None:
    left = tmp_path / "new-wal"
    left.write_bytes(b"x")
    with pytest.raises(Refused, match="new-wal is left of another"):
        create(bytes(tmp_path / "new"))
    with pytest.raises(Refused, match="new-wal is left of another"):
        backup(old, bytes(tmp_path / "new"))
    left.write_bytes(b"")
    create(bytes(tmp_path / "new"))
    assert list(Store(bytes(tmp_path / "new")).list()) == []
