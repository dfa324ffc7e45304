# SPDX-License-Identifier: ISC
"""What a UCSPI server tells about the connection, and UCSPI-TLS.

The environment of tcpserver and sslserver names the peer. With delayed encryption
three more variables name a control socket and the two descriptors on which cleartext
will be. Both dialects are served: sslserver, which kills us when the handshake fails,
and s6-ucspitlsd, which closes the control socket.
See: the UCSPI-TLS description, ucspi-tls(2).
"""

import _signal  # type: ignore[import-not-found]  # typeshed lacks it; signal is dear
import posix
from binascii import unhexlify
from select import POLLIN, poll
from time import monotonic

from qtools.system.fdio import UNKNOWN, peer_address

ANSWER_SECONDS = 30.0  # sslserver gives up after 26
DUMP_OCTETS = 65536  # certificates in PEM come in the dump; a few KiB each

END_POINT = b"SSL_SERVER_END_POINT"
END_POINT_OCTETS = 64  # of the longest hash of a certificate (RFC 5929 section 4.1)

CONTROL, READ, WRITE = b"SSLCTLFD", b"SSLREADFD", b"SSLWRITEFD"


class TlsFailed(Exception):
    """The TLS side gave up, or went away."""


def peer(environ: dict[bytes, bytes]) -> tuple[bytes, bytes]:
    """Give the address and the host name of the client, each or "unknown".

    inetd tells neither and systemd only the address, so the socket is asked, too.
    """
    names = (b"TCP6REMOTEIP", b"TCPREMOTEIP", b"SSLREMOTEIP", b"REMOTE_ADDR")
    address = _first(environ, *names)
    if address == UNKNOWN:
        address = peer_address(0)
    host = _first(environ, b"TCP6REMOTEHOST", b"TCPREMOTEHOST", b"SSLREMOTEHOST")
    return address.removeprefix(b"::ffff:"), host


def is_implicit_tls(environ: dict[bytes, bytes]) -> bool:
    """Tell whether TLS was on before we started: port 995, or its parameters known."""
    port = _first(environ, b"TCP6LOCALPORT", b"TCPLOCALPORT", b"SSLLOCALPORT")
    return port == b"995" or bool(environ.get(b"SSL_PROTOCOL"))


def end_point(environ: dict[bytes, bytes]) -> bytes:
    """Give the tls-server-end-point of the TLS that is on; empty when nobody tells it.

    Whoever holds the TLS puts it into the environment in hexadecimal digits.
    See: RFC 5929 section 4.
    """
    try:
        found = unhexlify(environ.get(END_POINT, b""))
    except ValueError:
        return b""
    return found if len(found) <= END_POINT_OCTETS else b""


def _first(environ: dict[bytes, bytes], *names: bytes) -> bytes:
    for name in names:
        if environ.get(name):
            return environ[name]
    return UNKNOWN


class TlsControl:
    """The three descriptors of UCSPI-TLS."""

    def __init__(self, control: int, read: int, write: int) -> None:
        self.control = control
        self.read = read
        self.write = write

    def start(self, seconds: float = ANSWER_SECONDS) -> dict[bytes, bytes | None]:
        """Ask for TLS and wait until it stands; seconds: how long at most.

        Gives the variables the server dumps; None is for one to be unset.
        Raises: TlsFailed.
        """
        previous = _signal.signal(_signal.SIGTERM, _give_up)
        try:
            posix.write(self.control, b"Y")
            return _parse(self._dump(seconds))
        except OSError as why:
            raise TlsFailed from why
        finally:
            _signal.signal(_signal.SIGTERM, previous)

    def _dump(self, seconds: float) -> bytes:
        """Read up to the empty entry that ends the dump."""
        readable = poll()
        readable.register(self.control, POLLIN)
        deadline = monotonic() + seconds
        dump = b""
        while not (dump.endswith(b"\0\0") or dump == b"\0"):
            left = deadline - monotonic()
            if left <= 0 or not readable.poll(left * 1000) or len(dump) > DUMP_OCTETS:
                raise TlsFailed
            part = posix.read(self.control, DUMP_OCTETS)
            if not part:
                raise TlsFailed
            dump += part
        return dump

    def switch(self) -> None:
        """Put the cleartext on 0 and 1 and close what it came on."""
        posix.dup2(self.read, 0)
        posix.dup2(self.write, 1)
        for descriptor in {self.read, self.write}:
            if descriptor > 2:
                posix.close(descriptor)

    def give_up(self) -> None:
        """Close the control socket: nobody here may start TLS any more."""
        posix.close(self.control)

    def leave(self, environ: dict[bytes, bytes]) -> None:
        """Take the variables away from the programs that follow."""
        for name in (CONTROL, READ, WRITE, b"UCSPITLS"):
            environ.pop(name, None)


def tls_control(environ: dict[bytes, bytes]) -> TlsControl | None:
    """Find the descriptors of UCSPI-TLS; None unless all three are there and open.

    None of them can be one of the first three, which are the client's and the log's.
    """
    words = [environ.get(name, b"") for name in (CONTROL, READ, WRITE)]
    if not all(word.isdigit() and len(word) < 10 for word in words):
        return None
    numbers = [int(word) for word in words]
    try:
        for number in numbers:
            posix.fstat(number)
    except OSError:
        return None
    return TlsControl(*numbers) if min(numbers) > 2 else None


def _give_up(_number: int, _frame: object) -> None:
    raise TlsFailed


def _parse(dump: bytes) -> dict[bytes, bytes | None]:
    """Cut a dump into variables; an entry without "=" says that one is unset."""
    found: dict[bytes, bytes | None] = {}
    for entry in dump.split(b"\0"):
        name, equals, value = entry.partition(b"=")
        if name.startswith(b"SSL"):
            found[name] = value if equals else None
    return found
