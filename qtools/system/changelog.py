# SPDX-License-Identifier: ISC
"""What poppassd tells syslog, in the words of Debian's, and from where it was asked.

Every line has priority err, good news too, since that is what existing rules of log
daemons select. Names and addresses are escaped, so that nobody can write a line that a
ban rule takes for another's.
"""

import syslog

from qtools.errors import Hard
from qtools.system.logline import escape

FACILITY = "local4"
FACILITIES = ("auth", "authpriv", "daemon", "mail", *(f"local{n}" for n in range(8)))
PROGRAM = "poppassd"


def facility(name: str) -> int:
    """Give the number of a facility.

    Raises: Hard when there is none of that name.
    """
    if name not in FACILITIES:
        raise Hard(f"no facility {name}; there are {', '.join(FACILITIES)}")
    number: int = getattr(syslog, "LOG_" + name.upper())
    return number


class ChangeLog:
    """The log of one connection; address is the client's."""

    def __init__(self, number: int, address: bytes) -> None:
        self._source = f" from {escape(address)}"
        syslog.openlog(PROGRAM, syslog.LOG_PID, number)

    def incorrect(self, user: bytes, given: bytes) -> None:
        """Say that an old password was wrong; given: the name as the client has it."""
        self._write(f"old password is incorrect for user {_named(user, given)}")

    def forbidden(self, user: bytes, given: bytes) -> None:
        """Say that somebody was asked for who is unknown, or not to be changed here."""
        self._write(f"failed attempt to change password for {_named(user, given)}")

    def changed(self, user: bytes) -> None:
        """Say that it was done."""
        self._write(f"changed POP3 password for {escape(user)}")

    def not_changed(self, user: bytes, why: str) -> None:
        """Say why a new password was not taken."""
        self._write(f"{why} (user {escape(user)})")

    def not_checked(self, user: bytes, given: bytes, why: str) -> None:
        """Say why nobody knows whether an old password was right."""
        text = f"unable to check a password: {why}"
        self._write(f"{text} (user {_named(user, given)})")

    def failed(self, text: str) -> None:
        """Say what went wrong with poppassd itself, or below it."""
        self._write(text)

    def _write(self, text: str) -> None:
        line = text.encode("ascii", "backslashreplace").decode()
        line = "".join(letter if " " <= letter <= "~" else " " for letter in line)
        syslog.syslog(syslog.LOG_ERR, line + self._source)


def _named(user: bytes, given: bytes) -> str:
    if user in (b"", given):
        return escape(given)
    return f"{escape(user)} (given as {escape(given)})"
