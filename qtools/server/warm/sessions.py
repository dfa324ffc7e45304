# SPDX-License-Identifier: ISC
"""The nursery's book of session processes: fork them, lend them, count them out.

A process stays for a while when its session has ended: the next login of the same uid,
gid and groups gets it, be it the same account's or another's that shares them. The
kernel would not have kept the two apart anyway, and a fork, with the pages it has
copied, costs more than the rest of a login.
"""

import _signal  # type: ignore[import-not-found]  # typeshed lacks it; signal is dear
import _socket
import posix
import sys
from time import monotonic

from qtools.accounts import answer
from qtools.errors import EXIT_TEMPORARY
from qtools.protocol import replies
from qtools.server import channel as channels
from qtools.server.warm import packets
from qtools.sessions.policy import VERDICTS
from qtools.system import guard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from qtools.accounts.interface import Identity
    from qtools.server.channel import Channel

    Key = tuple[int, ...]  # uid, gid, groups

    class Begin(Protocol):
        """What a child does: serve a client and leave."""

        def __call__(self, way: int, client: int, order: "Order") -> None:
            """Take the descriptors of the way to us and of the client.

            What else it is to keep is the order's lifeline.
            """


LEAVING_SECONDS = 2.0
COMPLAINT_SECONDS = 10.0  # between two about the same trouble
MOST_LEAVING = 16  # unburied; a tick buries them anyway
MOST_SESSIONS = 1000  # of one process
_TEMPORARY = replies.err(*VERDICTS[EXIT_TEMPORARY][::-1])


class Limits:
    """How many there may be.

    most: sessions at once. spare: processes kept for the next login; seconds: how long.
    """

    __slots__ = ("most", "seconds", "spare")

    def __init__(self, most: int, spare: int, seconds: float) -> None:
        self.most = most
        self.spare = spare
        self.seconds = seconds


class Order:
    """What a LAUNCH says, and the packet itself.

    lifeline: a descriptor to be held as long as the session lasts, -1 for none.
    """

    __slots__ = ("environment", "lifeline", "packet", "who")

    def __init__(
        self, packet: bytes, who: "Identity", environment: bytes, lifeline: int = -1
    ) -> None:
        self.packet = packet
        self.who = who
        self.environment = environment
        self.lifeline = lifeline


class Process:
    """One session process, busy or idle."""

    __slots__ = ("channel", "identifier", "idle_since", "key", "pid", "served", "tag")

    def __init__(self, pid: int, channel: "Channel", key: "Key") -> None:
        self.pid = pid
        self.channel = channel
        self.key = key
        self.served = 0
        self.identifier = 0
        self.tag = b""
        self.idle_since = 0.0


class Sessions:
    """All session processes, by the descriptor of our end."""

    def __init__(
        self,
        begin: "Begin",
        watch: "Callable[[int, bool], None]",
        tell: "Callable[[bytes], None]",
        limits: "Limits",
    ) -> None:
        """Take what a child does, who watches descriptors, who is told.

        watch(descriptor, on): the nursery's loop. tell(packet): the login worker.
        """
        self._limits = limits
        self._complained_at = -COMPLAINT_SECONDS
        self._begin = begin
        self._watch = watch
        self._tell = tell
        self.busy: dict[int, Process] = {}
        self._idle: dict[int, Process] = {}
        # By pid: when it is killed, and which session was lost with it.
        self._leaving: dict[int, tuple[float, Process | None]] = {}

    def launch(self, packet: bytes, descriptors: "list[int]") -> None:
        """Serve an accepted login; the descriptors stay the caller's.

        descriptors: the client's, and the lifeline's if there is one; less when we had
        no number left for them.
        Raises: ValueError for a packet no verifier can have sent.
        """
        _, identifier, lifelines = packets.read_head(packet)
        if len(descriptors) > 1 + lifelines or lifelines > 1:
            raise ValueError("one client too many")
        identity, environment, tag = packets.read_fields(packet, 3)
        _, who = answer.unpack(identity)
        if who is None:
            raise ValueError("a session for nobody")
        order = Order(packet, who, environment, *descriptors[1:])
        key = (who.uid, who.gid, *who.groups)
        process = None
        for client in descriptors[:1]:
            if len(descriptors) == 1 + lifelines:
                process = self._begun(key, order, client)
            if process is None:
                _decline(client)
        if process is None:
            lost = packets.Tally(EXIT_TEMPORARY, 0, packets.NOTHING.counts)
            self._tell(packets.pack_ended(identifier, lost, tag))
            return
        process.identifier, process.tag = identifier, tag
        process.served += 1
        self.busy[process.channel.descriptor] = process

    def _begun(self, key: "Key", order: Order, client: int) -> "Process | None":
        """Give the process that serves a client; None when there can be none.

        The login worker keeps the limits, but whoever has taken it over does not. A
        process is lent only to who has a home: another stays where it was last.
        """
        if len(self.busy) >= self._limits.most:
            self._complain("as many sessions as there may be")
            return None
        process = self._reused(key, order, client) if order.who.home else None
        return process or self._forked(key, order, client)

    def _complain(self, text: str) -> None:
        """Tell the operator, but not at each login."""
        now = monotonic()
        if now >= self._complained_at + COMPLAINT_SECONDS:
            self._complained_at = now
            guard.complain(sys.argv, f"no session: {text}")

    def _reused(self, key: "Key", order: Order, client: int) -> "Process | None":
        """Give an idle process the session, if one of its kind is there."""
        held = [client] if order.lifeline < 0 else [client, order.lifeline]
        for descriptor, process in reversed(self._idle.items()):
            if process.key == key:
                del self._idle[descriptor]
                try:
                    if process.channel.send(order.packet, held):
                        return process
                except BrokenPipeError:
                    pass
                self._end(process)
                return None
        return None

    def _forked(self, key: "Key", order: Order, client: int) -> "Process | None":
        try:
            here, there = channels.pair()
        except OSError as why:
            self._complain(f"{why.strerror}")
            return None
        try:
            pid = posix.fork()
        except OSError as why:
            self._complain(f"unable to fork: {why.strerror}")
            here.close()
            there.close()
            return None
        if not pid:
            try:
                self._begin(there.descriptor, client, order)
            finally:
                posix._exit(EXIT_TEMPORARY)  # or there would be two of us
        there.close()
        self._watch(here.descriptor, True)
        return Process(pid, here, key)

    def holds(self, descriptor: int) -> bool:
        """Tell whether a descriptor is that of one of the processes."""
        return any(descriptor in book for book in (self.busy, self._idle))

    def hear(self, descriptor: int) -> None:
        """Take what a process has to say: that it is done, or nothing any more."""
        process = self.busy.get(descriptor)
        if process is None:
            self._end(self._idle.pop(descriptor))
            return
        received = process.channel.receive()
        if received is None:
            return  # told of another one that had this number
        packet, descriptors = received
        channels.close_all(descriptors)
        del self.busy[descriptor]
        try:
            tally = packets.unpack_tally(packet)
        except ValueError:
            self._end(process, is_lost=True)
            return
        self._ended(process, tally)
        if process.served >= MOST_SESSIONS:
            self._end(process)
        else:
            process.idle_since = monotonic()
            self._idle[descriptor] = process
            self._prune()

    def _ended(self, process: Process, tally: packets.Tally) -> None:
        self._tell(packets.pack_ended(process.identifier, tally, process.tag))

    def _prune(self) -> None:
        """Send away those that waited longest, when there are too many."""
        while len(self._idle) > self._limits.spare:
            self._end(self._idle.pop(next(iter(self._idle))))

    def tidy(self, *, everything: bool = False) -> None:
        """Send away those that waited too long, or all that wait."""
        limit = monotonic() - self._limits.seconds
        for descriptor, process in list(self._idle.items()):
            if everything or process.idle_since < limit:
                del self._idle[descriptor]
                self._end(process)
        self._bury_leaving()

    def _end(self, process: Process, *, is_lost: bool = False) -> None:
        """Have a process leave: it does when nobody is at the other end.

        Nobody waits for that here; what does not leave in time is killed. is_lost: it
        ended in the middle of a session, and how is to be told.
        """
        self._watch(process.channel.descriptor, False)
        process.channel.close()
        deadline = monotonic() + LEAVING_SECONDS
        self._leaving[process.pid] = deadline, process if is_lost else None
        if is_lost or len(self._leaving) > MOST_LEAVING:
            self._bury_leaving()

    def _bury_leaving(self) -> None:
        """Take leave of those that have left."""
        now = monotonic()
        for pid, (deadline, lost) in list(self._leaving.items()):
            ended, status = posix.waitpid(pid, posix.WNOHANG)
            if not ended:
                if deadline < now:
                    posix.kill(pid, _signal.SIGKILL)
                continue
            del self._leaving[pid]
            if lost is not None:
                code = posix.waitstatus_to_exitcode(status)
                nothing = packets.NOTHING
                self._ended(lost, packets.Tally(code, nothing.why, nothing.counts))

    def kill_all(self) -> None:
        """End every session now."""
        for process in list(self.busy.values()):
            posix.kill(process.pid, _signal.SIGKILL)

    def live(self) -> "list[tuple[int, bytes]]":
        """Give id and tag of every session that is served now."""
        return [(process.identifier, process.tag) for process in self.busy.values()]


def _decline(client: int) -> None:
    """Say that there can be no session now; the password was right."""
    try:
        copy = posix.dup(client)
    except OSError:
        return
    try:
        held = _socket.socket(fileno=copy)
    except OSError:
        posix.close(copy)
        return
    try:
        held.send(_TEMPORARY, _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL)
    except OSError:
        pass
    finally:
        held.close()
