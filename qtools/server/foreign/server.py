# SPDX-License-Identifier: ISC
"""Serve a foreign chain as tcpserver and sslserver do: a process for each connection.

One loop accepts, forks and reaps. It reads nothing from the network and asks nobody
anything: see connection.py for what a connection's process does.
See: tcpserver(1).
"""

import _socket
import posix
from select import EPOLLIN, epoll
from time import monotonic

from qtools.errors import EXIT_DONE, EXIT_TEMPORARY, Failure, Hard
from qtools.server.foreign.connection import Connection, remote_end
from qtools.server.foreign.entrance import Entrance
from qtools.server.foreign.manner import Manner
from qtools.server.foreign.report import Report
from qtools.server.foreign.signals import RELOAD, TERMINATE, Signals, terminate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from qtools.server.environment import End
    from qtools.server.settings import Settings
    from qtools.server.tls.pool import Pool

    Listeners = list[tuple[_socket.socket, bool]]

PAUSE_SECONDS = 0.1  # without descriptors or memory; somebody else has to give some up
TICK_SECONDS = 1.0  # between looks at a drain or a missing TLS worker
GRACE_SECONDS = 5.0  # between SIGTERM to the programs and our end


def run(
    settings: "Settings",
    listeners: "Listeners",
    tls: "Pool | None",
    opened: "Callable[[], object]" = bool,
) -> int:
    """Serve until SIGTERM and a drain; give the exit code.

    listeners: non-blocking sockets, and whether TLS is spoken there at once. tls: the
    workers, None without a certificate. opened: called when signals are obeyed and
    clients are served.
    Raises: Hard for settings that can't be.
    """
    if tls is None and any(is_tls for _, is_tls in listeners):
        raise Hard("a listener with TLS needs --certificate")
    manner = Manner(settings, has_tls=tls is not None)
    server = Server(settings, manner, listeners, tls)
    opened()
    return server.run()


class Server:
    """The loop."""

    def __init__(
        self,
        settings: "Settings",
        manner: Manner,
        listeners: "Listeners",
        pool: "Pool | None",
    ) -> None:
        self._drain_seconds = settings.drain_seconds
        self._manner = manner
        self._listeners = {one.fileno(): (one, is_tls) for one, is_tls in listeners}
        self._pool = pool
        is_verbose, is_quiet = settings.is_verbose, settings.is_quiet
        self._report = Report(is_verbose=is_verbose, is_quiet=is_quiet)
        self._entrance = Entrance(settings, manner.networks, self._report)
        self._signals = Signals()
        self._loop = epoll()
        self._watched: set[int] = set()
        self._serial = 0
        self._resume_at = 0.0
        self._deadline: float | None = None  # of a drain
        self._is_over = False  # programs have been told to end

    def run(self) -> int:
        """Serve."""
        self._watch(self._signals.wakeup, on=True)
        if self._pool is not None:
            self._pool.attend(self._watch, self._report.warn)
        if self._manner.lacks_certificate:
            self._report.warn("no TLS: -n and -s need --certificate")
        self._entrance.tell_status()
        while not self._is_done():
            for listener in self._listeners:
                self._watch(listener, self._may_accept())
            for descriptor, _ in self._loop.poll(self._patience()):
                self._handle(descriptor)
            self._obey_signals()
            self._reap()
            if self._pool is not None:
                self._pool.tend()
        if self._pool is not None:
            self._pool.kill()
        return EXIT_DONE

    def _watch(self, descriptor: int, on: bool) -> None:  # noqa: FBT001  # on or off
        if on and descriptor not in self._watched:
            self._loop.register(descriptor, EPOLLIN)
            self._watched.add(descriptor)
        elif not on and descriptor in self._watched:
            self._loop.unregister(descriptor)
            self._watched.remove(descriptor)

    def _may_accept(self) -> bool:
        """Tell whether a connection may be taken: also one that is only refused."""
        is_open = not self._entrance.is_full or self._entrance.has_refusal
        return is_open and monotonic() >= self._resume_at

    def _patience(self) -> float | None:
        """Give how long to wait for something to happen, in seconds."""
        wait = self._resume_at - monotonic()
        if wait > 0:
            return wait
        is_short = self._pool is not None and self._pool.is_short
        return TICK_SECONDS if is_short or self._deadline is not None else None

    def _handle(self, descriptor: int) -> None:
        if descriptor in self._listeners:
            self._accept(*self._listeners[descriptor])
        elif descriptor == self._signals.wakeup:
            self._signals.quieten()
        elif self._pool is not None:
            self._pool.handle(descriptor)

    def _accept(self, listener: _socket.socket, is_tls: bool) -> None:  # noqa: FBT001
        """Take one connection, if one is there."""
        if not self._may_accept():
            return  # another listener's was the last one
        try:
            client, address = _take(listener)
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as why:
            # Whatever it is: without a pause this loop would spin.
            self._resume_at = monotonic() + PAUSE_SECONDS
            self._entrance.complain(f"unable to accept: {why.strerror}")
            return
        try:
            self._receive(client, remote_end(address), is_tls=is_tls)
        finally:
            posix.close(client)

    def _receive(self, client: int, remote: "End", *, is_tls: bool) -> None:
        """Fork a process for a connection, unless a limit is against it."""
        child, why = self._entrance.admit(remote[0])
        if why:
            self._entrance.refuse(client, remote[0], why, is_tls=is_tls)
            return
        self._entrance.tell_status(1)
        self._serial += 1
        try:
            pid = posix.fork()
        except OSError as error:
            self._report.drop(f"unable to fork: {error.strerror}")
            self._entrance.release(child)
            self._entrance.tell_status()
            return
        if not pid:
            self._become(client, remote, is_tls=is_tls)
        self._entrance.children[pid] = child

    def _become(self, client: int, remote: "End", *, is_tls: bool) -> "NoReturn":
        """In a child: let go of all that is the server's and serve the client."""
        try:
            self._signals.enter_child()
            self._loop.close()
            for listener, _ in self._listeners.values():
                listener.close()
            if self._pool is not None:
                self._pool.enter_child()
            connection = Connection(self._manner, self._report, client, remote)
            connection.run(self._pool, self._serial, is_tls=is_tls)
        finally:
            posix._exit(EXIT_TEMPORARY)

    def _reap(self) -> None:
        """Take note of programs that have ended; TLS workers are the pool's."""
        while True:
            try:
                pid, status = posix.waitpid(-1, posix.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            child = self._entrance.children.pop(pid, None)
            if child is not None:
                self._report.tell(f"end {pid} status {status}")
                self._entrance.release(child)
                self._entrance.tell_status()

    def _obey_signals(self) -> None:
        for number in self._signals.take():
            if number == TERMINATE:
                self._drain()
            elif number == RELOAD and self._pool is not None:
                self._renew(self._pool)

    def _renew(self, pool: "Pool") -> None:
        """Have the certificates read anew; what is wrong with them leaves the old."""
        if self._deadline is not None:
            return
        try:
            pool.renew()
        except Failure as why:
            self._report.warn(f"the certificates stay as they were: {why}")

    def _drain(self) -> None:
        """Accept no more; a second time, wait no longer."""
        is_again = self._deadline is not None
        self._deadline = monotonic() + (0 if is_again else self._drain_seconds)
        for descriptor, (listener, _) in self._listeners.items():
            self._watch(descriptor, on=False)
            listener.close()
        self._listeners = {}

    def _is_done(self) -> bool:
        """Tell whether a drain has nothing left to wait for, or no time."""
        if self._deadline is None:
            return False
        children = self._entrance.children
        if not children and self._is_relayed():
            return True
        if monotonic() < self._deadline:
            return False
        if self._is_over or not children:
            return True
        self._is_over = True
        self._deadline += GRACE_SECONDS
        for pid in children:
            terminate(pid)
        return False

    def _is_relayed(self) -> bool:
        """Tell whether all that programs wrote is on its way; none runs any more."""
        if self._pool is not None:
            self._pool.retire()
        return self._pool is None or self._pool.is_empty


def _take(listener: _socket.socket) -> "tuple[int, Any]":
    """Accept, as socket.accept() does; typeshed does not know of what it calls."""
    client, address = listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001
    return client, address
