# SPDX-License-Identifier: ISC
"""Every link with every other: ours and foreign ones in all places, by transcripts."""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import Tools
from tests.interop.chains import (
    CHECKERS,
    MAIL,
    MAIL_NAME,
    POP3DS,
    POPUPS,
    QMAIL_POP3DS,
    Checker,
    Pop3d,
    Popup,
    Stage,
)
from tests.interop.conftest import SECRET, Serve
from tests.interop.servers import HOSTNAME, Server
from tests.interop.talk import Talk
from tests.interop.tenants import Tenant, tenant
from tests.support import wait_for

pytestmark = pytest.mark.slow

# SECRET as the system's library hashes it.
HASHES = {
    "DES": "qtF6F01hfNKGg",
    "MD5": "$1$dt4RZ7rP$mlT3OIQEE5b3Sq/31d9bf.",
    "SHA-256": (
        "$5$rounds=1000$dt4RZ7rPkFLNnFrQ$QTCvBKSXMFlb40sEPaoa4oPrbDDrJmlxoScizzwp4A5"
    ),
    "SHA-512": (
        "$6$rounds=1000$dt4RZ7rPkFLNnFrQ$"
        "7cRtx.z5771uDoCQU.pT7T7qSWqrLae5lQKmIUikXkNNpl8ag6pPI1albfVQ"
        "VEZKnfRfazrYctmdeW3NTm7Fm0"
    ),
    "bcrypt": "$2b$04$YU3yXVHtaFPja1PxYU3yXOfZdD.jwK.M7/Ps8GAzvT6U/y0DHfxJC",
    "yescrypt": (
        "$y$j75$dt4RZ7rPkFLNnFrQdt4RZ7rPkFLNnFrQ$"
        "qMmnB2RWeYDd9ZYhpWHJKwq21hwRQMBsbXRxWu5cRg0"
    ),
    "gost-yescrypt": (
        "$gy$j75$dt4RZ7rPkFLNnFrQdt4RZ7rPkFLNnFrQ$"
        "FmKYw/y9rtdJSVDwwUOt6gZztRoqsO3vddKeYYnjNE."
    ),
    "scrypt": (
        "$7$BU..../....dt4RZ7rPkFLNnFrQdt4RZ7rPkFLNnFrQ$"
        "Bq3PsCPpVrzU2deb2udQEAeakY2I4ZfrAli7Leu8lpB"
    ),
}
WRONG = "warm tea, no sugar"

Row = Popup | Checker | Pop3d


def by_name(row: Row) -> str:
    return row.name


class Cast(NamedTuple):
    """Who plays in a chain."""

    popup: Popup
    checker: Checker
    pop3d: Pop3d


every_cast = pytest.mark.parametrize(
    "cast",
    [Cast(*rows) for rows in product(POPUPS, CHECKERS, POP3DS)],
    ids=lambda cast: " | ".join(row.name for row in cast),
)
every_popup = pytest.mark.parametrize("popup", POPUPS, ids=by_name)
every_checker = pytest.mark.parametrize("checker", CHECKERS, ids=by_name)


@pytest.fixture(scope="module")
def reader(session_room: Path) -> Iterator[Tenant]:
    """Give a user of the system."""
    name = f"qtools-{os.getpid()}"
    with tenant(session_room, name, HASHES["SHA-512"]) as found:
        yield found


@pytest.fixture(scope="module")
def database(reader: Tenant, tools: Tools, session_room: Path) -> Path:
    """Give an account database in which the same user has the same password."""
    path = session_room / "mixed-accounts"
    popaccount = [tools.popaccount, "--db", str(path)]
    who = ["--uid", str(reader.uid), "--gid", str(reader.gid)]
    subprocess.run([*popaccount, "init"], check=True)
    subprocess.run(
        [*popaccount, "add", reader.name, "--apop", "--home", str(reader.home), *who],
        input=SECRET.encode() + b"\n",
        check=True,
    )
    return path


@pytest.fixture
def stage(reader: Tenant, database: Path, room: Path) -> Stage:
    """Give the place where links are set up, with the transcripts' Maildir."""
    reader.move_in({f"new/{MAIL_NAME}": MAIL})
    # Debian's checkpw keeps the password with the mail.
    secret = reader.maildir / ".password"
    secret.write_text(SECRET + "\n", encoding="ascii")
    reader.own(secret, 0o600)
    return Stage(room, database)


def chain(stage: Stage, cast: Cast) -> list[str]:
    """Give the words of a whole chain."""
    popup, checker, pop3d = (row.argv(stage) for row in cast)
    return [*popup, HOSTNAME, *checker, *pop3d, "Maildir"]


def start(serve_words: Serve, words: list[str]) -> Server:
    """Serve a chain whose first word may be a name in PATH."""
    return serve_words(["env", *words], POP3AUTH="+apop")


def log_in(
    talk: Talk, greeting: bytes, who: Tenant, checker: Checker, word: str
) -> bytes:
    """Say who one is, with APOP or USER and PASS; give the last reply."""
    if checker.mechanism == "APOP":
        stamp = greeting.removeprefix(b"+OK ").removesuffix(b"\r\n")
        digest = hashlib.md5(stamp + word.encode()).hexdigest()
        return talk.ask(f"APOP {who.name} {digest}".encode())
    assert talk.ask(f"USER {who.name}".encode()) == b"+OK \r\n"
    return talk.ask(f"PASS {word}".encode())


def matches(pattern: bytes, reply: bytes) -> bool:
    assert re.fullmatch(pattern, reply), (pattern, reply)
    return True


@every_cast
def test_a_session(cast: Cast, reader: Tenant, stage: Stage, serve: Serve) -> None:
    popup, checker, pop3d = cast
    server = start(serve, chain(stage, cast))
    with Talk(server) as talk:
        greeting = talk.line()
        assert matches(popup.greeting, greeting)
        reply = log_in(talk, greeting, reader, checker, SECRET)
        assert matches(pop3d.welcome, reply)
        assert matches(pop3d.stat, talk.ask(b"STAT"))
        assert matches(pop3d.uidl, talk.ask_long(b"UIDL"))
        assert matches(pop3d.retr, talk.ask_long(b"RETR 1"))
        assert matches(pop3d.unknown, talk.ask(b"XYZZY"))
        assert matches(pop3d.goodbye, talk.ask(b"QUIT"))
        assert talk.rest() == b""
    assert reader.files() == [pop3d.left]


@every_cast
def test_a_wrong_password(
    cast: Cast, reader: Tenant, stage: Stage, serve: Serve
) -> None:
    popup, checker, pop3d = cast
    words = chain(stage, cast)
    if popup.is_patient:
        words[1:1] = ["--delay", "0"]
    server = start(serve, words)
    with Talk(server) as talk:
        greeting = talk.line()
        reply = log_in(talk, greeting, reader, checker, WRONG)
        assert matches(popup.refused, reply)
        if not popup.is_patient:
            assert talk.rest() == b""
            return
        reply = log_in(talk, greeting, reader, checker, SECRET)
        assert matches(pop3d.welcome, reply)
    wait_for(lambda: len(server.log) == 3)
    events = [re.search(r"(\w+::\w+)::", line) for line in server.log]
    found = [event[1] for event in events if event]
    assert found == ["Reject::AUTH", "Accept::AUTH", "Info::END"]


@pytest.mark.parametrize("kind", HASHES)
def test_a_user_of_the_system_with_a_hash_of_each_kind(
    kind: str, room: Path, serve: Serve
) -> None:
    words = ["popup", "--delay", "0", HOSTNAME]
    words += ["checkpw", "--accounts", "system", "pop3d", "Maildir"]
    with tenant(room, f"qtools-h{os.getpid()}", HASHES[kind]) as who:
        who.move_in({f"new/{MAIL_NAME}": MAIL})
        with Talk(serve(["env", *words])) as talk:
            assert talk.login(who.name, WRONG).startswith(b"-ERR [AUTH]")
            assert talk.ask(b"USER " + who.name.encode()) == b"+OK \r\n"
            assert talk.ask(b"PASS " + SECRET.encode()) == b"+OK \r\n"
            assert talk.ask(b"STAT") == b"+OK 1 32\r\n"
            assert talk.ask(b"QUIT") == b"+OK \r\n"


@pytest.mark.parametrize("password_hash", ["!" + HASHES["MD5"], "*", "!", "x"])
def test_a_locked_user_of_the_system_stays_out(
    password_hash: str, room: Path, serve: Serve
) -> None:
    words = ["popup", "--delay", "0", HOSTNAME]
    words += ["checkpw", "--accounts", "system", "pop3d", "Maildir"]
    with tenant(room, f"qtools-l{os.getpid()}", password_hash) as who:
        server = serve(["env", *words])
        with Talk(server) as talk:
            assert talk.login(who.name, SECRET).startswith(b"-ERR [AUTH]")
            assert talk.ask(b"STAT").startswith(b"-ERR")


NO_MAILDIR = {
    # first and last link ours: the first says what the last left with
    (True, True): rb"-ERR \[SYS/.*\r\n",
    (False, True): rb"-ERR authorization failed\r\n",
    (True, False): rb"-ERR this user has no \$HOME/Maildir\r\n",
    (False, False): rb"-ERR this user has no \$HOME/Maildir\r\n",
}


@every_popup
@pytest.mark.parametrize("pop3d", [POP3DS[0], *QMAIL_POP3DS], ids=by_name)
def test_a_user_without_a_maildir_gets_one_reply(
    popup: Popup, pop3d: Pop3d, reader: Tenant, stage: Stage, serve: Serve
) -> None:
    shutil.rmtree(reader.maildir)
    server = start(serve, chain(stage, Cast(popup, CHECKERS[0], pop3d)))
    is_ours = (popup.is_patient, pop3d is POP3DS[0])
    with Talk(server) as talk:
        reply = log_in(talk, talk.line(), reader, CHECKERS[0], SECRET)
        assert matches(NO_MAILDIR[is_ours], reply)
        assert talk.rest() == b""


@every_checker
def test_pop3d_serves_as_the_user_and_only_as_the_user(
    checker: Checker, reader: Tenant, stage: Stage, serve: Serve
) -> None:
    """What became of the identity, as the kernel sees it, behind every checker."""
    server = start(serve, chain(stage, Cast(POPUPS[0], checker, POP3DS[0])))
    with Talk(server) as talk:
        log_in(talk, talk.line(), reader, checker, SECRET)
        assert talk.ask(b"NOOP") == b"+OK \r\n"
        # The rest of them belong to popup, which stays what it is.
        (serving,) = [
            state
            for number in server.processes()
            if (state := status(number))["Uid"].split()[0] == str(reader.uid)
        ]
        assert serving["Uid"].split() == [str(reader.uid)] * 4
        assert serving["Gid"].split() == [str(reader.gid)] * 4
        assert serving["Groups"].split() in ([], [str(reader.gid)])


def status(number: int) -> dict[str, str]:
    """Give what the kernel says of a process."""
    rows = Path(f"/proc/{number}/status").read_text(encoding="utf-8").splitlines()
    return dict(row.split(":", 1) for row in rows)


@pytest.mark.parametrize(
    ("cast", "name"),
    [
        (Cast(POPUPS[0], CHECKERS[0], POP3DS[0]), "popup"),
        (Cast(POPUPS[0], CHECKERS[2], POP3DS[0]), "pop3d"),
        (Cast(POPUPS[1], CHECKERS[0], POP3DS[0]), "pop3d"),
        (Cast(POPUPS[2], CHECKERS[0], POP3DS[0]), "checkpw"),
        (Cast(POPUPS[2], CHECKERS[2], POP3DS[0]), "pop3d"),
    ],
    ids=["both ours", "checkpw --exec", "popup --exec", "foreign", "foreign, --exec"],
)
def test_our_links_are_called_and_with_exec_they_are_run(
    cast: Cast, name: str, reader: Tenant, stage: Stage, serve: Serve
) -> None:
    """By the name of the process in which the session is: that of its last exec."""
    server = start(serve, chain(stage, cast))
    with Talk(server) as talk:
        log_in(talk, talk.line(), reader, cast.checker, SECRET)
        assert talk.ask(b"NOOP") == b"+OK \r\n"
        found = [
            word
            for number, word in server.processes().items()
            if status(number)["Uid"].split()[0] == str(reader.uid)
        ]
        assert found == [name]
