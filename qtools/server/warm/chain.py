# SPDX-License-Identifier: ISC
"""Read a chain: popserver runs it without starting programs when every link is ours.

The words are the same as under tcpserver, and so is what they mean. A chain with any
other program in it, or with an option or variable that asks for exec, is run as
tcpserver would.
"""

import posix

from qtools.accounts import entry
from qtools.chain import front, handover
from qtools.errors import Hard, Misuse
from qtools.system import options
from qtools.system.fdio import IDLE_SECONDS
from qtools.system.logline import LOG_DESCRIPTOR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtools.system.options import Values


NO_LOG = -1  # instead of a descriptor


class WarmChain:
    """popup, checkpw and pop3d, with what each of them was asked.

    program: popup's name for the log. front, hostname: popup's options and argument;
    idle_seconds, write_seconds, log_descriptor: what they come to. checker: checkpw's
    options. session: pop3d's argv.
    """

    def __init__(
        self,
        program: str,
        front_words: "tuple[Values, str]",
        checker: "Values",
        session: list[str],
    ) -> None:
        """Take the words of each program.

        Raises: Hard for a number of popup's that can't be.
        """
        self.program = program
        self.front, self.hostname = front_words
        self.checker = checker
        self.session = session
        front = self.front
        self.idle_seconds = float(front.number("timeout", IDLE_SECONDS, 1))
        self.write_seconds = float(front.number("write-timeout", IDLE_SECONDS, 1))
        self.log_descriptor = front.number("log-fd", LOG_DESCRIPTOR)


def read(argv: list[str]) -> WarmChain | None:
    """Read a chain; None when any link of it has to be executed.

    Raises: Hard for one of our own programs that is asked what it does not know.
    """
    if _tool(argv) != "popup":
        return None
    front_values, rest = options.parse(argv, front.OPTIONS, front.USAGE)
    if len(rest) < 2:
        raise Hard(f"usage: {front.USAGE}")
    hostname, *inner = rest
    if "exec" in front_values or _tool(inner) != "checkpw":
        return None
    try:
        checker, session = options.parse(inner, entry.ROWS, entry.USAGE, Misuse)
    except Misuse as why:
        raise Hard(str(why)) from why
    if "exec" in checker or _tool(session) != "pop3d":
        return None
    program = argv[0].rpartition("/")[2]
    front.make_policy(front_values, posix.environ, has_control=True)  # or raises
    return WarmChain(program, (front_values, hostname), checker, session)


def _tool(argv: list[str]) -> str:
    """Give the name of our tool that the first word leads to, or ""."""
    return handover.recognise(argv[0]) if argv else ""
