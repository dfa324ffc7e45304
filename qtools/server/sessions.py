# SPDX-License-Identifier: ISC
"""The master's book of session processes: fork them, lend them, count them out.

A process ends with its session, unless its uid is one that several accounts share.
Then the next of these accounts gets it: a fork costs more than the rest of a login.
"""

import _signal  # type: ignore[import-not-found]  # typeshed lacks it; signal is dear
import _socket
import posix
from time import monotonic

from qtools.accounts import answer
from qtools.errors import EXIT_TEMPORARY
from qtools.protocol import replies
from qtools.server import channel as channels
from qtools.server import packets
from qtools.server.crew import bury
from qtools.sessions.policy import VERDICTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from qtools.accounts.interface import Identity
    from qtools.server.channel import Channel
    from qtools.server.session import Session

    Key = tuple[int, int, tuple[int, ...]]

MOST_IDLE = 32  # processes kept for the next one; half a MiB each
IDLE_SECONDS = 60.0
MOST_SESSIONS = 1000  # of one process
MOST_NAMES = 100_000  # remembered to tell who shares a uid
_TEMPORARY = replies.err(*VERDICTS[EXIT_TEMPORARY][::-1])


class Process:
    """One session process, busy or idle."""

    __slots__ = ("channel", "identifier", "idle_since", "key", "pid", "served", "tag")

    def __init__(self, pid: int, channel: "Channel", key: "Key | None") -> None:
        self.pid = pid
        self.channel = channel
        self.key = key  # None: it serves one session
        self.served = 0
        self.identifier = 0
        self.tag = b""
        self.idle_since = 0.0


class Sessions:
    """All session processes, by the descriptor of the master's end."""

    def __init__(
        self,
        begin: "Callable[[Channel], Session]",
        watch: "Callable[[int, bool], None]",
        tell: "Callable[[bytes], None]",
    ) -> None:
        """Take how a child makes its Session, who watches descriptors, who is told.

        watch(descriptor, on): the master's loop. tell(packet): the login worker.
        """
        self._begin = begin
        self._watch = watch
        self._tell = tell
        self.busy: dict[int, Process] = {}
        self._idle: dict[int, Process] = {}
        self._ending: dict[int, Process] = {}
        self._names: dict[int, bytes] = {}
        self._shared: set[int] = set()

    def launch(self, packet: bytes, client: int) -> None:
        """Serve an accepted login; the descriptor stays the caller's.

        Raises: ValueError for a packet no verifier can have sent.
        """
        _, identifier, _ = packets.read_head(packet)
        identity, _, tag = packets.read_fields(packet, 3)
        _, who = answer.unpack(identity)
        if who is None:
            raise ValueError("a session for nobody")
        key = self._key(who)
        process = self._reused(key, packet, client) or self._forked(key, packet, client)
        if process is None:
            _decline(client)
            lost = packets.Tally(EXIT_TEMPORARY, 0, packets.NOTHING.counts)
            self._tell(packets.pack_ended(identifier, lost, tag))
            return
        process.identifier, process.tag = identifier, tag
        process.served += 1
        self.busy[process.channel.descriptor] = process

    def _key(self, who: "Identity") -> "Key | None":
        """Give what a process must have in common with an account to be lent to it."""
        if who.uid < 0:
            return (-1, -1, ())
        if len(self._names) > MOST_NAMES:
            self._names.clear()
        if self._names.setdefault(who.uid, who.name) != who.name:
            self._shared.add(who.uid)
        is_shared = who.uid in self._shared
        return (who.uid, who.gid, tuple(who.groups)) if is_shared else None

    def _reused(
        self, key: "Key | None", packet: bytes, client: int
    ) -> "Process | None":
        """Give an idle process the session, if one of its kind is there."""
        if key is None:
            return None
        for descriptor, process in reversed(self._idle.items()):
            if process.key == key:
                del self._idle[descriptor]
                try:
                    if process.channel.send(packet, [client]):
                        return process
                except BrokenPipeError:
                    pass
                self._end(process)
                return None
        return None

    def _forked(
        self, key: "Key | None", packet: bytes, client: int
    ) -> "Process | None":
        try:
            here, there = channels.pair()
        except OSError:
            return None
        try:
            pid = posix.fork()
        except OSError:
            here.close()
            there.close()
            return None
        if not pid:
            self._begin(there).run(packet, client, more=key is not None)
        there.close()
        self._watch(here.descriptor, True)
        return Process(pid, here, key)

    def holds(self, descriptor: int) -> bool:
        """Tell whether a descriptor is that of one of the processes."""
        return any(descriptor in book for book in (self.busy, self._idle, self._ending))

    def hear(self, descriptor: int) -> None:
        """Take what a process has to say: that it is done, or nothing any more."""
        process = self.busy.get(descriptor)
        if process is None:
            process = self._idle.pop(descriptor, None) or self._ending[descriptor]
            self._reap(process)
            return
        packet, descriptors = process.channel.receive() or (b"", [])
        channels.close_all(descriptors)
        try:
            tally = packets.unpack_tally(packet)
        except ValueError:
            del self.busy[descriptor]
            status = self._reap(process)
            tally = packets.NOTHING
            self._ended(process, packets.Tally(status, tally.why, tally.counts))
            return
        del self.busy[descriptor]
        self._ended(process, tally)
        if process.key is None:
            self._ending[descriptor] = process
        elif process.served >= MOST_SESSIONS:
            self._end(process)
        else:
            process.idle_since = monotonic()
            self._idle[descriptor] = process
            self._prune()

    def _ended(self, process: Process, tally: packets.Tally) -> None:
        self._tell(packets.pack_ended(process.identifier, tally, process.tag))

    def _prune(self) -> None:
        """Send away those that waited longest, when there are too many."""
        while len(self._idle) > MOST_IDLE:
            self._end(self._idle.pop(next(iter(self._idle))))

    def tidy(self, *, everything: bool = False) -> None:
        """Send away those that waited too long, or all that wait."""
        limit = monotonic() - IDLE_SECONDS
        for descriptor, process in list(self._idle.items()):
            if everything or process.idle_since < limit:
                del self._idle[descriptor]
                self._end(process)

    def _end(self, process: Process) -> None:
        """Have an idle process leave: it does when nobody is at the other end."""
        self._reap(process)

    def _reap(self, process: Process) -> int:
        """Take leave of a process; give its exit code, negative for a signal.

        It is gone, or has nothing to do and sees now that there is nothing more.
        """
        descriptor = process.channel.descriptor
        self._ending.pop(descriptor, None)
        self._watch(descriptor, False)
        process.channel.close()
        return bury(process.pid)

    def kill_all(self) -> None:
        """End every session now."""
        for process in list(self.busy.values()):
            posix.kill(process.pid, _signal.SIGTERM)

    def live(self) -> "list[tuple[int, bytes]]":
        """Give id and tag of every session that is served now."""
        return [(process.identifier, process.tag) for process in self.busy.values()]


def _decline(client: int) -> None:
    """Say that there can be no session now; the password was right."""
    try:
        held = _socket.socket(fileno=posix.dup(client))
    except OSError:
        return
    try:
        held.send(_TEMPORARY, _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL)
    except OSError:
        pass
    finally:
        held.close()
