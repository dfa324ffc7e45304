# SPDX-License-Identifier: ISC
"""The nursery and its sessions, with this test as master, verifier and login worker."""

import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from qtools.accounts import answer
from qtools.accounts.interface import Identity
from qtools.server import channel as channels
from qtools.server import processes
from qtools.server.warm import packets
from qtools.server.warm.nursery import Nursery
from qtools.server.warm.sessions import Limits
from tests.pop3 import own
from tests.support import OWNER, PATIENCE_SECONDS, need_root, wait_for

VARIABLES = b"TCPREMOTEIP=127.0.0.1\0HOME=/nowhere\0POP3LANG=en"


MOST = 4  # sessions at once


class House:
    """A nursery, and the test's ends of all ways to it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.serial = 0
        self.master, master = channels.pair()
        self.worker, worker = channels.pair()
        self.verifier, verifier = channels.pair()
        sys.stdout.flush()
        self.pid = processes.fork(
            lambda: Nursery(["pop3d", "Maildir"], master, Limits(MOST, 32, 15)).run(),
            [0, 1, 2, master.descriptor],
        )
        self.master.send(packets.head(packets.LIVE), [worker.descriptor])
        self.master.send(packets.head(packets.VERIFIER), [verifier.descriptor])
        for far in (master, worker, verifier):
            far.close()

    def login(self, *, uid: int = OWNER[0], home: bytes | None = None) -> socket.socket:
        """Have a client served who is let in already."""
        self.serial += 1
        place = os.fsencode(self.home) if home is None else home
        who = Identity(b"somebody", uid, OWNER[1], home=place)
        fields = packets.fields(answer.pack(0, who), VARIABLES, b"tag")
        ours, theirs = socket.socketpair()
        launch = packets.head(packets.LAUNCH, self.serial) + fields
        with theirs:
            assert self.verifier.send(launch, [theirs.fileno()])
        ours.settimeout(PATIENCE_SECONDS)
        return ours

    def sessions(self) -> list[int]:
        """Give the session processes."""
        path = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        return [int(word) for word in path.read_text().split()]

    def told(self) -> bytes:
        """Give what the login worker is told next."""
        packet, descriptors = self.worker.receive(waits=True) or (b"", [])
        assert not descriptors
        return packet

    def end(self) -> None:
        """Be gone as master and verifier, and wait for the nursery."""
        for way in (self.master, self.verifier, self.worker):
            way.close()
        if self.pid:
            os.waitpid(self.pid, 0)


@pytest.fixture
def house(room: Path) -> Iterator[House]:
    home = room / "home"
    for folder in ("new", "cur", "tmp"):
        (home / "Maildir" / folder).mkdir(parents=True)
    (home / "Maildir/cur/1.x.y,S=4,W=6").write_bytes(b"a\nb\n")
    own(home)
    made = House(home)
    yield made
    made.end()


def converse(client: socket.socket) -> bytes:
    """Ask and leave; give all replies."""
    client.sendall(b"STAT\r\nQUIT\r\n")
    with client, client.makefile("rb") as replies:
        return replies.read()


def test_a_session_is_served_and_told_of(house: House) -> None:
    assert converse(house.login()) == b"+OK \r\n+OK 1 6\r\n+OK \r\n"
    identifier, tally, tag = packets.unpack_ended(house.told())
    assert (identifier, tag) == (1, b"tag")
    assert (tally.code, packets.WHYS[tally.why]) == (0, "quit")
    assert tally.counts[4:] == (1, 6)


def test_the_next_login_of_a_uid_needs_no_fork(house: House) -> None:
    converse(house.login())
    house.told()
    (first,) = house.sessions()
    converse(house.login())
    house.told()
    assert house.sessions() == [first]


def test_who_has_no_home_is_not_served_in_anothers(house: House) -> None:
    converse(house.login())
    house.told()
    with house.login(home=b"") as client:
        assert client.recv(100).startswith(b"-ERR [SYS/PERM]")


def test_no_more_sessions_than_there_may_be(house: House) -> None:
    clients = [house.login() for _ in range(MOST)]
    for client in clients:
        assert client.recv(100).startswith(b"+OK")
    with house.login() as one_more:
        assert one_more.recv(100).startswith(b"-ERR [SYS/TEMP]")
    for client in clients:
        client.close()


def test_two_logins_of_a_uid_at_once_have_two_processes(house: House) -> None:
    with house.login() as one, house.login() as other:
        assert one.recv(100).startswith(b"+OK")
        assert other.recv(100).startswith(b"+OK")
        assert len(house.sessions()) == 2


def test_a_client_sees_the_end_while_the_process_stays(house: House) -> None:
    with house.login() as client:
        assert client.recv(100).startswith(b"+OK")
        client.sendall(b"QUIT\r\n")
        assert client.recv(100).startswith(b"+OK")
        assert client.recv(100) == b""
    house.told()
    assert len(house.sessions()) == 1


def test_a_new_login_worker_hears_who_is_here(house: House) -> None:
    with house.login() as client:
        assert client.recv(100).startswith(b"+OK")
        house.worker.close()
        house.worker, there = channels.pair()
        house.master.send(packets.head(packets.LIVE), [there.descriptor])
        there.close()
        packet = house.told()
        assert packets.read_head(packet)[:2] == (packets.LIVE, 1)
        assert packets.read_fields(packet, 1) == [b"tag"]


def replace_worker(house: House, generation: int) -> None:
    """Have a new login worker in the old one's place."""
    house.worker.close()
    house.worker, there = channels.pair()
    introduction = packets.head(packets.LIVE, generation)
    house.master.send(introduction, [there.descriptor])
    there.close()


def test_it_hears_of_those_whom_an_old_crew_still_lets_in(house: House) -> None:
    with house.login() as before, house.login() as after:
        assert before.recv(100).startswith(b"+OK")
        assert after.recv(100).startswith(b"+OK")
        replace_worker(house, 1)
        for number in (1, 2):
            assert packets.read_head(house.told())[:2] == (packets.LIVE, number)
    assert {packets.unpack_ended(house.told())[0] for _ in range(2)} == {1, 2}
    converse(house.login())
    packet = house.told()
    assert packets.read_head(packet)[:2] == (packets.LIVE, 3)
    assert packets.read_fields(packet, 1) == [b"tag"]
    assert packets.unpack_ended(house.told())[0] == 3
    house.serial = 1 << packets.GENERATION_SHIFT
    converse(house.login())
    assert packets.unpack_ended(house.told())[0] == house.serial


def test_it_hears_of_those_who_went_while_there_was_none(house: House) -> None:
    with house.login() as client:
        assert client.recv(100).startswith(b"+OK")
        house.worker.close()
        (pid,) = house.sessions()
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not house.sessions())
    replace_worker(house, 1)
    identifier, tally, _ = packets.unpack_ended(house.told())
    assert (identifier, tally.code) == (1, -signal.SIGKILL)


def test_sessions_outlive_the_nursery(house: House) -> None:
    client = house.login()
    assert client.recv(100).startswith(b"+OK")
    os.kill(house.pid, signal.SIGKILL)
    os.waitpid(house.pid, 0)
    house.pid = 0
    assert converse(client) == b"+OK 1 6\r\n+OK \r\n"


def test_a_killed_session_is_told_of_with_its_signal(house: House) -> None:
    with house.login() as client:
        assert client.recv(100).startswith(b"+OK")
        (pid,) = house.sessions()
        os.kill(pid, signal.SIGKILL)
        _, tally, _ = packets.unpack_ended(house.told())
        assert tally.code == -signal.SIGKILL


def test_a_drain_ends_all_at_once_when_told_so(house: House) -> None:
    client = house.login()
    assert client.recv(100).startswith(b"+OK")
    house.verifier.close()
    house.master.send(packets.head(packets.DRAIN, 0, 1))
    with client:
        assert client.recv(100) == b""
    os.waitpid(house.pid, 0)
    house.pid = 0


def test_a_drain_waits_for_sessions(house: House) -> None:
    client = house.login()
    assert client.recv(100).startswith(b"+OK")
    house.verifier.close()
    house.master.send(packets.head(packets.DRAIN))
    assert converse(client) == b"+OK 1 6\r\n+OK \r\n"
    os.waitpid(house.pid, 0)
    house.pid = 0


def test_a_verifier_that_sends_nonsense_is_not_heard_again(house: House) -> None:
    house.verifier.send(b"nonsense")
    assert wait_for(lambda: house.verifier.receive() == (b"", []))


def test_a_channel_needs_a_launch_with_a_client(house: House) -> None:
    house.verifier.send(packets.head(packets.LAUNCH, 1))
    assert wait_for(lambda: house.verifier.receive() == (b"", []))


def test_uid_0_is_refused_by_the_session(house: House) -> None:
    need_root()
    with house.login(uid=0) as client:
        assert client.recv(100).startswith(b"-ERR [SYS/PERM]")
    _, tally, _ = packets.unpack_ended(house.told())
    assert tally.code


def test_a_process_that_is_idle_leaves_no_corpse(
    house: House,
) -> None:
    converse(house.login())
    house.told()
    (pid,) = house.sessions()
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not house.sessions())
    assert converse(house.login()).startswith(b"+OK")
