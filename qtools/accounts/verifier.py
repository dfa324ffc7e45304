# SPDX-License-Identifier: ISC
"""Verify a record in a short-lived process of its own.

Only that process imports the sources and sees their hashes; what comes back through a
pipe is an answer of fixed shape. Whatever else happens to it, a crash, a signal,
garbage, is a temporary failure and never an accept.

What a verification has begun, as PAM begins a session, only that process can end. It
then outlives its answer, until nobody holds the other end of its lifeline any more:
the process that becomes the user does, and so does whatever that one becomes.
"""

import _signal  # type: ignore[import-not-found]  # typeshed lacks it; signal is dear
import posix
from fcntl import F_DUPFD, fcntl

from qtools.accounts import answer
from qtools.errors import EXIT_TEMPORARY, Failure, Refused, Temporary, from_os_error
from qtools.system import verdict
from qtools.system.guard import complain, let_go
from qtools.system.precautions import end_at_interrupt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from qtools.accounts.interface import Identity

    Check = Callable[[], Identity]

LOWEST_OWN_DESCRIPTOR = 10  # 3 to 9 are the chain's

READ_OCTETS = 512


class Verifier:
    """A running verifier."""

    def __init__(self, check: "Check", argv: list[str], *, is_verbose: bool) -> None:
        """Start it: check() runs in the new process and gives who it is, or raises.

        Takes the program's argv, whose name stands before complaints.
        Raises: Temporary when there can be no process.
        """
        try:
            self._reader, writer = posix.pipe2(posix.O_CLOEXEC)
            lifeline, self._lifeline = posix.pipe2(posix.O_CLOEXEC)
            self._pid = posix.fork()
        except OSError as why:
            raise from_os_error(why, "start a verifier") from why
        if self._pid == 0:
            posix.close(self._lifeline)
            _serve(check, argv, writer, lifeline, is_verbose=is_verbose)
        posix.close(writer)
        posix.close(lifeline)

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
        if self._is_to_stay(received):
            return answer.unpack(received)
        self.release()
        status = posix.waitpid(self._pid, 0)[1]
        if status != 0:
            raise Temporary(f"the verifier ended with wait status {status}")
        try:
            return answer.unpack(received)
        except ValueError as why:
            raise Temporary(f"the verifier gave no answer: {why}") from why

    def _is_to_stay(self, received: bytes) -> bool:
        """Tell whether the verifier has something to end later; hold its lifeline."""
        try:
            answer.unpack(received)
        except ValueError:
            return False
        if not answer.has_ending(received):
            return False
        closed, dup = self._lifeline, F_DUPFD  # which keeps it over an exec, too
        self._lifeline = fcntl(closed, dup, LOWEST_OWN_DESCRIPTOR)
        posix.close(closed)
        return True

    def release(self) -> None:
        """Have what was begun ended now, where the user doesn't come in after all."""
        lifeline, self._lifeline = self._lifeline, -1
        if lifeline >= 0:
            posix.close(lifeline)


def _serve(
    check: "Check", argv: list[str], writer: int, lifeline: int, *, is_verbose: bool
) -> "NoReturn":
    """Run the check, write the answer and leave, whatever happens."""
    status = 1
    begun: list[Callable[[], None]] = []
    try:
        end_at_interrupt()
        let_go()
        packed = _verdict(check, argv, begun, is_verbose=is_verbose)
        if begun:
            _brace()
        posix.write(writer, packed)
        status = 0
        if begun:
            posix.close(writer)
            _outlast(lifeline)
        _end(begun, argv)
    except OSError:  # nobody waits for the answer any more
        _end(begun, argv)
    finally:
        posix._exit(status)


def _verdict(
    check: "Check",
    argv: list[str],
    begun: "list[Callable[[], None]]",
    *,
    is_verbose: bool,
) -> bytes:
    """Give the answer; begun gets what is to be called when all has ended."""
    try:
        who = check()
        if who.ending is not None:
            begun.append(who.ending)
        return answer.pack(0, who)
    except Failure as why:
        # what is refused is nobody's business unless asked for: under some popups
        # descriptor 2 is the network
        if is_verbose or not isinstance(why, Refused):
            complain(argv, str(why))
        return answer.pack(why.code)
    except Exception as why:  # noqa: BLE001  # a bug must read as "try again later"
        complain(argv, f"unexpected {type(why).__name__}: {why}")
        return answer.pack(EXIT_TEMPORARY)


def _brace() -> None:
    """Heed no more signals for the session, of whose group we are.

    Whoever has begun something has blocked them by then, so none is in between.
    """
    for number in (_signal.SIGHUP, _signal.SIGINT, _signal.SIGTERM):
        _signal.signal(number, _signal.SIG_IGN)


def _outlast(lifeline: int) -> None:
    """Wait until nobody holds the other end; popup's note is not ours to hold."""
    noting = posix.environ.get(verdict.VARIABLE, b"")
    if noting.isdigit():
        posix.close(int(noting))
    while posix.read(lifeline, READ_OCTETS):
        pass


def _end(begun: "list[Callable[[], None]]", argv: list[str]) -> None:
    """End what was begun, once."""
    while begun:
        try:
            begun.pop()()
        except Exception as why:  # noqa: BLE001  # nobody is left who could be told
            complain(argv, f"unable to end a session: {type(why).__name__}: {why}")
