# SPDX-License-Identifier: ISC
"""A warm chain whose login worker, or whose sessions, are the test.

Master, nursery and verifiers are the real ones, in processes of their own. In the
process that is to be the login worker, or a session, sits somebody who hands the test
his descriptors and waits to be killed: what the test says now, a process says that has
been taken over.
"""

import os
import posix
import signal
import socket
import sys
from contextlib import suppress
from typing import NoReturn

from qtools.accounts import entry
from qtools.chain import front
from qtools.chain.request import MECHANISMS
from qtools.protocol import record
from qtools.server.channel import Channel
from qtools.server.processes import keep_only
from qtools.server.settings import Settings
from qtools.server.warm import nursery, packets
from qtools.server.warm.bulletin import Bulletin
from qtools.server.warm.chain import WarmChain
from qtools.server.warm.master import Master
from qtools.server.warm.premises import Premises
from qtools.server.warm.sessions import Order
from qtools.system import options
from qtools.system.notify import Notifier
from tests.faults import tree
from tests.faults.harness import HOST, NAME, Village
from tests.support import PATIENCE_SECONDS, wait_for

ENVIRONMENT = b"TCPREMOTEIP=127.0.0.1\0POP3LANG=en"
TAG = b"any tag"
IDENTIFIER = 7
VERIFIERS_WAYS = 3  # and what the test is handed on is one more


class FalsePremises(Premises):
    """Premises in which some are not what they seem."""

    has_sessions: bool

    def worker_descriptors(self) -> list[int]:
        return []

    def work(self, master: Channel, generation: int) -> int:
        del generation
        give(b"worker", master.descriptor)

    def nurse(self, master: Channel) -> int:
        if not self.has_sessions:
            nursery.Nursery._begin = begin_falsely  # type: ignore[method-assign]
        return super().nurse(master)


BACK = 1  # the descriptor on which all of them can hand something to the test


def give(what: bytes, *descriptors: int) -> NoReturn:
    """Give the test descriptors, and sit there."""
    with socket.socket(fileno=os.dup(BACK)) as back:
        socket.send_fds(back, [what], descriptors)
    for descriptor in descriptors:
        posix.close(descriptor)
    while True:
        signal.pause()


def begin_falsely(
    self: nursery.Nursery, way: int, client: int, order: Order
) -> NoReturn:
    del self, order
    give(b"session", way, client)


class Chain:
    """The real ones, and what the test was handed."""

    def __init__(
        self, village: Village, *words: str, has_sessions: bool = True
    ) -> None:
        self._back, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._back.settimeout(PATIENCE_SECONDS)
        self._errors = os.memfd_create("complaints")
        self._held: list[Channel] = []
        self.clients: list[socket.socket] = []
        self.pid = os.fork()
        if not self.pid:
            self._run(village, list(words), theirs, has_sessions=has_sessions)
        theirs.close()
        self.worker = self.hired()

    def _run(
        self,
        village: Village,
        words: list[str],
        theirs: socket.socket,
        *,
        has_sessions: bool,
    ) -> NoReturn:
        """In the child."""
        code = 1
        try:
            os.dup2(self._errors, 2)
            os.dup2(theirs.fileno(), BACK)
            keep_only([0, 1, 2])
            sys.argv = ["popserver", *words, HOST, "0", "popup"]
            sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
            FalsePremises.has_sessions = has_sessions
            bulletin = Bulletin(Notifier({}))
            settings = Settings(sys.argv)
            made = FalsePremises(settings, chain_of(village), {}, bulletin)
            code = Master(made, lambda: made, sys.argv).run()
        finally:
            os._exit(code)

    @property
    def errors(self) -> str:
        """What they have complained about."""
        return os.pread(self._errors, 1 << 20, 0).decode()

    def handed(self) -> tuple[bytes, list[int]]:
        """Give what comes next from those who are the test."""
        what, descriptors, _, _ = socket.recv_fds(self._back, 16, 2)
        return what, descriptors

    def hired(self) -> "Worker":
        """Be the next login worker."""
        what, descriptors = self.handed()
        assert what == b"worker"
        return Worker(self._keep(Channel.adopt(descriptors[0])), self)

    def session(self) -> tuple[Channel, socket.socket]:
        """Be the next session; give its way to the nursery, and its client."""
        what, (way, client) = self.handed()
        assert what == b"session"
        self.clients.append(socket.socket(fileno=client))
        return self._keep(Channel.adopt(way)), self.clients[-1]

    def _keep(self, channel: Channel) -> Channel:
        self._held.append(channel)
        return channel

    def crew(self, kind: str) -> list[int]:
        """Give the processes of a kind; they have loaded what the test has."""
        found: dict[str, list[int]] = {}
        for pid in tree.children(self.pid):
            held: list[str] = []
            with suppress(OSError):  # it has just ended
                held += tree.descriptors(pid).values()
            if tree.EPOLL in held:
                found.setdefault(tree.NURSERY, []).append(pid)
                found[tree.SESSION] = tree.children(pid)
            elif held.count(tree.CHANNEL) >= VERIFIERS_WAYS:
                found.setdefault(tree.VERIFIER, []).append(pid)
        return found.get(kind, [])

    def close(self) -> None:
        """End all of them."""
        below = tree.descendants(self.pid)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        for pid in below:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        wait_for(lambda: not any(map(tree.is_there, below)))
        for channel in self._held:
            channel.close()
        for held in (*self.clients, self._back):
            held.close()
        os.close(self._errors)


class Worker:
    """The login worker: what it hears from the master, and the ways to verifiers."""

    def __init__(self, channel: Channel, chain: Chain) -> None:
        self.channel = channel
        self._chain = chain
        self.verifiers: list[Channel] = []

    def hear(self) -> tuple[bytes, list[int]]:
        """Give the next packet that comes from the master or the nursery."""
        return receive(self.channel)

    def verifier(self) -> Channel:
        """Give the way to one more verifier."""
        while True:
            packet, descriptors = self.hear()
            assert packet, self._chain.errors
            if packets.read_head(packet)[0] == packets.VERIFIER:
                self.verifiers.append(self._chain._keep(Channel.adopt(descriptors[0])))
                return self.verifiers[-1]

    def ended(self) -> tuple[int, packets.Tally]:
        """Give the next session that is told to have ended."""
        while True:
            packet, _ = self.hear()
            assert packet, self._chain.errors
            if packets.read_head(packet)[0] == packets.ENDED:
                identifier, tally, _ = packets.unpack_ended(packet)
                return identifier, tally


def receive(channel: Channel) -> tuple[bytes, list[int]]:
    """Give the next packet, empty at the end, within the time of patience."""
    received = wait_for(channel.receive)
    assert isinstance(received, tuple)
    return received


def chain_of(village: Village) -> WarmChain:
    """Give what is served."""
    values, _ = options.parse(["popup", "-d", "0"], front.OPTIONS, front.USAGE)
    words = ["checkpw", "-a", village.source]
    checker, _ = options.parse(words, entry.ROWS, entry.USAGE)
    return WarmChain("popup", (values, NAME), checker, ["pop3d", "Maildir"])


def ask_for(
    user: bytes,
    secret: bytes,
    stamp: bytes = b"",
    mechanism: str = "User",
    variables: bytes = ENVIRONMENT,
) -> bytes:
    """Give the packet by which a login worker asks to have somebody let in."""
    packed = record.pack(user, secret, stamp or b"<none@given>")
    fields = packets.fields(packed, variables, TAG)
    return packets.head(packets.ASK, IDENTIFIER, MECHANISMS.index(mechanism)) + fields


def numbered(packet: bytes, identifier: int) -> bytes:
    """Give the packet for another connection."""
    _, _, detail = packets.read_head(packet)
    head = packets.head(packets.ASK, identifier, detail)
    return head + packet[len(head) :]
