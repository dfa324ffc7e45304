# SPDX-License-Identifier: ISC
"""Account databases of many accounts, made once and kept below .cache.

A million accounts come from one statement: what is compared is looking one up, not
putting them in. A few of them, far apart, can log in; all the others are neighbours.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bench.client import SECRET
from bench.contestants import REPOSITORY
from qtools.accounts import hashes
from qtools.accounts.db.files import create
from qtools.accounts.db.opening import VERSION
from qtools.accounts.db.store import Store
from qtools.protocol import scram

if TYPE_CHECKING:
    from pathlib import Path

SAMPLES = 8  # accounts that log in
METHOD = "md5"  # of hashes: next to nothing, so that the database shows
_SALT = b"qtools-benchmark"

_FILL = """
WITH RECURSIVE number (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM number LIMIT ?)
INSERT INTO account (id, user, home, created, changed)
    SELECT i + 1, printf('user%07d', i), '/', 0, 0 FROM number
"""
_CREDENTIALS = "INSERT INTO credential SELECT id, ?, ?, 0 FROM account"


def user(number: int) -> str:
    """Give the name of an account."""
    return f"user{number:07}"


def sample(count: int) -> list[str]:
    """Give names of accounts that are far apart among so many."""
    return [user(number * count // SAMPLES) for number in range(SAMPLES)]


def database(count: int) -> Path:
    """Give a database of so many accounts, made now unless it is there."""
    folder = REPOSITORY / ".cache" / "population"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"accounts-{VERSION}-{count}"
    if not path.exists():
        print(f"bench: making {count:,} accounts in {path}")
        for suffix in ("", "-wal", "-shm"):
            path.with_name(f"new{suffix}").unlink(missing_ok=True)
        _make(path.with_name("new"), count)
        for suffix in ("", "-wal", "-shm"):
            path.with_name(f"new{suffix}").rename(f"{path}{suffix}")
    return path


def _make(path: Path, count: int) -> None:
    create(os.fsencode(path))
    store = Store(os.fsencode(path))
    with store:
        store._change(_FILL, count)  # noqa: SLF001  # no way for users of it
        made = {
            "hash": hashes.make(SECRET, METHOD),
            "scram-sha-256": scram.make_keys(SECRET, _SALT),
        }
        for kind, value in made.items():
            store._change(_CREDENTIALS, kind, value)  # noqa: SLF001
        store.set_secret(user(0).encode(), SECRET, METHOD)  # makes the decoy, too
    store.close()


def settle(path: Path, count: int, owner: tuple[int, int], home: Path) -> None:
    """Give those who log in a place to be."""
    store = Store(os.fsencode(path))
    with store:
        for name in sample(count):
            store.set_place(name.encode(), owner, os.fsencode(home), b"")
    store.close()
