# SPDX-License-Identifier: ISC
"""Fork a process that stays, with nothing it has no need of, and take leave of one."""

import _signal  # type: ignore[import-not-found]  # typeshed lacks it; signal is dear
import gc
import posix
import sys
from select import POLLIN, poll

from qtools.system import guard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Body = Callable[[], int]

MOMENT_MILLISECONDS = 200
HIGHEST = 2**31 - 1  # a limit that was lowered leaves what is open above it

MASTERS_SIGNALS = (_signal.SIGTERM, _signal.SIGHUP, _signal.SIGINT)


def keep_only(kept: "Iterable[int]") -> None:
    """Close every descriptor but these, in a child that has just been forked."""
    start = 0
    for descriptor in sorted(set(kept)):
        if start < descriptor:  # closerange(0, 0) closes everything
            posix.closerange(start, descriptor)
        start = descriptor + 1
    posix.closerange(start, HIGHEST)


def fork(body: "Body", kept: "Iterable[int]") -> int:
    """Fork a process that keeps these descriptors, runs body and leaves; give its pid.

    Raises: OSError.
    """
    pid = posix.fork()
    if pid:
        return pid

    def run(_argv: list[str]) -> int:
        ignore_signals(*MASTERS_SIGNALS)
        keep_only(kept)
        gc.enable()  # it stays, unlike what guard has switched it off for
        return body()

    posix._exit(guard.guarded(run, sys.argv))


def bury(pid: int) -> int:
    """Take leave of a child that has closed its channel; give its exit code.

    It is about to end, and gets a moment for that; then it is killed. The code is
    negative for a signal.
    """
    try:
        handle = posix.pidfd_open(pid)
    except OSError:  # out of descriptors
        posix.kill(pid, _signal.SIGKILL)
        return posix.waitstatus_to_exitcode(posix.waitpid(pid, 0)[1])
    ending = poll()
    ending.register(handle, POLLIN)
    if not ending.poll(MOMENT_MILLISECONDS):
        posix.kill(pid, _signal.SIGKILL)
    posix.close(handle)
    return posix.waitstatus_to_exitcode(posix.waitpid(pid, 0)[1])


def ignore_signals(*numbers: int) -> None:
    """In a child: undo what the master set up, and leave these signals to him.

    A terminal or a service manager sends them to everybody; the master decides.
    """
    _signal.set_wakeup_fd(-1)
    for number in MASTERS_SIGNALS:
        is_ignored = number in numbers
        _signal.signal(number, _signal.SIG_IGN if is_ignored else _signal.SIG_DFL)


def dump_no_core() -> None:
    """Have no core file written, by us and all we fork: it would hold secrets."""
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most))


def raise_descriptors() -> None:
    """Take as many descriptors as the system allows: each client needs one or two."""
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
