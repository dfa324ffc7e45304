# SPDX-License-Identifier: ISC
"""The variables that tell a program who its client is: tcpserver's and sslserver's.

Both families of names are there, as under the IPv6 versions of ucspi-tcp: TCP... has
addresses as people write them, TCP6... has an IPv4 one in its mapped form. What is not
known is unset, not empty, and that goes for what we were started with ourselves.
See: tcp-environ(5), sslserver(1) on -e; ucspi-unix for clients on a UNIX socket.
"""

from qtools.server.addresses import host_name, plain
from qtools.system.fdio import UNKNOWN
from qtools.system.ucspi import CONTROL, END_POINT, READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtools.protocol.proxy import Header

    End = tuple[bytes, int]  # address and port; of a UNIX socket UNKNOWN, or its path

MAPPED = b"::ffff:"
SOME_TLS = b"TLS"  # of a version that nobody tells
_VISIBLE = frozenset(range(0x21, 0x7F))

INTERFACE = b"TCP6INTERFACE"
UNIX_PATH = b"UNIXLOCALPATH"

_FACTS = (
    *(b"LOCALIP", b"LOCALPORT", b"LOCALHOST"),
    *(b"REMOTEIP", b"REMOTEPORT", b"REMOTEHOST", b"REMOTEINFO"),
)
_FAMILIES = (b"TCP", b"TCP6", b"SSL")
NAMES = (
    *(b"PROTO", INTERFACE, UNIX_PATH, CONTROL, READ, WRITE, END_POINT),
    *(family + fact for family in _FAMILIES for fact in _FACTS),
)


def variables(
    local: "End", remote: "End", name: bytes, host: bytes | None, info: bytes | None
) -> dict[bytes, bytes]:
    """Give what tcpserver sets for a connection.

    local, remote: the ends; an address may be mapped and may have a scope. name: our
    own host name, empty when not known. host: the client's, None when not known.
    info: what its ident server says, None when that was not asked or said nothing.
    """
    if remote[0] in (b"", UNKNOWN):
        return {b"PROTO": b"UNIX", UNIX_PATH: local[0]}
    (here, interface), (there, _) = _cut(local[0]), _cut(remote[0])
    ports = b"%d" % local[1], b"%d" % remote[1]
    found = {
        b"PROTO": b"TCP6" if b":" in there else b"TCP",
        b"TCPLOCALIP": here,
        b"TCP6LOCALIP": _mapped(here),
        b"TCPLOCALPORT": ports[0],
        b"TCP6LOCALPORT": ports[0],
        b"TCPREMOTEIP": there,
        b"TCP6REMOTEIP": _mapped(there),
        b"TCPREMOTEPORT": ports[1],
        b"TCP6REMOTEPORT": ports[1],
    }
    known = (b"LOCALHOST", name or None), (b"REMOTEHOST", host), (b"REMOTEINFO", info)
    for fact, value in known:
        if value is not None:
            found[b"TCP" + fact] = found[b"TCP6" + fact] = value
    if interface:
        found[INTERFACE] = interface
    return found


def _cut(address: bytes) -> tuple[bytes, bytes]:
    """Give an address as people write it, and the interface that is its scope."""
    bare, _, interface = address.partition(b"%")
    return plain(bare), interface


def _mapped(address: bytes) -> bytes:
    """Give an address as it is in IPv6; of the two ends each may need it or not."""
    return address if b":" in address else MAPPED + address


def of_proxied_tls(header: "Header") -> dict[bytes, bytes]:
    """Give what a proxy tells of the client's TLS; nothing if there is none.

    SSL_PROTOCOL is always there, since it is what says that TLS is on. Parts are the
    client's choice: a name is a host's, the rest visible ASCII, or left out.
    """
    if not header.is_tls:
        return {}
    version, cipher = (
        word if _VISIBLE.issuperset(word) else b""
        for word in (header.tls_version, header.tls_cipher)
    )
    told = {
        b"SSL_PROTOCOL": version or SOME_TLS,
        b"SSL_CIPHER": cipher,
        b"SSL_TLS_SNI_SERVERNAME": host_name(header.authority),
    }
    return {name: value for name, value in told.items() if value}


def with_tls_names(found: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Add the names by which sslserver -e tells the same."""
    more = {b"SSL" + fact: found.get(b"TCP" + fact) for fact in _FACTS}
    return found | {name: value for name, value in more.items() if value is not None}


def put(environ: dict[bytes, bytes], found: dict[bytes, bytes]) -> None:
    """Set variables, and unset all others that only a connection can have."""
    for name in NAMES:
        environ.pop(name, None)
    environ.update(found)
