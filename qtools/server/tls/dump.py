# SPDX-License-Identifier: ISC
"""What is told about a TLS connection: NAME=VALUE entries, each ended by a NUL.

Two readers, two lengths: the login dialogue gets what belongs into the log; a program
that asks by UCSPI-TLS gets what sslserver would tell it, names and order included, but
for the two algorithms of the certificates, which the ssl module keeps to itself. The
host name asked for is told under s6-tlsd's name, and behind all that both get what a
login can be bound to (see end_point). Parts of it are the client's: no value can hold a
NUL, and those for the log hold visible ASCII only.
"""

import ssl

from qtools import __version__
from qtools.server.tls.connection import ServerContext
from qtools.server.tls.end_point import VARIABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from qtools.server.tls.connection import TlsSocket

    Decoded = dict[str, Any]  # as SSLSocket.getpeercert() gives it

# What the ssl module calls a part of a name; its short name; its suffix in the dump.
PARTS = (
    ("countryName", "C", b"C"),
    ("stateOrProvinceName", "ST", b"ST"),
    ("localityName", "L", b"L"),
    ("organizationName", "O", b"O"),
    ("organizationalUnitName", "OU", b"OU"),
    ("commonName", "CN", b"CN"),
    ("title", "title", b"T"),
    ("initials", "initials", b"I"),
    ("givenName", "GN", b"G"),
    ("surname", "SN", b"S"),
    ("description", "description", b"D"),
    ("userId", "UID", b"UID"),
    ("emailAddress", "emailAddress", b"Email"),
    ("domainComponent", "DC", b""),
)
SHORT = {name: short for name, short, _ in PARTS}

MOST_NAME_OCTETS = 1024  # of a client's name for the log: it goes into one packet
EXPORT_BITS = 56


def entry(name: bytes, value: bytes | str | int) -> bytes:
    """Give one entry; a NUL in the value is written out."""
    octets = value if isinstance(value, bytes) else str(value).encode()
    return name + b"=" + octets.replace(b"\0", b"\\x00") + b"\0"


def brief(connection: "TlsSocket") -> bytes:
    """Tell what belongs into a log."""
    name, _, bits = connection.cipher() or ("", "", 0)
    told = entry(b"SSL_PROTOCOL", connection.version() or "")
    told += entry(b"SSL_CIPHER", name)
    told += entry(b"SSL_CIPHER_USEKEYSIZE", bits)
    if connection.asked:
        told += entry(b"SSL_TLS_SNI_SERVERNAME", connection.asked)
    client = client_certificate(connection)
    if client:
        subject = one_line(client["subject"])[:MOST_NAME_OCTETS]
        told += entry(b"SSL_CLIENT_S_DN", subject)
        told += entry(b"SSL_CLIENT_M_SERIAL", int(client["serialNumber"], 16))
    return told + bound_to(connection.context)


def bound_to(context: ssl.SSLContext) -> bytes:
    """Tell the channel binding of the certificate, if it has one."""
    found = context.binding if isinstance(context, ServerContext) else b""
    return entry(VARIABLE, found.hex()) if found else b""


def whole(connection: "TlsSocket") -> bytes:
    """Tell everything, with the empty entry that ends it."""
    name, _, bits = connection.cipher() or ("", "", 0)
    told = [
        entry(b"SSL_PROTOCOL", connection.version() or ""),
        # Not connection.session: each look at it leaks 1 KiB in CPython 3.11.
        entry(b"SSL_SESSION_ID", ""),
        entry(b"SSL_CIPHER", name),
        entry(b"SSL_CIPHER_EXPORT", "true" if bits < EXPORT_BITS else "false"),
        entry(b"SSL_CIPHER_USEKEYSIZE", bits),
        entry(b"SSL_CIPHER_ALGKEYSIZE", _algorithm_bits(connection.context, name)),
        entry(b"SSL_VERSION_INTERFACE", f"qtools/{__version__}"),
        entry(b"SSL_VERSION_LIBRARY", ssl.OPENSSL_VERSION),
    ]
    if connection.asked:
        told.append(entry(b"SSL_TLS_SNI_SERVERNAME", connection.asked))
    if isinstance(connection.context, ServerContext):
        told.append(connection.context.dump)
    client = client_certificate(connection)
    if client:
        pem = ssl.DER_cert_to_PEM_cert(connection.getpeercert(binary_form=True) or b"")
        told.append(about(b"SSL_CLIENT", client, pem.encode()))
    return b"".join(told) + bound_to(connection.context) + b"\0"


def _algorithm_bits(context: ssl.SSLContext, cipher: str) -> int:
    known = {row["name"]: row["alg_bits"] for row in context.get_ciphers()}
    return known.get(cipher, 0)


def client_certificate(connection: "TlsSocket") -> "Decoded":
    """Give the verified certificate of the client; empty when there is none."""
    try:
        return connection.getpeercert() or {}
    except ValueError:  # a text in it that is none
        return {}


def about(prefix: bytes, decoded: "Decoded", pem: bytes) -> bytes:
    """Tell about one certificate; prefix: SSL_SERVER or SSL_CLIENT."""
    told = [
        entry(prefix + b"_M_VERSION", decoded["version"]),
        entry(prefix + b"_M_SERIAL", int(decoded["serialNumber"], 16)),
        *_name(prefix + b"_S_DN", decoded["subject"]),
        *_name(prefix + b"_I_DN", decoded["issuer"]),
        entry(prefix + b"_V_START", decoded["notBefore"]),
        entry(prefix + b"_V_END", decoded["notAfter"]),
        entry(prefix + b"_CERT", pem),
    ]
    return b"".join(told)


def _name(prefix: bytes, name: "Any") -> "Iterator[bytes]":
    yield entry(prefix, one_line(name))
    for long_name, _, suffix in PARTS:
        for part in name:
            for kind, value in part:
                if kind == long_name and suffix:
                    yield entry(prefix + b"_" + suffix, value)


def one_line(name: "Any") -> bytes:
    r"""Write a name as /C=DE/CN=joe; of values only visible ASCII stays as it is.

    The slash becomes \x2f in them, or a value could look like a further part.
    """
    told = b""
    for part in name:
        for kind, value in part:
            plain = "".join(map(_visible, value.encode(errors="replace")))
            told += f"/{SHORT.get(kind, kind)}={plain}".encode("ascii", "replace")
    return told


def _visible(octet: int) -> str:
    is_plain = 0x20 <= octet < 0x7F and octet not in b"/\\"
    return chr(octet) if is_plain else f"\\x{octet:02x}"


def host_names(decoded: "Decoded") -> list[str]:
    """Give the host names of a certificate, in lower case, wildcards as they are.

    The common name counts only where there is no other (RFC 6125 section 6.4.4).
    """
    names = [
        value for kind, value in decoded.get("subjectAltName", ()) if kind == "DNS"
    ]
    if not names:
        parts = [pair for part in decoded["subject"] for pair in part]
        names = [value for kind, value in parts if kind == "commonName"]
    return [name.lower() for name in names]
