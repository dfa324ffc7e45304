# SPDX-License-Identifier: ISC
"""Become a daemon that is known to serve before whoever started it goes on.

The process that was started opens the listeners, forks, and waits for a word: that
clients are served, or why they are not, which is then its own failure.
"""

import posix

from qtools.errors import EXIT_HARD, Hard, Temporary, from_os_error
from qtools.server import processes, syslogger
from qtools.system import notify

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

    Opened = list[tuple[_socket.socket, bool]]

UMASK = 0o077
READY = b"+"
REASON_OCTETS = 1024


class Herald(notify.Notifier):
    """Tells the process that was started first how it goes, so that it can leave.

    ready_at: the descriptor for it, -1 when there is nobody to tell.
    """

    def __init__(self) -> None:
        super().__init__(posix.environ)
        self.ready_at = -1

    def ready(self) -> bool:
        """Say that we serve; see Notifier."""
        self.tell(READY)
        return super().ready()

    def tell(self, word: bytes) -> None:
        """Say READY, or why not; only the first word counts."""
        if self.ready_at >= 0:
            posix.write(self.ready_at, word[:REASON_OCTETS])
            posix.close(self.ready_at)
            self.ready_at = -1


def leave_home(herald: Herald, opened: "Opened") -> bool:
    """Fork the daemon; tell whether this is it.

    The process that was started waits until the daemon serves.
    Raises: Hard, Temporary, in that process: why there is no daemon.
    """
    try:
        told, ready = posix.pipe2(posix.O_CLOEXEC)
        pid = posix.fork()
    except OSError as why:
        raise from_os_error(why, "become a daemon") from why
    if not pid:
        posix.close(told)
        herald.ready_at = ready
        return True
    posix.close(ready)
    for held, _ in opened:
        held.close()
    word = posix.read(told, REASON_OCTETS)
    if word == READY:
        return False
    code = posix.waitstatus_to_exitcode(posix.waitpid(pid, 0)[1])
    kind = Hard if code == EXIT_HARD else Temporary
    raise kind(word.decode("utf-8", "replace") or f"the daemon ended with {code}")


def settle(program: str, kept: list[int]) -> None:
    """Be a daemon: no terminal, no place, no descriptors of whoever started us.

    kept: descriptors above 2 that are needed.
    Raises: Hard, Temporary.
    """
    try:
        posix.setsid()
        posix.chdir("/")
        posix.umask(UMASK)
        processes.keep_only([0, 1, 2, *kept])
        log = syslogger.start(program)
        posix.dup2(log, 2)
        posix.close(log)
    except OSError as why:
        raise from_os_error(why, "become a daemon") from why
