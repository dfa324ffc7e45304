# SPDX-License-Identifier: ISC
"""Serve a foreign chain as tcpserver and sslserver do: a process for each connection.

One loop accepts, forks and reaps. It looks at nothing that a client sends and asks
nobody anything: see connection.py for what a connection's process does.
See: tcpserver(1).
"""

import _socket
import posix
from select import EPOLLIN, epoll
from time import monotonic

from qtools.errors import EXIT_DONE, EXIT_TEMPORARY, Failure
from qtools.server.foreign.connection import Connection, remote_end
from qtools.server.foreign.entrance import Entrance
from qtools.server.foreign.report import Report
from qtools.server.foreign.signals import RELOAD, TERMINATE, Signals, terminate
from qtools.server.tls.pool import Pool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from qtools.server.environment import End
    from qtools.server.foreign.premises import Estate, Premises

PAUSE_SECONDS = 0.1  # without descriptors or memory; somebody else has to give some up
TICK_SECONDS = 1.0  # between looks at a drain or a missing TLS worker
GRACE_SECONDS = 5.0  # between SIGTERM to the programs and our end


def run(premises: "Premises", estate: "Estate", pool: "Pool | None") -> int:
    """Serve until SIGTERM and a drain; give the exit code.

    pool: the TLS workers, None without a certificate.
    Raises: Hard when nobody can be told that clients are served.
    """
    server = Server(premises, estate, pool)
    estate.notices.opened(premises.settings)
    return server.run()


class Server:
    """The loop."""

    def __init__(
        self, premises: "Premises", estate: "Estate", pool: "Pool | None"
    ) -> None:
        self._estate = estate
        self._pool = pool
        self._take_over(premises)
        settings, manner = premises.settings, premises.manner
        self._entrance = Entrance(settings, manner.networks, self._report)
        self._signals = Signals()
        self._loop = epoll()
        self._watched: set[int] = set()
        self._serial = 0
        self._resume_at = 0.0
        self._deadline: float | None = None  # of a drain
        self._is_over = False  # programs have been told to end

    def _take_over(self, premises: "Premises") -> None:
        """Go by these settings from now on."""
        self._premises = premises
        self._listeners = dict(premises.listeners)
        settings = premises.settings
        is_verbose, is_quiet = settings.is_verbose, settings.is_quiet
        self._report = Report(
            settings.program, is_verbose=is_verbose, is_quiet=is_quiet
        )

    def run(self) -> int:
        """Serve."""
        self._watch(self._signals.wakeup, on=True)
        if self._pool is not None:
            self._pool.attend(self._watch, self._warn)
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
            manner = self._premises.manner
            connection = Connection(manner, self._report, client, remote)
            pool = self._pool if self._premises.has_tls else None
            connection.run(pool, self._serial, is_tls=is_tls)
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
            elif number == RELOAD and self._deadline is None:
                self._reload()

    def _reload(self) -> None:
        """Take up new settings; what is wrong with them leaves the old ones."""
        notices = self._estate.notices
        notices.reloading()
        try:
            premises = self._estate.reread()
            self._renew_tls(premises)
        except Failure as why:
            self._estate.drop()
            self._report.warn(f"not reloaded: {why}")
        else:
            for descriptor in self._listeners.keys() - premises.listeners.keys():
                self._watch(descriptor, on=False)
            self._estate.keep()
            self._take_over(premises)
            manner = premises.manner
            self._entrance.renew(premises.settings, manner.networks, self._report)
            self._entrance.tell_status()
        notices.opened(self._premises.settings)

    def _renew_tls(self, premises: "Premises") -> None:
        """Have certificates read anew, by as many workers as there are to be.

        Raises: Failure, the old ones staying. Who has become somebody else by -u goes
        on with the other settings all the same: he could not change any of them, else.
        """
        count = premises.settings.tls_workers
        if not premises.has_tls:
            if self._pool is not None:
                self._pool.retire()
            return
        try:
            if self._pool is None:
                self._pool = Pool(count, premises.launch)
                self._pool.attend(self._watch, self._warn)
            else:
                self._pool.renew(count, premises.launch)
        except Failure as why:
            if self._pool is None or premises.settings.uid < 0:
                raise
            self._report.warn(f"the certificates stay as they were: {why}")

    def _warn(self, text: str) -> None:
        self._report.warn(text)

    def _drain(self) -> None:
        """Accept no more; a second time, wait no longer."""
        is_again = self._deadline is not None
        if not is_again:
            self._estate.notices.closing()
        seconds = 0 if is_again else self._premises.settings.drain_seconds
        self._deadline = monotonic() + seconds
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
