# SPDX-License-Identifier: ISC
"""The file as a whole: make it, bring it up to date, copy it while it is in use.

A new file gets its name when it is whole and on disk: if we are killed, there is
nothing of that name.
"""

import os
import tempfile
from contextlib import contextmanager

from qtools.accounts.db import ledger, migrations, opening
from qtools.accounts.db.opening import VERSION, failure
from qtools.errors import Refused, from_os_error
from qtools.system.ffi import sqlite
from qtools.system.ffi.statements import Writable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

JOURNALS = (b"-wal", b"-journal")


def create(path: bytes) -> None:
    """Make a new, empty database with mode 0600.

    Raises: Refused when there is a file already, or what is left of another one;
    Hard, Temporary.
    """
    name = os.fsdecode(path)
    _check_no_journal(path, name)
    try:
        with _new_file(path, name) as unnamed:
            _make_tables(unnamed)
        connection, _ = ledger.open_file(path, name)
        connection.close()
    except sqlite.Failed as why:
        raise failure(why.code, str(why), name) from why


def migrate(path: bytes) -> tuple[int, int]:
    """Bring an older file up to date; give the version it had and the one it has.

    Whatever happens meanwhile, the file is either as it was or whole and new.
    Raises: Hard when it is not ours, or newer than this program; Temporary.
    """
    name = os.fsdecode(path)
    opening.check_mode(path, name)
    try:
        connection, version = ledger.open_file(path, name)
    except sqlite.Failed as why:
        raise failure(why.code, str(why), name) from why
    connection.close()
    return version, VERSION


def backup(path: bytes, to: bytes) -> None:
    """Copy the database, as it is at one moment, into one new file with mode 600.

    It gets its name when it is whole and on disk. Writers go on meanwhile.
    Raises: Refused when there is a file of that name already; Hard, Temporary.
    """
    name = os.fsdecode(path)
    opening.check_mode(path, name)
    _check_no_journal(to, os.fsdecode(to))
    try:
        connection = Writable(
            opening.library(), path, sqlite.READ_WRITE, opening.BUSY_SECONDS
        )
        try:
            opening.version_of(connection, name)
            with _new_file(to, os.fsdecode(to)) as unnamed:
                connection.run("VACUUM INTO ?", os.fsdecode(unnamed))
        finally:
            connection.close()
    except sqlite.Failed as why:
        raise failure(why.code, str(why), name) from why


@contextmanager
def _new_file(path: bytes, name: str) -> "Iterator[bytes]":
    """Give an empty file that gets this name, on disk, when the block has filled it.

    Raises: Refused, Hard, Temporary.
    """
    folder, base = os.path.split(os.path.abspath(path))
    try:
        descriptor, unnamed = tempfile.mkstemp(prefix=base + b".", dir=folder)
        os.close(descriptor)
        try:
            yield unnamed
            _sync(unnamed, os.O_RDWR)
            os.link(unnamed, path)
        finally:
            os.unlink(unnamed)
        _sync(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileExistsError as why:
        raise Refused(f"{name} exists already") from why
    except OSError as why:
        raise from_os_error(why, f"make {name}") from why


def _check_no_journal(path: bytes, name: str) -> None:
    """Refuse a name beside which there is what belongs to a file that has gone.

    SQLite would take it for changes of the new file.
    Raises: Refused.
    """
    for suffix in JOURNALS:
        try:
            is_full = os.stat(path + suffix).st_size > 0
        except OSError:
            continue
        if is_full and not os.path.lexists(path):
            what = name + suffix.decode()
            raise Refused(f"{what} is left of another database: move it away first")


def _make_tables(path: bytes) -> None:
    """Fill an empty file.

    Raises: sqlite.Failed.
    """
    connection = Writable(
        opening.library(), path, sqlite.READ_WRITE, opening.BUSY_SECONDS
    )
    try:
        connection.run("BEGIN")
        migrations.build(connection, 0)
        connection.run("COMMIT")
    finally:
        connection.close()


def _sync(path: bytes, flags: int) -> None:
    """Have a file, or a folder's entries, on disk."""
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
