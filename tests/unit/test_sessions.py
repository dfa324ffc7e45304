# SPDX-License-Identifier: ISC
"""The nursery's book of sessions, where a system call fails or an event is stale."""

import errno
import os
import posix
import signal
import socket
from collections.abc import Iterator

import pytest

from qtools.accounts import answer
from qtools.accounts.interface import Identity
from qtools.server.warm import packets
from qtools.server.warm.sessions import Limits, Order, Process, Sessions


class Book:
    """Sessions that are never served, and what the login worker is told of them."""

    def __init__(self) -> None:
        self.told: list[bytes] = []
        self.watched: set[int] = set()
        limits = Limits(10, 4, 15)
        self.sessions = Sessions(self.begin, self.watch, self.told.append, limits)

    def begin(self, way: int, client: int, order: Order) -> None:
        """Be a session that waits for its end."""
        del client, order
        os.read(way, 1)

    def watch(self, descriptor: int, on: bool) -> None:  # noqa: FBT001  # on or off
        """Keep what is watched."""
        (self.watched.add if on else self.watched.remove)(descriptor)

    def launch(self) -> socket.socket:
        """Have a client served."""
        who = Identity(b"joe", os.getuid(), os.getgid(), home=b"/")
        fields = packets.fields(answer.pack(0, who), b"", b"tag")
        ours, theirs = socket.socketpair()
        with theirs:
            packet = packets.head(packets.LAUNCH, 7) + fields
            self.sessions.launch(packet, [theirs.fileno()])
        return ours

    @property
    def only(self) -> Process:
        """The one session that is served."""
        (process,) = self.sessions.busy.values()
        return process


@pytest.fixture
def book() -> Iterator[Book]:
    made = Book()
    yield made
    for process in made.sessions.busy.values():
        process.channel.close()
        os.kill(process.pid, signal.SIGKILL)
        os.waitpid(process.pid, 0)


def test_a_fork_that_fails_is_told_to_client_worker_and_operator(
    book: Book, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail() -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(posix, "fork", fail)
    for _ in range(3):
        with book.launch() as client:
            assert client.recv(100).startswith(b"-ERR [SYS/TEMP]")
    assert [packets.unpack_ended(told)[1].code for told in book.told] == [111] * 3
    said = capfd.readouterr().err
    assert said.count("unable to fork: Resource temporarily unavailable") == 1
    assert not book.watched


def test_a_stale_event_ends_no_session(book: Book) -> None:
    with book.launch():
        book.sessions.hear(book.only.channel.descriptor)
        assert book.only.identifier == 7
        assert not book.told


def test_what_is_no_client_is_declined_without_a_leak(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> int:
        raise OSError(errno.ENOMEM, "no")

    monkeypatch.setattr(posix, "fork", fail)
    before = os.listdir("/proc/self/fd")
    who = Identity(b"joe", os.getuid(), os.getgid(), home=b"/")
    fields = packets.fields(answer.pack(0, who), b"", b"tag")
    with open("/dev/null", "rb") as nothing:
        book.sessions.launch(
            packets.head(packets.LAUNCH, 7) + fields, [nothing.fileno()]
        )
    assert len(os.listdir("/proc/self/fd")) == len(before)
    assert len(book.told) == 1


@pytest.mark.parametrize(("lifelines", "came"), [(0, 2), (1, 3), (2, 3), (255, 2)])
def test_more_than_was_said_to_come_is_from_no_verifier(
    book: Book, lifelines: int, came: int
) -> None:
    who = Identity(b"joe", os.getuid(), os.getgid(), home=b"/")
    fields = packets.fields(answer.pack(0, who), b"", b"tag")
    packet = packets.head(packets.LAUNCH, 7, lifelines) + fields
    with pytest.raises(ValueError, match="one client too many"):
        book.sessions.launch(packet, [0] * came)
    assert not book.told


def test_a_session_whose_lifeline_did_not_come_is_declined(book: Book) -> None:
    who = Identity(b"joe", os.getuid(), os.getgid(), home=b"/")
    fields = packets.fields(answer.pack(0, who), b"", b"tag")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        packet = packets.head(packets.LAUNCH, 7, 1) + fields
        book.sessions.launch(packet, [theirs.fileno()])
        assert ours.recv(100).startswith(b"-ERR [SYS/TEMP]")
    assert [packets.unpack_ended(told)[1].code for told in book.told] == [111]
