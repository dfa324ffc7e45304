# SPDX-License-Identifier: ISC
"""One account database, opened for writing: transactions, and nothing about accounts.

A transaction takes the lock for writing with its first statement, so that what costs
time, a hash above all, can be done before that. It is on disk when it ends. What is
overwritten or deleted is wiped, in the log for writing ahead as well, as soon as nobody
reads there.
"""

import os
import random
import time
from contextlib import contextmanager
from functools import wraps

from qtools.accounts.db import migrations, opening
from qtools.accounts.db.opening import failure
from qtools.errors import Failure, from_os_error
from qtools.system.ffi import sqlite
from qtools.system.ffi.statements import Writable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Any, Concatenate, ParamSpec, Self

    Words = ParamSpec("Words")
    Change = Callable[Concatenate[Any, Words], None]

    from qtools.system.ffi.statements import Row, Value

# Wipe what is replaced; have a change on disk, its directory entry too, before it is
# reported; leave no pages in the log that nobody needs.
PRAGMAS = (
    "foreign_keys = ON",
    "secure_delete = ON",
    "synchronous = EXTRA",
    "journal_size_limit = 0",
)
BETWEEN_LOOKS_SECONDS = (0.001, 0.006)  # not all at once
NOTE = "INSERT INTO outbox (event, name, other) VALUES (?, ?, ?)"
BUSY, LOCKED = 5, 6  # SQLite's result codes
COMPANIONS = (b"-wal", b"-shm")


def whole(change: "Change[Words]") -> "Change[Words]":
    """Have a change of several steps done as a whole, or not at all if it raises."""

    @wraps(change)
    def do(self: "Any", *words: "Words.args", **more: "Words.kwargs") -> None:
        with self.attempt():
            change(self, *words, **more)

    return do  # type: ignore[return-value]  # self has a name here


class Ledger:
    """The connection, and the transaction on it."""

    def __init__(self, path: bytes) -> None:
        """Open it, and bring an older one up to date.

        Raises: Hard when it isn't there or isn't ours, or is everybody's, so that no
        verifier would read what is written; Temporary.
        """
        self._name = os.fsdecode(path)
        self._is_inside = self._is_begun = self._is_wiping = False
        opening.check_mode(path, self._name)
        try:
            self._connection, _ = open_file(path, self._name)
        except sqlite.Failed as why:
            raise failure(why.code, str(why), self._name) from why

    def close(self) -> None:
        """Let go of the file; once more does nothing."""
        self._connection.close()

    def check_trusted(self) -> None:
        """Make sure that a program that the file names may be run; see opening.

        Raises: Hard, Temporary.
        """
        opening.check_trusted(os.fsencode(self._name))

    def __enter__(self) -> "Self":
        """Begin a transaction."""
        if self._is_inside:
            raise RuntimeError("a transaction has begun already")
        self._is_inside = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        why: BaseException | None,
        trace: "TracebackType | None",
    ) -> None:
        """Commit, or roll back when something went wrong.

        Raises: Temporary when it could not be committed, and nothing has changed.
        """
        self._is_inside = False
        if not self._is_begun:
            return
        try:
            if kind is None:
                self._execute("COMMIT")
        except Failure:
            self._roll_back()
            raise
        if kind is not None:
            self._roll_back()
        self._is_begun = False
        if self._is_wiping:
            self._wipe()

    @contextmanager
    def attempt(self) -> "Iterator[None]":
        """Take back what has been done inside when something goes wrong there, only.

        Raises: Temporary, Hard.
        """
        self._change("SAVEPOINT attempt")
        try:
            yield
        except BaseException:
            self._change("ROLLBACK TO attempt")
            raise
        finally:
            self._change("RELEASE attempt")

    def _roll_back(self) -> None:
        self._is_begun = self._is_wiping = False
        try:
            self._connection.run("ROLLBACK")
        except sqlite.Failed:  # some errors have rolled back already
            return

    def _wipe(self) -> None:
        """Have the log written back and emptied, unless somebody is in it just now."""
        self._is_wiping = False
        self._connection.wait_for_others(0.0)
        try:
            self._connection.run("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite.Failed:
            return
        finally:
            self._connection.wait_for_others(opening.BUSY_SECONDS)

    def _change(self, query: str, *values: "Value") -> int:
        """Run a statement that changes something; give how many rows it has changed.

        Raises: Temporary, Hard.
        """
        if not self._is_inside:
            raise RuntimeError("a change outside of a transaction")
        self._execute(query, *values)
        return self._connection.changes

    def _execute(self, query: str, *values: "Value") -> "list[Row]":
        """Run a statement, inside the transaction if there is one; give its rows.

        Raises: Temporary, Hard.
        """
        try:
            if self._is_inside and not self._is_begun:
                self._begin()
                self._is_begun = True
            return self._connection.run(query, *values)
        except sqlite.Failed as why:
            raise failure(why.code, str(why), self._name) from why

    def _begin(self) -> None:
        """Take the lock for writing, as soon as we can have it.

        SQLite itself looks every tenth of a second in the end, and so may never see the
        lock free where many come and go.
        Raises: sqlite.Failed.
        """
        deadline = time.monotonic() + opening.BUSY_SECONDS
        self._connection.wait_for_others(0.0)
        try:
            while not self._has_begun(is_late=time.monotonic() > deadline):
                time.sleep(random.uniform(*BETWEEN_LOOKS_SECONDS))  # noqa: S311
        finally:
            self._connection.wait_for_others(opening.BUSY_SECONDS)

    def _has_begun(self, *, is_late: bool) -> bool:
        """Try to take the lock; a last time when it is late.

        Raises: sqlite.Failed.
        """
        try:
            self._connection.run("BEGIN IMMEDIATE")
        except sqlite.Failed as why:
            if why.code & 0xFF != BUSY or is_late:
                raise
            return False
        return True

    def _meta(self, name: str) -> bytes:
        """Give one of the values that belong to no account, empty without it.

        It is read without taking the lock for writing.
        Raises: Temporary, Hard.
        """
        for row in self._rows(
            "SELECT CAST(value AS BLOB) FROM meta WHERE name = ?", name
        ):
            return octets(row[0])
        return b""

    def _pairs(self, query: str, number: int) -> dict[str, bytes]:
        """Give names and values that belong to one account or domain.

        Raises: Temporary, Hard.
        """
        return {str(key): octets(value) for key, value in self._execute(query, number)}

    def _note(self, event: str, name: str, other: str = "") -> None:
        """Have the hook program told, when there is one, that something has changed."""
        if self._meta("hook"):
            self._change(NOTE, event, name, other)

    def _rows(self, query: str, *values: "Value") -> "Iterator[Row]":
        """Run a query without taking any lock; give its rows as they are asked for.

        Raises: Temporary, Hard.
        """
        try:
            yield from self._connection.rows(query, *values)
        except sqlite.Failed as why:
            raise failure(why.code, str(why), self._name) from why


def octets(value: "Value") -> bytes:
    """Give a value as octets; nothing is as good as none."""
    return value if isinstance(value, bytes) else str(value or "").encode()


def open_file(path: bytes, name: str) -> tuple[Writable, int]:
    """Open a file for writing, up to date, and give the version that it had.

    Raises: sqlite.Failed, Hard, Temporary.
    """
    library = opening.library()
    connection = Writable(library, path, sqlite.READ_WRITE, opening.BUSY_SECONDS)
    try:
        version = opening.version_of(connection, name)
        for pragma in PRAGMAS:
            connection.run("PRAGMA " + pragma)
        migrations.migrate(connection, name)
        log_ahead(connection)
        share(path)
    except BaseException:
        connection.close()
        raise
    return connection, version


def log_ahead(connection: Writable) -> None:
    """Have changes written ahead into a log, so that readers and a writer can't meet.

    The first look into the file makes the log, which who only reads could not.
    Where readers keep the file from being changed over just now, the next writer will
    do it: the file is as good without.
    Raises: sqlite.Failed.
    """
    try:
        connection.run("PRAGMA journal_mode = WAL")
        connection.run("SELECT 1 FROM meta LIMIT 1")
    except sqlite.Failed as why:
        if why.code & 0xFF not in (BUSY, LOCKED):
            raise


def share(path: bytes) -> None:
    """Give the companions owner, group and mode of the file, as far as we may.

    Whoever changes those of the file forgets that it has companions. They are not
    opened for it: closing them would take SQLite's locks away.
    Raises: Temporary.
    """
    try:
        real = os.path.realpath(path)
        wanted = os.stat(real)
        for suffix in COMPANIONS:
            _make_alike(real + suffix, wanted)
    except OSError as why:
        raise from_os_error(why, f"look at {os.fsdecode(path)}") from why


def _make_alike(path: bytes, wanted: os.stat_result) -> None:
    try:
        found = os.stat(path, follow_symlinks=False)
        if (found.st_uid, found.st_gid) != (wanted.st_uid, wanted.st_gid):
            os.chown(path, wanted.st_uid, wanted.st_gid, follow_symlinks=False)
        if found.st_mode & 0o777 != wanted.st_mode & 0o777:
            os.chmod(path, wanted.st_mode & 0o777)
    except (FileNotFoundError, PermissionError):
        return
