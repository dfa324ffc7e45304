# SPDX-License-Identifier: ISC
"""popup, checkpw and pop3d together: called, exec'd, split, not, warm, all the same."""

import os
import re
from base64 import b64decode, b64encode
from collections.abc import Iterator
from hashlib import md5
from hmac import digest as hmac
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.chain import checker
from tests.chain.behind import House
from tests.chain.popup import Popup
from tests.conftest import Tools
from tests.support import IS_ROOT

SOURCE = "P:POP3 S:192.0.2.7:c.example"
MESSAGE = b"From: a@b\nSubject: hi\n\n.dot\n"
WAYS = {
    "called": {},
    "exec'd": {"QTOOLS_EXEC": "1"},
}


class Chain(House):
    """A House with one account and one message."""

    def __init__(self, tools: Tools, room: Path) -> None:
        super().__init__(tools, room)
        home = checker.own(room / "home")
        checker.own(home / "Maildir")
        for folder in ("tmp", "new", "cur"):
            checker.own(home / "Maildir" / folder)
        message = home / "Maildir/new/1.x.h"
        message.write_bytes(MESSAGE)
        os.utime(message, (1, 1))
        self.users = room / "users"
        gone = checker.own(room / "gone")
        text = "joe:secret\n" + checker.place("joe", home)
        text += "ann:secret\n" + checker.place("ann", gone)
        self.users.write_text(text)

    @property
    def words(self) -> list[str]:
        return ["checkpw", "--accounts", f"authuser:{self.users}", "pop3d", "Maildir"]


@pytest.fixture
def chain(tools: Tools, room: Path) -> Iterator[Chain]:
    made = Chain(tools, room)
    yield made
    made.close()


@pytest.fixture(params=sorted(WAYS))
def way(request: pytest.FixtureRequest) -> dict[str, str]:
    return WAYS[request.param]


def start(chain: Chain, dialogue: str, way: dict[str, str], **env: str) -> Popup:
    return chain.popup(*chain.words, dialogue=dialogue, env={**way, **env})


def test_a_session(chain: Chain, dialogue: str, way: dict[str, str]) -> None:
    popup = start(chain, dialogue, way)
    popup.reply()
    popup.ask(b"USER joe")
    assert popup.ask(b"PASS secret") == b"+OK \r\n"
    assert popup.log_line() == f"Accept::AUTH::User {SOURCE} ?~ 'joe'"
    assert popup.ask(b"STAT").startswith(b"+OK 1 ")
    popup.send(b"RETR 1\r\n")
    assert popup.listing()[1:] == [b"From: a@b", b"Subject: hi", b"", b"..dot"]
    popup.send(b"CAPA\r\n")
    listed = popup.listing()
    assert b"USER" in listed
    assert b"SASL PLAIN LOGIN" in listed
    assert popup.ask(b"QUIT") == b"+OK \r\n"
    assert popup.rest() == b""
    assert popup.code() == 0
    assert popup.errors() == ""
    assert popup.log() == [
        f"Info::END::User {SOURCE} ?~ 'joe' why=served code=0 seconds=N"
    ]
    assert os.listdir(chain.room / "home/Maildir/cur") == ["1.x.h:2,"]


def test_one_burst(chain: Chain, dialogue: str, way: dict[str, str], wire: str) -> None:
    popup = chain.popup(*chain.words, dialogue=dialogue, env=way, wire=wire)
    popup.send(b"USER joe\r\nPASS secret\r\nNOOP\r\nDELE 1\r\nQUIT\r\n")
    assert popup.rest().count(b"+OK") == 6
    assert popup.code() == 0
    assert os.listdir(chain.room / "home/Maildir/new") == []


@pytest.mark.parametrize(
    ("user", "secret"), [(b"joe", b"wrong"), (b"joe", b" secret"), (b"nobody", b"x")]
)
def test_a_wrong_password_and_a_second_try(
    chain: Chain, dialogue: str, way: dict[str, str], user: bytes, secret: bytes
) -> None:
    popup = start(chain, dialogue, way)
    popup.reply()
    popup.ask(b"USER " + user)
    assert popup.ask(b"PASS " + secret) == b"-ERR [AUTH] authorization failed\r\n"
    popup.ask(b"USER joe")
    assert popup.ask(b"PASS secret") == b"+OK \r\n"
    assert popup.ask(b"QUIT") == b"+OK \r\n"
    assert popup.code() == 0
    assert [line.split(" ")[0] for line in popup.log()] == [
        "Reject::AUTH::User",
        "Accept::AUTH::User",
        "Info::END::User",
    ]


def test_one_reply_when_there_is_no_maildir(
    chain: Chain, dialogue: str, way: dict[str, str]
) -> None:
    popup = start(chain, dialogue, way)
    popup.send(b"USER ann\r\nPASS secret\r\nSTAT\r\n")
    reply = popup.replies(3)[2]
    assert reply.startswith(b"-ERR ")
    assert popup.rest() == b""
    assert popup.code() in (0, 100, 111)


REFUSED = b"-ERR [AUTH] authorization failed\r\n"
TEMPORARY = b"-ERR [SYS/TEMP] temporary failure, try again later\r\n"
PERMANENT = b"-ERR [SYS/PERM] the server is not set up for you\r\n"


class Case(NamedTuple):
    """Who tries to log in with what; what he is told; the verdict and end for the log.

    moved: his home is gone. nowhere: his account has no uid, and this is root.
    """

    user: str
    secret: str
    reply: bytes
    verdict: str
    end: str


CASES = [
    Case("joe", "wrong", REFUSED, "Reject", "quit code=0"),
    Case("nobody", "secret", REFUSED, "Reject", "quit code=0"),
    Case("ann", "secret", PERMANENT, "Accept", "failed code=100"),
    Case("root", "secret", REFUSED, "Reject", "quit code=0"),
    Case("moved", "secret", TEMPORARY, "Reject code=111", "quit code=0"),
]
if IS_ROOT:
    CASES += [Case("nowhere", "secret", TEMPORARY, "Reject code=111", "quit code=0")]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.user} {case.secret}")
def test_a_verdict(
    chain: Chain, dialogue: str, way: dict[str, str], case: Case
) -> None:
    home = chain.room / "home"
    with chain.users.open("a") as users:
        users.write(f"root:secret\n#:root:uid=0 gid=0 home={home}\n")
        users.write("moved:secret\n" + checker.place("moved", chain.room / "none"))
        users.write(f"nowhere:secret\n#:nowhere:home={home}\n")
    popup = start(chain, dialogue, way)
    popup.reply()
    popup.ask(b"USER " + case.user.encode())
    assert popup.ask(b"PASS " + case.secret.encode()) == case.reply
    if case.end.startswith("quit"):
        assert popup.ask(b"QUIT") == b"+OK \r\n"
    assert popup.rest() == b""
    assert popup.code() == int(case.end.rpartition("=")[2])
    event, _, note = case.verdict.partition(" ")
    who = f"::User {SOURCE} ?~ '{case.user}'"
    assert popup.log() == [
        f"{event}::AUTH{who} {note}".rstrip(),
        f"Info::END{who} why={case.end} seconds=N",
    ]


@pytest.mark.parametrize("last", [["pop3d"], ["pop3d", "-a", "-m", "Nowhere"]])
def test_a_last_link_that_cannot_serve_leaves_the_word_to_popup(
    chain: Chain, dialogue: str, way: dict[str, str], last: list[str]
) -> None:
    popup = chain.popup(*chain.words[:3], *last, dialogue=dialogue, env=way)
    popup.send(b"USER joe\r\nPASS secret\r\n")
    assert popup.rest() == b"+OK\r\n+OK \r\n" + PERMANENT
    assert popup.code() == 100
    assert popup.log()[-1].endswith(" why=failed code=100 seconds=N")
    assert popup.errors().startswith("pop3d: ")


def test_accounts_that_cannot_be_read_are_no_wrong_password(
    chain: Chain, dialogue: str, way: dict[str, str]
) -> None:
    chain.users.unlink()
    popup = start(chain, dialogue, way)
    popup.send(b"USER joe\r\nPASS secret\r\n")
    assert popup.replies(3)[2].startswith(b"-ERR [SYS/")


def test_apop(chain: Chain, dialogue: str, way: dict[str, str]) -> None:
    popup = start(chain, dialogue, way, POP3AUTH="apop")
    stamp = popup.reply()[4:-2]
    digest = md5(stamp + b"secret", usedforsecurity=False).hexdigest().encode()
    assert popup.ask(b"APOP joe " + digest) == b"+OK \r\n"
    assert popup.log_line() == f"Accept::AUTH::Apop {SOURCE} ?~ 'joe'"
    popup.ask(b"QUIT")
    assert popup.code() == 0


def test_cram_md5(chain: Chain, dialogue: str, way: dict[str, str]) -> None:
    popup = start(chain, dialogue, way, POP3SASL="cram-md5")
    popup.reply()
    challenge = popup.ask(b"AUTH CRAM-MD5")
    assert re.match(rb"\+ [A-Za-z0-9+/=]+\r\n", challenge)
    stamp = b64decode(challenge[2:])
    digest = hmac(b"secret", stamp, "md5").hex().encode()
    assert popup.ask(b64encode(b"joe " + digest)) == b"+OK \r\n"
    assert popup.log_line() == f"Accept::AUTH::Cram-Md5 {SOURCE} ?~ 'joe'"


def test_a_login_in_german_goes_on_in_german(
    chain: Chain, dialogue: str, way: dict[str, str]
) -> None:
    popup = start(chain, dialogue, way)
    popup.reply()
    popup.ask(b"LANG de")
    popup.ask(b"USER joe")
    assert popup.ask(b"PASS secret").startswith(b"+OK")
    assert popup.ask(b"RETR 9") == b"-ERR so viele Nachrichten sind nicht da\r\n"
