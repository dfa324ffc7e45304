# SPDX-License-Identifier: ISC
"""Accounts in an SQLite file: the reading half, for verifiers.

The file is opened for reading only, by whoever may read it and its two companions. All
that a login asks are searches in indexes, so it costs the same however many accounts
there are. popaccount(8) makes and fills it; the writing half is store.
"""

from qtools.accounts import hashes
from qtools.accounts.db import opening
from qtools.accounts.db.names import fold
from qtools.accounts.db.opening import failure
from qtools.accounts.interface import Identity, Unknown, home_of
from qtools.errors import Hard, Refused
from qtools.protocol import digests
from qtools.system.ffi import sqlite

# A writer that was killed leaves a journal, which only an opener with write access may
# roll back; then a reader gets one of these. So he does where only a writer could make
# what the readers of a file share.
NEEDS_A_WRITER = tuple(opening.READ_ONLY | more << 8 for more in (1, 2, 3, 5))

# Which account has a name. ?1: the name; ?2: its domain; ?3: the name without it, which
# is what accounts of the main domain are called.
_NAME = b"""
CASE WHEN EXISTS (SELECT 1 FROM domain WHERE name = ?2 AND main) THEN ?3 ELSE ?1 END
"""
_ID = b"""
SELECT id FROM account WHERE user = (%b)
UNION ALL SELECT account FROM alias WHERE name = (%b) LIMIT 1
""" % (_NAME, _NAME)
_ACCOUNT = b"""
SELECT a.user, a.enabled, a.uid, a.gid, a.home, a.maildir, h.value, c.value, a.id,
    (SELECT value FROM meta WHERE name = 'method')
FROM account AS a
LEFT JOIN credential AS h ON h.account = a.id AND h.kind = 'hash'
LEFT JOIN credential AS c ON c.account = a.id AND c.kind = 'clear'
WHERE a.id = (%b)
"""
_KEYS = b"""
SELECT k.value FROM account AS a
LEFT JOIN credential AS k ON k.account = a.id AND k.kind = 'scram-sha-256'
WHERE a.id = (%b)
"""
# Which account has a name, by version of the tables. The first version had neither
# domains nor aliases.
_FIND = {1: b"SELECT id FROM account WHERE user = ?1 AND ?2 >= '' AND ?3 >= ''", 2: _ID}


def prepare() -> None:
    """Load libraries.

    Raises: Hard when there is no SQLite.
    """
    hashes.prepare()
    opening.library()


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
        self._path = path
        self._name = opening.printable(path)
        opening.check_mode(path, self._name)
        try:
            self._connection, self._version = _open(path, self._name)
        except sqlite.Failed as why:
            raise failure(why.code, str(why), self._name) from why

    def close(self) -> None:
        """Let go of the file; once more does nothing."""
        self._connection.close()

    def verify(self, user: bytes, secret: bytes, challenge: bytes) -> Identity:
        """Check a secret or digest and say who it is; see the interface."""
        row = self._find(_ACCOUNT, user)
        stored, clear = row[6], row[7]
        is_digest = bool(clear) and digests.answers(secret, challenge, clear)
        is_good = is_digest or hashes.matches(secret, stored)
        if not is_good or row[1] != b"1":
            raise Refused("account is disabled" if is_good else "wrong secret")
        if not is_digest:
            self._refresh(row, secret)
        return _identity(row)

    def decoy(self) -> bytes:
        """Give the hash kept for strangers; see the interface."""
        return self._value(b"SELECT value FROM meta WHERE name = 'decoy'")

    def keys(self, user: bytes) -> bytes:
        """Give the keys for SCRAM of an account, or nothing; see the interface."""
        return self._find(_KEYS, user)[0]

    def identify(self, user: bytes) -> Identity:
        """Say who it is whose key has been proved; see the interface."""
        row = self._find(_ACCOUNT, user)
        if row[1] != b"1":
            raise Refused("account is disabled")
        return _identity(row)

    def salt_key(self) -> bytes:
        """Give the secret from which salts for strangers are made; see the interface.

        A file of the first version has none, and nobody in it has keys.
        """
        return self._value(b"SELECT value FROM meta WHERE name = 'salt-key'")

    def iterations(self, name: bytes) -> int:
        """Give how often the keys of a stranger are hashed; see the interface.

        As often as those of some account, or when there are none, as those that the
        next one is going to have.
        """
        from qtools.accounts.db.strangers import drawn, read  # for SCRAM only

        tally = read(self._value(b"SELECT value FROM meta WHERE name = 'key-tally'"))
        option = self._value(b"SELECT value FROM meta WHERE name = 'iterations'")
        return drawn(tally, self.salt_key(), name) or int(option or 0)

    def canonical(self, user: bytes) -> bytes:
        """Give the one name under which an account would be kept; see the interface."""
        name, domain, local = _names(user)
        if self._version_now() == 1:
            return name
        row = self._row(b"SELECT (%b)" % _NAME, name, domain, local)
        return row[0] if row else name

    def _refresh(self, row: list[bytes], secret: bytes) -> None:
        """Hash a secret anew when that is wanted, and never say that it failed."""
        wanted = row[9]
        if wanted and hashes.is_weaker(row[6], wanted.decode("ascii", "replace")):
            from qtools.accounts.db import rehash  # once in the life of a hash

            rehash.store(self._path, row[8], secret, row[6], wanted.decode())

    def _find(self, query: bytes, user: bytes) -> list[bytes]:
        """Give a query's row about one account.

        Raises: Unknown, Hard, Temporary.
        """
        row = self._row(query % _FIND[self._version_now()], *_names(user))
        if row is None:
            raise Unknown("unknown account")
        return row

    def _version_now(self) -> int:
        """Give the version of the tables, which a writer may have brought up to date.

        The file doesn't tell: what a writer has done may be in the log only.
        Raises: Hard, Temporary.
        """
        if self._version != opening.VERSION:
            row = self._row(b"PRAGMA user_version") or [b""]
            version = int(row[0] or 0)
            opening.check_version(opening.APPLICATION_ID, version, self._name)
            self._version = version
        return self._version

    def _value(self, query: bytes) -> bytes:
        row = self._row(query)
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


def _names(user: bytes) -> tuple[bytes, bytes, bytes]:
    """Give the name, its domain and the name without it, as the queries want them.

    The name is empty where it could be no account's.
    """
    try:
        name = fold(user).encode()
    except UnicodeDecodeError:
        name = b""
    local, at, domain = name.rpartition(b"@")
    return name, domain if at else b"", local if at else name


def _identity(row: list[bytes]) -> Identity:
    name, _, uid, gid, home, maildir, *_ = row
    return Identity(
        name,
        int(uid or -1),
        int(gid or -1),
        home=home or home_of(maildir),
        maildir=maildir,
    )


def _open(path: bytes, name: str) -> tuple[sqlite.Connection, int]:
    """Open for reading, after rolling back what a killed writer has left behind.

    Raises: sqlite.Failed, Hard.
    """
    seconds = opening.BUSY_SECONDS
    try:
        return opening.connect(path, sqlite.READ_ONLY, name, seconds)
    except sqlite.Failed as why:
        if why.code not in NEEDS_A_WRITER:
            raise
    return opening.connect(path, sqlite.READ_WRITE, name, seconds)
