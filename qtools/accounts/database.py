# SPDX-License-Identifier: ISC
"""Accounts in an SQLite file: the reading half, for verifiers.

Goes through the C module `_sqlite3`, which costs 2 ms less than the package and
needs nothing of it. The file is opened for reading only; secrets of all accounts lie in
it, so a file that everybody may read or write is refused. popaccount(8) makes and
fills it; the writing half is store.
"""

import _sqlite3
import posix

from qtools.accounts import hashes
from qtools.accounts.interface import Identity, Unknown, home_of
from qtools.errors import Failure, Hard, Refused, Temporary, from_os_error
from qtools.protocol import digests

APPLICATION_ID = 0x71746163  # "qtac", in the file's header
VERSION = 1  # of the tables, in PRAGMA user_version

BUSY_SECONDS = 5.0  # a writer holds the file for milliseconds; more means trouble

# A writer that was killed leaves a journal which only an opener with write access may
# roll back; these extended codes of SQLite ask for one.
_NEEDS_ROLLBACK = (
    _sqlite3.SQLITE_READONLY_ROLLBACK,
    _sqlite3.SQLITE_READONLY_RECOVERY,
    _sqlite3.SQLITE_READONLY_CANTINIT,
)

_QUERY = """
SELECT a.user, a.enabled, a.uid, a.gid, a.home, a.maildir, h.value, c.value
FROM account AS a
LEFT JOIN credential AS h ON h.account = a.id AND h.kind = 'hash'
LEFT JOIN credential AS c ON c.account = a.id AND c.kind = 'clear'
WHERE a.user = ?
"""


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
        _check_mode(path, self._name)
        try:
            self._connection = _open(path)
        except _sqlite3.Error as why:
            raise failure(why, self._name) from why

    def verify(self, user: bytes, secret: bytes, challenge: bytes) -> Identity:
        """Check a secret or digest and say who it is; see the interface."""
        try:
            row = self._connection.execute(_QUERY, (fold(user),)).fetchone()
        except UnicodeDecodeError:
            row = None
        except _sqlite3.Error as why:
            raise failure(why, self._name) from why
        if row is None:
            raise Unknown("unknown account")
        name, is_enabled, uid, gid, home, maildir, stored, clear = row
        is_good = _is_good(secret, challenge, stored or b"", clear or b"")
        if not (is_good and is_enabled):
            raise Refused("wrong secret" if is_enabled else "account is disabled")
        return Identity(
            name,
            -1 if uid is None else uid,
            -1 if gid is None else gid,
            home=home or home_of(maildir or b""),
            maildir=maildir or b"",
        )

    def decoy(self) -> bytes:
        """Give the hash kept for strangers; see the interface."""
        query = "SELECT value FROM meta WHERE name = 'decoy'"
        try:
            row = self._connection.execute(query).fetchone()
        except _sqlite3.Error as why:
            raise failure(why, self._name) from why
        return row[0] if row else b""


def fold(user: bytes) -> str:
    """Give the name under which an account is kept: ASCII letters in lower case.

    Raises: UnicodeDecodeError when it isn't UTF-8, as no account's name is.
    """
    return user.lower().decode()


def failure(why: _sqlite3.Error, name: str) -> Failure:
    """Turn an error of SQLite into Hard or Temporary."""
    code = getattr(why, "sqlite_errorcode", 0) & 0xFF
    if code == _sqlite3.SQLITE_NOTADB:
        return Hard(f"{name} is not an account database")
    if code == _sqlite3.SQLITE_CORRUPT:
        return Hard(f"{name} is damaged: {why}; restore it from a backup")
    return Temporary(f"unable to use {name}: {why}")


def check_version(connection: _sqlite3.Connection, name: str) -> None:
    """Make sure that the tables are the ones this program knows.

    Raises: Hard; _sqlite3.Error.
    """
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION_ID:
        raise Hard(f"{name} is not an account database; popaccount init makes one")
    if version != VERSION:
        age = "newer" if version > VERSION else "older"
        raise Hard(
            f"{name} is of an {age} format, {version}; this program has {VERSION}"
        )


def _check_mode(path: bytes, name: str) -> None:
    try:
        mode = posix.stat(path).st_mode
    except OSError as why:
        raise from_os_error(why, f"open {name}") from why
    if mode & 0o007:
        raise Hard(f"{name} holds secrets and is open to everybody; chmod 600 {name}")


def _open(path: bytes) -> _sqlite3.Connection:
    """Open for reading, after rolling back what a killed writer has left behind."""
    try:
        return _connect(path, "ro")
    except _sqlite3.Error as why:
        if getattr(why, "sqlite_errorcode", 0) not in _NEEDS_ROLLBACK:
            raise
    return _connect(path, "rw")


def _connect(path: bytes, mode: str) -> _sqlite3.Connection:
    connection = _sqlite3.connect(
        f"{uri_of(path)}?mode={mode}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
    )
    connection.text_factory = bytes
    check_version(connection, path.decode("utf-8", "backslashreplace"))
    return connection


def uri_of(path: bytes) -> str:
    """Give an absolute file name as the URI that SQLite wants."""
    letters = (
        chr(octet) if chr(octet).isalnum() or octet in b"/._-" else f"%{octet:02x}"
        for octet in path
    )
    return "file:" + "".join(letters)


def _is_good(secret: bytes, challenge: bytes, stored: bytes, clear: bytes) -> bool:
    if clear and digests.answers(secret, challenge, clear):
        return True
    return hashes.matches(secret, stored)
