# SPDX-License-Identifier: ISC
"""A crew: one login worker and the verifiers and TLS workers that serve it.

A reload forks a new crew, which has read everything anew, and the old one goes when its
last connection has. So does a crew whose login worker has died: what it knew of its
connections is gone with it, and sessions don't need it.
"""

import _signal  # type: ignore[import-not-found]  # typeshed lacks it; signal is dear
import posix
from collections import deque
from math import inf
from time import monotonic

from qtools.server import channel as channels
from qtools.server.processes import bury, fork
from qtools.server.tls.packets import RETIRE_PACKET
from qtools.server.warm import packets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from qtools.server.channel import Channel
    from qtools.server.tls.worker import TlsProcess

MOST_UNSENT = 20_000
GRACE_SECONDS = 5.0  # to end by itself, when its drain is over

WORKER, VERIFIER, TLS = "login worker", "verifier", "TLS worker"
NURSERY = "nursery"


class Member:
    """One process of a crew: what it is, and the way to it."""

    __slots__ = ("channel", "is_tired", "kind", "pid")

    def __init__(self, kind: str, pid: int, channel: "Channel") -> None:
        self.kind = kind
        self.pid = pid
        self.channel = channel
        self.is_tired = False  # it has been replaced and will go by itself


class Ward:
    """The nursery as the master sees it.

    descriptor: of the way to it; -1 when there is none.
    """

    def __init__(self, complain: "Callable[[str], None]") -> None:
        self.descriptor = -1
        self._complain = complain
        self._member: Member | None = None

    def found(self, body: "Callable[[Channel], int]") -> None:
        """Fork it; body gets its end of the way to the master.

        Raises: OSError.
        """
        here, there = channels.pair()
        try:
            pid = fork(lambda: body(there), (0, 1, 2, there.descriptor))
        except OSError:
            here.close()
            raise
        finally:
            there.close()
        self._member = Member(NURSERY, pid, here)
        self.descriptor = here.descriptor

    def tell(self, packet: bytes, *descriptors: int) -> None:
        """Tell it, never waiting; one that is gone will be heard of.

        One that has so much unread is broken, and is killed.
        """
        if self._member is None:
            return
        try:
            is_told = self._member.channel.send(packet, descriptors)
        except BrokenPipeError:
            return
        if not is_told:
            self._complain(f"the {NURSERY} does not read what it is told: killed")
            posix.kill(self._member.pid, _signal.SIGKILL)

    def lose(self) -> int:
        """Reap it; give its exit code."""
        member, self._member, self.descriptor = self._member, None, -1
        if member is None:
            return 0
        member.channel.close()
        return bury(member.pid)


class Crew:
    """The processes of one generation.

    is_retiring: it takes no new connections; who dies is not replaced.
    """

    def __init__(self, generation: int, drain_seconds: float) -> None:
        self.generation = generation
        self.is_retiring = False
        self._drain_seconds = drain_seconds
        self._ends = inf
        self.members: dict[int, Member] = {}
        self.worker: Member | None = None
        self._unsent: deque[tuple[bytes, list[int]]] = deque()

    def join(self, kind: str, body: "Callable[[Channel], int]", *kept: int) -> Member:
        """Fork a member; body gets its end of the way to the master.

        Raises: OSError.
        """
        here, there = channels.pair()
        try:
            pid = fork(lambda: body(there), [0, 1, 2, there.descriptor, *kept])
        except OSError:
            here.close()
            raise
        finally:
            there.close()
        member = Member(kind, pid, here)
        self.members[here.descriptor] = member
        if kind == WORKER:
            self.worker = member
        return member

    def add_verifier(
        self,
        body: "Callable[[Channel, Channel, Channel, int], int]",
        nursery: "Ward",
        vigil: int,
    ) -> Member:
        """Fork a verifier and tell the login worker and the nursery of it.

        body: takes the ways to the login worker, to the nursery and to the master, and
        vigil, a descriptor that it keeps.
        Raises: OSError.
        """
        ways = near, far, here, there = *channels.pair(), *channels.pair()
        try:
            member = self.join(
                VERIFIER,
                lambda master: body(far, there, master, vigil),
                far.descriptor,
                there.descriptor,
                vigil,
            )
            introduction = packets.head(packets.VERIFIER, 0, 1)
            self.tell(introduction, near.detach())
            nursery.tell(introduction, here.descriptor)
        finally:
            for way in ways:
                way.close()
        return member

    def add_relay(self, process: "TlsProcess") -> Member:
        """Take a TLS worker in and tell the login worker of it."""
        posix.close(process.handle)
        member = Member(TLS, process.pid, process.control)
        self.members[process.control.descriptor] = member
        self.tell(packets.head(packets.TLS, 0, 1), process.channel.detach())
        return member

    def count(self, kind: str) -> int:
        """Give how many there are of a kind; who has been replaced doesn't count."""
        members = self.members.values()
        return sum(each.kind == kind and not each.is_tired for each in members)

    def tell(self, packet: bytes, *given: int) -> None:
        """Send the login worker a packet; one that is gone needs none.

        given: descriptors, which are closed here when they have been sent.
        The master never waits for it. A worker that has so much unread is broken.
        """
        self._unsent.append((packet, [*given]))
        self.flush()
        if len(self._unsent) > MOST_UNSENT and self.worker is not None:
            posix.kill(self.worker.pid, _signal.SIGKILL)

    def flush(self) -> None:
        """Send what could not be sent before."""
        while self._unsent:
            packet, descriptors = self._unsent[0]
            try:
                worker = self.worker
                if worker is not None and not worker.channel.send(packet, descriptors):
                    return
            except BrokenPipeError:
                pass
            self._unsent.popleft()
            channels.close_all(descriptors)

    def lose(self, descriptor: int) -> tuple[Member, int]:
        """Reap the member whose channel this is; give its exit code, too."""
        member = self.members.pop(descriptor)
        member.channel.close()
        if member is self.worker:
            self.worker = None
            self.flush()  # closes what it was to get
        return member, bury(member.pid)

    def retire(self, *, is_last: bool = False) -> None:
        """Have it take no new connections and go when the last one has.

        is_last: there is no crew after it, which would hear how sessions end.
        """
        if not self.is_retiring:
            self._ends = monotonic() + self._drain_seconds + GRACE_SECONDS
        self.is_retiring = True
        self.tell(packets.head(packets.DRAIN, 0, is_last))
        for member in self.members.values():
            if member.kind == TLS:
                try:
                    member.channel.send(RETIRE_PACKET)
                except BrokenPipeError:
                    continue

    def expire(self, now: float) -> bool:
        """Kill who has not gone in time; tell whether there was anybody.

        TLS workers stay: sessions need them, however long they take.
        """
        if now < self._ends:
            return False
        self._ends = inf
        late = [each for each in self.members.values() if each.kind != TLS]
        for member in late:
            posix.kill(member.pid, _signal.SIGKILL)
        return bool(late)

    def kill(self) -> None:
        """End all of it now."""
        for member in self.members.values():
            posix.kill(member.pid, _signal.SIGKILL)
