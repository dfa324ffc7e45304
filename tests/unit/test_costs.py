# SPDX-License-Identifier: ISC
"""A guess costs one hash, whoever it is for: time tells nobody who has an account."""

import contextlib
import posix
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from qtools.accounts import hashes, registry, system
from qtools.accounts.authuser import AuthUser
from qtools.accounts.db.files import create
from qtools.accounts.db.reader import Database
from qtools.accounts.db.store import Store
from qtools.accounts.interface import Unknown
from qtools.errors import Refused
from qtools.system.ffi.crypt import Crypt
from qtools.system.ffi.shadow import Entry

if TYPE_CHECKING:
    from qtools.accounts.interface import Source


class Counting(Crypt):
    """The library, noting with what each secret is hashed."""

    def __init__(self) -> None:
        super().__init__()
        self.settings: list[bytes] = []

    def hash(self, secret: bytes, setting: bytes) -> bytes | None:
        made = super().hash(secret, setting)
        if made is not None:
            self.settings.append(setting)
        return made


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Counting:
    counting = Counting()
    monkeypatch.setattr(hashes, "_crypt", [counting])
    return counting


def cost(
    library: Counting, source: "Source", user: bytes, secret: bytes, *more: "Source"
) -> list[str]:
    """Give the methods by which a guess is hashed, once for each time."""
    library.settings.clear()
    with contextlib.suppress(Refused):
        registry.verify([source, *more], user, secret, b"<1@h>")
    return [hashes.method_of(setting) for setting in library.settings]


HASH = b"$1$abcdefgh$BYMbzIWMoBDiHi60wBB2A."


@pytest.mark.parametrize(
    "user",
    [b"joe", b"plain", b"weak", b"barred", b"stranger", b"x@barred.org", b"!joe", b"*"],
)
@pytest.mark.parametrize("secret", [b"secret", b"wrong"])
def test_everybody_in_an_authuser_file(
    library: Counting, user: bytes, secret: bytes
) -> None:
    lines = b"plain:secret\nweak:%5ebe2294ecd0e0f08eab7690d2a6ee69\njoe:" + HASH
    source = AuthUser(lines + b"\n!barred:\n!@barred.org:\nbarred:secret\n")
    assert cost(library, source, user, secret) == ["$1$"]


@pytest.fixture
def database(tmp_path: Path) -> Database:
    path = bytes(tmp_path / "accounts")
    create(path)
    accounts = Store(path)
    with accounts:
        for user in (b"joe", b"ann", b"off"):
            accounts.add(user, None, b"/", b"")
            accounts.set_secret(user, b"secret", "md5", clear=user == b"ann")
        accounts.set_enabled(b"off", is_enabled=False)
    accounts.close()
    return Database(path)


@pytest.mark.parametrize("user", [b"joe", b"ann", b"off", b"stranger", b"\xff", b""])
@pytest.mark.parametrize("secret", [b"secret", b"wrong"])
def test_everybody_in_a_database(
    library: Counting, database: Database, user: bytes, secret: bytes
) -> None:
    assert cost(library, database, user, secret) == ["$1$"]


@pytest.mark.parametrize("user", [b"joe", b"clear", b"weak", b"barred", b"stranger"])
def test_everybody_in_two_sources_in_either_order(
    library: Counting, database: Database, user: bytes
) -> None:
    lines = b"clear:secret\nweak:%5ebe2294ecd0e0f08eab7690d2a6ee69\n!barred:\n"
    plain = AuthUser(lines)
    assert cost(library, database, user, b"wrong", plain) == ["$1$"]
    assert cost(library, plain, user, b"wrong", database) == ["$1$"]


USERS = {"joe": HASH, "locked": b"!" + HASH, "never": b"*", "none": b"", "old": HASH}


class Tables:
    """The system's tables, made up."""

    def shadow(self, name: bytes) -> Entry:
        change = 0 if name == b"old" else 20000
        return Entry(USERS[name.decode()], (change, -1, -1, -1))

    def check_user_lookup(self, name: bytes) -> None:
        assert name.decode() not in USERS


@pytest.mark.parametrize("user", [*USERS, "stranger"])
@pytest.mark.parametrize("secret", [b"secret", b"wrong"])
def test_every_user_of_the_system(
    library: Counting, monkeypatch: pytest.MonkeyPatch, user: str, secret: bytes
) -> None:
    def getpwnam(name: str) -> SimpleNamespace:
        if name not in USERS:
            raise KeyError(name)
        return SimpleNamespace(
            pw_name=name, pw_uid=7, pw_gid=7, pw_dir="/", pw_shell="", pw_passwd="x"
        )

    monkeypatch.setattr(system, "getpwnam", getpwnam)
    monkeypatch.setattr(system, "_bound", [Tables()])
    monkeypatch.setattr(system, "_tail", lambda _: b"root:*:\njoe:" + HASH + b":")
    monkeypatch.setattr(posix, "geteuid", lambda: 0)
    assert cost(library, system.System(), user.encode(), secret) == ["$1$"]


def test_without_a_hash_in_the_shadow_file_the_best_method_is_spent(
    library: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "_tail", lambda _: b"root:*:\n")
    best = hashes.method_of(hashes.new_setting())
    source = system.System()
    user = b"no-such-user"
    assert cost(library, source, user, b"secret") == [best]
    with pytest.raises(Unknown):
        source.verify(user, b"secret", b"")


def test_where_nothing_is_hashed_nothing_is_spent(library: Counting) -> None:
    source = AuthUser(b"joe:secret\n")
    for user in (b"joe", b"stranger"):
        assert cost(library, source, user, b"wrong") == []
