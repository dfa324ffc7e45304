# SPDX-License-Identifier: ISC
"""Accounts in an SQLite file: the writing half, for popaccount.

Every change is one transaction, on disk before it is reported. What is overwritten or
deleted is wiped in the file (secure_delete). Credentials are rows by kind, so that a
new kind needs no change of the tables; times are seconds since 1970.
"""

import os
import sqlite3
import tempfile
import time
from contextlib import closing
from urllib.parse import quote

from qtools.accounts import hashes
from qtools.accounts.db.reader import (
    APPLICATION_ID,
    BUSY_SECONDS,
    VERSION,
    check_mode,
    check_version,
    failure,
)
from qtools.accounts.limits import check_secret, name_of
from qtools.errors import Failure, Refused, from_os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    import builtins
    from collections.abc import Iterable, Iterator
    from types import TracebackType
    from typing import Any, Self

# user: in lower case (fold). uid, gid: both or none. home, maildir: text, or a blob
# where they aren't UTF-8. value of a credential: the stored hash or clear secret.
SCHEMA = f"""
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};
CREATE TABLE meta (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
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
CREATE TABLE credential (
    account INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    value BLOB NOT NULL,
    changed INTEGER NOT NULL,
    PRIMARY KEY (account, kind)
) WITHOUT ROWID;
"""

# wipe what is replaced; have a change on disk, its directory entry too, before it is
# reported
PRAGMAS = ("foreign_keys = ON", "secure_delete = ON", "synchronous = EXTRA")

DECOY_OCTETS = 16  # of randomness in the secret that nobody has

_QUERY = """
SELECT a.user, a.enabled, a.uid, a.gid, a.home, a.maildir, a.created, a.changed,
    (SELECT value FROM credential WHERE account = a.id AND kind = 'hash'),
    EXISTS (SELECT 1 FROM credential WHERE account = a.id AND kind = 'clear')
FROM account AS a
"""


class Account:
    """One account as it may be shown: everything but its secrets."""

    def __init__(self, row: "tuple[Any, ...]") -> None:
        self.user = _text(row[0])
        self.is_enabled = bool(row[1])
        self.uid: int | None = row[2]
        self.gid: int | None = row[3]
        self.home = _text(row[4])
        self.maildir = _text(row[5])
        self.created: int = row[6]
        self.changed: int = row[7]
        self.method = hashes.method_of(row[8] or b"")
        self.has_clear = bool(row[9])
        self.has_scram = False
        self.may_change = True


def create(path: bytes) -> None:
    """Make a new, empty database with mode 0600.

    It gets its name when it is whole: if we are killed, there is nothing of that name.
    Raises: Refused when there is a file already; Hard, Temporary.
    """
    name = os.fsdecode(path)
    folder, base = os.path.split(os.path.abspath(path))
    try:
        descriptor, unnamed = tempfile.mkstemp(prefix=base + b".", dir=folder)
        os.close(descriptor)
        try:
            _make_tables(unnamed)
            os.link(unnamed, path)
        finally:
            os.unlink(unnamed)
        _sync(folder)
    except FileExistsError as why:
        raise Refused(f"{name} exists already") from why
    except OSError as why:
        raise from_os_error(why, f"make {name}") from why
    except sqlite3.Error as why:
        raise _failed(why, name) from why


def _make_tables(path: bytes) -> None:
    with closing(_connect(path)) as connection:
        connection.executescript("BEGIN;" + SCHEMA + "COMMIT;")


def _sync(folder: bytes) -> None:
    """Have a folder's entries on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Store:
    """An account database, opened for writing."""

    def __init__(self, path: bytes) -> None:
        """Open it.

        Raises: Hard when it isn't there or isn't ours, or is everybody's, so that no
        verifier would read what is written; Temporary.
        """
        self._name = os.fsdecode(path)
        check_mode(path, self._name)
        try:
            self._connection = _connect(path)
            application, version = map(self._pragma, ("application_id", "user_version"))
            check_version(application, version, self._name)
        except sqlite3.Error as why:
            raise _failed(why, self._name) from why

    def __enter__(self) -> "Self":
        """Begin a transaction."""
        self._execute("BEGIN IMMEDIATE")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        why: BaseException | None,
        trace: "TracebackType | None",
    ) -> None:
        """Commit, or roll back when something went wrong."""
        self._execute("ROLLBACK" if kind else "COMMIT")

    def add(
        self,
        user: bytes,
        ids: tuple[int, int] | None,
        home: bytes,
        maildir: bytes,
    ) -> None:
        """Add an account, without any credential so far.

        Raises: Refused when there is one of that name, Hard when the name can't be.
        """
        now = int(time.time())
        uid, gid = ids or (None, None)
        places = (_value(home), _value(maildir))
        try:
            self._execute(
                "INSERT INTO account (user, uid, gid, home, maildir, created, changed)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (name_of(user), uid, gid, *places, now, now),
            )
        except sqlite3.IntegrityError as why:
            raise Refused(f"there is an account {os.fsdecode(user)} already") from why

    def set_secret(
        self,
        user: bytes,
        secret: bytes,
        method: str = "",
        *,
        clear: bool | None = None,
    ) -> None:
        """Replace all credentials of an account.

        Takes whether the clear secret is kept too, as APOP and CRAM-MD5 need.
        Raises: Refused for an unknown account, Hard for an impossible secret.
        """
        check_secret(secret)
        stored = hashes.make(secret, method)
        clear = self.show(user).has_clear if clear is None else clear
        account = self._touch(user)
        self._execute("DELETE FROM credential WHERE account = ?", (account,))
        for kind, value in (("hash", stored), ("clear", secret if clear else b"")):
            if value:
                self._execute(
                    "INSERT INTO credential VALUES (?, ?, ?, ?)",
                    (account, kind, value, int(time.time())),
                )
        self._refresh_decoy(stored, method)

    def set_enabled(self, user: bytes, *, is_enabled: bool) -> None:
        """Let an account log in, or not.

        Raises: Refused for an unknown account.
        """
        change = "UPDATE account SET enabled = ? WHERE id = ?"
        self._execute(change, (int(is_enabled), self._touch(user)))

    def remove(self, user: bytes) -> None:
        """Remove an account; its mail stays where it is.

        Raises: Refused for an unknown account.
        """
        self._execute("DELETE FROM account WHERE id = ?", (self._touch(user),))

    def show(self, user: bytes) -> Account:
        """Give one account.

        Raises: Refused for an unknown account.
        """
        row = self._execute(_QUERY + "WHERE a.user = ?", (name_of(user),)).fetchone()
        if row is None:
            raise _no_account(user)
        return Account(row)

    def list(self, domain: str | None = None) -> "Iterator[Account]":
        """Give all accounts, or those of a domain, ordered by name."""
        del domain
        return map(Account, self._execute(_QUERY + "ORDER BY a.user"))

    def close(self) -> None:
        """Let go of the file; once more does nothing."""
        self._connection.close()

    def add_domain(self, name: str) -> None:
        """Come soon."""
        raise NotImplementedError

    def rename(self, old: bytes, new: bytes) -> None:
        """Come soon."""
        raise NotImplementedError

    def set_may_change(self, user: bytes, *, may_change: bool) -> None:
        """Come soon."""
        raise NotImplementedError

    def set_place(
        self, user: bytes, ids: tuple[int, int] | None, home: bytes, maildir: bytes
    ) -> None:
        """Come soon."""
        raise NotImplementedError

    def settings(self, user: bytes) -> dict[str, bytes]:
        """Come soon."""
        raise NotImplementedError

    def set_settings(self, user: bytes, changes: dict[str, bytes | None]) -> None:
        """Come soon."""
        raise NotImplementedError

    def replace_settings(self, user: bytes, settings: dict[str, bytes]) -> None:
        """Come soon."""
        raise NotImplementedError

    def rights(self, user: bytes) -> "builtins.list[str]":
        """Come soon."""
        raise NotImplementedError

    def set_rights(self, user: bytes, rights: "Iterable[str]") -> None:
        """Come soon."""
        raise NotImplementedError

    def aliases(self, user: bytes) -> "builtins.list[str]":
        """Come soon."""
        raise NotImplementedError

    def set_aliases(self, user: bytes, names: "Iterable[str]") -> None:
        """Come soon."""
        raise NotImplementedError

    def domains(self) -> "builtins.list[str]":
        """Come soon."""
        raise NotImplementedError

    def main_domain(self) -> str:
        """Come soon."""
        raise NotImplementedError

    def rename_domain(self, old: str, new: str) -> None:
        """Come soon."""
        raise NotImplementedError

    def remove_domain(self, name: str, *, force: bool = False) -> None:
        """Come soon."""
        raise NotImplementedError

    def set_main_domain(self, name: str) -> None:
        """Come soon."""
        raise NotImplementedError

    def domain_settings(self, name: str) -> dict[str, bytes]:
        """Come soon."""
        raise NotImplementedError

    def set_domain_settings(self, name: str, changes: dict[str, bytes | None]) -> None:
        """Come soon."""
        raise NotImplementedError

    def option(self, name: str) -> bytes:
        """Come soon."""
        raise NotImplementedError

    def set_option(self, name: str, value: bytes) -> None:
        """Come soon."""
        raise NotImplementedError

    def _touch(self, user: bytes) -> int:
        """Note that an account changes now, and give its row's number.

        Raises: Refused for an unknown account.
        """
        query = "UPDATE account SET changed = ? WHERE user = ? RETURNING id"
        rows = self._execute(query, (int(time.time()), name_of(user))).fetchall()
        if not rows:
            raise _no_account(user)
        account: int = rows[0][0]
        return account

    def _refresh_decoy(self, stored: bytes, method: str) -> None:
        """Have strangers cost what the method last chosen costs."""
        row = self._execute("SELECT value FROM meta WHERE name = 'decoy'").fetchone()
        if row is None or hashes.method_of(row[0]) != hashes.method_of(stored):
            decoy = hashes.make(os.urandom(DECOY_OCTETS).hex().encode(), method)
            self._execute("REPLACE INTO meta VALUES ('decoy', ?)", (decoy,))

    def _pragma(self, name: str) -> int:
        number: int = self._connection.execute("PRAGMA " + name).fetchone()[0]
        return number

    def _execute(self, query: str, values: "tuple[Any, ...]" = ()) -> sqlite3.Cursor:
        try:
            return self._connection.execute(query, values)
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as why:
            raise _failed(why, self._name) from why


def _no_account(user: bytes) -> Refused:
    return Refused(f"there is no account {os.fsdecode(user)}")


def _value(path: bytes) -> str | bytes | None:
    """Give what is stored for a path."""
    try:
        return path.decode() or None
    except UnicodeDecodeError:
        return path


def _text(value: str | bytes | None) -> str:
    return os.fsdecode(value or "")


def _failed(why: sqlite3.Error, name: str) -> Failure:
    return failure(getattr(why, "sqlite_errorcode", 0), str(why), name)


def _connect(path: bytes) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{quote(os.path.abspath(path))}?mode=rw",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
    )
    try:
        for pragma in PRAGMAS:
            connection.execute("PRAGMA " + pragma)
    except sqlite3.Error:
        connection.close()
        raise
    return connection
