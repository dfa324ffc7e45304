# SPDX-License-Identifier: ISC
"""Checkers of others, as qmail-authuser calls them: their exit code decides.

    +   checkvpw true Maildir (vmailmgr)    the record on descriptor 3
    &   vchkpw (vpopmail)                   the record on descriptor 3
    =   doveadm auth test USER (Dovecot)    the password on descriptor 0

They neither see the client nor speak to it, and they become nobody: that is our next
step. qmail-authuser gives doveadm the password as an argument, where everybody can
read it; doveadm also takes it from an input that is no terminal, up to a line end.
"""

import posix

from qtools.errors import Refused, Temporary, from_os_error
from qtools.protocol.record import pack

SOCKET_VARIABLE = b"QTOOLS_AUTHSOCKET"  # Dovecot's socket; else doveadm's own default

SIGPIPE = 13  # everywhere; the module signal is dear

# Value in the file -> argv, and the exit codes that mean "wrong password". vchkpw's:
# 3 wrong or unknown, 12 and 13 empty, 15 has none, 20 no name. doveadm's: EX_NOPERM.
PROGRAMS = {
    b"+": (["checkvpw", "true", "Maildir"], (1, 3)),
    b"&": (["vchkpw"], (1, 3, 12, 13, 15, 20)),
    b"=": (["doveadm", "auth", "test"], (77,)),
}


def check(value: bytes, user: bytes, secret: bytes, challenge: bytes) -> None:
    """Have one of the programs check a record.

    Raises: Refused, Temporary.
    """
    argv, refusals = PROGRAMS[value]
    if value == b"=":
        if user.startswith(b"-") or b"\n" in secret or b"\r" in secret:
            raise Refused("doveadm can't be asked for this name or password")
        socket = posix.environ.get(SOCKET_VARIABLE)
        words = [*argv, *((b"-a", socket) if socket else ()), user]
        code = _run(words, secret + b"\n", 0)
    else:
        code = _run([*argv], pack(user, secret, challenge), 3)
    if code in refusals:
        raise Refused(f"{argv[0]} says no")
    if code != 0:
        raise Temporary(f"{argv[0]} failed with exit code {code}")


def _run(argv: "list[str | bytes]", data: bytes, descriptor: int) -> int:
    """Run a program with these data to read on a descriptor; give its exit code.

    Raises: Temporary when it can't be run; minus the signal's number when it died.
    """
    reader, writer = posix.pipe2(posix.O_CLOEXEC)
    nothing = posix.open(b"/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
    plan = [(posix.POSIX_SPAWN_DUP2, nothing, 1)]
    if descriptor != 0:
        plan.append((posix.POSIX_SPAWN_DUP2, nothing, 0))
    plan.append((posix.POSIX_SPAWN_DUP2, reader, descriptor))
    try:
        # at most 512 octets: a pipe takes them before anybody reads
        posix.write(writer, data)
        pid = posix.posix_spawnp(
            argv[0], argv, posix.environ, file_actions=plan, setsigdef=[SIGPIPE]
        )
    except OSError as why:
        raise Temporary(str(from_os_error(why, f"run {argv[0]!r}"))) from why
    finally:
        for opened in (reader, writer, nothing):
            posix.close(opened)
    return posix.waitstatus_to_exitcode(posix.waitpid(pid, 0)[1])
