# SPDX-License-Identifier: ISC
"""What pop3d tells syslog of a session, in mdpop3d's form.

One line at the start and one at the end, at LOG_INFO: `[HOST][USER] WHY (N/B
msgs/bytes left, N/B deleted)`. Before a login there is, say, `[HOST] login incorrect
for [USER]` or `[HOST] user unknown: [USER]`. Names are escaped, brackets too, so that
none of them can end early.
"""

import posix
import sys
import syslog
from pwd import getpwuid
from time import localtime

from qtools.system.logline import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class LoginReport:
    """The lines about a connection on which nobody has logged in yet.

    host: as the administrator wants it seen. is_quiet: leave out that it has ended.
    Refusals are told even then.
    """

    def __init__(self, host: bytes, *, is_quiet: bool = False) -> None:
        self._who = f"[{_escape(host)}]"
        self._is_quiet = is_quiet
        syslog.openlog("pop3d", syslog.LOG_PID, syslog.LOG_MAIL)

    def hold(self) -> None:
        """Reach for the log now, for a process that soon can't; and for local time."""
        localtime()
        option = syslog.LOG_PID | syslog.LOG_NDELAY
        syslog.openlog("pop3d", option, syslog.LOG_MAIL)

    def incorrect(self, user: bytes) -> None:
        """Say that somebody's password was wrong, or may not be used."""
        self._refused(f"login incorrect for [{_escape(user)}]")

    def unknown(self, user: bytes) -> None:
        """Say that there is no such user."""
        self._refused(f"user unknown: [{_escape(user)}]")

    def expired(self, user: bytes) -> None:
        """Say that a password was right, and too old."""
        self._refused(f"password expired for [{_escape(user)}]")

    def given_up(self, user: bytes) -> None:
        """Say that a client began to prove that it is somebody, and did not finish."""
        self._refused(f"login given up by [{_escape(user)}]")

    def ended(self, why: str) -> None:
        """Say that the client has gone without a login."""
        if not self._is_quiet:
            syslog.syslog(syslog.LOG_INFO, f"{self._who} {why} before login")

    def trace(self, line: bytes) -> None:
        """Show a line of the client; its secrets must be masked already."""
        syslog.syslog(syslog.LOG_DEBUG, f"{self._who} {_shown(line)}")

    def _refused(self, text: str) -> None:
        syslog.syslog(syslog.LOG_INFO, f"{self._who} {text}")


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
        self._write(syslog.LOG_DEBUG, _shown(line))

    def _write(self, priority: int, text: str) -> None:
        if not (self._is_quiet and priority == syslog.LOG_INFO):
            syslog.syslog(priority, f"{self._who} {text}")


def _shown(line: bytes) -> str:
    """Give a client's line with its blanks as they are."""
    return "< " + " ".join(map(escape, line.split(b" ")))


def _escape(text: bytes) -> str:
    return escape(text).replace("[", "\\x5b").replace("]", "\\x5d")


def own_name() -> bytes:
    """Give the name of the user who runs this, or his number when he has none."""
    try:
        name = getpwuid(posix.getuid()).pw_name
    except KeyError:
        name = str(posix.getuid())
    return name.encode(sys.getfilesystemencoding(), "surrogateescape")
