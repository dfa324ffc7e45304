# SPDX-License-Identifier: ISC
"""Who may only read the account database reads it, whatever writers do or have left.

The reader is another process, as another user where we are root: its group may read.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from qtools.accounts.db.files import create
from qtools.accounts.db.store import Store
from tests.conftest import Tools
from tests.support import IS_ROOT, OWNER, TOP, need_root

READER = """
import os, sys
sys.path.insert(0, sys.argv[1])
from qtools.accounts.db.reader import Database
from qtools.errors import Failure

database = None
for line in sys.stdin.buffer:
    user, secret = line.split()
    try:
        database = database or Database(os.fsencode(sys.argv[2]))
        answer = database.verify(user, secret, b"").name
    except Failure as why:
        answer = f"{type(why).__name__}: {why}".encode()
    sys.stdout.buffer.write(answer + b"\\n")
    sys.stdout.buffer.flush()
"""

KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from qtools.accounts.db.store import Store
accounts = Store(os.fsencode(sys.argv[2]))
with accounts:
    accounts.set_secret(b"joe", b"new", "md5")
if sys.argv[3] == "inside":
    accounts._connection.run("PRAGMA cache_size = 1")
    accounts.__enter__()
    for number in range(500):
        accounts.add(b"user%d" % number, None, b"/" + b"x" * 200, b"")
    accounts.set_secret(b"joe", b"newer", "md5")
os.kill(os.getpid(), signal.SIGKILL)
"""


class Reader:
    """A verifier that stays, as somebody who may only read."""

    def __init__(self, tools: Tools, path: bytes) -> None:
        library = str(tools.prefix / "lib/qtools")
        self._process = subprocess.Popen(
            [tools.python, "-I", "-c", READER, library, os.fsdecode(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            user=OWNER[0] if IS_ROOT else None,
            group=OWNER[1] if IS_ROOT else None,
            extra_groups=[] if IS_ROOT else None,
        )

    def ask(self, user: bytes, secret: bytes) -> str:
        """Give the account's name, or the failure."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(user + b" " + secret + b"\n")
        self._process.stdin.flush()
        answer: bytes = self._process.stdout.readline()
        return answer.decode().rstrip("\n")

    def close(self) -> None:
        """Let it end."""
        self._process.communicate()
        assert self._process.returncode == 0


@pytest.fixture
def path(room: Path) -> bytes:
    """Give a database that belongs to us and may be read by a group."""
    made = bytes(room / "accounts")
    create(made)
    os.chown(made, -1, OWNER[1])
    os.chmod(made, 0o640)
    accounts = Store(made)
    with accounts:
        accounts.add(b"joe", None, b"/", b"")
        accounts.set_secret(b"joe", b"secret", "md5")
    accounts.close()
    return made


def ask(tools: Tools, path: bytes, user: bytes, secret: bytes) -> str:
    reader = Reader(tools, path)
    try:
        return reader.ask(user, secret)
    finally:
        reader.close()


def modes(path: bytes) -> set[tuple[int, int, int]]:
    """Give owners, groups and modes of the file and its companions."""
    found = [os.stat(path + suffix) for suffix in (b"", b"-wal", b"-shm")]
    return {(each.st_uid, each.st_gid, each.st_mode & 0o777) for each in found}


def test_the_companions_are_as_the_file_is(path: bytes) -> None:
    assert len(modes(path)) == 1
    os.chmod(path, 0o600)
    assert len(modes(path)) == 2
    Store(path).close()
    assert {mode for _, _, mode in modes(path)} == {0o600}


@pytest.mark.slow
def test_a_reader_needs_no_writer(tools: Tools, path: bytes) -> None:
    assert ask(tools, path, b"joe", b"secret") == "joe"
    assert ask(tools, path, b"joe", b"guess") == "Refused: wrong secret"
    assert os.stat(path + b"-wal").st_size == 0


@pytest.mark.slow
def test_a_reader_that_stays_sees_what_was_committed(tools: Tools, path: bytes) -> None:
    reader = Reader(tools, path)
    assert reader.ask(b"joe", b"secret") == "joe"
    for number in range(5):
        accounts = Store(path)
        secret = b"secret%d" % number
        with accounts:
            accounts.set_secret(b"joe", secret, "md5")
            assert reader.ask(b"joe", secret) == "Refused: wrong secret"
        assert reader.ask(b"joe", secret) == "joe"
        if number % 2:
            accounts.close()
        assert reader.ask(b"joe", secret) == "joe"
    reader.close()


@pytest.mark.slow
@pytest.mark.parametrize("where", ["after", "inside"])
def test_what_a_killed_writer_has_committed_is_read(
    tools: Tools, path: bytes, where: str
) -> None:
    holder = Store(path)  # who reads keeps the log from being emptied
    list(zip(holder.list(), range(0), strict=False))
    early = Reader(tools, path)
    assert early.ask(b"joe", b"secret") == "joe"
    words = [sys.executable, "-c", KILLED, str(TOP), os.fsdecode(path), where]
    assert subprocess.run(words, check=False).returncode == -9
    assert ask(tools, path, b"joe", b"new") == "joe"
    holder.close()
    late = Reader(tools, path)
    for reader in (early, late):
        assert reader.ask(b"joe", b"new") == "joe"
        assert reader.ask(b"joe", b"newer") == "Refused: wrong secret"
        assert reader.ask(b"user1", b"x") == "Unknown: unknown account"
        reader.close()
    accounts = Store(path)
    assert [account.user for account in accounts.list()] == ["joe"]
    accounts.close()


@pytest.mark.slow
def test_what_a_kill_has_left_in_the_log_is_read_without_a_writer(
    tools: Tools, path: bytes
) -> None:
    words = [sys.executable, "-c", KILLED, str(TOP), os.fsdecode(path), "inside"]
    assert subprocess.run(words, check=False).returncode == -9
    assert os.stat(path + b"-wal").st_size > 100_000
    assert ask(tools, path, b"joe", b"new") == "joe"
    assert ask(tools, path, b"joe", b"newer") == "Refused: wrong secret"


@pytest.mark.slow
def test_readers_and_a_writer_never_wait_for_each_other(
    tools: Tools, path: bytes
) -> None:
    readers = [Reader(tools, path) for _ in range(4)]
    accounts = Store(path)
    for number in range(100):
        with accounts:
            accounts.add(b"user%d" % number, None, b"/", b"")
            accounts.set_secret(b"user%d" % number, b"secret", "md5")
            for reader in readers:
                assert reader.ask(b"joe", b"secret") == "joe"
        assert readers[number % 4].ask(b"user%d" % number, b"secret")[:4] == "user"
    accounts.close()
    for reader in readers:
        assert reader.ask(b"user99", b"secret") == "user99"
        reader.close()


def test_a_weak_hash_stays_where_a_reader_may_not_write(
    tools: Tools, path: bytes
) -> None:
    need_root()
    accounts = Store(path)
    with accounts:
        accounts.set_option("method", b"sha512")
    assert ask(tools, path, b"joe", b"secret") == "joe"
    assert accounts.show(b"joe").method == "$1$"
    accounts.close()


def test_without_the_companions_it_is_said_what_is_missing(
    tools: Tools, path: bytes
) -> None:
    need_root()
    for suffix in (b"-wal", b"-shm"):
        os.unlink(path + suffix)
    answer = ask(tools, path, b"joe", b"secret")
    assert answer.startswith("Temporary: unable to use ")
    assert answer.endswith("needs to read its -wal and -shm, who writes its folder")
    Store(path).close()
    assert ask(tools, path, b"joe", b"secret") == "joe"


def test_a_file_that_was_copied_back_is_read(tools: Tools, path: bytes) -> None:
    """Without companions, and not changed over yet: as a backup is."""
    from qtools.accounts.db.files import backup

    copy = path + b"-copy"
    backup(path, copy)
    os.chown(copy, -1, OWNER[1])
    os.chmod(copy, 0o640)
    assert ask(tools, copy, b"joe", b"secret") == "joe"
    assert not os.path.exists(copy + b"-wal")
