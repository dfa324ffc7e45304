# SPDX-License-Identifier: ISC
"""Start the rest of the chain on a record; wait for its end, heeding its notes."""

import _signal  # type: ignore[import-not-found]  # typeshed lacks it; signal is dear
import posix
import sys
from fcntl import F_DUPFD, fcntl
from select import POLLIN, poll

from qtools.system import guard, verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

RECORD_DESCRIPTOR = 3
LOWEST_OWN_DESCRIPTOR = 10  # 3 to 9 are the chain's


class Launched:
    """The next program, running."""

    def __init__(self, pid: int, notes: int) -> None:
        """Take the child and the descriptor on which it may tell of its progress.

        Raises: OSError, the child being gone then.
        """
        self._pid = pid
        self._notes = notes
        try:
            self._handle = posix.pidfd_open(pid)
        except OSError:
            posix.kill(pid, _signal.SIGKILL)
            posix.waitpid(pid, 0)
            posix.close(notes)
            raise

    def wait(self, heed: "Callable[[bytes], None]") -> int:
        """Wait for its end; give its exit code, negative for a signal.

        heed: called with each note, until the session has spoken.
        """
        waiting = poll()
        waiting.register(self._notes, POLLIN)
        waiting.register(self._handle, POLLIN)
        is_open = True
        while is_open:
            # What came between the two looks of one poll() is seen by the next.
            ready = dict(waiting.poll()) and dict(waiting.poll(0))
            note = posix.read(self._notes, 1) if self._notes in ready else b""
            is_open = bool(note) and note != verdict.GREETED
            if note:
                heed(note)
        posix.close(self._notes)
        posix.close(self._handle)
        return posix.waitstatus_to_exitcode(posix.waitpid(self._pid, 0)[1])


def launch(
    run: "Callable[[], int]",
    record: bytes,
    variables: dict[bytes, bytes],
    unshared: "Iterable[int]",
) -> Launched:
    """Start a program with the record on descriptor 3.

    run: called in the child, becomes the program. variables: added to its
    environment. unshared: descriptors it must not have.
    Raises: OSError, nothing being left behind then.
    """
    reader = _filled_pipe(record)
    opened = [reader]
    try:
        notes, noting = posix.pipe()
        opened += [notes, noting]
        pid = posix.fork()
    except OSError:
        for descriptor in opened:
            posix.close(descriptor)
        raise
    if not pid:

        def become(_argv: list[str]) -> int:
            for descriptor in (notes, *unshared):
                posix.close(descriptor)
            _lay_out(reader, noting)
            posix.environ.update(variables)
            return run()

        posix._exit(guard.guarded(become, sys.argv))
    posix.close(reader)
    posix.close(noting)
    return Launched(pid, notes)


def _filled_pipe(record: bytes) -> int:
    """Give the reading end of a pipe that holds the record and nothing else."""
    reader, writer = posix.pipe()
    posix.write(writer, record)  # 512 octets fit into any pipe
    posix.close(writer)
    return reader


def _lay_out(reader: int, noting: int) -> None:
    """In the child: put descriptors and signals where the next program expects them."""
    _signal.signal(_signal.SIGTERM, _signal.SIG_DFL)
    kept = fcntl(noting, F_DUPFD, LOWEST_OWN_DESCRIPTOR)
    posix.close(noting)
    if reader != RECORD_DESCRIPTOR:
        posix.dup2(reader, RECORD_DESCRIPTOR)
        posix.close(reader)
    posix.set_inheritable(RECORD_DESCRIPTOR, True)
    posix.environ[verdict.VARIABLE] = b"%d" % kept
