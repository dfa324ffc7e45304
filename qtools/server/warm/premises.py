# SPDX-License-Identifier: ISC
"""What the settings come to: open listeners, and what each process of a crew runs.

The bodies here are called in processes that have just been forked. What such a process
needs and others don't is imported there, before it gives up its privileges.
"""

import posix
import sys
from pwd import getpwnam
from time import monotonic

from qtools.accounts import registry
from qtools.errors import Hard
from qtools.protocol import sasl
from qtools.server.processes import dump_no_core, raise_descriptors
from qtools.server.tls import worker as tls_worker
from qtools.server.warm import packets
from qtools.server.warm.chain import NO_LOG
from qtools.system import confine, guard
from qtools.system.cdb import Cdb

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

    from qtools.server.channel import Channel
    from qtools.server.settings import Settings
    from qtools.server.tls.worker import TlsProcess
    from qtools.server.warm.bulletin import Bulletin
    from qtools.server.warm.chain import WarmChain
    from qtools.server.warm.crew import Crew
    from qtools.server.warm.journal import Journal
    from qtools.server.warm.verifier import Verifier

    Stamp = tuple[int, int, int, int]


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
        bulletin: "Bulletin",
    ) -> None:
        """Load what sessions run.

        Raises: Hard when they can't be served by: a listener wants TLS and there is no
        certificate, a rules file is missing, a source of accounts is none we know.
        """
        self.settings = settings
        self.chain = chain
        self.listeners = listeners
        guard.load("pop3d").read(chain.session)
        self.has_tls = settings.tls is not None
        user = chain.front.get("user") or confine.USER
        self._launch_relay = tls_worker.launchers(settings, user)
        self._prepared: list[TlsProcess] = []
        if not self.has_tls and any(is_tls for _, is_tls in listeners.values()):
            raise Hard("a listener is to speak TLS, and no certificate is given")
        self.bulletin = bulletin
        self._rules_stamp: Stamp | None = None
        self.check_rules()
        registry.words(chain.checker.every("accounts"), posix.environ)  # or raises

    def prepare(self) -> None:
        """Do what comes before the first process of a crew.

        A TLS worker is started ahead: whether its files are good, only it can tell.
        Raises: Hard, Temporary.
        """
        dump_no_core()
        if not posix.geteuid():
            values = self.chain.front
            check_confinement(values.get("user", ""), values.get("chroot", ""))
        if self.has_tls:
            self._prepared.append(self.start_relay())

    # Bodies of the crew's processes.

    def worker_descriptors(self) -> list[int]:
        """Give what the login worker keeps."""
        return [*self.listeners, self.chain.log_descriptor]

    def work(self, master: "Channel", generation: int) -> int:
        """Be the login worker."""
        from qtools.server.warm.accounting import Accounting
        from qtools.server.warm.door import Door
        from qtools.server.warm.login_worker import LoginWorker

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
        sasl.load(sasl.MECHANISMS)  # a rule may ask for any, and there are no files
        self._confine(values.get("user", ""), values.get("chroot", ""))
        return worker.run(master)

    def nurse(self, master: "Channel") -> int:
        """Be the nursery."""
        from qtools.server.warm.nursery import Nursery
        from qtools.server.warm.sessions import Limits

        raise_descriptors()
        limits = Limits(
            self.settings.concurrency(is_foreign=False), *self.settings.spare
        )
        return Nursery(self.chain.session, master, limits).run()

    def verify(
        self, worker: "Channel", nursery: "Channel", master: "Channel", vigil: int
    ) -> int:
        """Be a verifier.

        vigil: a descriptor that is for those who stay until a session has ended.
        """
        words = registry.words(self.chain.checker.every("accounts"), posix.environ)
        if registry.is_solitary(words):
            verifier = self._solitary(vigil)
        else:
            posix.close(vigil)
            verifier = self._verifier()
        verifier.attach(worker, nursery, master)
        return verifier.run()

    def _verifier(self) -> "Verifier":
        from qtools.server.warm.verifier import Verifier

        return Verifier(self.chain, sys.argv, self.settings.verify_seconds)

    def _solitary(self, vigil: int) -> "Verifier":
        from qtools.server.warm.solitary import SolitaryVerifier

        raise_descriptors()
        settings = self.settings
        limits = settings.verify_seconds, settings.verifier_processes
        made = SolitaryVerifier(self.chain, sys.argv, *limits)
        made.kept.append(vigil)
        return made

    def start_relay(self) -> "TlsProcess":
        """Give a TLS worker.

        Raises: Hard, Temporary.
        """
        if self._prepared:
            return self._prepared.pop()
        process = self._launch_relay()
        tls_worker.confirm(process, monotonic() + tls_worker.READY_SECONDS)
        return process

    def tls_count(self) -> int:
        """Give how many TLS workers there are to be."""
        return self.settings.tls_workers if self.has_tls else 0

    def _confine(self, user: str, root: str) -> None:
        """Give up everything, where there is anything to give up."""
        if not posix.geteuid():
            confine.confine(
                user or confine.USER, root.encode(sys.getfilesystemencoding())
            )

    def _journal(self) -> "Journal":
        """Open the session log, before the root directory is another."""
        from qtools.server.warm import journal
        from qtools.system.logline import is_usable

        words = self.settings.words
        if "syslog" in words:
            return journal.to_syslog(self.chain.program)
        if "journal" in words:
            return journal.to_descriptor(2, has_levels=True)
        descriptor = self.chain.log_descriptor
        if descriptor != NO_LOG and is_usable(descriptor, set()):
            return journal.to_descriptor(descriptor, has_levels=False)
        return journal.Journal(None)

    # Rules and notices: the master's.

    def check_rules(self) -> None:
        """Make sure that the rules file is there, and is one.

        Raises: Hard, Temporary.
        """
        path = self.settings.rules
        if not path:
            return
        try:
            descriptor = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
        except OSError as why:
            if self.settings.is_rules_optional:
                return
            raise Hard(f"no rules file {path}: {why.strerror}; see -X") from why
        try:
            Cdb(descriptor, path)
        finally:
            posix.close(descriptor)

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
            if stamp is None and self.settings.is_rules_optional:
                crew.tell(packets.head(packets.RULES))
                return
            descriptor = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
            crew.tell(packets.head(packets.RULES, 0, 1), descriptor)
        except OSError as why:
            self.complain(f"unable to open {path}, old rules hold: {why.strerror}")
            if stamp is not None:
                self._rules_stamp = None  # it is there: try again

    def dismiss(self) -> None:
        """End a TLS worker that was started ahead, and that no crew has taken in."""
        while self._prepared:
            tls_worker.end(self._prepared.pop())

    def closing(self) -> None:
        """Accept no more, and say so."""
        self.bulletin.closing()
        self.dismiss()
        for held, _ in self.listeners.values():
            held.close()
        self.listeners = {}

    def opened(self) -> None:
        """Say that clients may come."""
        self.bulletin.opened(self.settings)

    def publish(self, now: float) -> None:
        """Write the metrics file, when it is time to."""
        self.bulletin.publish(self.settings.metrics, now, self.complain)

    def closed(self) -> None:
        """Write what was counted, for the last time."""
        self.bulletin.publish_now(self.settings.metrics, self.complain)

    def complain(self, text: str) -> None:
        """Tell the operator."""
        guard.complain(sys.argv, text)


def check_confinement(user: str, root: str) -> None:
    """Make sure that a login worker will be able to confine itself.

    Raises: Hard.
    """
    try:
        getpwnam(user or confine.USER)
    except KeyError:
        raise Hard(f"no such user: {user or confine.USER}") from None
    if root and not posix.access(root + "/.", posix.X_OK):
        raise Hard(f"unable to enter {root}")


def _stamp(path: str) -> "Stamp | None":
    """Give what changes when a file is replaced or written."""
    try:
        found = posix.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
