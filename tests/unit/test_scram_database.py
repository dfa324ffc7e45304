# SPDX-License-Identifier: ISC
"""SCRAM over an account database: by every name of an account, and by none."""

from pathlib import Path

import pytest

from qtools.accounts.db.files import create
from qtools.accounts.db.reader import Database
from qtools.accounts.db.store import Store
from qtools.accounts.scram import Exchange
from qtools.errors import Refused
from tests.scram import ScramClient


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Give a database with joe and ann in the main domain, and bob in another."""
    made = bytes(Path(tmp_path_factory.mktemp("scram")) / "accounts")
    create(made)
    with Store(made) as store:
        store.add_domain("main.example")
        store.set_main_domain("main.example")
        store.add_domain("other.example")
        for user in (b"joe", b"ann", b"bob@other.example"):
            store.add(user, (7, 8), b"/home", b"")
            store.set_secret(user, b"s\xc3\xa9cret\xc2\xa0x", "md5")
        store.set_aliases(b"joe", ["postmaster"])
        store.set_enabled(b"ann", is_enabled=False)
    return made


def log_in(path: bytes, user: bytes, password: str = "sécret x") -> bytes:
    """Log in as a client does that has prepared its password; give who it is."""
    client = ScramClient(user, password.encode())
    made = Exchange([Database(path)])
    final = client.final(made.first(client.first()))
    assert made.final(final) == client.expected
    return made.identity().name


@pytest.mark.parametrize(
    "user", [b"joe", b"JOE", b"joe@main.example", b"Joe@MAIN.example", b"postmaster"]
)
def test_every_name_of_an_account(path: bytes, user: bytes) -> None:
    assert log_in(path, user) == b"joe"


def test_an_account_of_another_domain(path: bytes) -> None:
    assert log_in(path, b"bob@other.example") == b"bob@other.example"


@pytest.mark.parametrize(
    ("user", "password"),
    [
        (b"joe", "secret x"),
        (b"joe@other.example", "sécret x"),
        (b"bob", "sécret x"),
        (b"bob@main.example", "sécret x"),
        (b"ann", "sécret x"),
        (b"", "sécret x"),
        (b"jo\xff", "sécret x"),
    ],
)
def test_who_is_refused(path: bytes, user: bytes, password: str) -> None:
    with pytest.raises(Refused):
        log_in(path, user, password)


def salt(path: bytes, user: bytes) -> bytes:
    challenge = Exchange([Database(path)]).first(ScramClient(user, b"").first())
    return challenge.split(b",", 1)[1]


@pytest.mark.parametrize("user", [b"joe", b"zoe"])
def test_however_a_name_is_written_its_salt_is_one(path: bytes, user: bytes) -> None:
    """Else a stranger's would be told from a user's by asking twice."""
    writings = (user, user.upper(), user + b"@main.example", user + b"@Main.Example")
    assert len({salt(path, writing) for writing in writings}) == 1
    assert salt(path, user + b"@other.example") != salt(path, user)


def iterations(path: bytes, user: bytes) -> int:
    challenge = Exchange([Database(path)]).first(ScramClient(user, b"").first())
    return int(challenge.rpartition(b",i=")[2])


def test_strangers_are_as_old_as_accounts(tmp_path: Path) -> None:
    """Else whose password is older than the last choice could be told from them."""
    path = bytes(tmp_path / "accounts")
    create(path)
    strangers = [b"stranger%d" % number for number in range(300)]
    assert {iterations(path, user) for user in strangers} == {4096}
    with Store(path) as store:
        for number in range(9):
            store.add(b"old%d" % number, None, b"/", b"")
            store.set_secret(b"old%d" % number, b"secret", "md5")
        store.set_option("iterations", b"5000")
    before = {user: iterations(path, user) for user in strangers}
    assert set(before.values()) == {4096}, "nobody has others yet"
    with Store(path) as store:
        for number in range(6):
            store.set_secret(b"old%d" % number, b"secret", "md5")
    after = [iterations(path, user) for user in strangers]
    assert set(after) == {iterations(path, b"old%d" % number) for number in range(9)}
    assert after == [iterations(path, user.upper()) for user in strangers]
    assert 60 < after.count(4096) < 140, "about a third, as of accounts"


def test_who_has_no_keys_is_as_old_as_a_stranger(tmp_path: Path) -> None:
    path = bytes(tmp_path / "accounts")
    create(path)
    with Store(path) as store:
        for user, number in ((b"joe", b"5000"), (b"ann", b"0")):
            store.add(user, None, b"/", b"")
            store.set_option("iterations", number)
            store.set_secret(user, b"secret", "md5")
    assert iterations(path, b"ann") == iterations(path, b"zoe") == 5000
    with Store(path) as store:
        store.remove(b"joe")
    assert iterations(path, b"ann") == iterations(path, b"zoe") == 4096


def test_salts_of_strangers_outlive_the_process_and_are_each_file_s_own(
    path: bytes, tmp_path: Path
) -> None:
    other = bytes(tmp_path / "accounts")
    create(other)
    assert salt(path, b"zoe") == salt(path, b"zoe")
    assert salt(other, b"zoe") != salt(path, b"zoe")
