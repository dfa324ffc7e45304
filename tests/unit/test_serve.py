# SPDX-License-Identifier: ISC
"""The driver over a wire and a maildrop that exist in memory only."""

import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import pytest

from qtools.chain import serve
from qtools.chain.serve import Conversation
from qtools.errors import Temporary
from qtools.maildrop.interface import Gone
from qtools.protocol.message import CHUNK_OCTETS
from qtools.sessions.style import Style
from qtools.sessions.transaction import Transaction
from qtools.system.fdio import PeerLost, TimedOut, Wire
from tests import corpus


class Scripted(Wire):
    """A client that says what it was given, then hangs up or falls silent."""

    def __init__(
        self, *said: bytes, last: type[Exception] | None = None, writes: int = 10**9
    ) -> None:
        self.said = list(said)
        self.written: list[bytes] = []
        self.last = last
        self.writes = writes

    def read(self, octets: int = 0) -> bytes:
        assert octets == serve.READ_OCTETS
        if self.said:
            return self.said.pop(0)
        if self.last:
            raise self.last
        return b""

    def write(self, data: bytes) -> None:
        if len(self.written) == self.writes:
            raise PeerLost
        self.written.append(data)


class Drop:
    """Messages on disk only because a descriptor has to lead somewhere."""

    def __init__(self, path: Path, stored: Sequence[bytes]) -> None:
        self.count = len(stored)
        self.path = path
        self.updates: list[tuple[int, ...]] = []
        self.is_tidy = False
        for number, each in enumerate(stored, 1):
            (path / str(number)).write_bytes(each)

    def octets(self, number: int) -> int:
        return len(corpus.wire((self.path / str(number)).read_bytes()))

    def all_octets(self) -> Sequence[int]:
        return [self.octets(number + 1) for number in range(self.count)]

    def uid(self, number: int) -> bytes:
        return b"%d" % number

    def all_uids(self) -> Sequence[bytes]:
        return [b"%d" % (number + 1) for number in range(self.count)]

    def open(self, number: int) -> int:
        try:
            return os.open(self.path / str(number), os.O_RDONLY)
        except FileNotFoundError:
            raise Gone from None
        except OSError as why:
            raise Temporary(str(why)) from why

    def update(self, deleted: Collection[int]) -> int:
        self.updates.append(tuple(deleted))
        return 0

    def tidy(self) -> None:
        self.is_tidy = True

    def close(self) -> None:
        return


Make = Callable[..., tuple[Conversation, Drop]]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def conversation(
        wire: Wire, *stored: bytes, commits: bool = False, blank_line: bool = False
    ) -> tuple[Conversation, Drop]:
        drop = Drop(tmp_path, stored)
        session = Transaction(drop, Style(commits=commits, blank_line=blank_line))
        return Conversation(session, drop, wire, blank_line=blank_line), drop

    return conversation


OK = b"+OK \r\n"


def test_a_reply_is_one_write_and_so_is_a_batch(make: Make) -> None:
    wire = Scripted(b"RETR 1\r\n", b"NOOP\r\nRETR 1\r\nSTAT\r\n", b"QUIT\r\n")
    talk, drop = make(wire, b"a\n.b")
    assert talk.run() == 0
    message = OK + b"a\r\n..b\r\n.\r\n"
    assert wire.written == [OK, message, OK + message + b"+OK 1 7\r\n", OK]
    assert (drop.updates, drop.is_tidy, talk.why) == ([()], True, "quit")


def test_the_dot_leaves_with_the_last_chunk(make: Make) -> None:
    for octets in (CHUNK_OCTETS - 1, CHUNK_OCTETS, CHUNK_OCTETS * 3, 60_000):
        wire = Scripted(b"RETR 1\r\n")
        make(wire, b"x" * octets)[0].run()
        assert b"".join(wire.written[1:]) == OK + b"x" * octets + b"\r\n.\r\n"
        assert wire.written[1].startswith(OK + b"xx")
        assert wire.written[-1].endswith(b"xx\r\n.\r\n")
        assert len(wire.written) == 1 + -(-octets // CHUNK_OCTETS)


def test_no_more_is_gathered_than_a_batch(make: Make) -> None:
    wire = Scripted(b"RETR 1\r\n" * 100)
    make(wire, b"x" * 10_000)[0].run()
    assert max(map(len, wire.written)) < serve.BATCH_OCTETS + 11_000


def test_what_is_in_hand_goes_out_before_anything_is_deleted(make: Make) -> None:
    wire = Scripted(b"RETR 1\r\nDELE 1\r\nQUIT\r\n", writes=1)
    talk, drop = make(wire, b"x")
    assert talk.run() == 0
    assert (drop.updates, talk.why) == ([], "connection lost")


def test_a_quit_that_reached_us_counts_although_its_reply_is_lost(make: Make) -> None:
    wire = Scripted(b"DELE 1\r\n", b"QUIT\r\n", writes=2)
    talk, drop = make(wire, b"x")
    assert talk.run() == 0
    assert (drop.updates, talk.why) == ([(1,)], "quit")


@pytest.mark.parametrize(
    ("last", "why"),
    [(None, "connection closed"), (TimedOut, "timeout"), (PeerLost, "connection lost")],
)
@pytest.mark.parametrize("commits", [False, True])
def test_every_way_to_lose_a_client(
    make: Make, last: type[Exception] | None, why: str, *, commits: bool
) -> None:
    wire = Scripted(b"DELE 1\r\n", last=last)
    talk, drop = make(wire, b"x", commits=commits)
    assert talk.run() == 0
    assert drop.updates == ([(1,)] if commits else [])
    assert (wire.written, talk.why) == ([OK, OK], why)


def test_output_that_could_not_be_sent_is_not_sent_later(make: Make) -> None:
    wire = Scripted(b"DELE 1\r\nRETR 1\r\n", writes=1)
    talk, drop = make(wire, b"x" * 200_000, commits=True)
    talk.run()
    assert (wire.written, drop.updates) == ([OK], [(1,)])


def test_a_message_that_is_gone_or_closed_gets_one_reply(
    make: Make, tmp_path: Path
) -> None:
    wire = Scripted(b"RETR 1\r\nTOP 2 0\r\nNOOP\r\n")
    talk, _ = make(wire, b"x", b"y")
    (tmp_path / "1").unlink()
    (tmp_path / "2").unlink()
    (tmp_path / "2").mkdir()  # can be opened, not read
    talk.run()
    failure = b"-ERR unable to open that message\r\n"
    assert wire.written == [OK, failure + failure + OK]
    assert talk.trouble == ""


def test_trouble_of_the_system_ends_a_command_not_the_session(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_drop: Drop, _number: int) -> int:
        raise Temporary("too many open files")

    monkeypatch.setattr(Drop, "open", refuse)
    wire = Scripted(b"RETR 1\r\n", b"QUIT\r\n")
    make(wire, b"x")[0].run()
    assert wire.written == [OK, b"-ERR unable to open that message\r\n", OK]


@pytest.mark.parametrize("commits", [False, True])
def test_a_message_that_breaks_off_never_gets_its_dot(
    make: Make, monkeypatch: pytest.MonkeyPatch, *, commits: bool
) -> None:
    wire = Scripted(b"DELE 2\r\n", b"RETR 1\r\nNOOP\r\n", b"QUIT\r\n")
    talk, drop = make(wire, b"x" * 400_000, b"y", commits=commits)
    reads = []

    def read(descriptor: int) -> bytes:
        reads.append(descriptor)
        if len(reads) == 3:
            raise serve._Broken("unable to read a message: disk on fire")
        return b"x" * 100_000

    monkeypatch.setattr(serve, "_read", read)
    assert talk.run() == 0
    assert not b"".join(wire.written).endswith(b".\r\n")
    assert (talk.why, drop.updates) == ("read error", [])
    assert talk.trouble == "unable to read a message: disk on fire"


def test_the_blank_line(make: Make) -> None:
    wire = Scripted(b"RETR 1\r\nTOP 1 0\r\nLIST 1\r\n")
    make(wire, b"H: 1\n\nbody\n", blank_line=True)[0].run()
    head = b"H: 1\r\n\r\n"
    replies = OK + head + b"body\r\n\r\n.\r\n" + OK + head + b"\r\n.\r\n"
    assert wire.written == [OK, replies + b"+OK 1 16\r\n"]


def test_a_trace_sees_every_line(tmp_path: Path) -> None:
    seen: list[bytes] = []
    drop = Drop(tmp_path, [])
    session = Transaction(drop, Style(is_traced=True))
    wire = Scripted(b"PASS x\r\nST", b"AT\r\nQUIT\r\n")
    Conversation(session, drop, wire, trace=seen.append).run()
    assert seen == [b"PASS <hidden>", b"STAT", b"QUIT"]
