# SPDX-License-Identifier: ISC
"""TLS workers for whoever forks a process for each connection, and their succession.

Who dies is replaced, and a reload starts new ones before the old ones are sent away.

With -u only the first workers have been started by root. The parent is another user
afterwards, who may not signal them, and may not read the keys unless they are his: then
a reload leaves the workers that are there, and who dies can't be replaced. If he may,
workers that are started later run as that user, in his view of the files.
"""

import posix
from time import monotonic

from qtools.errors import Failure
from qtools.server.tls import packets
from qtools.server.tls.worker import READY_SECONDS, confirm, end

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from qtools.server.tls.worker import TlsProcess

    Watch = Callable[[int, bool], None]
    Complain = Callable[[str], None]

LEAST_PAUSE_SECONDS = 1.0  # not to spin when a worker dies as soon as it is there
MOST_PAUSE_SECONDS = 60.0  # ... each pause being twice the one before
CALM_SECONDS = 2 * MOST_PAUSE_SECONDS  # without a loss: the next is mended at once


class Pool:
    """TLS workers that take connections in turn."""

    def __init__(self, count: int, start: "Callable[[], TlsProcess]") -> None:
        """Launch so many workers, each by a call of start(), and wait for all.

        Raises: Failure, none being left then.
        """
        self._count = count
        self._start = start
        self._watch: Watch = _ignore
        self._complain: Complain = _ignore_text
        self._retired: list[TlsProcess] = []
        self._respawn_at = self._complain_at = 0.0
        self._pause, self._lost_at = 0.0, -CALM_SECONDS
        self._workers = self._started(count)

    def _started(self, count: int) -> "list[TlsProcess]":
        """Give so many more workers, who have read their keys all at once.

        Raises: Failure, none being left then.
        """
        launched: list[TlsProcess] = []
        ready: list[TlsProcess] = []
        try:
            while len(launched) < count:
                launched.append(self._start())
            deadline = monotonic() + READY_SECONDS
            while launched:
                process = launched.pop(0)
                confirm(process, deadline)
                ready.append(process)
        except Failure:
            for process in ready + launched:
                end(process)
            raise
        return ready

    def attend(self, watch: "Watch", complain: "Complain") -> None:
        """Say who watches descriptors, and who is told of workers that die.

        watch(descriptor, on): handle() is to be called when it is readable.
        """
        self._watch, self._complain = watch, complain
        self._observe(self._workers)

    def _observe(self, processes: "list[TlsProcess]") -> None:
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
                    is_first = not self.is_short
                    group.remove(process)
                    self._watch(descriptor, False)
                    end(process)
                    if group is self._workers and is_first:
                        self._complain("a TLS worker died; another takes its place")
                        self._wait()

    def _wait(self) -> None:
        """Say when to start the next worker: at once after calm, else ever later."""
        now = monotonic()
        if now - self._lost_at > CALM_SECONDS:
            self._pause = 0.0
        else:
            longer = max(self._pause * 2, LEAST_PAUSE_SECONDS)
            self._pause = min(longer, MOST_PAUSE_SECONDS)
        self._lost_at = now
        self._respawn_at = now + self._pause

    def tend(self) -> None:
        """Start workers in place of those that are gone, if it is time to."""
        if not self.is_short or monotonic() < self._respawn_at:
            return
        try:
            fresh = self._started(self._count - len(self._workers))
        except Failure as why:
            self._wait()
            if self._lost_at >= self._complain_at:
                self._complain(f"unable to start a TLS worker: {why}")
                self._complain_at = self._lost_at + MOST_PAUSE_SECONDS
            return
        self._workers += fresh
        self._observe(fresh)

    def renew(self, count: int, start: "Callable[[], TlsProcess]") -> None:
        """Start a new generation, which takes all connections from now on.

        count, start: as for the first one.
        Raises: Failure, the old one staying then.
        """
        before = self._count, self._start
        self._count, self._start = count, start
        try:
            fresh = self._started(count)
        except Failure:
            self._count, self._start = before
            raise
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
