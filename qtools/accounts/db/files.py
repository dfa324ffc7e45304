# SPDX-License-Identifier: ISC
"""The file as a whole: make it, bring it up to date, copy it while it is in use."""

from qtools.accounts.db.store import create

__all__ = ["backup", "create", "migrate"]


def migrate(path: bytes) -> tuple[int, int]:
    """Bring an older file up to date; give the version it had and the one it has.

    Whatever happens meanwhile, the file is either as it was or whole and new.
    Raises: Hard when it is not ours, or newer than this program; Temporary.
    """
    raise NotImplementedError


def backup(path: bytes, to: bytes) -> None:
    """Copy the database, as it is at one moment, into one new file with mode 600.

    It gets its name when it is whole and on disk. Writers go on meanwhile.
    Raises: Refused when there is a file of that name already; Hard, Temporary.
    """
    raise NotImplementedError
