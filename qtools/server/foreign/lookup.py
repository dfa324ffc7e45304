# SPDX-License-Identifier: ISC
"""Ask others about a client: its host's name in DNS, its user at its ident server.

Only in a connection's own process, since each answer may take its time. The resolver
of the C library can't be interrupted, so it works in a process of its own, which is
given up when the time is over.
See: getnameinfo(3); RFC 1413.
"""

import _signal  # type: ignore[import-not-found]  # typeshed lacks it; signal is dear
import _socket
import posix
from select import POLLIN, poll
from time import monotonic

from qtools.server.addresses import packed, plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

LOOKUP_SECONDS = 30  # three name servers, twice five seconds each
NAME_OCTETS = 1024  # NI_MAXHOST
IDENT_PORT = 113
IDENT_OCTETS = 1000  # RFC 1413 section 4 has no longer answers
INFO_OCTETS = 257  # where tcpserver stops reading


def host_name(
    address: bytes, unshared: tuple[int, ...] = (), *, is_paranoid: bool = False
) -> bytes | None:
    """Give the name of a host in small letters, None when there is none in time.

    unshared: descriptors the resolver's process must not hold open. is_paranoid: give
    no name that does not lead back to the address.
    """

    def ask() -> bytes:
        name = _name(plain(address))
        return name if not is_paranoid or _leads_to(name, address) else b""

    return _bounded(ask, LOOKUP_SECONDS, unshared) or None


def _name(address: bytes) -> bytes:
    flags = _socket.NI_NAMEREQD
    name, _ = _socket.getnameinfo((address.decode("ascii"), 0), flags)
    return name.encode("utf-8", "surrogateescape").lower()


def _leads_to(name: bytes, address: bytes) -> bool:
    found = _socket.getaddrinfo(name, None, 0, _socket.SOCK_STREAM)
    wanted = packed(address)
    return wanted in [packed(str(row[4][0]).encode()) for row in found]


def _bounded(
    ask: "Callable[[], bytes]", seconds: float, unshared: tuple[int, ...]
) -> bytes:
    """Call in a process of its own; give nothing when it fails or takes too long."""
    try:
        reader, writer = posix.pipe2(posix.O_CLOEXEC)
        child = posix.fork()
    except OSError:
        return b""
    if not child:
        try:
            for descriptor in (reader, *unshared):
                posix.close(descriptor)
            posix.write(writer, ask()[:NAME_OCTETS])
        finally:
            posix._exit(0)
    posix.close(writer)
    ready = poll()
    ready.register(reader, POLLIN)
    answer = posix.read(reader, NAME_OCTETS) if ready.poll(seconds * 1000) else b""
    posix.close(reader)
    posix.kill(child, _signal.SIGKILL)
    posix.waitpid(child, 0)
    return answer


def ident(
    local: tuple[bytes, int], remote: tuple[bytes, int], seconds: float
) -> bytes | None:
    """Give what the client's ident server says of a connection, None without an answer.

    An answer that names no user is empty, as with tcpserver. Never holds a NUL.
    """
    deadline = monotonic() + seconds
    here, there = plain(local[0]).decode("ascii"), plain(remote[0]).decode("ascii")
    family = _socket.AF_INET6 if ":" in there else _socket.AF_INET
    try:
        asked = _socket.socket(family, _socket.SOCK_STREAM, 0)
    except OSError:
        return None
    try:
        asked.settimeout(seconds)
        asked.bind((here, 0))
        asked.connect((there, IDENT_PORT))
        asked.send(b"%d , %d\r\n" % (remote[1], local[1]), _socket.MSG_NOSIGNAL)
        return _user(_answer(asked, deadline))
    except OSError:
        return None
    finally:
        asked.close()


def _answer(asked: _socket.socket, deadline: float) -> bytes | None:
    answer = b""
    while b"\n" not in answer and len(answer) < IDENT_OCTETS:
        left = deadline - monotonic()
        if left <= 0:
            return None
        asked.settimeout(left)
        part = asked.recv(IDENT_OCTETS)
        if not part:
            return None
        answer += part
    return answer


def _user(answer: bytes | None) -> bytes | None:
    """Give what stands behind the third colon; blanks don't count.

    tcpserver does not look at the words before it, and reads no more than it keeps.
    """
    if answer is None:
        return None
    line = answer.partition(b"\n")[0].translate(None, b" \t\r")
    user = (line.split(b":", 3) + [b""] * 3)[3][:INFO_OCTETS]
    return user.partition(b"\0")[0]
