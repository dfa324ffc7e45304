# SPDX-License-Identifier: ISC
"""The links of the chain, ours and foreign ones, with what each says to a client.

One foreign checkpassword and one foreign pop3d come from Debian: checkpw, with its
sister checkapoppw, and Courier's courierpop3d. They are unpacked, never installed. The
rest are stand-ins; and the originals, where BENCH_QMAIL_POPUP, BENCH_CHECKPASSWORD and
BENCH_QMAIL_POP3D name them.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.support import foreign

STANDINS = Path(__file__).parent / "standins"

MAIL = b"From: a@b\nSubject: hi\n\nbody\n"  # the message of the transcripts
MAIL_NAME = "1.x.h"
RFC_MAIL = b"From: a@b\r\nSubject: hi\r\n\r\nbody\r\n.\r\n"
QMAIL_MAIL = b"From: a@b\r\nSubject: hi\r\n\r\nbody\r\n\r\n.\r\n"


class Stage(NamedTuple):
    """What links need to know: a folder for their files, and where accounts are."""

    place: Path
    database: Path


class Popup(NamedTuple):
    """A first link: its words up to the host name, and what it says.

    greeting, refused: patterns. is_patient: it takes another password thereafter.
    """

    name: str
    argv: Callable[[Stage], list[str]]
    greeting: bytes
    refused: bytes
    is_patient: bool = False


class Checker(NamedTuple):
    """A middle link. mechanism: how the client must log in for it to be content."""

    name: str
    argv: Callable[[Stage], list[str]]
    mechanism: str = "PASS"


class Pop3d(NamedTuple):
    """A last link, and the patterns of what it says.

    Of a Maildir with MAIL in it: welcome, the reply to the password; then those to
    STAT, UIDL, RETR 1, a command nobody knows, and QUIT. left: where the message is
    thereafter.
    """

    name: str
    argv: Callable[[Stage], list[str]]
    welcome: bytes
    stat: bytes
    uidl: bytes
    retr: bytes
    unknown: bytes
    goodbye: bytes
    left: str = f"cur/{MAIL_NAME}:2,"


def standin(name: str) -> Callable[[Stage], list[str]]:
    """Give what makes the words that run a stand-in, from a copy all can read."""

    def argv(stage: Stage) -> list[str]:
        path = stage.place / name
        shutil.copyfile(STANDINS / f"{name}.py", path)
        path.chmod(0o755)
        return ["/usr/bin/python3", "-IS", str(path)]

    return argv


def _fixed(*words: str) -> Callable[[Stage], list[str]]:
    return lambda _stage: list(words)


def _named(variable: str) -> list[Callable[[Stage], list[str]]]:
    """Give a row's argv for the program a variable names, or none."""
    path = os.environ.get(variable)
    return [_fixed(path)] if path else []


def _checkpw(*options: str) -> Callable[[Stage], list[str]]:
    return lambda stage: ["checkpw", *options, "--accounts", f"db:{stage.database}"]


def _courier(stage: Stage) -> list[str]:
    """Copy it to where the user can run it that checkpw becomes."""
    folder = stage.place / "courier"
    folder.mkdir()
    for package in ("courier-authlib", "libcourier-unicode4"):
        for library in Path(foreign(package, ".")).rglob("*.so*"):
            shutil.copy(library, folder)
    program = foreign("courier-pop", "usr/lib/courier/courier/courierpop3d")
    shutil.copy(program, folder)
    return ["env", f"LD_LIBRARY_PATH={folder}", f"{folder}/courierpop3d"]


STAMP = rb"\+OK <\d+\.\d+(\.[0-9a-f]+)?@mx\.example\.org>\r\n"
QMAIL_POPUPS = [
    Popup(name, argv, STAMP, rb"-ERR authorization failed\r\n")
    for name, found in (
        ("popup's stand-in", [standin("qmail_popup")]),
        ("qmail-popup", _named("BENCH_QMAIL_POPUP")),
    )
    for argv in found
]
POPUPS = [
    Popup("popup", _fixed("popup"), STAMP, rb"-ERR \[AUTH\] .*\r\n", is_patient=True),
    Popup(
        "popup --exec",
        _fixed("popup", "--exec"),
        STAMP,
        rb"-ERR \[AUTH\] .*\r\n",
        is_patient=True,
    ),
    *QMAIL_POPUPS,
]

CHECKERS = [
    Checker("checkpw", _checkpw()),
    Checker("checkpw APOP", _checkpw(), "APOP"),
    Checker("checkpw --exec", _checkpw("--exec")),
    Checker("checkpw system", _fixed("checkpw", "--accounts", "system")),
    Checker("Debian's checkpw", lambda _: [foreign("checkpw", "usr/bin/checkpw")]),
    Checker(
        "Debian's checkapoppw",
        lambda _: [foreign("checkpw", "usr/bin/checkapoppw")],
        "APOP",
    ),
    *(Checker("checkpassword", argv) for argv in _named("BENCH_CHECKPASSWORD")),
]

QMAIL_POP3DS = [
    Pop3d(
        name,
        argv,
        welcome=rb"\+OK \r\n",
        stat=rb"\+OK 1 28\r\n",
        uidl=rb"\+OK \r\n1 1\.x\.h\r\n\.\r\n",
        retr=rb"\+OK \r\n" + QMAIL_MAIL.replace(b".\r\n", rb"\.\r\n"),
        unknown=rb"-ERR unimplemented\r\n",
        goodbye=rb"\+OK \r\n",
    )
    for name, found in (
        ("pop3d's stand-in", [standin("qmail_pop3d")]),
        ("qmail-pop3d", _named("BENCH_QMAIL_POP3D")),
    )
    for argv in found
]
POP3DS = [
    Pop3d(
        "pop3d",
        _fixed("pop3d"),
        welcome=rb"\+OK \r\n",
        stat=rb"\+OK 1 32\r\n",
        uidl=rb"\+OK \r\n1 1\.x\.h\r\n\.\r\n",
        retr=rb"\+OK \r\n" + RFC_MAIL.replace(b".\r\n", rb"\.\r\n"),
        unknown=rb"-ERR .*\r\n",
        goodbye=rb"\+OK \r\n",
    ),
    *QMAIL_POP3DS,
    Pop3d(
        "courierpop3d",
        _courier,
        welcome=rb"\+OK logged in\.\r\n",
        stat=rb"\+OK 1 32\r\n",
        uidl=rb"\+OK\r\n1 UID1-\d+\r\n\.\r\n",
        retr=rb"\+OK 32 octets follow\.\r\n" + RFC_MAIL.replace(b".\r\n", rb"\.\r\n"),
        unknown=rb"-ERR Invalid command\.\r\n",
        goodbye=rb"\+OK Bye-bye\.\r\n",
        left=f"cur/{MAIL_NAME}:2,S",
    ),
]
