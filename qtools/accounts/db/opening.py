# SPDX-License-Identifier: ISC
"""Open the file, for readers and writers alike, and say what is wrong with one.

Secrets of all accounts lie in it, so a file that everybody may read or write is
refused.
"""

import posix

from qtools.errors import Failure, Hard, Temporary, from_os_error
from qtools.system.ffi import sqlite

APPLICATION_ID = 0x71746163  # "qtac", in the file's header
VERSION = 2  # of the tables, in PRAGMA user_version
OLDEST = 1  # that can be read, and brought up to date

BUSY_SECONDS = 5.0  # a writer holds the file for milliseconds; more means trouble

# SQLite's result codes.
READ_ONLY = 8
CORRUPT = 11
CAN_NOT_OPEN = 14
NOT_A_DATABASE = 26

_loaded: list[sqlite.Sqlite] = []


def library() -> sqlite.Sqlite:
    """Give the library, loaded once.

    Raises: Hard when there is none.
    """
    if not _loaded:
        _loaded.append(sqlite.Sqlite())
    return _loaded[0]


def connect(
    path: bytes, flags: int, name: str, busy_seconds: float
) -> tuple[sqlite.Connection, int]:
    """Open the file and give the connection, and the version of the tables.

    Raises: sqlite.Failed; Hard when it isn't ours or too new.
    """
    connection = sqlite.Connection(library(), path, flags, busy_seconds)
    try:
        return connection, version_of(connection, name)
    except (sqlite.Failed, Hard):
        connection.close()
        raise


def version_of(connection: sqlite.Connection, name: str) -> int:
    """Give the version of the tables.

    Raises: sqlite.Failed; Hard when the file isn't ours, or one that we don't know.
    """
    application = connection.row(b"PRAGMA application_id") or (None,)
    version = connection.row(b"PRAGMA user_version") or (None,)
    check_version(int(application[0] or 0), int(version[0] or 0), name)
    return int(version[0] or 0)


def check_version(application: int, version: int, name: str) -> None:
    """Make sure that the tables are some that this program knows.

    Takes application_id and user_version of the file.
    Raises: Hard.
    """
    if application != APPLICATION_ID:
        raise Hard(f"{name} is not an account database; popaccount init makes one")
    if not OLDEST <= version <= VERSION:
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


def check_trusted(path: bytes) -> None:
    """Make sure that as root we are not about to run what somebody else has chosen.

    Who may write the file says which programs those are.
    Raises: Hard, Temporary.
    """
    name = printable(path)
    try:
        found = posix.stat(path)
    except OSError as why:
        raise from_os_error(why, f"look at {name}") from why
    if posix.geteuid() == 0 and (found.st_uid != 0 or found.st_mode & 0o022):
        raise Hard(f"others than root may write {name}: no program it names is run")


def failure(code: int, text: str, name: str) -> Failure:
    """Turn an error of SQLite into Hard or Temporary.

    Takes its extended result code.
    """
    if code & 0xFF == NOT_A_DATABASE:
        return Hard(f"{name} is not an account database")
    if code & 0xFF == CORRUPT:
        return Hard(f"{name} is damaged: {text}; restore it from a backup")
    if code & 0xFF in (CAN_NOT_OPEN, READ_ONLY):
        hint = "who may read it needs to read its -wal and -shm, who writes its folder"
        return Temporary(f"unable to use {name}: {text}; {hint}")
    return Temporary(f"unable to use {name}: {text}")


def printable(path: bytes) -> str:
    """Give a file's name for messages."""
    return path.decode("utf-8", "backslashreplace")
