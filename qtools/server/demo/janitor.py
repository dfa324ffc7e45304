# SPDX-License-Identifier: ISC
"""The demo's janitor: a process that ends the demo when nobody needs it any more.

Whoever started the demo may be killed without a chance to end it, and so may the demo
itself; its files and processes must not outlive either. So somebody else waits for
both. He has a session of his own, so that what a terminal or a test sends to a whole
group of processes does not reach him.
"""

import posix
import shutil
import signal
from select import POLLHUP, POLLIN, POLLRDHUP, poll
from stat import S_ISFIFO, S_ISSOCK

from qtools.server import processes

STDIN = 0
GRACE_SECONDS = 5.0  # the server needs a few milliseconds to end
IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE)


def engage(folder: str) -> None:
    """Start the janitor of this process and a folder.

    He ends this process, by SIGTERM, when its parent has ended or the other end of
    its standard input is closed, where that is a pipe or a socket; and he removes the
    folder when this process has ended, however that came.
    Raises: OSError.
    """
    parent = _open_parent()
    ours = posix.pidfd_open(posix.getpid())
    watched = [STDIN] if _is_held(STDIN) else []
    watched += [parent] if parent >= 0 else []
    if posix.fork():
        for descriptor in (ours, parent):
            if descriptor >= 0:
                posix.close(descriptor)
        return
    try:
        _withdraw([ours, *watched])
        _wait(ours, watched)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        posix._exit(0)


def _open_parent() -> int:
    """Give a descriptor that is readable when our parent has ended, or -1."""
    parent = posix.getppid()
    try:
        descriptor = posix.pidfd_open(parent)
    except OSError:  # outside the container, for instance
        return -1
    if posix.getppid() != parent:  # it was another process of that number
        posix.close(descriptor)
        return -1
    return descriptor


def _is_held(descriptor: int) -> bool:
    """Tell whether somebody holds the other end, and can let go of it."""
    try:
        mode = posix.fstat(descriptor).st_mode
    except OSError:
        return False
    if not (S_ISFIFO(mode) or S_ISSOCK(mode)):
        return False
    looking = poll()
    looking.register(descriptor, POLLRDHUP)
    return not any(event & (POLLHUP | POLLRDHUP) for _, event in looking.poll(0))


def _withdraw(kept: list[int]) -> None:
    """Let go of terminal, signals and all other descriptors.

    Who reads what the demo prints up to its end must not wait for us.
    """
    posix.setsid()
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    processes.keep_only(kept)
    nothing = posix.open("/dev/null", posix.O_RDWR)
    for descriptor in (1, 2):
        posix.dup2(nothing, descriptor)


def _wait(ours: int, watched: list[int]) -> None:
    """Wait for the end of the demo, and bring it about when there is a reason to."""
    waiting = poll()
    waiting.register(ours, POLLIN)
    for descriptor in watched:
        # What comes on standard input is nobody's business, and stays there.
        waiting.register(descriptor, POLLRDHUP if descriptor == STDIN else POLLIN)
    if any(descriptor == ours for descriptor, _ in waiting.poll()):
        return
    ending = poll()
    ending.register(ours, POLLIN)
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            signal.pidfd_send_signal(ours, number)
        except ProcessLookupError:
            return
        if ending.poll(GRACE_SECONDS * 1000):
            return
