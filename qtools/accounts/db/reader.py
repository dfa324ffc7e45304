# SPDX-License-Identifier: ISC
"""Accounts in an SQLite file: the reading half, for verifiers.

The file is opened for reading only; secrets of all accounts lie in it, so a file that
everybody may read or write is refused. popaccount(8) makes and fills it; the writing
half is store.
"""

import posix

from qtools.accounts import hashes
from qtools.accounts.interface import Identity, Unknown, home_of
from qtools.errors import Failure, Hard, Refused, Temporary, from_os_error
from qtools.protocol import digests
from qtools.system.ffi import sqlite

APPLICATION_ID = 0x71746163  # "qtac", in the file's header
VERSION = 1  # of the tables, in PRAGMA user_version

BUSY_SECONDS = 5.0  # a writer holds the file for milliseconds; more means trouble

# SQLite's result codes. A writer that was killed leaves a journal, which only an opener
# with write access may roll back; then one of the first three is what a reader gets.
READONLY_RECOVERY = 8 | 1 << 8
READONLY_ROLLBACK = 8 | 3 << 8
READONLY_CANTINIT = 8 | 5 << 8
CORRUPT = 11
NOT_A_DATABASE = 26

_QUERY = b"""
SELECT a.user, a.enabled, a.uid, a.gid, a.home, a.maildir, h.value, c.value
FROM account AS a
LEFT JOIN credential AS h ON h.account = a.id AND h.kind = 'hash'
LEFT JOIN credential AS c ON c.account = a.id AND c.kind = 'clear'
WHERE a.user = ?
"""


def prepare() -> None:
    """Load libraries.

    Raises: Hard when there is no SQLite.
    """
    hashes.prepare()
    _library()


def open_source(where: bytes) -> "Database":
    """Open db:FILE.

    Raises: Hard when FILE is no account database of ours, Temporary.
    """
    if not where.startswith(b"/"):
        raise Hard("db: needs an absolute file name, db:/path/to/file")
    return Database(where)


class Database:
    """One account database, opened for reading."""

    def __init__(self, path: bytes) -> None:
        self._name = path.decode("utf-8", "backslashreplace")
        check_mode(path, self._name)
        try:
            self._connection = _open(path, self._name)
        except sqlite.Failed as why:
            raise failure(why.code, str(why), self._name) from why

    def verify(self, user: bytes, secret: bytes, challenge: bytes) -> Identity:
        """Check a secret or digest and say who it is; see the interface."""
        try:
            row = self._row(_QUERY, fold(user).encode())
        except UnicodeDecodeError:
            row = None
        if row is None:
            raise Unknown("unknown account")
        name, is_enabled, uid, gid, home, maildir, stored, clear = row
        is_good = _is_good(secret, challenge, stored, clear)
        if not is_good or is_enabled != b"1":
            raise Refused("account is disabled" if is_good else "wrong secret")
        return Identity(
            name,
            int(uid or -1),
            int(gid or -1),
            home=home or home_of(maildir),
            maildir=maildir,
        )

    def decoy(self) -> bytes:
        """Give the hash kept for strangers; see the interface."""
        row = self._row(b"SELECT value FROM meta WHERE name = 'decoy'")
        return row[0] if row else b""

    def _row(self, query: bytes, *values: bytes) -> list[bytes] | None:
        """Give a query's first row, NULL as empty.

        Raises: Hard, Temporary.
        """
        try:
            row = self._connection.row(query, *values)
        except sqlite.Failed as why:
            raise failure(why.code, str(why), self._name) from why
        return None if row is None else [value or b"" for value in row]


def fold(user: bytes) -> str:
    """Give the name under which an account is kept: ASCII letters in lower case.

    Raises: UnicodeDecodeError when it isn't UTF-8, as no account's name is.
    """
    return user.lower().decode()


def failure(code: int, text: str, name: str) -> Failure:
    """Turn an error of SQLite into Hard or Temporary.

    Takes its extended result code.
    """
    if code & 0xFF == NOT_A_DATABASE:
        return Hard(f"{name} is not an account database")
    if code & 0xFF == CORRUPT:
        return Hard(f"{name} is damaged: {text}; restore it from a backup")
    return Temporary(f"unable to use {name}: {text}")


def check_version(application: int, version: int, name: str) -> None:
    """Make sure that the tables are the ones this program knows.

    Takes application_id and user_version of the file.
    Raises: Hard.
    """
    if application != APPLICATION_ID:
        raise Hard(f"{name} is not an account database; popaccount init makes one")
    if version != VERSION:
        age = "a newer" if version > VERSION else "an older"
        raise Hard(f"{name} has {age} format, {version}; this program knows {VERSION}")


def check_mode(path: bytes, name: str) -> None:
    """Make sure that the file is there and not everybody's.

    Raises: Hard, Temporary.
    """
    try:
        mode = posix.stat(path).st_mode
    except OSError as why:
        raise from_os_error(why, f"open {name}") from why
    if mode & 0o007:
        raise Hard(f"{name} is open to everybody; an account database has mode 600")


def _open(path: bytes, name: str) -> sqlite.Connection:
    """Open for reading, after rolling back what a killed writer has left behind.

    Raises: sqlite.Failed, Hard.
    """
    try:
        return _connect(path, sqlite.READ_ONLY, name)
    except sqlite.Failed as why:
        if why.code not in (READONLY_ROLLBACK, READONLY_RECOVERY, READONLY_CANTINIT):
            raise
    return _connect(path, sqlite.READ_WRITE, name)


_loaded: list[sqlite.Sqlite] = []


def _library() -> sqlite.Sqlite:
    if not _loaded:
        _loaded.append(sqlite.Sqlite())
    return _loaded[0]


def _connect(path: bytes, flags: int, name: str) -> sqlite.Connection:
    connection = sqlite.Connection(_library(), path, flags, BUSY_SECONDS)
    try:
        application = connection.row(b"PRAGMA application_id") or (None,)
        version = connection.row(b"PRAGMA user_version") or (None,)
        check_version(int(application[0] or 0), int(version[0] or 0), name)
    except (sqlite.Failed, Hard):
        connection.close()
        raise
    return connection


def _is_good(secret: bytes, challenge: bytes, stored: bytes, clear: bytes) -> bool:
    if clear and digests.answers(secret, challenge, clear):
        return True
    return hashes.matches(secret, stored)
