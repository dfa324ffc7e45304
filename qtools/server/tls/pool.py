# SPDX-License-Identifier: ISC
"""TLS workers for whoever forks a process for each connection, and their succession.

A worker reads the keys as root, gives up everything, and then relays. The ssl library
is loaded in it and nowhere else: the parent's memory is copied by every fork. Who dies
is replaced, and a reload starts new ones before the old ones are sent away.
"""

import _signal  # type: ignore[import-not-found]  # typeshed lacks it; signal is dear
import posix
from time import monotonic

from qtools.errors import EXIT_HARD, Failure, Hard, Temporary, from_os_error
from qtools.server import channel as channels
from qtools.server import processes
from qtools.server.tls import packets
from qtools.system import confine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from qtools.server.channel import Channel
    from qtools.server.tls.common import Limits
    from qtools.server.tls.connection import ServerContext

    Load = Callable[[], ServerContext]
    Watch = Callable[[int, bool], None]
    Complain = Callable[[str], None]

RESPAWN_SECONDS = 1.0  # not to spin when a worker dies as soon as it is there
READY = b"ready"
REASON_OCTETS = 1024


class TlsProcess:
    """A TLS worker.

    handle: a descriptor that is readable when it has ended. control: the master's way
    to it. channel: where connections are handed to it, and where it answers.
    """

    __slots__ = ("channel", "control", "handle", "pid")

    def __init__(self, pid: int, control: "Channel", channel: "Channel") -> None:
        """Take a process that has just been forked.

        Raises: OSError, the process being gone then.
        """
        self.pid = pid
        self.control = control
        self.channel = channel
        try:
            self.handle = posix.pidfd_open(pid)
        except OSError:
            posix.kill(pid, _signal.SIGKILL)
            posix.waitpid(pid, 0)
            raise


def spawn(load_context: "Load", user: str, limits: "Limits") -> TlsProcess:
    """Start a TLS worker and wait until it has read its keys.

    load_context: called in the worker, still with our privileges. user: whom it
    becomes, if we are root. limits: of each connection.
    Raises: Hard when the keys can't be used; Temporary.
    """
    opened: list[Channel] = []
    try:
        for _ in range(2):
            opened += channels.pair()
        control, their_control, channel, their_channel = opened

        def work() -> int:
            from qtools.server.tls import relay

            context = _prepare(load_context, user, their_control)
            if context is None:
                return EXIT_HARD
            return relay.run(context, their_control, [their_channel], limits)

        kept = [2, their_control.descriptor, their_channel.descriptor]
        process = TlsProcess(processes.fork(work, kept), control, channel)
    except OSError as why:
        for each in opened:
            each.close()
        raise from_os_error(why, "start a TLS worker") from why
    their_control.close()
    their_channel.close()
    told, _ = control.receive(waits=True) or (b"", [])
    if told != READY:
        end(process)
        raise _failure(told)
    return process


def _prepare(
    load_context: "Load", user: str, control: "Channel"
) -> "ServerContext | None":
    """In the worker: read the keys, give up everything; tell the parent how it went.

    Signals are for the parent, who says what is to be done: a service manager sends
    SIGTERM to everybody, while connections are to be finished.
    """
    for number in (_signal.SIGTERM, _signal.SIGHUP, _signal.SIGINT):
        _signal.signal(number, _signal.SIG_IGN)
    for _ in range(2):
        posix.open(b"/dev/null", posix.O_RDWR)  # 0 and 1, which are closed
    try:
        context = load_context()
        if not posix.geteuid():
            confine.confine(user)
    except Failure as why:
        reason = f"{why.code} {why}".encode("utf-8", "backslashreplace")
        control.send(reason[:REASON_OCTETS])
        return None
    control.send(READY)
    return context


def _failure(told: bytes) -> Failure:
    """Give what a worker met with before it was ready."""
    code, _, reason = told.decode("utf-8", "replace").partition(" ")
    kind = Hard if code == str(EXIT_HARD) else Temporary
    return kind(reason or "a TLS worker died before it was ready")


def end(process: TlsProcess) -> None:
    """Take leave of a worker, killing it if it is still there.

    Whoever reaps all children may have waited for it before.
    """
    process.control.close()
    process.channel.close()
    try:
        _signal.pidfd_send_signal(process.handle, _signal.SIGKILL)
    except ProcessLookupError:
        pass
    try:
        posix.waitpid(process.pid, 0)
    except ChildProcessError:
        pass
    posix.close(process.handle)


class Pool:
    """TLS workers that take connections in turn."""

    def __init__(self, count: int, start: "Callable[[], TlsProcess]") -> None:
        """Start so many workers, each by a call of start().

        Raises: Failure, none being left then.
        """
        self._count = count
        self._start = start
        self._watch: Watch = _ignore
        self._complain: Complain = _ignore_text
        self._retired: list[TlsProcess] = []
        self._respawn_at = 0.0
        self._workers = self._started()

    def _started(self) -> list[TlsProcess]:
        made: list[TlsProcess] = []
        try:
            while len(made) < self._count:
                made.append(self._start())
        except Failure:
            for process in made:
                end(process)
            raise
        return made

    def attend(self, watch: "Watch", complain: "Complain") -> None:
        """Say who watches descriptors, and who is told of workers that die.

        watch(descriptor, on): handle() is to be called when it is readable.
        """
        self._watch, self._complain = watch, complain
        self._observe(self._workers)

    def _observe(self, processes: list[TlsProcess]) -> None:
        for process in processes:
            self._watch(process.handle, True)

    @property
    def is_empty(self) -> bool:
        """Tell whether no worker is left, old ones included."""
        return not self._workers and not self._retired

    @property
    def is_short(self) -> bool:
        """Tell whether tend() has something to do."""
        return len(self._workers) < self._count

    def send(self, serial: int, descriptors: list[int]) -> bool:
        """Hand a connection to a worker; tell whether one has it.

        serial: the connection's number. descriptors: the client's, the worker's end for
        cleartext, its end for control. Waits until there is room: for a connection's
        own process.
        """
        packet = packets.pack_start(serial, is_ucspi=True)
        for turn in range(len(self._workers)):
            worker = self._workers[(serial + turn) % len(self._workers)]
            try:
                if worker.channel.send(packet, descriptors, waits=True):
                    return True
            except BrokenPipeError:
                continue
        return False

    def handle(self, descriptor: int) -> None:
        """Take note of a worker that has ended, if this is one's handle."""
        for group in (self._workers, self._retired):
            for process in list(group):
                if process.handle == descriptor:
                    group.remove(process)
                    self._watch(descriptor, False)
                    end(process)
                    if group is self._workers:
                        self._complain("a TLS worker died; another takes its place")
                        self._respawn_at = monotonic() + RESPAWN_SECONDS

    def tend(self) -> None:
        """Start workers in place of those that are gone, if it is time to."""
        while self.is_short and monotonic() >= self._respawn_at:
            try:
                process = self._start()
            except Failure as why:
                self._complain(str(why))
                self._respawn_at = monotonic() + RESPAWN_SECONDS
                return
            self._workers.append(process)
            self._observe([process])

    def renew(self) -> None:
        """Start a new generation, which takes all connections from now on.

        Raises: Failure, the old one staying then.
        """
        fresh = self._started()
        self._send_away()
        self._workers = fresh
        self._observe(fresh)

    def retire(self) -> None:
        """Have all workers end when their connections have; none takes another one."""
        self._count = 0
        self._send_away()

    def _send_away(self) -> None:
        """Take leave of the workers.

        What has been forked may still have a connection to hand over: a worker ends
        when nobody can any more.
        """
        for process in self._workers:
            try:
                process.control.send(packets.RETIRE_PACKET)
            except BrokenPipeError:
                pass
            process.channel.close()
        self._retired += self._workers
        self._workers = []

    def kill(self) -> None:
        """End all workers now, whatever they relay."""
        for process in [*self._workers, *self._retired]:
            self._watch(process.handle, False)
            end(process)
        self._workers, self._retired = [], []

    def enter_child(self) -> None:
        """In a child: let go of what is the parent's; send() still works."""
        for process in [*self._workers, *self._retired]:
            process.control.close()
            posix.close(process.handle)
        self._retired = []

    def leave(self) -> None:
        """In a child that has nothing more to send: let go of the rest."""
        for process in self._workers:
            process.channel.close()
        self._workers = []


def _ignore(_descriptor: int, _on: bool) -> None:  # noqa: FBT001  # on or off
    return


def _ignore_text(_text: str) -> None:
    return
