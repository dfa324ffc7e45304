# SPDX-License-Identifier: ISC
"""What is in the memory of a whole chain while pop3d waits for a command.

popup, checkpw and pop3d may all be one process that never exec's. It must not have
seen what accounts are checked against, neither other users' nor its own.
"""

import os
import pwd
from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import md5
from pathlib import Path
from typing import NamedTuple

import pytest

from qtools.accounts import hashes
from qtools.accounts.db.files import create
from qtools.accounts.db.store import Store
from tests import support
from tests.chain import behind, checker
from tests.chain.popup import DIALOGUES, HOSTNAME, House, Popup
from tests.chain.warm import SessionProcess
from tests.conftest import Tools

WAYS: dict[str, dict[str, str]] = {"called": {}, "exec'd": {"QTOOLS_EXEC": "1"}}
USERS = ("joe", "ann")


def memory(pid: int) -> bytes:
    """Give all of a process's memory that it can read."""
    parts = []
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as all_:
        for line in maps:
            where, rights = line.split()[:2]
            if rights.startswith("r") and "[v" not in line:  # not the kernel's pages
                start, end = (int(place, 16) for place in where.split("-"))
                all_.seek(start)
                parts.append(all_.read(end - start))
    return b"".join(parts)


def session_of(popup: Popup, uid: int) -> int:
    """Give popup's child that has become the user."""
    children = Path(f"/proc/{popup.pid}/task/{popup.pid}/children").read_text()
    (found,) = (int(pid) for pid in children.split() if uid_of(pid) == uid)
    return found


def uid_of(pid: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (ids,) = (line.split()[1:] for line in lines if line.startswith("Uid:"))
    assert len(set(ids)) == 1
    return int(ids[0])


class Bank(NamedTuple):
    """Accounts: where, the names of two, their secrets, what is stored of them."""

    word: str
    users: list[str]
    secrets: list[bytes]
    stored: list[bytes]


def _secrets() -> list[bytes]:
    return [f"{os.urandom(12).hex()}-{user}".encode() for user in USERS]


def traces(stored: bytes) -> list[bytes]:
    """Give parts of a stored hash: memory that was freed may have lost a beginning."""
    *_, salt, key = stored.split(b"$")
    return [salt, key[8:40], key[-32:]]


@pytest.fixture
def database(room: Path) -> Bank:
    home = checker.own(room / "home")
    path = room / "accounts"
    create(bytes(path))
    accounts, secrets = Store(bytes(path)), _secrets()
    with accounts:
        for user, secret in zip(USERS, secrets, strict=True):
            accounts.add(user.encode(), support.OWNER, bytes(home), b"")
            accounts.set_secret(user.encode(), secret, "sha512", clear=True)
    query = "SELECT value FROM credential WHERE kind = 'hash'"
    query += " UNION ALL SELECT value FROM meta WHERE name = 'decoy'"
    stored = [bytes(row[0] or b"") for row in accounts._execute(query)]  # type: ignore[arg-type]  # blobs
    accounts.close()
    return Bank(f"db:{path}", [*USERS], secrets, stored)


@pytest.fixture
def system(room: Path) -> Iterator[Bank]:
    home = checker.own(room / "home")
    secrets = _secrets()
    stored = [hashes.make(secret, "sha512") for secret in secrets]
    with ExitStack() as stack:
        users = [
            stack.enter_context(checker.system_user(home, made.decode()))
            for made in stored
        ]
        os.chown(home, pwd.getpwnam(users[0]).pw_uid, -1)
        yield Bank("system", users, secrets, stored)


@pytest.fixture
def house(tools: Tools, room: Path) -> Iterator[House]:
    made = House(tools, room)
    yield made
    made.close()


def log_in(house: House, bank: Bank, dialogue: str, env: dict[str, str]) -> Popup:
    words = ["checkpw", "--accounts", bank.word, "pop3d", "Maildir"]
    home = house.room / "home"
    uid = home.stat().st_uid
    for folder in ("Maildir", "Maildir/tmp", "Maildir/new", "Maildir/cur"):
        checker.own(home / folder)
        os.chown(home / folder, uid, -1)
    popup = house.popup(*words, dialogue=dialogue, env=env)
    stamp = popup.reply()[4:-2]
    user, secret = bank.users[0].encode(), bank.secrets[0]
    if "POP3AUTH" in env:
        digest = md5(stamp + secret, usedforsecurity=False).hexdigest().encode()
        assert popup.ask(b"APOP " + user + b" " + digest) == b"+OK \r\n"
    else:
        popup.ask(b"USER " + user)
        assert popup.ask(b"PASS " + secret) == b"+OK \r\n"
    assert popup.ask(b"NOOP").startswith(b"+OK")
    return popup


def is_in(bank: Bank, held: bytes) -> bool:
    """Say whether anything that is stored as a hash is in this memory."""
    return any(trace in held for stored in bank.stored for trace in traces(stored))


def held_by(house: House, popup: Popup) -> tuple[bytes, bytes]:
    """Give the memory of popup and that of the session, which must be the ones."""
    session = session_of(popup, (house.room / "home").stat().st_uid)
    both = memory(popup.pid), memory(session)
    assert all(b"QTOOLS_VERDICT" in held for held in both)
    return both


@pytest.mark.parametrize("kind", ["system", "database"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dialogue", DIALOGUES)
def test_a_session_has_nobodys_hash(
    request: pytest.FixtureRequest, house: House, dialogue: str, way: str, kind: str
) -> None:
    bank: Bank = request.getfixturevalue(kind)
    popup = log_in(house, bank, dialogue, WAYS[way])
    parent, session = held_by(house, popup)
    for held in (parent, session):
        assert not is_in(bank, held)
        assert bank.secrets[1] not in held
    # What the client itself has typed is in popup, and in all that is forked from it;
    # only an exec forgets it.
    assert bank.secrets[0] not in session or way == "called"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dialogue", DIALOGUES)
def test_a_session_has_no_clear_secret_that_was_not_typed(
    house: House, database: Bank, dialogue: str, way: str
) -> None:
    env = {**WAYS[way], "POP3AUTH": "+apop"}
    popup = log_in(house, database, dialogue, env)
    for held in held_by(house, popup):
        assert not is_in(database, held)
        assert not any(secret in held for secret in database.secrets)


@pytest.mark.parametrize("kind", ["system", "database"])
def test_a_warm_session_has_nobodys_hash_and_no_password(
    request: pytest.FixtureRequest, room: Path, tools: Tools, kind: str
) -> None:
    """Nor have those from which it is forked; its own password is in none of them."""
    bank: Bank = request.getfixturevalue(kind)
    house = behind.House(tools, room)
    try:
        first = log_in(house, bank, "popserver", {})
        assert isinstance(first, behind.Served)
        server = first.server
        (session,) = SessionProcess(server).all()
        assert uid_of(str(session)) == (room / "home").stat().st_uid
        parent = int(
            Path(f"/proc/{session}/stat").read_text().rpartition(")")[2].split()[1]
        )
        for pid in (session, parent, server.pid):
            held = memory(pid)
            assert HOSTNAME.encode() in held
            assert not is_in(bank, held)
            assert not any(secret in held for secret in bank.secrets)
    finally:
        house.close()


def test_what_is_in_a_memory_is_found(database: Bank) -> None:
    held = memory(os.getpid())
    assert all(trace in held for stored in database.stored for trace in traces(stored))
    assert all(secret in held for secret in database.secrets)
