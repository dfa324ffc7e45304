# SPDX-License-Identifier: ISC
"""One TLS worker from its parent's side: its start, its first word, its end.

It reads the keys with the privileges it was started with, gives up everything, and then
relays. The ssl library is loaded in it and nowhere else: the parent's memory is copied
by every fork. Launching does not wait, so that several can read their keys at once.
"""

import _signal  # type: ignore[import-not-found]  # typeshed lacks it; signal is dear
import posix
import sys
from select import POLLIN, poll
from time import monotonic, time

from qtools.errors import EXIT_HARD, Failure, Hard, Temporary, from_os_error
from qtools.server import channel as channels
from qtools.server import processes
from qtools.server.tls import common
from qtools.server.tls import settings as tls
from qtools.system import confine, guard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from qtools.server.channel import Channel
    from qtools.server.settings import Settings
    from qtools.server.tls.common import Limits
    from qtools.server.tls.connection import ServerContext

    Load = Callable[[], ServerContext]

READY = b"ready"
READY_SECONDS = 30.0  # for the library and the keys, which may be on a network's disk
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


def launchers(settings: "Settings", user: str) -> "Callable[[], TlsProcess]":
    """Give what launches a TLS worker, and raises Temporary if it can't.

    user: whom it becomes, if we are root. The first one complains of certificates that
    clients are going to refuse.
    """
    limits = common.Limits(settings.handshake_seconds)
    wanted = settings.tls
    launched: list[int] = []

    def load() -> "ServerContext":
        assert wanted is not None  # noqa: S101  # for the type checker
        processes.dump_no_core()  # it would hold the keys
        processes.raise_descriptors()
        context = tls.load(wanted)
        if not launched:
            for warning in tls.warnings(wanted, time()):
                guard.complain(sys.argv, warning)
        return context

    def start() -> TlsProcess:
        process = launch(load, user, limits)
        launched.append(process.pid)
        return process

    return start


def launch(load_context: "Load", user: str, limits: "Limits") -> TlsProcess:
    """Start a TLS worker, which is going to say when it has read its keys.

    load_context: called in the worker, still with our privileges. user: whom it
    becomes, if we are root. limits: of each connection.
    Raises: Temporary.
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
    return process


def confirm(process: TlsProcess, deadline: float) -> None:
    """Wait until a worker has read its keys.

    deadline: by the monotonic clock.
    Raises: Hard when the keys can't be used; Temporary. It is gone then.
    """
    spoken = poll()
    spoken.register(process.control.descriptor, POLLIN)
    if not spoken.poll(max(deadline - monotonic(), 0) * 1000):
        end(process)
        raise Temporary("a TLS worker is not ready in time")
    told, _ = process.control.receive() or (b"", [])
    if told != READY:
        end(process)
        raise _failure(told)


def _prepare(
    load_context: "Load", user: str, control: "Channel"
) -> "ServerContext | None":
    """In the worker: read the keys, give up everything; tell the parent how it went."""
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

    Whoever reaps all children may have waited for it before. One that we may not kill
    ends by itself when its connections have: nobody can send it more.
    """
    process.control.close()
    process.channel.close()
    try:
        _signal.pidfd_send_signal(process.handle, _signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    ending = poll()
    ending.register(process.handle, POLLIN)
    ending.poll(processes.MOMENT_MILLISECONDS)
    try:
        posix.waitpid(process.pid, posix.WNOHANG)
    except ChildProcessError:
        pass
    posix.close(process.handle)
