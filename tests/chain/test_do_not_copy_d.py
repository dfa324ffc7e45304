# SPDX-License-Identifier: ISC
"""What qmail-pop3d does wrong and pop3d must not: one test each, D1 to D17."""

import os
import random
import time
from pathlib import Path

import pytest

from tests import corpus
from tests.conftest import Tools
from tests.pop3 import Ended, Pop3, add, contents, make_maildir, names, talk

FILE = b"From: x\nSubject: y\n\nbody1\n.dot\n"
STORED = {"new/1.a.h": FILE, "new/2.b.h": b"\nb\n", "cur/3.c.h,S=4:2,": b"\ncc\n"}
UNOPENED = b"-ERR unable to open that message\r\n"


@pytest.fixture
def box(room: Path) -> Path:
    """Give a Maildir with three messages."""
    return make_maildir(room / "Maildir", STORED)


def serve(tools: Tools, box: Path) -> Pop3:
    """Open a session on it and take the greeting."""
    client = Pop3([tools.pop3d, "Maildir"], box.parent)
    assert client.line() == b"+OK \r\n"
    return client


def say(tools: Tools, box: Path, *commands: bytes) -> Ended:
    """Say commands at once and give all replies."""
    said = b"".join(command + b"\r\n" for command in commands)
    return talk([tools.pop3d, "Maildir"], box.parent, said)


def replies(tools: Tools, box: Path, *commands: bytes) -> list[bytes]:
    """Give the lines of all replies but the greeting."""
    return say(tools, box, *commands).output.split(b"\r\n")[1:-1]


def test_d1_stat_counts_neither_deleted_messages_nor_their_octets(
    tools: Tools, box: Path
) -> None:
    got = replies(tools, box, b"STAT", b"DELE 2", b"STAT", b"RSET", b"STAT")
    assert got == [b"+OK 3 47", b"+OK ", b"+OK 2 42", b"+OK ", b"+OK 3 47"]


def test_d2_last_counts_what_was_read_too(tools: Tools, box: Path) -> None:
    got = replies(
        tools, box, b"TOP 3 0", b"LAST", b"RETR 2", b"LAST", b"DELE 1", b"LAST"
    )
    assert [line for line in got if line.startswith(b"+OK ")] == [
        *(b"+OK ", b"+OK 0", b"+OK ", b"+OK 2", b"+OK ", b"+OK 2")
    ]


def test_d3_unique_ids_are_unique_and_allowed(tools: Tools, box: Path) -> None:
    add(box, "cur/1.a.h:2,S", b"another one\n")
    add(box, "cur/blank and \xe4:2,", b"x\n")
    add(box, "cur/" + "long" * 30, b"x\n")
    add(box, "cur/:2,", b"x\n")
    with serve(tools, box) as client:
        assert client.ask(b"UIDL") == b"+OK \r\n"
        ids = [line.split(b" ", 1)[1] for line in client.lines()]
    assert [uid for uid in ids if not uid.startswith(b":")] == [b"2.b.h", b"3.c.h,S=4"]
    assert len(set(ids)) == len(ids) == 7
    assert all(0x21 <= octet <= 0x7E for uid in ids for octet in uid)
    assert all(1 <= len(uid) <= 70 for uid in ids)
    add(box, "cur/1.a.h:2,T", b"a third one\n")
    (box / "new/1.a.h").unlink()
    with serve(tools, box) as client:
        client.ask(b"UIDL")
        later = [line.split(b" ", 1)[1] for line in client.lines()]
    assert len(set(later) - set(ids)) == len(set(ids) - set(later)) == 1


def test_d4_retr_takes_one_argument_and_top_two(tools: Tools, box: Path) -> None:
    commands = (b"RETR 1 0", b"TOP 1", b"TOP 1 x", b"TOP 1 -1", b"TOP  1 1", b"RETR")
    assert replies(tools, box, *commands) == [b"-ERR syntax error"] * len(commands)


def test_d5_a_message_stored_with_crlf_is_sent_as_it_is(
    tools: Tools, box: Path
) -> None:
    stored = b"From: x\r\nA: b\r\n\r\nb1\r\n.b2\r\n"
    add(box, "cur/5.e.h:2,", stored)
    with serve(tools, box) as client:
        assert client.fetch(b"RETR 4") == stored
        assert client.fetch(b"TOP 4 0") == b"From: x\r\nA: b\r\n\r\n"
        assert client.fetch(b"TOP 4 1") == b"From: x\r\nA: b\r\n\r\nb1\r\n"
        assert client.ask(b"LIST 4") == b"+OK 4 %d\r\n" % len(stored)


def test_d6_quit_gets_one_reply_whatever_fails(tools: Tools, box: Path) -> None:
    with serve(tools, box) as client:
        for command in (b"DELE 1", b"DELE 2", b"DELE 3"):
            client.ask(command)
        for name in STORED:  # what unlink can't remove
            (box / name).unlink()
            (box / name).mkdir()
        client.send(b"QUIT\r\n")
        assert client.end() == (b"-ERR some deleted messages not removed\r\n", 0, "")


def test_d7_a_message_is_found_under_new_flags(tools: Tools, box: Path) -> None:
    with serve(tools, box) as client:
        os.rename(box / "new/1.a.h", box / "cur/1.a.h:2,S")
        os.rename(box / "cur/3.c.h,S=4:2,", box / "cur/3.c.h,S=4:2,RS")
        assert client.fetch(b"RETR 1") == corpus.wire(FILE)
        assert client.fetch(b"TOP 3 0") == b"\r\n"
        client.ask(b"DELE 1")
        os.rename(box / "cur/1.a.h:2,S", box / "cur/1.a.h:2,ST")
        assert client.ask(b"QUIT") == b"+OK \r\n"
        client.end()
    assert names(box) == {"cur/2.b.h:2,", "cur/3.c.h,S=4:2,RS"}


def test_d8_octets_are_what_retr_sends(tools: Tools, maildir: Path) -> None:
    with serve(tools, maildir) as client:
        client.ask(b"LIST")
        listed = [tuple(map(int, row.split())) for row in client.lines()]
        total = 0
        for number, octets in listed:
            assert len(client.fetch(b"RETR %d" % number)) == octets
            total += octets
        assert client.ask(b"STAT") == b"+OK %d %d\r\n" % (len(listed), total)


def test_d9_messages_of_this_second_and_of_the_future_are_seen(
    tools: Tools, box: Path
) -> None:
    add(box, "new/4.now", b"x\n", int(time.time()))
    add(box, "new/5.future", b"x\n", int(time.time()) + 1_000_000)
    assert replies(tools, box, b"STAT", b"UIDL 5") == [b"+OK 5 53", b"+OK 5 5.future"]


def test_d10_only_files_are_messages(tools: Tools, box: Path) -> None:
    (box / "cur/8.dir").mkdir()
    os.mkfifo(box / "new/9.fifo")
    assert replies(tools, box, b"STAT") == [b"+OK 3 47"]


def test_d11_no_move_overwrites_a_message(tools: Tools, box: Path) -> None:
    add(box, "cur/1.a.h:2,", b"another one\n")
    before = contents(box)
    assert replies(tools, box, b"QUIT") == [b"+OK "]
    assert contents(box) == before
    assert {"new/1.a.h", "cur/1.a.h:2,", "cur/2.b.h:2,"} < names(box)


def test_d12_flags_are_not_doubled(tools: Tools, box: Path) -> None:
    add(box, "new/4.d.h:2,", b"x\n")
    add(box, "new/5.e.h:2,FS", b"x\n")
    replies(tools, box, b"QUIT")
    assert {"cur/4.d.h:2,", "cur/5.e.h:2,FS", "cur/1.a.h:2,"} < names(box)


def test_d13_numbers_do_not_wrap_around(tools: Tools, box: Path) -> None:
    huge = (2**32 + 1, 2**64 + 1, 10**100)
    got = replies(tools, box, *(b"RETR %d" % number for number in huge))
    assert got == [b"-ERR not that many messages"] * 3
    wire = corpus.wire(FILE)
    for lines in huge:
        with serve(tools, box) as client:
            assert client.fetch(b"TOP 1 %d" % (lines - 1)) == wire


def test_d14_a_failure_can_be_told_by_the_exit_code(tools: Tools, box: Path) -> None:
    (box / "new").rename(box / "news")
    ended = say(tools, box, b"STAT")
    assert (ended.output, ended.code) == (b"", 100)
    assert ended.errors == (
        "pop3d: unable to read maildir Maildir: No such file or directory\n"
    )


def test_d15_capa_is_answered_after_login(tools: Tools, box: Path) -> None:
    with serve(tools, box) as client:
        assert client.ask(b"CAPA") == b"+OK capability list follows\r\n"
        assert {b"TOP", b"UIDL", b"PIPELINING", b"RESP-CODES"} < set(client.lines())


def test_d16_a_promised_length_saves_reading_the_file(tools: Tools, room: Path) -> None:
    box = make_maildir(room / "Maildir", {"cur/1.a,W=50:2,": b"x" * 40, "new/2": b"x"})
    os.chmod(box / "cur/1.a,W=50:2,", 0)  # so that nobody can read it
    os.chmod(box / "new/2", 0)
    with serve(tools, box) as client:
        assert client.ask(b"STAT") == b"+OK 2 50\r\n"
        assert client.ask(b"RETR 1") == UNOPENED


def test_d17_what_another_session_removed_is_removed(tools: Tools, box: Path) -> None:
    # No lock, as a Maildir needs none. The second QUIT finds its wish fulfilled.
    with serve(tools, box) as first, serve(tools, box) as second:
        for client in (first, second):
            client.ask(b"DELE 1")
        assert first.ask(b"QUIT") == b"+OK \r\n"
        first.end()
        assert second.ask(b"STAT") == b"+OK 2 11\r\n"
        assert second.fetch(b"RETR 2") == b"\r\nb\r\n"  # moved to cur/ by the first
        assert second.ask(b"RSET") == b"+OK \r\n"
        assert second.ask(b"RETR 1") == UNOPENED
        second.ask(b"DELE 1")
        second.ask(b"DELE 3")
        assert second.ask(b"QUIT") == b"+OK \r\n"
        second.end()
    assert names(box) == {"cur/2.b.h:2,"}


def test_d17_many_sessions_remove_each_message_once(tools: Tools, room: Path) -> None:
    stored = {f"new/{number}.x.h": b"%d\n" % number for number in range(40)}
    box = make_maildir(room / "Maildir", stored)
    clients = [serve(tools, box) for _ in range(4)]
    wanted: set[int] = set()
    for seed, client in enumerate(clients):
        numbers = random.Random(seed).sample(range(1, 41), 15)
        wanted.update(numbers)
        client.send(b"".join(b"DELE %d\r\n" % number for number in numbers))
        assert [client.line() for _ in numbers] == [b"+OK \r\n"] * 15
    for client in clients:
        client.send(b"QUIT\r\n")
    for client in clients:
        with client:
            assert client.end().output == b"+OK \r\n"
    left = sorted(b"%d\n" % (number - 1) for number in {*range(1, 41)} - wanted)
    assert contents(box) == left
