# SPDX-License-Identifier: ISC
"""The same mailbox and the same commands, said to us, popa3d and solid-pop3d.

The foreign servers can't take over a session that is logged in, so each is a server of
its own, unpacked from Debian's package. Where all agree there is nothing to say; every
difference is a row here, with its reason.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests import corpus
from tests.conftest import Tools
from tests.interop.conftest import SECRET
from tests.interop.servers import HOSTNAME, TCPSERVER, running, unpacked
from tests.interop.talk import Talk
from tests.interop.tenants import Tenant, servant, tenant
from tests.interop.test_mixed_chains import HASHES
from tests.support import foreign

pytestmark = pytest.mark.slow

# What an mbox and a Maildir can both hold: popa3d reads the one, the others the other.
LABELS = ("plain", "alternative", "attachment", "iso-8859-1", "dots", "many-lines")
MESSAGES = [each for each in corpus.messages() if each.label in LABELS]
FROM_LINE = b"From a@b Thu Jan  1 00:00:00 2026\n"

CONFIGURATION = """<Global>
    MailDropName "Maildir"
    MailDropType maildir
    AddBulletins no
    LogStatistics no
    WrongCommandsLimit 0
</Global>
"""

GOOD, BAD = b"+OK", b"-ERR"


class Row(NamedTuple):
    """A command and what it gets: the first word of the reply, from us and from each.

    None: as from us. why: the reason for a difference. is_alike: the rest of the
    replies is the same, octet for octet, wherever the first word is.
    """

    command: bytes
    ours: bytes
    popa3d: bytes | None = None
    solid: bytes | None = None
    why: str = ""
    is_alike: bool = True


PICKY = "an argument too many is a mistake: RFC 1939 has none there"
DIGITS = "a message-number is digits and nothing else"
ROWS = (
    Row(b"STAT", GOOD),
    Row(b"LIST", GOOD),
    Row(b"LIST 1", GOOD),
    Row(b"LIST 9", BAD),
    Row(b"LIST 0", BAD),
    Row(b"LIST x", BAD),
    Row(b"UIDL", GOOD, is_alike=False, why="everybody has UIDs of his own"),
    Row(b"UIDL 9", BAD),
    Row(b"LAST", GOOD),
    Row(b"RETR 1", GOOD),
    Row(b"LAST", GOOD, is_alike=False, why="solid-pop3d counts from DELE only"),
    *(Row(b"RETR %d" % number, GOOD) for number in range(2, len(LABELS) + 1)),
    Row(b"RETR", BAD),
    Row(b"RETR 9", BAD),
    Row(b"RETR 1 2", BAD, solid=GOOD, why=PICKY),
    Row(b"RETR 1a", BAD, solid=GOOD, why=DIGITS),
    Row(b"RETR +1", BAD, popa3d=GOOD, solid=GOOD, why=DIGITS),
    Row(b"TOP 1 0", GOOD),
    Row(b"TOP 1 2", GOOD),
    Row(b"TOP 5 4", GOOD),
    Row(b"TOP 6 10000", GOOD),
    Row(b"TOP 1", BAD),
    Row(b"TOP 1 -1", BAD, solid=GOOD, why=DIGITS),
    Row(b"STAT x", BAD, solid=GOOD, why=PICKY),
    Row(b"NOOP", GOOD),
    Row(b"noop", GOOD),
    Row(b"NOOP x", BAD, solid=GOOD, why=PICKY),
    Row(b"DELE 2", GOOD),
    Row(b"DELE 2", BAD),
    Row(b"RETR 2", BAD),
    Row(b"LIST 2", BAD),
    Row(b"UIDL 2", BAD),
    Row(b"TOP 2 0", BAD),
    Row(b"STAT", GOOD),
    Row(b"LIST", GOOD),
    Row(b"RSET", GOOD),
    Row(b"LAST", GOOD),
    Row(b"STAT", GOOD),
    Row(b"XYZZY", BAD),
    Row(b"", BAD),
    Row(b"USER x", BAD),
    Row(b"PASS x", BAD),
    Row(b"APOP x y", BAD),
    Row(b"AUTH", BAD),
    Row(b"STLS", BAD),
    Row(b"CAPA", GOOD, popa3d=BAD, solid=BAD, why="both are older than RFC 2449"),
    Row(b"DELE 1", GOOD),
    Row(b"QUIT", GOOD),
)

# Replies whose first line is data: their words after +OK are compared, too.
TELLING = (b"STAT", b"LIST 1", b"LAST")
LONG = (b"RETR", b"TOP", b"CAPA")


class Heard(NamedTuple):
    """What a server made of the script: its replies, and the labels of what is left."""

    replies: list[bytes]
    left: list[str]


@pytest.fixture(scope="module")
def reader(session_room: Path) -> Iterator[Tenant]:
    """Give a user of the system, for whom the foreign servers have users of theirs."""
    name = f"qtools-c{os.getpid()}"
    with (
        tenant(session_room, name, HASHES["SHA-512"]) as found,
        servant("popa3d", "/var/lib/popa3d"),
        servant("spop3d", "/var/lib/solid-pop3d"),
    ):
        yield found


def ours(_place: Path) -> list[str]:
    """Give the words of our chain."""
    chain = ["checkpw", "--accounts", "system", "pop3d", "Maildir"]
    return ["env", "popup", HOSTNAME, *chain]


def popa3d(_place: Path) -> list[str]:
    """Give the words of popa3d."""
    return [foreign("popa3d", "usr/sbin/popa3d")]


def solid(place: Path) -> list[str]:
    """Give the words of solid-pop3d."""
    path = place / "spop3d.conf"
    path.write_text(CONFIGURATION, encoding="ascii")
    program = unpacked("solid-pop3d", "usr/sbin/solid-pop3d", "liblockfile1")
    return [*program, "-f", str(path)]


def ask(talk: Talk, command: bytes) -> bytes:
    """Give a whole reply."""
    if command == b"QUIT":
        talk.send(b"QUIT\r\n")
        return talk.rest()
    if command.startswith(LONG) or command in (b"LIST", b"UIDL"):
        return talk.ask_long(command)
    return talk.ask(command)


@pytest.fixture(scope="module")
def heard(reader: Tenant, tools: Tools, session_room: Path) -> dict[str, Heard]:
    """Give what each server has said."""
    found = {}
    mbox = Path("/var/mail", reader.name)
    for make in (ours, popa3d, solid):
        place = session_room / f"compared-{make.__name__}"
        reader.move_in(
            {f"cur/{number}.x:2,": each.stored for number, each in enumerate(MESSAGES)}
        )
        mbox.write_bytes(b"".join(FROM_LINE + each.stored + b"\n" for each in MESSAGES))
        reader.own(mbox, 0o600)
        words = make(session_room)
        try:
            with (
                running(TCPSERVER, place, words, tools.environment()) as server,
                Talk(server) as talk,
            ):
                assert talk.login(reader.name, SECRET).startswith(GOOD)
                replies = [ask(talk, row.command) for row in ROWS]
            stored = (
                mbox.read_bytes().split(FROM_LINE)[1:]
                if make is popa3d
                else [(reader.maildir / name).read_bytes() for name in reader.files()]
            )
        finally:
            mbox.unlink()
        left = [
            message.label
            for message in MESSAGES
            if any(octets.strip() == message.stored.strip() for octets in stored)
        ]
        found[make.__name__] = Heard(replies, left)
    return found


@pytest.mark.parametrize(
    "number", range(len(ROWS)), ids=lambda n: f"{n} {ROWS[n].command!r}"
)
def test_replies_to(number: int, heard: dict[str, Heard]) -> None:
    row = ROWS[number]
    told = {name: each.replies[number] for name, each in heard.items()}
    first = {name: reply.partition(b"\r\n")[0] for name, reply in told.items()}
    verdicts = {name: line.split(b" ")[0] for name, line in first.items()}
    assert verdicts == {
        "ours": row.ours,
        "popa3d": row.popa3d or row.ours,
        "solid": row.solid or row.ours,
    }
    is_different = len(set(verdicts.values())) > 1
    assert bool(row.why) == (is_different or not row.is_alike)
    if is_different or not row.is_alike:
        return
    assert len({reply.partition(b"\r\n")[2] for reply in told.values()}) == 1
    if row.command in TELLING:
        assert len(set(first.values())) == 1


def test_messages_come_as_the_corpus_has_them(heard: dict[str, Heard]) -> None:
    for number, message in enumerate(MESSAGES, 1):
        reply = heard["ours"].replies[ROWS.index(Row(b"RETR %d" % number, GOOD))]
        assert reply.partition(b"\r\n")[2] == corpus.stuffed(message.wire)


def test_the_same_messages_are_left(heard: dict[str, Heard]) -> None:
    left = list(LABELS[1:])
    assert {name: each.left for name, each in heard.items()} == {
        "ours": left,
        "popa3d": left,
        "solid": left,
    }
