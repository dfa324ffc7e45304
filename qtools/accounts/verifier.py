# SPDX-License-Identifier: ISC
"""Verify a record in a short-lived process of its own.

Only that process imports the sources and sees their hashes; what comes back through a
pipe is an answer of fixed shape. Whatever else happens to it, a crash, a signal,
garbage, is a temporary failure and never an accept.
"""

import posix

from qtools.accounts import answer
from qtools.errors import EXIT_TEMPORARY, Failure, Refused, Temporary, from_os_error
from qtools.system.guard import complain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from qtools.accounts.interface import Identity

    Check = Callable[[], Identity]


class Verifier:
    """A running verifier."""

    def __init__(self, check: "Check", argv: list[str], *, is_verbose: bool) -> None:
        """Start it: check() runs in the new process and gives who it is, or raises.

        Takes the program's argv, whose name stands before complaints.
        Raises: Temporary when there can be no process.
        """
        try:
            self._reader, writer = posix.pipe2(posix.O_CLOEXEC)
            self._pid = posix.fork()
        except OSError as why:
            raise from_os_error(why, "start a verifier") from why
        if self._pid == 0:
            _serve(check, argv, writer, is_verbose=is_verbose)
        posix.close(writer)

    def wait(self) -> "tuple[int, Identity | None]":
        """Give the exit code, and who it is when that is 0.

        Raises: Temporary when the verifier didn't end in order.
        """
        received = b""
        while len(received) <= answer.ANSWER_OCTETS:
            part = posix.read(self._reader, answer.ANSWER_OCTETS + 1)
            if not part:
                break
            received += part
        posix.close(self._reader)
        status = posix.waitpid(self._pid, 0)[1]
        if status != 0:
            raise Temporary(f"the verifier ended with wait status {status}")
        try:
            return answer.unpack(received)
        except ValueError as why:
            raise Temporary(f"the verifier gave no answer: {why}") from why


def _serve(
    check: "Check", argv: list[str], writer: int, *, is_verbose: bool
) -> "NoReturn":
    """Run the check, write the answer and leave, whatever happens."""
    status = 1
    try:
        posix.write(writer, _verdict(check, argv, is_verbose=is_verbose))
        status = 0
    finally:
        posix._exit(status)


def _verdict(check: "Check", argv: list[str], *, is_verbose: bool) -> bytes:
    try:
        return answer.pack(0, check())
    except Failure as why:
        # what is refused is nobody's business unless asked for: under some popups
        # descriptor 2 is the network
        if is_verbose or not isinstance(why, Refused):
            complain(argv, str(why))
        return answer.pack(why.code)
    except Exception as why:  # noqa: BLE001  # a bug must read as "try again later"
        complain(argv, f"unexpected {type(why).__name__}: {why}")
        return answer.pack(EXIT_TEMPORARY)
