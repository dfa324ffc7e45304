# SPDX-License-Identifier: ISC
"""Sockets that wait for connections: what words name them, and how they come about.

The positional words are tcpserver's, with what it has not beside them: IPv6, UNIX
sockets, TLS, and sockets that the service manager has opened already.
See: tcpserver(1), ipv6(7), unix(7), systemd.socket(5).
"""

import _socket
import posix
from errno import EADDRNOTAVAIL, EAFNOSUPPORT
from stat import S_ISSOCK

from qtools.errors import Hard, Temporary, from_os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Address = tuple[Any, ...] | bytes

TLS_PREFIX = "tls:"
UNIX_PREFIX = "unix:"
EVERY_IPV4 = "0.0.0.0"  # noqa: S104  # that is what the administrator asks for
EVERY_ADDRESS = ("::", "*")
PATH_OCTETS = 107  # what the kernel's sockaddr_un holds, and a NUL

# /etc/services may be missing, in a container for instance. See: RFC 1939, RFC 8314.
PORTS = {"pop3": 110, "pop3s": 995}
MOST_PORT = 65535
TLS_PORT = PORTS["pop3s"]
TLS_NAMES = (b"tls", b"pop3s")

FAMILIES = (_socket.AF_INET, _socket.AF_INET6, _socket.AF_UNIX)


class Endpoint:
    """Where to listen.

    host: an address or a name, "::" for every address of both families, "*" for the
    same where there may be no IPv6; as bytes the path of a UNIX socket. port: 0 for
    any free one. is_tls: TLS from the first octet on.
    """

    __slots__ = ("host", "is_tls", "port")

    def __init__(self, host: "str | bytes", port: int, *, is_tls: bool = False) -> None:
        self.host = host
        self.port = port
        self.is_tls = is_tls

    def __str__(self) -> str:
        if isinstance(self.host, bytes):
            return UNIX_PREFIX + self.host.decode("utf-8", "backslashreplace")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def endpoint(word: str) -> Endpoint:
    """Read `[tls:]HOST:PORT` or `[tls:]unix:/path`.

    An IPv6 address stands in brackets. HOST and PORT are what endpoint_of() takes.
    Raises: Hard.
    """
    is_tls = word.startswith(TLS_PREFIX)
    place = word.removeprefix(TLS_PREFIX)
    if place.startswith(UNIX_PREFIX):
        return endpoint_of(place, "0", is_tls=is_tls)
    host, colon, port = place.rpartition(":")
    if not colon or (":" in host and not (host[0] == "[" and host[-1] == "]")):
        raise Hard(f"a listener is [tls:]HOST:PORT, IPv6 in brackets, not {word}")
    return endpoint_of(host, port, is_tls=is_tls)


def endpoint_of(host: str, port: str, *, is_tls: bool = False) -> Endpoint:
    """Read tcpserver's two words.

    host: "0" or nothing is every IPv4 address, as with tcpserver; "::" and "*" are
    every address of both families; `unix:/path` is a UNIX socket, whatever the port.
    port: a number, 0 for any free one, or a service's name.
    Raises: Hard.
    """
    if host.startswith(UNIX_PREFIX):
        return Endpoint(_path(host.removeprefix(UNIX_PREFIX)), 0, is_tls=is_tls)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not host.isascii() or not host.isprintable():
        raise Hard(f"no name of a host: {host!a}")
    if host in ("", "0"):
        host = EVERY_IPV4
    return Endpoint(host, _port(port), is_tls=is_tls)


def _path(text: str) -> bytes:
    path = text.encode("utf-8", "surrogateescape")
    if not path.startswith(b"/") or b"\0" in path or len(path) > PATH_OCTETS:
        raise Hard(f"a UNIX socket has a whole path of 1 to {PATH_OCTETS} octets")
    return path


def _port(word: str) -> int:
    if word.isascii() and word.isdigit():
        number = int(word) if len(word) <= len(str(MOST_PORT)) else MOST_PORT + 1
        if number > MOST_PORT:
            raise Hard(f"a port is 0 to {MOST_PORT}, not {word}")
        return number
    try:
        return _socket.getservbyname(word, "tcp")
    except (OSError, ValueError):  # ValueError: NUL or what is no text
        if word in PORTS:
            return PORTS[word]
        raise Hard(f"unable to figure out port number for {word!a}") from None


def bind(where: Endpoint, backlog: int) -> _socket.socket:
    """Give a non-blocking socket that listens there.

    backlog: connections the kernel may hold for us. A UNIX socket that nobody listens
    on any more is replaced; its mode is up to the umask.
    Raises: Hard, Temporary; what is bound already is Temporary, as with tcpserver.
    """
    try:
        if isinstance(where.host, bytes):
            _remove_stale(where.host)
            return _listen(_socket.AF_UNIX, where.host, backlog)
        if where.host in EVERY_ADDRESS:
            return _listen_everywhere(where, backlog)
        family, address = _resolve(where.host, where.port)
        return _listen(family, address, backlog)
    except OSError as why:
        raise from_os_error(why, f"bind {where}") from why


def _listen_everywhere(where: Endpoint, backlog: int) -> _socket.socket:
    """Listen on all addresses of both families; "*" does without IPv6 if it must."""
    try:
        address = ("::", where.port)
        return _listen(_socket.AF_INET6, address, backlog, is_dual=True)
    except OSError as why:
        if where.host != "*" or why.errno not in (EAFNOSUPPORT, EADDRNOTAVAIL):
            raise
    return _listen(_socket.AF_INET, (EVERY_IPV4, where.port), backlog)


def _listen(
    family: int, address: "Address", backlog: int, *, is_dual: bool = False
) -> _socket.socket:
    made = _socket.socket(family, _socket.SOCK_STREAM, 0)
    try:
        made.setblocking(False)
        if family != _socket.AF_UNIX:
            made.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        if family == _socket.AF_INET6:
            is_only = int(not is_dual)
            made.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, is_only)
        made.bind(address)
        made.listen(backlog)
    except OSError:
        made.close()
        raise
    return made


def _resolve(host: str, port: int) -> "tuple[int, Address]":
    """Give family and address of a host: its first IPv4 address, else its first.

    tcpserver knows no other than IPv4 addresses and takes the first; a name with both
    has to lead where it led before.
    """
    try:
        found = _socket.getaddrinfo(host, port, 0, _socket.SOCK_STREAM)
    except _socket.gaierror as why:
        text = f"unable to figure out IP address for {host}: {why.strerror}"
        raise Temporary(text) from why
    usable = [row for row in found if row[0] in FAMILIES]
    if not usable:
        raise Temporary(f"no IP address for {host}")
    first = min(usable, key=lambda row: row[0] != _socket.AF_INET)
    return first[0], first[4]


def _remove_stale(path: bytes) -> None:
    """Remove a UNIX socket that refuses connections, and nothing else.

    Raises: Hard when something else is there; OSError.
    """
    try:
        seen = posix.lstat(path)
    except FileNotFoundError:
        return
    if not S_ISSOCK(seen.st_mode):
        raise Hard(f"{Endpoint(path, 0)} is there already and no socket")
    probe = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0)
    try:
        probe.setblocking(False)
        probe.connect(path)
    except ConnectionRefusedError:
        now = posix.lstat(path)
        # Another server that starts may have put its own there in the meantime.
        if (now.st_dev, now.st_ino) == (seen.st_dev, seen.st_ino):
            posix.unlink(path)
    except OSError:
        return  # it lives, with its backlog full, or isn't ours to judge: see bind()
    finally:
        probe.close()


def adopt(
    descriptor: int, name: bytes, *, has_tls: bool
) -> tuple[_socket.socket, bool]:
    """Take over a listening socket that the service manager has opened.

    Gives the socket, non-blocking, and whether TLS is spoken from the first octet on:
    by its name ("tls", "pop3s") or its port, 995. has_tls: there is a certificate;
    without one port 995 is what somebody else has made cleartext of.
    Raises: Hard when it is not a listening stream socket.
    """
    try:
        made = _socket.socket(fileno=descriptor)
    except OSError as why:
        raise Hard(f"descriptor {descriptor}: {why.strerror}") from why
    is_listening = made.getsockopt(_socket.SOL_SOCKET, _socket.SO_ACCEPTCONN)
    is_stream = made.type == _socket.SOCK_STREAM and made.family in FAMILIES
    if not is_listening or not is_stream:
        made.detach()
        raise Hard(f"descriptor {descriptor} is not a listening stream socket")
    made.setblocking(False)
    is_inet = made.family != _socket.AF_UNIX
    is_tls = name in TLS_NAMES or (
        has_tls and is_inet and made.getsockname()[1] == TLS_PORT
    )
    return made, is_tls
