# SPDX-License-Identifier: ISC
"""The log of PWD: records of six levels, each marked with PWD and its session.

What a level adds: 0 crashes, 1 failures of ours, 2 changes, 3 what went wrong for a
client, 4 the lines of the protocol, 5 what happens to connections. To syslog, or to a
descriptor, where a record begins with the time and its level. Nobody can write a line
that looks like another: whatever is not printable ASCII is escaped.
"""

import syslog
from posix import getpid
from time import localtime, strftime

from qtools.system import fdio
from qtools.system.logline import escape

FAILURES, MAJOR, PROBLEMS, LOW_LEVEL, ALL = 1, 2, 3, 4, 5
LEVELS = (
    *(syslog.LOG_CRIT, syslog.LOG_ERR, syslog.LOG_NOTICE, syslog.LOG_WARNING),
    *(syslog.LOG_INFO, syslog.LOG_DEBUG),
)
TEXT_OCTETS = 2000  # of a record; a line of settings may be longer


class PwdLog:
    """The log of one session.

    level: the highest that is written. facility: of syslog, None to write to the
    descriptor 2 instead. address: the client's.
    """

    def __init__(self, level: int, facility: int | None, address: bytes) -> None:
        self.level = level
        self._facility = facility
        self._mark = f"PWD-{getpid():06d}([{escape(address)}])"
        if facility is not None:
            syslog.openlog("poppassd", syslog.LOG_PID, facility)

    def write(self, level: int, text: str) -> None:
        """Write a record, if its level is wanted.

        A log that can't be written costs nobody his answer: the error is dropped.
        """
        if level > self.level:
            return
        record = f"{self._mark} {visible(text)[:TEXT_OCTETS]}"
        if self._facility is not None:
            syslog.syslog(LEVELS[level], f"{level} {record}")
            return
        line = f"{strftime('%H:%M:%S', localtime())} {level} {record}\n"
        try:
            fdio.write_line(2, line.encode())
        except OSError:
            return


def visible(text: str) -> str:
    """Give a text with everything but printable ASCII, and the backslash, escaped."""
    return "".join(
        letter if " " <= letter <= "~" and letter != "\\" else _escaped(letter)
        for letter in text
    )


def _escaped(letter: str) -> str:
    octets = letter.encode("utf-8", "surrogateescape")
    return "".join(f"\\x{octet:02x}" for octet in octets)
