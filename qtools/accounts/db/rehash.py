# SPDX-License-Identifier: ISC
"""Put a stronger hash in the place of a weaker one, at a login that showed the secret.

It must not cost anybody a login: a verifier that may not write, a busy file, a full
disk leave the old hash, which is as good as it was.
"""

import posix

from qtools.accounts import hashes
from qtools.accounts.db import opening
from qtools.errors import Failure
from qtools.system.ffi import sqlite

BUSY_SECONDS = 0.1  # for how long a login may wait for other writers

# Only if nobody has changed the password meanwhile. The time of the change is not that
# of the secret, and is left as it is.
_CHANGE = b"""
UPDATE credential SET value = CAST(?3 AS BLOB)
WHERE account = CAST(?1 AS INTEGER) AND kind = 'hash' AND value = CAST(?2 AS BLOB)
"""


def store(path: bytes, account: bytes, secret: bytes, stored: bytes, to: str) -> None:
    """Hash a secret anew by a method and store that instead of what is stored.

    Takes the account's number in digits.
    """
    try:
        if not posix.access(path, posix.W_OK, effective_ids=True):
            return
        _store(path, account, stored, hashes.make(secret, to))
    except (sqlite.Failed, Failure, OSError):
        return


def _store(path: bytes, account: bytes, stored: bytes, made: bytes) -> None:
    """Change the row.

    Raises: sqlite.Failed, Hard.
    """
    name = opening.printable(path)
    connection, _ = opening.connect(path, sqlite.READ_WRITE, name, BUSY_SECONDS)
    try:
        for pragma in (b"synchronous = EXTRA", b"secure_delete = ON"):
            connection.row(b"PRAGMA " + pragma)
        connection.row(b"PRAGMA journal_size_limit = 0")
        connection.row(_CHANGE, account, stored, made)
        connection.wait_for_others(0.0)
        connection.row(b"PRAGMA wal_checkpoint(TRUNCATE)")  # wipe the old one
    finally:
        connection.close()
