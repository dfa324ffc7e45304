# SPDX-License-Identifier: ISC
"""What pop3d tells syslog of a session, in mdpop3d's form.

One line at the start and one at the end, at LOG_INFO: `[HOST][USER] WHY (N/B
msgs/bytes left, N/B deleted)`. Names are escaped, brackets too, so that none of them
can end early.
"""

import posix
import sys
import syslog
from pwd import getpwuid

from qtools.system.logline import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class Report:
    """The lines about one session.

    host and user: as the administrator wants them seen. is_quiet: leave out the lines
    of start and end.
    """

    def __init__(self, host: bytes, user: bytes, *, is_quiet: bool = False) -> None:
        self._who = f"[{_escape(host)}][{_escape(user)}]"
        self._is_quiet = is_quiet
        syslog.openlog("pop3d", syslog.LOG_PID, syslog.LOG_MAIL)

    def started(self) -> None:
        """Say that a session begins."""
        self._write(syslog.LOG_INFO, "connected")

    def ended(self, why: str, tally: "Sequence[int | None]") -> None:
        """Say how it ended.

        tally: messages and octets left, messages and octets deleted; None if unknown.
        """
        shown = ["-" if count is None else count for count in tally]
        counts = "({}/{} msgs/bytes left, {}/{} deleted)".format(*shown)
        self._write(syslog.LOG_INFO, f"{why} {counts}")

    def failed(self, text: str) -> None:
        """Say what went wrong; not even a quiet report leaves that out."""
        self._write(syslog.LOG_ERR, text)

    def trace(self, line: bytes) -> None:
        """Show a line of the client; its secrets must be masked already."""
        self._write(syslog.LOG_DEBUG, "< " + " ".join(map(escape, line.split(b" "))))

    def _write(self, priority: int, text: str) -> None:
        if not (self._is_quiet and priority == syslog.LOG_INFO):
            syslog.syslog(priority, f"{self._who} {text}")


def _escape(text: bytes) -> str:
    return escape(text).replace("[", "\\x5b").replace("]", "\\x5d")


def own_name() -> bytes:
    """Give the name of the user who runs this, or his number when he has none."""
    try:
        name = getpwuid(posix.getuid()).pw_name
    except KeyError:
        name = str(posix.getuid())
    return name.encode(sys.getfilesystemencoding(), "surrogateescape")
