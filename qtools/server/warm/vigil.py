# SPDX-License-Identifier: ISC
"""Wait for processes that are nobody's children any more.

Who stays until a session has ended outlives the verifier that forked it. At the end of
the server somebody has to wait for the last of them, or a service manager would kill
it before it has closed a session. So each holds one end of a pipe, and when the other
end reads nothing more they have all gone.
"""

import posix
from select import POLLIN, poll


class Vigil:
    """The pipe. writer: the descriptor that those who are waited for hold."""

    def __init__(self) -> None:
        """Make it.

        Raises: OSError.
        """
        self._reader, self.writer = posix.pipe2(posix.O_CLOEXEC)

    def keep(self, seconds: float) -> bool:
        """Wait for all of them, so long at most; tell whether all have gone."""
        posix.close(self.writer)
        self.writer = -1
        ending = poll()
        ending.register(self._reader, POLLIN)
        return bool(ending.poll(seconds * 1000))

    def close(self) -> None:
        """Wait for nobody any more."""
        for descriptor in (self._reader, self.writer):
            if descriptor >= 0:
                posix.close(descriptor)
