# SPDX-License-Identifier: ISC
"""The server's TLS contexts: one for each certificate, chosen by the name asked for.

TLS 1.2 and 1.3; for 1.2 only key exchange with forward secrecy and authenticated
ciphers, the server's order, no compression, no renegotiation. There are no session
tickets: the library would keep one key for them as long as the process lives, and that
key opens every recorded session of TLS 1.2. Clients of 1.2 may resume a session of the
last two hours by its number while they reach the same process, at most 20480 of them
with some 1.3 KiB each; those of 1.3 do a whole handshake each time.
See: RFC 9325 sections 3 and 4; RFC 6066 section 3 and RFC 6125 section 6.4.3 (names).
"""

import re
import ssl
from os import fstat
from ssl import _ssl  # type: ignore[attr-defined]  # nothing public reads a file

from qtools.errors import Hard, from_os_error
from qtools.server.addresses import host_name
from qtools.server.tls import dump as tls_dump
from qtools.server.tls.connection import ServerContext, TlsSocket
from qtools.server.tls.end_point import binding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from qtools.server.tls.settings import TlsSettings

    Choose = Callable[[TlsSocket, str | None, ssl.SSLContext], None]

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
VERIFY = {
    "": ssl.CERT_NONE,
    "ask": ssl.CERT_OPTIONAL,
    "require": ssl.CERT_REQUIRED,
}
EVERYBODY = 0o007  # bits of a mode

PEM = re.compile(
    "-----BEGIN (TRUSTED |X509 |)CERTIFICATE-----.*?-----END \\1CERTIFICATE-----\n?",
    re.DOTALL,
)


def load(settings: "TlsSettings") -> ServerContext:
    """Give the context of the first certificate, which hands over to the others.

    Raises: Hard, Temporary.
    """
    contexts = [_context(settings, *pair) for pair in settings.certificates]
    named: dict[str, ServerContext] = {}
    for context in contexts:
        for name in context.names:
            named.setdefault(name, context)
    # The library's types ask for its other kind of connection, which is not ours.
    contexts[0].sni_callback = _chooser(named)  # type: ignore[assignment]
    return contexts[0]


def _chooser(named: dict[str, ServerContext]) -> "Choose":
    def choose(
        connection: TlsSocket, asked: str | None, _context: ssl.SSLContext
    ) -> None:
        name = host_name((asked or "").encode("ascii", "replace")).decode()
        if not name:
            return
        connection.asked = name
        chosen = named.get(name) or named.get("*." + name.partition(".")[2])
        if chosen is not None and chosen is not connection.context:
            connection.context = chosen

    return choose


def _context(settings: "TlsSettings", certificate: str, key: str) -> ServerContext:
    """Make the context of one certificate.

    The parts that do not depend on the certificate have to be the same in each: the
    library takes some from the first and some from the one chosen.
    """
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion[settings.minimum.replace(".", "_")]
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    context.num_tickets = 0  # those of TLS 1.3
    try:
        context.set_ciphers(settings.ciphers or CIPHERS)
    except ssl.SSLError:
        raise Hard(f"no cipher known in this list: {settings.ciphers}") from None
    _trust(context, settings)
    _identify(context, certificate, key or certificate)
    return context


def _trust(context: ServerContext, settings: "TlsSettings") -> None:
    """Say whose clients' certificates are accepted, if any are."""
    if settings.client_ca:
        _look_at(settings.client_ca)
        try:
            context.load_verify_locations(settings.client_ca)
        except ssl.SSLError as why:
            raise Hard(f"no CA in {settings.client_ca}: {_reason(why)}") from None
    context.verify_mode = VERIFY[settings.client_certificate]


def _identify(context: ServerContext, certificate: str, key: str) -> None:
    """Load the certificate and its key."""

    def refuse() -> "NoReturn":
        raise Hard(f"the key in {key} is encrypted, and there is nobody to ask")

    _look_at(certificate)
    mode = _look_at(key)
    try:
        context.load_cert_chain(certificate, key, refuse)
    except ssl.SSLError as why:
        if why.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
            text = f"the key in {key} does not belong to the certificate {certificate}"
            raise Hard(text) from None
        text = f"unable to use certificate {certificate} with key {key}"
        raise Hard(f"{text}: {_reason(why)}") from None
    if mode & EVERYBODY:
        raise Hard(f"everybody may read or change the key: chmod o= {key}")
    decoded = _ssl._test_decode_cert(certificate)  # noqa: SLF001  # see its import
    context.names = tls_dump.host_names(decoded)
    pem = _first_pem(certificate)
    context.dump = tls_dump.about(b"SSL_SERVER", decoded, pem)
    context.binding = binding(pem)


def _look_at(path: str) -> int:
    """Make sure that a file can be read; give its mode.

    The library's own complaints lack the name, and often the reason.
    """
    try:
        with open(path, "rb") as file:
            return fstat(file.fileno()).st_mode
    except OSError as why:
        raise from_os_error(why, f"read {path}") from None


def _first_pem(path: str) -> bytes:
    with open(path, encoding="latin-1") as file:
        found = PEM.search(file.read())
    return found[0].encode("latin-1") if found else b""


def _reason(why: ssl.SSLError) -> str:
    if not why.reason:  # the library has nothing to say about a file without PEM
        return "no certificate or no key in it"
    return why.reason.replace("_", " ").lower()


def warnings(settings: "TlsSettings", now: float) -> list[str]:
    """Give a line for each certificate that is not valid now."""
    told = []
    for path, _ in settings.certificates:
        decoded = _ssl._test_decode_cert(path)  # noqa: SLF001  # see its import
        if now > ssl.cert_time_to_seconds(decoded["notAfter"]):
            told.append(f"the certificate {path} expired on {decoded['notAfter']}")
        if now < ssl.cert_time_to_seconds(decoded["notBefore"]):
            told.append(f"the certificate {path} begins on {decoded['notBefore']}")
    return told
