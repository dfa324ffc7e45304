# SPDX-License-Identifier: ISC
"""The stand-ins say what the originals were heard to say.

The originals themselves are tested by the same tables where the environment names
them: BENCH_QMAIL_POPUP and BENCH_QMAIL_POP3D, as for the bench.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.interop.chains import QMAIL_POP3DS, QMAIL_POPUPS, Pop3d, Popup, Stage
from tests.interop.servers import HOSTNAME
from tests.support import OWNER

pytestmark = pytest.mark.slow

# What an unauthenticated client sent, and what it got.
UNAUTHENTICATED = (
    (b"CAPA", b"-ERR authorization first"),
    (b"STLS", b"-ERR authorization first"),
    (b"AUTH", b"-ERR authorization first"),
    (b"", b"-ERR authorization first"),
    (b"NOOP x y", b"+OK "),
    (b"USER", b"-ERR syntax error"),
    (b"USER  ", b"-ERR syntax error"),
    (b"PASS x", b"-ERR USER first"),
    (b"USER a b", b"+OK "),
    (b"PASS ", b"-ERR syntax error"),
    (b"APOP", b"-ERR syntax error"),
    (b"APOP joe", b"-ERR syntax error"),
    (b" NOOP", b"-ERR authorization first"),
    (b"NOOP\tx", b"-ERR authorization first"),
    (b"NOOP\r", b"-ERR authorization first"),
    (b"NO\0OP", b"-ERR authorization first"),
    (b"NOOP\0junk", b"+OK "),
    (b"STAT", b"-ERR authorization first"),
    (b"QUIT now", b"+OK "),
)

# Six messages: where they lie, and what they are.
SIX = (
    ("new/1.a.host", b"From: x\nSubject: y\n\nbody1\n.dot\n..\nlast"),
    ("new/2.b.host:2,", b"Subject: two\n\nand texts\n\n"),
    ("new/3.c.host,S=12:2,", b"0123456789abcd\n"),
    ("cur/4.nul", b""),
    ("new/5.noblank", b"X: no blank line\n"),
    ("cur/6.hdronly:2,S", b"Y: header only\n"),
)
TRANSACTION = (
    (b"STAT", b"+OK 6 110"),
    (b"LIST", b"+OK \r\n1 38\r\n2 25\r\n3 15\r\n4 0\r\n5 17\r\n6 15\r\n."),
    (
        b"UIDL",
        (
            b"+OK \r\n1 1.a.host\r\n2 2.b.host\r\n3 3.c.host,S=12\r\n4 4.nul\r\n"
            b"5 5.noblank\r\n6 6.hdronly\r\n."
        ),
    ),
    (
        b"RETR 1",
        b"+OK \r\nFrom: x\r\nSubject: y\r\n\r\nbody1\r\n..dot\r\n...\r\nlast\r\n\r\n.",
    ),
    (b"TOP 1 0", b"+OK \r\nFrom: x\r\nSubject: y\r\n\r\n\r\n."),
    (b"TOP 1 1", b"+OK \r\nFrom: x\r\nSubject: y\r\n\r\nbody1\r\n\r\n."),
    (b"TOP 1 2", b"+OK \r\nFrom: x\r\nSubject: y\r\n\r\nbody1\r\n..dot\r\n\r\n."),
    (b"RETR 4", b"+OK \r\n\r\n."),
    (b"LAST", b"+OK 0"),
    (b"DELE 2", b"+OK "),
    (b"LAST", b"+OK 2"),
    (b"STAT", b"+OK 6 85"),
    (b"UIDL 2", b"-ERR already deleted"),
    (b"RSET", b"+OK "),
    (b"LAST", b"+OK 0"),
    (b"STAT", b"+OK 6 110"),
    (b"LIST 1x", b"+OK 1 38"),
    (b"LIST 18446744073709551617", b"+OK 1 38"),
    (b"RETR x", b"-ERR syntax error"),
    (b"RETR 0", b"-ERR messages are counted from 1"),
    (b"RETR 7", b"-ERR not that many messages"),
    (b"CAPA", b"-ERR unimplemented"),
    (b"DELE 2", b"+OK "),
    (b"QUIT", b"+OK "),
)


def converse(argv: list[str], said: list[bytes], place: Path) -> tuple[int, bytes]:
    """Give the exit code and all that a program answers."""
    identity = {"user": OWNER[0], "group": OWNER[1]} if os.geteuid() == 0 else {}
    done = subprocess.run(
        argv,
        input=b"".join(line + b"\r\n" for line in said),
        stdout=subprocess.PIPE,
        cwd=place,
        check=False,
        **identity,  # type: ignore[call-overload]  # user and group are numbers
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("popup", QMAIL_POPUPS, ids=lambda row: row.name)
def test_popup_before_login(popup: Popup, room: Path) -> None:
    argv = [*popup.argv(Stage(room, room)), HOSTNAME, "/bin/false"]
    code, replies = converse(argv, [said for said, _ in UNAUTHENTICATED], room)
    greeting, *rest = replies.split(b"\r\n")
    assert re.fullmatch(rb"\+OK <\d+\.\d+@mx\.example\.org>", greeting)
    assert rest == [*(reply for _, reply in UNAUTHENTICATED), b""]
    assert code == 1


@pytest.mark.parametrize(
    ("code", "reply"),
    [
        ("exit 0", b""),
        ("exit 1", b"-ERR authorization failed\r\n"),
        ("exit 111", b"-ERR authorization failed\r\n"),
        ("kill -9 $$", b"-ERR aack, child crashed\r\n"),
    ],
)
@pytest.mark.parametrize("popup", QMAIL_POPUPS, ids=lambda row: row.name)
def test_popup_after_its_child(
    popup: Popup, code: str, reply: bytes, room: Path
) -> None:
    record = "cat <&3 >&1; echo"
    argv = [
        *popup.argv(Stage(room, room)),
        "h.example",
        "/bin/sh",
        "-c",
        f"{record}; {code}",
    ]
    ended, said = converse(argv, [b"APOP   joe  0123", b"STAT"], room)
    greeting, _, rest = said.partition(b"\r\n")
    stamp = greeting.removeprefix(b"+OK ")
    assert rest == b"joe\0 0123\0" + stamp + b"\0\n" + reply
    assert ended == 1


@pytest.mark.parametrize("pop3d", QMAIL_POP3DS, ids=lambda row: row.name)
def test_pop3d(pop3d: Pop3d, room: Path) -> None:
    place = room / "Maildir"
    for folder in ("", "tmp", "new", "cur"):
        (place / folder).mkdir()
        os.chown(place / folder, *OWNER)
    for number, (name, octets) in enumerate(SIX):
        (place / name).write_bytes(octets)
        os.chown(place / name, *OWNER)
        os.utime(place / name, (1_000_000_000 + number,) * 2)
    code, replies = converse(
        [*pop3d.argv(Stage(room, room)), "Maildir"],
        [said for said, _ in TRANSACTION],
        room,
    )
    expected = [b"+OK ", *(reply for _, reply in TRANSACTION), b""]
    assert replies == b"\r\n".join(expected)
    assert code == 0
    assert sorted(os.listdir(place / "cur")) == [
        "1.a.host:2,",
        "3.c.host,S=12:2,:2,",
        "4.nul",
        "5.noblank:2,",
        "6.hdronly:2,S",
    ]


@pytest.mark.parametrize("pop3d", QMAIL_POP3DS, ids=lambda row: row.name)
def test_pop3d_without_a_maildir(pop3d: Pop3d, room: Path) -> None:
    code, reply = converse([*pop3d.argv(Stage(room, room)), "Maildir"], [], room)
    assert (code, reply) == (0, b"-ERR this user has no $HOME/Maildir\r\n")
