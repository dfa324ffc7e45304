# SPDX-License-Identifier: ISC
"""A process that writes to the system's log what others write on a descriptor.

Processes of a server that has left its terminal complain on descriptor 2 as ever. Some
of them are confined and could not reach the log; none of them may wait for it. So one
more process reads their lines and waits in their place; when it does not keep up,
lines are lost and nothing else. It is also the one that finds a log daemon again which
was started anew.
"""

import posix
import re
import syslog
from pwd import getpwnam

from qtools.server import processes
from qtools.system import confine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

READ_OCTETS = 65536
LINE_OCTETS = 4096  # more is not written at once, so it could be two processes' words
LEVEL = re.compile(rb"<([0-7])>")


def start(program: str) -> int:
    """Start the process; give the descriptor that takes its lines, without waiting.

    program: its name in the log. It ends when nobody has the descriptor any more.
    Raises: OSError.
    """
    reading, writing = posix.pipe2(posix.O_CLOEXEC)
    if posix.fork():
        posix.close(reading)
        posix.set_blocking(writing, False)
        return writing
    try:
        _settle(reading, program)
        for level, text in entries(reading, program):
            syslog.syslog(level, text)
    finally:
        posix._exit(0)


def complain(program: str, text: str) -> None:
    """Write one line about what kept us from serving."""
    syslog.openlog(program, syslog.LOG_PID, syslog.LOG_MAIL)
    syslog.syslog(syslog.LOG_CRIT, text.encode("ascii", "backslashreplace").decode())


def _settle(reading: int, program: str) -> None:
    """Keep the lines and nothing else; be nobody."""
    processes.ignore_signals(*processes.MASTERS_SIGNALS)  # there may be more to write
    processes.keep_only([reading])
    for _ in range(3):
        posix.open("/dev/null", posix.O_RDWR)
    if not posix.geteuid():
        entry = getpwnam(confine.USER)
        posix.setgroups([])
        posix.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
        posix.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
    syslog.openlog(program, syslog.LOG_PID, syslog.LOG_MAIL)


def entries(reading: int, program: str) -> "Iterator[tuple[int, str]]":
    """Give level and text of each line that comes, up to the end.

    A line that begins with a level, as systemd's journal has it, is of that level;
    others are complaints. The program's name is the log's to write.
    """
    held = b""
    while part := posix.read(reading, READ_OCTETS):
        *lines, held = (held + part).split(b"\n")
        for line in lines:
            yield entry_of(line, program)
        held = held[-LINE_OCTETS:]
    if held:
        yield entry_of(held, program)


def entry_of(line: bytes, program: str) -> tuple[int, str]:
    """Give level and text of a line."""
    found = LEVEL.match(line)
    level = int(found[1]) if found else syslog.LOG_ERR
    text = line[found.end() :] if found else line
    text = text.removeprefix(program.encode() + b": ")[:LINE_OCTETS]
    shown = text.decode("ascii", "backslashreplace")
    return level, "".join(each if each.isprintable() else "?" for each in shown)
