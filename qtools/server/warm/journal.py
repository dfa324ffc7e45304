# SPDX-License-Identifier: ISC
"""Where the session log goes: a descriptor, syslog or the journal; never a hindrance.

One process writes for everybody, so a log that is full or stuck must hold up nobody: a
line that can't be written at once is dropped, and the next that can be says how many
were.
"""

from qtools.errors import from_os_error
from qtools.system import fdio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

NOTICE, INFO = 5, 6  # a refusal, anything else


class Journal:
    """The session log of one process."""

    def __init__(self, write: "Callable[[int, bytes], bool] | None") -> None:
        """Take what writes a line of some level and tells whether it did."""
        self._write = write
        self._lost = 0

    def line(self, line: bytes, *, is_refusal: bool) -> None:
        """Write a line, which has its end."""
        if self._write is None:
            return
        level = NOTICE if is_refusal else INFO
        if self._lost:
            note = b"popserver: %d lines of this log were lost\n" % self._lost
            if not self._write(NOTICE, note):
                self._lost += 1
                return
            self._lost = 0
        if not self._write(level, line):
            self._lost += 1


def to_descriptor(descriptor: int, *, has_levels: bool) -> Journal:
    """Write to a descriptor; with levels as systemd's journal reads them: <6>."""
    is_torn = False  # a disk had room for a part of the last line

    def write(level: int, line: bytes) -> bool:
        nonlocal is_torn
        text = b"<%d>%b" % (level, line) if has_levels else line
        text = b"\n" + text if is_torn else text
        written = fdio.write_line(descriptor, text)
        is_whole = written == min(len(text), fdio.PIPE_OCTETS)
        is_torn = not is_whole and (is_torn or written > 0)
        return is_whole

    return Journal(write)


def to_syslog(program: str) -> Journal:
    """Write to the system's log, by a process that finds it whenever it is there.

    Neither could be done from here: the log is outside our root directory, and
    syslog(3) would wait for it.
    Raises: Hard, Temporary when there can be no such process.
    """
    from qtools.server import syslogger

    try:
        descriptor = syslogger.start(program)
    except OSError as why:
        raise from_os_error(why, "start a process for the session log") from why
    return to_descriptor(descriptor, has_levels=True)
