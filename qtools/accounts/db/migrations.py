# SPDX-License-Identifier: ISC
"""Bring the tables of an older file to the version that this program writes.

All steps are one transaction: a file is as it was, or it is up to date, whoever is
killed. Writers do it when they open the file; readers read older versions as well.
"""

from qtools.accounts.db import opening
from qtools.accounts.db.opening import VERSION
from qtools.accounts.db.schema import STEPS
from qtools.system.ffi import sqlite

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from qtools.system.ffi.statements import Writable


def migrate(connection: "Writable", name: str) -> None:
    """Take the steps that are missing, if any.

    Raises: sqlite.Failed, Hard.
    """
    if opening.version_of(connection, name) == VERSION:
        return
    connection.run("BEGIN IMMEDIATE")
    try:
        # another writer may have been faster
        build(connection, opening.version_of(connection, name))
        connection.run("COMMIT")
    except BaseException:
        _roll_back(connection)
        raise


def build(connection: "Writable", version: int, until: int = VERSION) -> None:
    """Take the steps behind a version, inside a transaction; 0 is an empty file.

    Raises: sqlite.Failed.
    """
    for step in range(version + 1, until + 1):
        for statement in statements(STEPS[step]):
            connection.run(statement)
        connection.run(f"PRAGMA user_version = {step}")


def statements(text: str) -> "Iterator[str]":
    """Give the statements in a text; none of ours has a semicolon inside."""
    for statement in text.split(";"):
        if statement.strip():
            yield statement


def _roll_back(connection: "Writable") -> None:
    try:
        connection.run("ROLLBACK")
    except sqlite.Failed:  # some errors have rolled back already
        return
