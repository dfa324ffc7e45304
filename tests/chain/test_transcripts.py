# SPDX-License-Identifier: ISC
"""Transcripts of the originals against ours, byte by byte.

A row says what was captured from qmail-popup or s/qmail's qmail-popup, and, where ours
answers otherwise, what it answers and why. A row without a reason must agree.
"""

import os
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.chain.behind import House
from tests.conftest import PYTHON
from tests.support import OWNER, TOP

FIRST = b"-ERR authorization first\r\n"
SYNTAX = b"-ERR syntax error\r\n"
OK = b"+OK \r\n"


class Row(NamedTuple):
    """What the client says last, after what; their reply; ours and why, if another."""

    line: bytes
    theirs: bytes
    ours: bytes = b""
    why: str = ""
    before: tuple[bytes, ...] = ()


ARGUMENTS = "RFC 1939: a keyword's arguments are counted"
NULS = "a NUL ends nothing: the line is refused as a whole"
CASE = "RFC 1939 section 3: one space separates, further ones belong to the argument"

STOCK = [
    Row(b"STLS", FIRST, b"-ERR STLS not available\r\n", "STLS is known, but off"),
    Row(b"AUTH", FIRST, b"+OK \r\n", "RFC 5034: lists the mechanisms"),
    Row(b"", FIRST),
    Row(b"NOOP", OK),
    Row(b"noop", OK),
    Row(b"NOOP x y", OK, SYNTAX, ARGUMENTS),
    Row(b"USER", SYNTAX),
    Row(b"USER  ", SYNTAX),
    Row(b"PASS x", b"-ERR USER first\r\n"),
    Row(b"PASS", b"-ERR USER first\r\n", SYNTAX, "no argument is a fault of its own"),
    Row(b"USER a b", OK),
    Row(b"USER  joe", OK, SYNTAX, CASE),
    Row(b"PASS", SYNTAX, before=(b"USER joe",)),
    Row(b"APOP", SYNTAX),
    Row(b"APOP joe", SYNTAX),
    Row(b" NOOP", FIRST),
    Row(b"NOOP\tx", FIRST),
    Row(b"NOOP\r", FIRST),
    Row(b"NO\0OP", FIRST, SYNTAX, NULS),
    Row(b"NOOP\0junk", OK, SYNTAX, NULS),
    Row(b"STAT", FIRST),
    Row(b"XYZZY", FIRST),
    Row(b"QUIT", OK),
    Row(b"QUIT now", OK, SYNTAX, ARGUMENTS),
]


@pytest.mark.parametrize("row", STOCK, ids=lambda row: repr(row.line))
def test_qmail_popup_before_login(house: House, dialogue: str, row: Row) -> None:
    popup = house.popup("/bin/false", dialogue=dialogue)
    popup.reply()
    for line in row.before:
        popup.ask(line)
    assert popup.ask(row.line) == (row.ours or row.theirs)
    assert bool(row.ours) is bool(row.why)


def test_the_greeting_is_s_qmail_s(house: House, dialogue: str) -> None:
    """qmail-popup always shows the stamp; s/qmail's and ours where APOP is on."""
    assert house.popup("/bin/false", dialogue=dialogue).reply() == b"+OK\r\n"
    env = {"POP3AUTH": "apop"}
    greeting = house.popup("/bin/false", dialogue=dialogue, env=env).reply()
    # Theirs is <PID.TIME@HOST>; ours has a random word more, against repetition.
    assert re.fullmatch(
        rb"\+OK <[0-9]+\.[0-9]+(\.[0-9a-f]+)?@mx\.example>\r\n", greeting
    )


VERDICTS = [
    Row(b"exit:1", b"-ERR authorization failed\r\n"),
    Row(b"exit:111", b"-ERR authorization failed\r\n", b"[SYS/TEMP]", "P10, RFC 3206"),
    Row(b"kill:9", b"-ERR aack, child crashed\r\n"),
]


@pytest.mark.parametrize("row", VERDICTS, ids=lambda row: row.line.decode())
def test_verdicts_but_for_the_response_code(
    house: House, dialogue: str, row: Row
) -> None:
    """The words stay for those who look for them; before them is RFC 2449's code."""
    popup = house.popup(*house.play(row.line.decode()), dialogue=dialogue)
    popup.send(b"USER joe\r\nPASS x\r\n")
    reply = popup.replies(3)[2]
    if row.ours:
        assert row.ours in reply
    else:
        assert re.sub(rb"\[[A-Z/]+\] ", b"", reply) == row.theirs


LOG = [
    ("exit:0", "Accept::AUTH::User P:POP3 S:192.0.2.7:c.example ?~ 'joe'"),
    ("exit:1", "Reject::AUTH::User P:POP3 S:192.0.2.7:c.example ?~ 'joe'"),
]


@pytest.mark.parametrize(("step", "line"), LOG)
def test_s_qmail_s_log_line(house: House, dialogue: str, step: str, line: str) -> None:
    """Theirs begins with "qmail-popup: pid N"; ours has our name, and a line more."""
    popup = house.popup(*house.play(step), options="-d0 -a1", dialogue=dialogue)
    popup.send(b"USER joe\r\nPASS x\r\n")
    popup.rest()
    assert popup.log()[0] == line


def test_s_qmail_s_capabilities(house: House, dialogue: str) -> None:
    """Theirs: TOP USER APOP. Ours leave out what is off (P8) and list what is there."""
    popup = house.popup("/bin/false", dialogue=dialogue)
    popup.reply()
    popup.send(b"CAPA\r\n")
    assert popup.listing() == [
        b"+OK capability list follows",
        *(b"TOP", b"UIDL", b"RESP-CODES", b"AUTH-RESP-CODE", b"PIPELINING"),
        *(b"USER", b"SASL PLAIN LOGIN", b"UTF8 USER", b"LANG"),
    ]


# Mixed chains ----------------------------------------------------------------

CHECKPASSWORD = f"""#!{PYTHON} -IS
# A checkpassword that knows one user: see cr.yp.to/checkpwd/interface.html.
import os, sys
record = os.read(3, 513)
os.close(3)
if record.split(b"\\0")[:2] != [b"testpop", b"secret"]:
    os._exit(1)
if not os.getuid():
    os.setgroups([])
    os.setgid({OWNER[1]})
    os.setuid({OWNER[0]})
os.execvp(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
def foreign(room: Path) -> list[str]:
    """Give the words of a checkpassword and a qmail-pop3d over one message."""
    checkpassword = room / "checkpassword"
    checkpassword.write_text(CHECKPASSWORD)
    checkpassword.chmod(0o755)
    pop3d = room / "qmail_pop3d.py"
    shutil.copy(TOP / "tests/interop/standins/qmail_pop3d.py", pop3d)
    maildir = room / "Maildir"
    maildir.mkdir()
    for folder in ("tmp", "new", "cur"):
        (maildir / folder).mkdir()
        os.chown(maildir / folder, *OWNER)
    message = maildir / "new" / "1.x.h"
    message.write_bytes(b"From: a@b\nSubject: hi\n\nbody\n")
    os.utime(message, (1, 1))
    return [str(checkpassword), PYTHON, str(pop3d), str(maildir)]


# Captured from qmail-popup, checkpassword and qmail-pop3d of notqmail.
SESSION = [
    (b"USER testpop", b"+OK \r\n"),
    (b"PASS secret", b"+OK \r\n"),
    (b"STAT", b"+OK 1 28\r\n"),
    (b"UIDL", b"+OK \r\n1 1.x.h\r\n.\r\n"),
    (b"RETR 1", b"+OK \r\nFrom: a@b\r\nSubject: hi\r\n\r\nbody\r\n\r\n.\r\n"),
    (b"QUIT", b"+OK \r\n"),
]


@pytest.mark.parametrize("is_pipelined", [False, True])
def test_our_popup_before_foreign_programs(
    house: House, foreign: list[str], room: Path, dialogue: str, *, is_pipelined: bool
) -> None:
    popup = house.popup(*foreign, dialogue=dialogue)
    popup.reply()
    if is_pipelined:
        popup.send(b"".join(line + b"\r\n" for line, _ in SESSION))
    for line, reply in SESSION:
        if not is_pipelined:
            popup.send(line + b"\r\n")
        said = b"".join(popup.replies(reply.count(b"\n")))
        assert said == reply, line
    assert popup.rest() == b""
    assert popup.code() == 0
    assert os.listdir(room / "Maildir/cur") == ["1.x.h:2,"]


def test_a_foreign_refusal_and_a_second_try(
    house: House, foreign: list[str], dialogue: str
) -> None:
    """Theirs ends after one refusal; ours takes three (P17)."""
    popup = house.popup(*foreign, dialogue=dialogue)
    popup.send(b"USER testpop\r\nPASS wrong\r\nUSER testpop\r\nPASS secret\r\nQUIT\r\n")
    assert popup.replies(5) == [
        *(b"+OK\r\n", OK, b"-ERR [AUTH] authorization failed\r\n"),
        *(OK, OK),
    ]
    assert popup.reply() == OK
    assert popup.code() == 0
