# SPDX-License-Identifier: ISC
"""poppassd --pwd on a connection: what clients see, what is stored, who can do what."""

import base64
import os
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from qtools.accounts import hashes
from qtools.accounts.cli.interpreter import HANDLERS
from qtools.accounts.cli.rights import DOMAIN_RIGHTS, SERVER_RIGHTS
from qtools.accounts.cli.vocabulary import SETTERS
from qtools.chain.change import pwdservice
from qtools.protocol import codes, digests
from qtools.protocol.commands import COMMANDS
from qtools.server.pwd import settings as server_options
from tests.chain.alone import Alone
from tests.chain.pwdclient import SECRET, Bureau, VendorClient
from tests.conftest import Tools
from tests.support import OWNER, TOP, need_root, wait_for

pytestmark = pytest.mark.slow

NOT_ALLOWED = b"510 you do not have the required access rights"
WRONG = b"500 incorrect password or account name"


@pytest.fixture
def bureau(tools: Tools, room: Path) -> Bureau:
    return Bureau(tools, room)


@pytest.fixture
def apop(tools: Tools, room: Path) -> Bureau:
    """Give one whose accounts have clear secrets, too."""
    return Bureau(tools, room, clear=True)


def encoded(data: bytes) -> bytes:
    return base64.b64encode(data)


def test_the_guides_own_session(bureau: Bureau) -> None:
    with bureau.log_in("postmaster", "--name", "mail.example.com") as talk:
        assert bureau.greeting == "200 mail.example.com PWD Server ready"
        assert talk.ask(b'CreateAccount "user1"') == b"200 OK"
        again = talk.ask(b'CreateAccount "user1"')
        assert again == b"520 account with this name already exists"
        assert talk.ask(b'RenameAccount "user1" into "user2"') == b"200 OK"
        assert talk.ask(b"ListDomains") == b"200 data follow"
        assert talk.line() == b'("a.b","c.d")'
        assert talk.ask(b"QUIT") == b"200 PWD connection closed"
        assert talk.rest() == b""
        assert talk.end()[0] == 0
    assert [account.user for account in bureau.store().list("a.b")] == [
        *("joe", "postmaster", "user2"),
    ]


def test_a_password_is_changed_and_it_lasts(bureau: Bureau) -> None:
    with bureau.log_in("joe") as talk:
        assert talk.ask(b"NEWPASS  to be ") == b"200 password changed"
        os.kill(talk.process.pid, 9)  # nothing is left to be done
    assert bureau.knows("joe", " to be ")
    assert not bureau.knows("joe", SECRET)


def names(bureau: Bureau) -> set[str]:
    return {account.user for account in bureau.store().list()}


def is_was(bureau: Bureau, number: int) -> bool:
    """Tell whether an account has been renamed, and not half so."""
    found = names(bureau).intersection({f"was{number}@c.d", f"ann{number}@c.d"})
    return found == {f"was{number}@c.d"}


@pytest.mark.parametrize(
    ("line", "is_done"),
    [
        (b"NEWPASS new %d", lambda house, n: house.knows("postmaster", f"new {n}")),
        (b"CreateAccount new%d", lambda house, n: f"new{n}" in names(house)),
        (b"RenameAccount ann%d@c.d INTO was%d@c.d", is_was),
        (
            b"DeleteAccount ann%d@c.d",
            lambda house, n: f"ann{n}@c.d" not in names(house),
        ),
    ],
)
def test_what_was_answered_outlives_a_kill(
    bureau: Bureau, line: bytes, is_done: Callable[[Bureau, int], bool]
) -> None:
    with bureau.store() as store:
        for number in range(5):
            store.add(b"ann%d@c.d" % number, OWNER, b"/", b"")
    secret = SECRET.encode()
    for number in range(5):
        with bureau.start() as talk:
            said = talk.ask(b"USER postmaster", b"PASS " + secret)
            assert said == b"200 login OK"
            words = line.replace(b"%d", b"%d" % number)
            assert talk.ask(words).startswith(b"200 ")
            os.kill(talk.process.pid, 9)
        assert is_done(bureau, number)
        if line.startswith(b"NEWPASS"):
            secret = b"new %d" % number


def test_a_change_needs_leave_when_it_is_made(bureau: Bureau) -> None:
    with bureau.log_in("joe") as talk:
        with bureau.store() as store:
            store.set_may_change(b"joe", may_change=False)
        said = talk.ask(b"NEWPASS other")
        assert said == b"500 password modification is not allowed for this account"
        assert talk.ask(b"NOOP") == b"200 OK"
    assert bureau.knows("joe", SECRET)


def test_a_password_that_can_not_be_changes_nothing(bureau: Bureau) -> None:
    with bureau.log_in("joe", "--min-length=8") as talk:
        assert talk.ask(b"NEWPASS " + b"x" * 249).startswith(b"500 a password has at")
        assert talk.ask(b"NEWPASS ").startswith(b"500 ")
        assert talk.ask(b"NEWPASS short").startswith(b"500 the new password is short")
        assert talk.ask(b"NEWPASS " + SECRET.encode()).startswith(b"500 the new passw")
        assert talk.ask(b"NEWPASS " + b"y" * 100_000).startswith(b"501 a line too lon")
        assert talk.ask(b"NEWPASS a\0b").startswith(b"501 ")
    assert bureau.knows("joe", SECRET)


@pytest.mark.parametrize(
    "lines",
    [
        [b"USER joe", b"PASS wrong"],
        [b"USER nobody", b"PASS open sesame"],
        [b"AUTH PLAIN " + encoded(b"\0joe\0wrong")],
        [b"AUTH LOGIN", encoded(b"joe"), encoded(b"wrong")],
    ],
)
def test_wrong_passwords_are_refused(bureau: Bureau, lines: list[bytes]) -> None:
    with bureau.start("--attempts=1", "--log-level=3") as talk:
        assert talk.ask(*lines) == WRONG
        assert talk.rest() == b""
        code, log = talk.end()
    assert code == 1
    assert re.search(r" 3 PWD-\d+\(\[127\.0\.0\.1\]\) login refused: \w+ by ", log)
    assert "wrong" not in log


@pytest.mark.parametrize(
    "lines",
    [
        [b"user joe", b"pass open sesame"],
        [b"USER joe@A.B", b"PASS open sesame"],
        [b"AUTH PLAIN " + encoded(b"\0joe\0open sesame")],
        [b"AUTH PLAIN", encoded(b"\0joe\0open sesame")],
        [b"AUTH LOGIN", encoded(b"joe"), encoded(b"open sesame")],
    ],
)
def test_there_are_several_ways_in(bureau: Bureau, lines: list[bytes]) -> None:
    with bureau.start() as talk:
        assert talk.ask(*lines) == b"200 login OK"
        assert talk.ask(b"GetAccountInfo joe Key HasAPOPSecret") == b"200 data follow"
        assert talk.line() == b"NO"


def test_apop_and_cram_md5_are_over_the_stamp(apop: Bureau) -> None:
    with apop.start() as talk:
        found = re.fullmatch(r"200 [^<>]* PWD Server ready (<[^<> ]+>)", apop.greeting)
        assert found, apop.greeting
        stamp = found[1].encode()
        digest = digests.apop(stamp, SECRET.encode())
        assert talk.ask(b"APOP joe " + b"0" * 32) == WRONG
        assert talk.ask(b"APOP joe " + digest) == b"200 login OK"
    with apop.start() as talk:
        (word,) = talk.ask(b"AUTH CRAM-MD5").split()[1:]
        digest = digests.cram_md5(base64.b64decode(word), SECRET.encode())
        assert talk.ask(encoded(b"joe " + digest)) == b"200 login OK"
    with apop.start("--apop=no") as talk:
        assert "<" not in apop.greeting
        assert talk.ask(b"APOP joe " + digest) == b"501 APOP is not available"


def test_no_stamp_is_shown_where_nobody_could_answer_it(bureau: Bureau) -> None:
    with bureau.start():
        assert "<" not in bureau.greeting
    with bureau.store() as store:
        store.set_secret(b"joe", SECRET.encode(), clear=True)
    with bureau.start():
        assert bureau.greeting.endswith(">")


def test_scram_proves_both_sides(bureau: Bureau) -> None:
    for secret, is_right in ((SECRET, True), ("wrong", False)):
        with bureau.start() as talk:
            bare = b"n=joe,r=abcdef"
            said = talk.ask(b"AUTH SCRAM-SHA-256 " + encoded(b"n,," + bare))
            first = base64.b64decode(said.removeprefix(b"300 "))
            final, signature = client_final(bare, first, secret.encode())
            said = talk.ask(encoded(final))
            if not is_right:
                assert said == WRONG
                continue
            assert base64.b64decode(said.removeprefix(b"300 ")) == b"v=" + signature
            assert talk.ask(b"") == b"200 login OK"
            assert talk.ask(b"NEWPASS other") == b"200 password changed"
    assert bureau.knows("joe", "other")


def client_final(
    bare: bytes, first: bytes, secret: bytes, bound: bytes = b"n,,"
) -> tuple[bytes, bytes]:
    """Do a client's part of SCRAM-SHA-256, from RFC 5802 section 3.

    bound: the header of its first message, and what it binds itself to.
    """
    import hashlib
    import hmac

    nonce, salt, count = (part[2:] for part in first.split(b","))
    salted = hashlib.pbkdf2_hmac("sha256", secret, base64.b64decode(salt), int(count))
    key = hmac.digest(salted, b"Client Key", "sha256")
    stored = hashlib.sha256(key).digest()
    without = b"c=" + encoded(bound) + b",r=" + nonce
    agreed = b",".join((bare, first, without))
    signature = hmac.digest(stored, agreed, "sha256")
    proof = bytes(one ^ other for one, other in zip(key, signature, strict=True))
    server = hmac.digest(salted, b"Server Key", "sha256")
    return (
        without + b",p=" + encoded(proof),
        encoded(hmac.digest(server, agreed, "sha256")),
    )


def test_a_refusal_comes_when_it_is_due(bureau: Bureau) -> None:
    with bureau.start("--fail-delay=1") as talk:
        began = time.monotonic()
        assert talk.ask(b"USER joe", b"PASS wrong") == WRONG
        assert time.monotonic() - began >= 1


def test_scram_is_for_a_database_that_is_asked_first(
    bureau: Bureau, room: Path
) -> None:
    users = room / "users"
    users.write_bytes(b"postmaster:%b\n" % hashes.make(b"first", "md5"))
    users.chmod(0o600)
    sources = f"authuser:{users} db:{bureau.file}"
    words = [bureau.tools.poppassd, "--pwd", "--fail-delay=0", "--log-stderr"]
    with Alone([*words, "--accounts", sources], bureau.tools.environment()) as talk:
        talk.line()
        first = encoded(b"n,,n=postmaster,r=abcdef")
        assert talk.ask(b"AUTH SCRAM-SHA-256 " + first) == b"501 unknown mechanism"
        secret = encoded(b"\0joe\0" + SECRET.encode())
        assert talk.ask(b"AUTH PLAIN " + secret) == b"200 login OK"
    words += ["--mechanisms=scram-sha-256", "--accounts", sources]
    with Alone(words, bureau.tools.environment()) as talk:
        code, log = talk.end()
    assert code == 100
    assert "SCRAM needs the database to be the first" in log


# Who, a command, the whole reply; one of each code that there is.
CODES = [
    ("postmaster", b"NOOP", [b"200 OK"]),
    ("postmaster", b"MainDomainName", [b"200 data follow", b'"a.b"']),
    ("postmaster", b"CreateDomain c.d", [b"500 domain with this name already exists"]),
    ("postmaster", b"Foo", [b"501 unknown command"]),
    ("joe", b"CreateAccount x", [NOT_ALLOWED]),
    ("postmaster", b"ListAccounts e.f", [b"512 unknown domain"]),
    ("postmaster", b"GetAccount nobody", [b"513 unknown account"]),
    (
        "postmaster",
        b"CreateAccount joe",
        [b"520 account with this name already exists"],
    ),
    ("postmaster", b"DeleteDomain c.d", [b"555 it is in use"]),
]


@pytest.mark.parametrize(("user", "line", "said"), CODES)
def test_a_transcript_of_every_code(
    bureau: Bureau, user: str, line: bytes, said: list[bytes]
) -> None:
    with bureau.log_in(user) as talk:
        first = talk.ask(line)
        assert [first, *(talk.line() for _ in said[1:])] == said
        assert talk.ask(b"inline") == b"200 OK"
        if len(said) > 1:
            assert talk.ask(line) == b"201 " + said[1]


HOSTILE = [
    b'SetAccountPassword joe TO "pa"ss"',
    b'SetAccountPassword joe TO "pa\\"',
    b"SetAccountPassword joe TO {}",
    b'UpdateAccountSettings joe {Password="}";};',
    b"UpdateAccountSettings joe {Password=x;City={;}",
    b'UpdateAccountSettings joe {Password="\\300";}',
    b'UpdateAccountSettings joe {Password="\\000";}',
    b"UpdateAccountSettings joe {Password=x;" * 10_000,
    b"UpdateAccountSettings joe {Password=x;City=" + b"(" * 10_000 + b")" * 10_000,
    b"UpdateAccountSettings joe {Password=x;City=" + b"y" * 1_000_000 + b";}",
    b"CreateAccount new {Password=" + b'"' * 1_000_000 + b"}",
    b"A" * 1_000_000,
]


def test_hostile_lines_change_nothing(bureau: Bureau) -> None:
    before = bureau.store().credentials(b"joe")
    with bureau.log_in("postmaster") as talk:
        for line in HOSTILE:
            assert talk.ask(line)[:4] == b"501 ", line[:60]
        assert talk.ask(b"NOOP") == b"200 OK"
    assert bureau.store().credentials(b"joe") == before
    assert len(list(bureau.store().list())) == 4


def test_the_vendors_client(bureau: Bureau) -> None:
    with bureau.start() as talk:
        client = VendorClient(talk, bureau.greeting, "postmaster", SECRET)
        assert client.methods == ["PASS"]
        uid, gid = OWNER
        pairs = {"RealName": "Joe B. Good", "Password": "it is\tme", "Home": "/"}
        made = client.quoted({**pairs, "UID": uid, "GID": gid})
        assert client.send(f"CreateAccount bob@c.d MultiMailbox {made}") == 200
        assert client.send("GetAccountSettings bob@c.d") == 201
        place = {b"Home": b"/", b"UID": uid, b"GID": gid}
        assert client.value() == {b"RealName": b"Joe B. Good", **place}
        aliases = client.quoted(["robert", "rob-ert"])
        assert client.send(f"SetAccountAliases bob@c.d {aliases}") == 200
        assert client.send("GetAccountAliases bob@c.d") == 201
        assert client.value() == [b"rob-ert", b"robert"]
        assert client.send("ListAccounts c.d") == 201
        assert client.value() == dict.fromkeys((b"adm", b"ann", b"bob"), b"macnt")
        assert client.send("RenameAccount bob@c.d into bobby@c.d") == 200
        assert client.send("NEWPASS changed") == 200
        assert client.send("QUIT") == 200
    assert bureau.knows("bobby@c.d", "it is\tme")
    assert bureau.knows("postmaster", "changed")


def test_the_vendors_client_does_not_escape_what_it_should(bureau: Bureau) -> None:
    with bureau.start() as talk:
        client = VendorClient(talk, bureau.greeting, "postmaster", SECRET)
        for secret in ('say "x"', '"', "back\\slash", "end\\", '{"', 'a" b="c'):
            line = f"SetAccountPassword joe TO {client.quoted(secret)}"
            assert client.send(line) == 501, line
            pairs = client.quoted({"Password": secret, "RealName": "x"})
            assert client.send(f"UpdateAccountSettings joe {pairs}") == 501, pairs
    assert bureau.knows("joe", SECRET)
    assert bureau.store().settings(b"joe") == {}


def test_the_vendors_client_finds_one_challenge(apop: Bureau) -> None:
    with apop.start("--name", "a<b>c<d") as talk:
        client = VendorClient(talk, apop.greeting, "joe", SECRET)
        assert client.methods == ["APOP"]
        assert client.send("NOOP") == 200


def test_a_log_of_everything_holds_no_secret(bureau: Bureau) -> None:
    with bureau.start("--log-level=5") as talk:
        talk.ask(b"USER postmaster", b"PASS open sesame", b"INLINE")
        talk.ask(b"SetAccountPassword joe TO mysecret1")
        talk.ask(b"SetAccountPasword joe TO mysecret2")
        talk.ask(b"UpdateAccount joe {Password=mysecret3;City=x;}")
        talk.ask(b"VerifyAccountPassword joe PASSWORD mysecret4")
        talk.ask(b"CreateAccount new {Password=mysecret5;}")
        talk.ask(b"WriteLog 5 \x1b[2J\xff evil")
        talk.ask(b"NEWPASS mysecret6")
        talk.ask(b"QUIT")
        log = talk.end()[1]
    assert "mysecret" not in log
    assert "sesame" not in log
    assert log.isascii()
    records = log.splitlines()
    shape = r"\d\d:\d\d:\d\d [0-5] PWD-\d{6}\(\[127\.0\.0\.1\]\) [ -~]+"
    assert all(re.fullmatch(shape, record) for record in records), log
    texts = [record.split(") ", 1)[1] for record in records]
    assert texts[0] == "connected"
    assert texts[-1] == "ended: quit"
    assert "C: PASS <hidden>" in texts
    assert "postmaster: password changed" in texts
    assert "\\x1b[2J\\xff evil" in texts


@pytest.mark.parametrize(("level", "expected"), [(0, 0), (2, 1), (3, 3), (4, 12)])
def test_what_each_level_adds(bureau: Bureau, level: int, expected: int) -> None:
    with bureau.start(f"--log-level={level}") as talk:
        talk.ask(b"USER joe", b"PASS wrong")
        talk.ask(b"USER joe", b"PASS open sesame", b"NOOP", b"NEWPASS other")
        talk.ask(b"CreateAccount x", b"QUIT")
        log = talk.end()[1].splitlines()
    if level < 4:
        assert len(log) == expected, log
    else:
        assert len(log) >= expected
    assert all(int(record.split()[1]) <= level for record in log)


def test_the_hook_is_told_of_commands(bureau: Bureau, room: Path) -> None:
    hook, told = room / "hook", room / "told"
    hook.write_text(f'#!/bin/sh\necho "$1 $2" >>{told}\n', encoding="ascii")
    hook.chmod(0o755)
    with bureau.store() as store:
        store.set_option("hook", os.fsencode(hook))
    with bureau.log_in("postmaster") as talk:
        assert talk.ask(b"CreateAccount bob@c.d") == b"200 OK"
        wait_for(lambda: told.exists() and "add bob@c.d\n" in told.read_text())
        assert talk.ask(b"NEWPASS other") == b"200 password changed"
        wait_for(lambda: "password postmaster\n" in told.read_text())


def test_who_is_no_account_of_the_database_gives_no_commands(
    bureau: Bureau, room: Path
) -> None:
    users = room / "users"
    users.write_text(f"foreign:{SECRET}\n", encoding="ascii")
    users.chmod(0o600)
    words = [bureau.tools.poppassd, "--pwd", "-a", f"authuser:{users}"]
    words += ["-a", f"db:{bureau.file}", "--log-stderr", "--fail-delay=0"]
    with Alone(words, bureau.tools.environment()) as talk:
        talk.line()
        said = talk.ask(b"USER foreign", f"PASS {SECRET}".encode())
        assert said == b"200 login OK"
        assert talk.ask(b"GetAccount foreign").startswith(b"510 your account is not")
        said = talk.ask(b"NEWPASS other")
        assert said == b"500 this account has its password elsewhere"
        assert talk.ask(b"QUIT") == b"200 PWD connection closed"


def test_silence_ends_the_connection(bureau: Bureau) -> None:
    with bureau.start("--timeout=1") as talk:
        assert talk.line() == b"400 too long silent, closing the connection"
        assert talk.rest() == b""


def test_a_client_that_goes_leaves_nothing(bureau: Bureau) -> None:
    with bureau.log_in("joe") as talk:
        talk.client.shutdown(socket.SHUT_RDWR)
        assert talk.end()[0] == 0


def test_the_dialogue_has_no_privileges(bureau: Bureau) -> None:
    need_root()
    with bureau.log_in("postmaster") as talk:
        desk, dialogue = talk.processes()
        assert desk.uid == 0
        assert dialogue.uid != 0
        assert dialogue.root != "/"
        assert (dialogue.groups, dialogue.capabilities) == ("", 0)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--accounts=system"], "needs an account database"),
        (["--accounts=db:/nowhere/at/all"], "nowhere"),
        (["--apop=maybe"], "auto, yes or no"),
        (["--mechanisms=plain,xoauth2"], "unknown SASL mechanism"),
        (["--plaintext=perhaps"], "allow or refuse"),
        (["--log-level=6"], "from 0 to 5"),
        (["--syslog-facility=kern"], "no facility"),
        (["more"], "usage"),
    ],
)
def test_what_is_wrong_is_told_before_a_word_is_said(
    bureau: Bureau, words: list[str], reason: str
) -> None:
    base = [bureau.tools.poppassd, "--pwd", "--log-stderr"]
    own = [] if words[0].startswith("--accounts") else ["-a", f"db:{bureau.file}"]
    with Alone([*base, *own, *words], bureau.tools.environment()) as talk:
        assert talk.rest() == b""
        code, errors = talk.end()
    assert code == 100
    assert errors.startswith("poppassd: ")
    assert reason in errors


def test_the_client_never_gets_the_log(bureau: Bureau) -> None:
    words, env = bureau.words("--log-level=5"), bureau.tools.environment()
    with Alone(words, env, has_errors=False) as talk:
        assert talk.rest() == b""
        assert talk.end()[0] == 100
    words.remove("--log-stderr")
    with Alone(words, env, has_errors=False) as talk:
        assert talk.line().startswith(b"200 ")
        assert talk.ask(b"QUIT") == b"200 PWD connection closed"
        assert talk.rest() == b""


def test_the_page_tells_every_command_and_every_code() -> None:
    page = (TOP / "man8/poppassd.8").read_text(encoding="ascii")
    told = page.partition(".Sh COMMAND LINE INTERFACE")[2]
    for command in COMMANDS:
        if command.name in HANDLERS and command.name != "NOOP":
            assert f".It {command.usage()} Ta " in told, command.name
    for name in vars(codes):
        code = getattr(codes, name)
        if name.isupper() and isinstance(code, bytes) and len(code) == 3:
            assert code.decode() in told, name
    for right in (*SERVER_RIGHTS[:3], *DOMAIN_RIGHTS[:3]):
        assert right in told
    for key in SETTERS:
        assert key.decode() in told or key == b"UseAppPassword"
    for row in (*pwdservice.OPTIONS, *server_options.OPTIONS):
        assert f"-{row.name}" in page
