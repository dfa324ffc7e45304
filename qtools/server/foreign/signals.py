# SPDX-License-Identifier: ISC
"""Signals of the loop that serves foreign chains: noted when they come, obeyed later.

What is started must find them as they were before us: a program that is run under
nohup stays so. SIGPIPE and its like are handover's to restore.
"""

import _signal  # type: ignore[import-not-found]  # typeshed lacks it; signal is dear
import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TERMINATE, RELOAD = _signal.SIGTERM, _signal.SIGHUP
CAUGHT = (TERMINATE, RELOAD, _signal.SIGCHLD)


class Signals:
    """Caught signals; wakeup is readable when there may be some."""

    def __init__(self) -> None:
        self.wakeup, self._waker = posix.pipe2(posix.O_CLOEXEC | posix.O_NONBLOCK)
        self._told: list[int] = []
        _signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        self._before: dict[int, Any] = {
            number: _signal.signal(number, self._note) for number in CAUGHT
        }
        if _signal.getsignal(_signal.SIGINT) is not _signal.SIG_IGN:
            _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
        _signal.signal(_signal.SIGPIPE, _signal.SIG_IGN)

    def _note(self, number: int, _frame: object) -> None:
        self._told.append(number)

    def quieten(self) -> None:
        """Have wakeup readable for new signals only."""
        posix.read(self.wakeup, 512)

    def take(self) -> list[int]:
        """Give what has come, in order, once."""
        count = len(self._told)
        told = self._told[:count]
        del self._told[:count]
        return told

    def enter_child(self) -> None:
        """In a child: put back what was before us, with nothing blocked."""
        _signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            _signal.signal(number, handler)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, [])
        posix.close(self.wakeup)
        posix.close(self._waker)


def terminate(pid: int) -> None:
    """Ask a child of ours, not yet waited for, to end.

    One that has become somebody else may be none of ours to ask: it ends by itself.
    """
    try:
        posix.kill(pid, TERMINATE)
    except PermissionError:
        return
