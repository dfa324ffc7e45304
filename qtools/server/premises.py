# SPDX-License-Identifier: ISC
"""What the settings come to: open listeners, and what each process of a crew runs.

The bodies here are called in processes that have just been forked. What such a process
needs and others don't is imported there, before it gives up its privileges.
"""

import posix
import sys
from time import monotonic, time

from qtools.errors import Failure, Hard
from qtools.server import metrics, packets, relay_common, tls, tls_pool
from qtools.system import confine, guard, notify

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable

    from qtools.server.channel import Channel
    from qtools.server.crew import Crew
    from qtools.server.journal import Journal
    from qtools.server.settings import Settings
    from qtools.server.tls_connection import ServerContext
    from qtools.server.tls_pool import TlsProcess
    from qtools.server.warm import WarmChain

    Stamp = tuple[int, int, int, int]

METRICS_SECONDS = 10.0


class Premises:
    """One generation of settings.

    listeners: sockets by descriptor, each with whether TLS begins at once. is_tls: a
    certificate is configured.
    """

    def __init__(
        self,
        settings: "Settings",
        chain: "WarmChain",
        listeners: "dict[int, tuple[_socket.socket, bool]]",
        notifier: "notify.Notifier",
    ) -> None:
        """Load what sessions run.

        Raises: Hard when a listener wants TLS and there is no certificate.
        """
        self.settings = settings
        self.chain = chain
        self.listeners = listeners
        self.serve: Callable[[list[str]], int] = guard.load("pop3d").main
        self.has_tls = settings.tls is not None
        self.start_relay = relays(settings, chain.front.get("user") or confine.USER)
        if not self.has_tls and any(is_tls for _, is_tls in listeners.values()):
            raise Hard("a listener is to speak TLS, and no certificate is given")
        self._notifier = notifier
        self._rules_stamp: Stamp | None = None
        self._counters = metrics.Counters()
        self._publish_at = 0.0
        self.check_rules()

    # Bodies of the crew's processes.

    def worker_descriptors(self) -> list[int]:
        """Give what the login worker keeps."""
        return [*self.listeners, self._log_descriptor()]

    def work(self, master: "Channel", generation: int) -> int:
        """Be the login worker."""
        from qtools.server.accounting import Accounting
        from qtools.server.door import Door
        from qtools.server.login_worker import LoginWorker

        raise_descriptors()
        values = self.chain.front
        accounting = Accounting(
            self.chain.program,
            self._journal(),
            self.complain,
            is_verbose=self.settings.is_verbose,
        )
        door = Door(self.settings, self.listeners, accounting, self.complain)
        worker = LoginWorker(self.settings, self.chain, door, accounting, generation)
        self._confine(values.get("user", ""), values.get("chroot", ""))
        return worker.run(master)

    def verify(self, worker: "Channel", master: "Channel") -> int:
        """Be a verifier."""
        from qtools.server.verifier import Verifier

        return Verifier(self.chain, sys.argv).run(worker, master)

    def tls_count(self) -> int:
        """Give how many TLS workers there are to be."""
        return self.settings.tls_workers if self.has_tls else 0

    def _confine(self, user: str, root: str) -> None:
        """Give up everything, where there is anything to give up."""
        if not posix.geteuid():
            confine.confine(
                user or confine.USER, root.encode(sys.getfilesystemencoding())
            )

    def _log_descriptor(self) -> int:
        return self.chain.front.number("log-fd", 5)

    def _journal(self) -> "Journal":
        """Open the session log, before the root directory is another."""
        from qtools.server import journal
        from qtools.system.logline import is_usable

        words = self.settings.words
        if "syslog" in words:
            return journal.to_syslog()
        if "journal" in words:
            return journal.to_descriptor(2, has_levels=True)
        descriptor = self._log_descriptor()
        if is_usable(descriptor, set()):
            return journal.to_descriptor(descriptor, has_levels=False)
        return journal.Journal(None)

    # Rules, metrics, notices: the master's.

    def check_rules(self) -> None:
        """Make sure that the rules file is there.

        Raises: Hard.
        """
        if not self.settings.rules or self.settings.is_rules_optional:
            return
        if _stamp(self.settings.rules) is None:
            raise Hard(f"no rules file {self.settings.rules}; see -X")

    def hand_rules(self, crew: "Crew", *, is_new: bool) -> None:
        """Give a crew the rules file when it has changed, or the crew is new."""
        path = self.settings.rules
        if not path:
            return
        stamp = _stamp(path)
        if stamp == self._rules_stamp and not is_new:
            return
        self._rules_stamp = stamp
        try:
            descriptor = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
        except OSError as why:
            if self.settings.is_rules_optional:
                crew.tell(packets.head(packets.RULES))
            else:
                self.complain(f"unable to open {path}, old rules hold: {why.strerror}")
            return
        crew.tell(packets.head(packets.RULES), [descriptor])
        posix.close(descriptor)

    def count(self, generation: int, packed: bytes) -> None:
        """Take what a login worker has counted.

        Raises: ValueError.
        """
        self._counters.merge(packed, generation)

    def replaced(self, kind: str) -> None:
        """Count a process that had to be replaced."""
        word = {"login worker": "login", "TLS worker": "tls"}.get(kind, kind)
        self._counters.add("worker_restarts_total", (word,))

    def publish(self, now: float) -> None:
        """Write the metrics file, when it is time to."""
        if not self.settings.metrics or now < self._publish_at:
            return
        self._publish_at = now + METRICS_SECONDS
        try:
            path = self.settings.metrics.encode("utf-8", "surrogateescape")
            metrics.write(path, metrics.render(self._counters))
        except Failure as why:
            self.complain(str(why))

    def opened(self) -> None:
        """Tell who started us that clients may come."""
        self._notifier.ready()
        descriptor = self.settings.words.number("notify-fd", 0)
        if descriptor > 2 and not self._has_notified:
            self._has_notified = True
            notify.notification(descriptor)

    _has_notified = False

    def reloading(self) -> None:
        """Tell who started us that settings are read anew."""
        self._notifier.reloading()

    def closing(self) -> None:
        """Accept no more, and say so."""
        self._notifier.stopping()
        for held, _ in self.listeners.values():
            held.close()
        self.listeners = {}

    def closed(self) -> None:
        """Write what was counted, for the last time."""
        self._publish_at = 0.0
        self.publish(monotonic())

    def complain(self, text: str) -> None:
        """Tell the operator."""
        guard.complain(sys.argv, text)


def relays(settings: "Settings", user: str) -> "Callable[[], TlsProcess]":
    """Give what starts a TLS worker, and raises Hard or Temporary if it can't."""
    limits = relay_common.Limits(settings.handshake_seconds)
    wanted = settings.tls
    is_told: list[bool] = []

    def load() -> "ServerContext":
        assert wanted is not None  # noqa: S101  # for the type checker
        raise_descriptors()
        if not is_told:
            for warning in tls.warnings(wanted, time()):
                guard.complain(sys.argv, warning)
        return tls.load(wanted)

    def start() -> "TlsProcess":
        process = tls_pool.spawn(load, user, limits)
        is_told.append(True)
        return process

    return start


def raise_descriptors() -> None:
    """Take as many descriptors as the system allows: each client needs one or two."""
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _stamp(path: str) -> "Stamp | None":
    """Give what changes when a file is replaced or written."""
    try:
        found = posix.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
