# SPDX-License-Identifier: ISC
"""Accounts that another program knows: command:/path/to/checkpassword.

The program is run as in a chain: the record on descriptor 3, and a program to run as
the user if that is good. That one is a few lines of ours, which tell where they are
and what their environment says. Who they are we take from the kernel and not from
them: a user may have a hand in what runs as him.

A program that refuses doesn't say whether it knows the user, so the search for an
account ends here. One that waits for the end of what it runs, to end a session then,
has something to wait for until the session ends.
See: cr.yp.to/checkpwd/interface.html, unix(7) (SCM_CREDENTIALS).
"""

import _signal  # type: ignore[import-not-found]  # typeshed lacks it; signal is dear
import _socket
import posix
import sys
from fcntl import F_DUPFD, fcntl
from select import POLLIN, poll

from qtools.accounts.interface import Identity
from qtools.errors import (
    EXIT_MISUSE,
    EXIT_REFUSED,
    Hard,
    Misuse,
    Refused,
    Temporary,
    from_os_error,
)
from qtools.system import verdict

IS_SOLITARY = True

RECORD_DESCRIPTOR = 3
LOWEST_OWN_DESCRIPTOR = 10  # 3 to 9 are the chain's
PROGRAM_SECONDS = 60  # some wait after a refusal, and some ask over a network
END_SECONDS = 10  # after that there is nothing to do but to leave
REPORT_OCTETS = 4096  # of the longest report
STATUS_OCTETS = 65536

SCM_CREDENTIALS = 2  # Linux: pid, uid and gid of who sends, as the kernel knows them
ID_OCTETS = 4

# Not for the program: what is before us in the chain, and whose mail we may serve
UNSHARED = (verdict.VARIABLE, b"QTOOLS_DIALOGUE", b"MAILDIR", b"POP3MAILDIR")

# Runs as the user, where our files may be out of reach; stays until we have looked.
# An exit code of 1, as Python would leave with, means "wrong password".
REPORTER = """\
import posix, sys
code = 111
try:
    names = b"USER", b"SHELL", b"MAILDIR"
    values = [posix.environ.get(name, b"") for name in names]
    posix.write(int(sys.argv[1]), b"\\0".join([posix.getcwdb(), *values]))
    posix.read(int(sys.argv[1]), 1)
    code = 0
finally:
    posix._exit(code)
"""


def prepare() -> None:
    """Make sure that there is an interpreter to report with.

    Raises: Hard.
    """
    if not sys.executable:
        raise Hard("command: this interpreter doesn't know where it is")


def open_source(where: bytes) -> "Command":
    """Open command:PROGRAM.

    Raises: Hard when the name isn't absolute.
    """
    if not where.startswith(b"/"):
        raise Hard("command: needs an absolute path, command:/path/to/program")
    return Command(where)


class Command:
    """A program that checks; see the interface.

    seconds: how long it may take.
    """

    TAKES_TOKENS = True  # it is told the method, and may know what to do with it

    def __init__(self, program: bytes, seconds: float = PROGRAM_SECONDS) -> None:
        self._program = program
        self._seconds = seconds

    def verify(self, user: bytes, secret: bytes, challenge: bytes) -> Identity:
        """Have the program check a record, and say who it became."""
        run = Run(self._program, b"\0".join((user, secret, challenge, b"")))
        report, sender = run.report(self._seconds)
        if sender is None:
            raise self._failure(run.end())
        try:
            who = identity(user, report, *sender)
        except BaseException:
            run.end()
            raise
        if sender[0] == run.pid:
            run.end()
        else:
            who.ending = run.finish
        return who

    def decoy(self) -> bytes:
        """Give nothing: what a check costs is the program's business."""
        return b""

    def _failure(self, code: int) -> Refused | Misuse | Temporary:
        """Give what an exit code, or minus a signal, means."""
        if code == EXIT_REFUSED:
            return Refused(f"{self._program!r} says no")
        if code == EXIT_MISUSE:
            return Misuse(f"{self._program!r} says that it is misused")
        if code == 0:
            return Temporary(f"{self._program!r} ran nothing, and didn't say why")
        return Temporary(f"{self._program!r} failed with exit code {code}")


class Run:
    """The program, running."""

    def __init__(self, program: bytes, record: bytes) -> None:
        """Start it with a record of at most 4096 octets.

        Raises: Temporary.
        """
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        ours.setsockopt(_socket.SOL_SOCKET, _socket.SO_PASSCRED, 1)
        reader, writer = posix.pipe2(posix.O_CLOEXEC)
        nothing = posix.open(b"/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
        passed = fcntl(theirs.fileno(), F_DUPFD, LOWEST_OWN_DESCRIPTOR)
        environ = {k: v for k, v in posix.environ.items() if k not in UNSHARED}
        plan = [
            (posix.POSIX_SPAWN_DUP2, source, target)
            for source, target in ((nothing, 0), (nothing, 1), (reader, 3))
        ]
        words = (sys.executable, "-IS", "-c", REPORTER, str(passed))
        try:
            posix.write(writer, record)  # a pipe takes as much before anybody reads
            self.pid = posix.posix_spawn(
                program,
                (program, *words),
                environ,
                file_actions=plan,
                setsigdef=[_signal.SIGPIPE],
            )
        except OSError as why:
            ours.close()
            raise Temporary(str(from_os_error(why, f"run {program!r}"))) from why
        finally:
            theirs.close()
            for opened in (reader, writer, nothing, passed):
                posix.close(opened)
        self._socket = ours

    def report(self, seconds: float) -> "tuple[bytes, tuple[int, int, int] | None]":
        """Give what was reported, and pid, uid and gid of whoever did; or None.

        Raises: Temporary when nothing has come in time, the program being gone then.
        """
        waiting = poll()
        waiting.register(self._socket.fileno(), POLLIN)
        if not waiting.poll(seconds * 1000):
            self.end(0)
            raise Temporary(f"a checker took more than {seconds:g} seconds")
        room = _socket.CMSG_SPACE(3 * ID_OCTETS)
        report, told, flags, _ = self._socket.recvmsg(REPORT_OCTETS, room)
        if not report or flags & _socket.MSG_TRUNC:
            return b"", None
        for level, kind, data in told:
            if (level, kind) == (_socket.SOL_SOCKET, SCM_CREDENTIALS):
                cuts = (data[:4], data[4:8], data[8:12])
                pid, uid, gid = (int.from_bytes(cut, sys.byteorder) for cut in cuts)
                return report, (pid, uid, gid)
        return b"", None

    def end(self, seconds: float = END_SECONDS) -> int:
        """Let what runs as the user go, and see to the end of the program.

        Takes how long that may take before it is killed. Gives its exit code, minus
        the number of a signal.
        """
        self._socket.close()
        handle = posix.pidfd_open(self.pid)
        waiting = poll()
        waiting.register(handle, POLLIN)
        if not waiting.poll(seconds * 1000):
            posix.kill(self.pid, _signal.SIGKILL)
        posix.close(handle)
        return posix.waitstatus_to_exitcode(posix.waitpid(self.pid, 0)[1])

    def finish(self) -> None:
        """End it when the session has ended."""
        self.end(PROGRAM_SECONDS)


def identity(user: bytes, report: bytes, pid: int, uid: int, gid: int) -> Identity:
    """Say who sent a report.

    Raises: Temporary when that can't be told for sure.
    """
    groups = groups_of(pid, uid, gid)
    place, name, shell, maildir = (*report.split(b"\0"), b"", b"", b"")[:4]
    if not place.startswith(b"/"):
        raise Temporary("a checker left its program nowhere")
    if maildir and not maildir.startswith(b"/"):
        maildir = place.rstrip(b"/") + b"/" + maildir
    who = Identity(name or user, uid, gid, home=place, shell=shell, maildir=maildir)
    who.groups = groups
    return who


def groups_of(pid: int, uid: int, gid: int) -> list[int]:
    """Give the groups of a process that has only these ids, and is there.

    Raises: Temporary.
    """
    try:
        handle = posix.pidfd_open(pid)
        lines = _read(b"/proc/%d/status" % pid).split(b"\n")
        waiting = poll()
        waiting.register(handle, POLLIN)
        has_gone = waiting.poll(0)
        posix.close(handle)
    except OSError as why:
        raise Temporary(f"unable to look at what a checker runs: {why}") from why
    found = {line.partition(b":")[0]: line.split()[1:] for line in lines}
    ids = {int(word) for word in found.get(b"Uid", [])}
    group_ids = {int(word) for word in found.get(b"Gid", [])}
    if has_gone or ids != {uid} or group_ids != {gid}:
        raise Temporary("what a checker runs is not all one user")
    return [int(word) for word in found.get(b"Groups", [])]


def _read(path: bytes) -> bytes:
    descriptor = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        return posix.read(descriptor, STATUS_OCTETS)
    finally:
        posix.close(descriptor)
