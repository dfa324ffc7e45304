# SPDX-License-Identifier: ISC
"""Who a connection is: its two ends, what the rules and TLS say, and its log lines."""

from _struct import Struct

from qtools.server import environment
from qtools.server.addresses import plain, source_of
from qtools.server.warm import packets
from qtools.system import ucspi
from qtools.system.fdio import UNKNOWN
from qtools.system.logline import SessionLog, escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    End = tuple[bytes, int]

TAG_FIELDS = 8
MOST_TEXT = 1024
MOST_SECONDS = 2.0**40  # of the monotonic clock; and no infinity, no NaN
_BEGAN = Struct(">d")
_HOSTS = (b"TCP6REMOTEHOST", b"TCPREMOTEHOST", b"SSLREMOTEHOST")  # as ucspi.peer()


class Guest:
    """A client. began: when it came, by the monotonic clock."""

    __slots__ = ("began", "local", "remote", "source", "tls", "variables")

    def __init__(self, local: "End", remote: "End", began: float) -> None:
        self.began = began
        self.local = local
        self.remote = (plain(remote[0]), remote[1])
        self.source = source_of(remote[0])
        self.variables: dict[bytes, bytes] = {}  # from the rules
        self.tls: dict[bytes, bytes] = {}

    def environ(self, name: bytes) -> dict[bytes, bytes]:
        """Give the variables that a program under tcpserver would have."""
        found = environment.variables(self.local, self.remote, name, None, None)
        found.update(self.variables)
        found.update(self.tls)
        return found

    @property
    def host(self) -> bytes:
        """The client's name, which only a rule can tell: none is looked up here."""
        names = [self.variables.get(name) for name in _HOSTS]
        return next(filter(None, names), UNKNOWN)

    @property
    def protocol(self) -> str:
        """What popup would call it: by the port, too, on which a proxy has TLS."""
        told = {b"TCPLOCALPORT": b"%d" % self.local[1], **self.variables, **self.tls}
        return "POP3S" if self.tls or ucspi.is_implicit_tls(told) else "POP3"

    @property
    def binding(self) -> bytes:
        """What a login inside TLS can be bound to; empty where that is not known."""
        return ucspi.end_point(self.tls)

    def tls_note(self) -> str:
        """Say which TLS it is, for a log line."""
        protocol = self.tls.get(b"SSL_PROTOCOL", b"")
        cipher = self.tls.get(b"SSL_CIPHER", b"")
        return f"tls={escape(protocol)}/{escape(cipher)}" if protocol else ""

    def tag(self, mechanism: str, user: bytes) -> bytes:
        """Write down what a later line about its session will say."""
        words = (
            _BEGAN.pack(self.began),
            self.source,
            self.remote[0],
            self.host,
            self.protocol.encode(),
            mechanism.encode(),
            user,
            self.tls_note().encode(),
        )
        return packets.fields(*[word[:MOST_TEXT] for word in words])


class Tag:
    """What a tag says of a session that is served elsewhere now.

    It went through other processes, one of which may have been taken over: there must
    be nothing in it that could forge a line of the log, or break who counts.
    """

    __slots__ = (
        *("address", "began", "host", "mechanism", "protocol"),
        *("source", "tls", "user"),
    )

    def __init__(self, tag: bytes) -> None:
        """Read a tag.

        Raises: ValueError.
        """
        words = packets.read_fields(tag, TAG_FIELDS, 0)
        if max(map(len, words)) > MOST_TEXT:
            raise ValueError("not a tag")
        began, self.source, self.address, self.host, *words = words
        protocol, mechanism, self.user, tls = words
        if len(began) != _BEGAN.size:
            raise ValueError("not a tag")
        (self.began,) = _BEGAN.unpack(began)
        self.protocol = "POP3S" if protocol == b"POP3S" else "POP3"
        self.mechanism = escape(mechanism)
        self.tls = tls.decode("ascii")
        if not 0 <= self.began < MOST_SECONDS or not self.tls.isprintable():
            raise ValueError("a tag that nobody wrote")


def log_of(program: str, address: bytes, host: bytes, protocol: str) -> SessionLog:
    """Give what makes the lines about one client."""
    log = SessionLog(-1, program, address, host)
    log.protocol = protocol
    return log
