# SPDX-License-Identifier: ISC
"""What the administrator says about TLS: certificates, keys, whom to trust.

The options come first; the variables of sslserver (CERTFILE and its kin) fill in what
they leave open. Nothing here loads the ssl library before load() is called: the master
needs the settings, and never the library.
"""

import sys

from qtools.errors import Hard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from qtools.server.tls.connection import ServerContext
    from qtools.system.options import Values

MINIMA = ("TLSv1.2", "TLSv1.3")
CLIENT_RULES = ("ask", "require")
NO_CLIENT_CA = "-"  # what sslserver takes for "none"


class TlsSettings:
    """What is needed to speak TLS as a server.

    certificates: path of each certificate with its chain, and of its key, empty when
    that is in the same file; the first is for clients that name no other host.
    client_ca: path, or empty. client_certificate: "", "ask" or "require". ciphers:
    OpenSSL's list for TLS 1.2, empty for the default. minimum: "TLSv1.2" or "TLSv1.3".
    """

    __slots__ = (
        "certificates",
        "ciphers",
        "client_ca",
        "client_certificate",
        "minimum",
    )

    def __init__(self, certificates: list[tuple[str, str]]) -> None:
        self.certificates = certificates
        self.client_ca = ""
        self.client_certificate = ""
        self.ciphers = ""
        self.minimum = MINIMA[0]


def settings_from(
    values: "Values", environ: "Mapping[bytes, bytes]"
) -> TlsSettings | None:
    """Give the settings, or None when no certificate is named.

    Of sslserver's variables CERTCHAINFILE, CERTFILE, KEYFILE, CCAFILE and CIPHERS
    count. Whoever names a client CA and no rule wants certificates asked for.
    Raises: Hard when options contradict each other.
    """
    certificates = _certificates(values, environ)
    if not certificates:
        for name in ("key", "client-ca", "client-certificate"):
            if name in values:
                raise Hard(f"--{name} without --certificate")
        return None
    made = TlsSettings(certificates)
    made.ciphers = values.get("ciphers") or _variable(environ, b"CIPHERS")
    made.minimum = _one_of(values, "tls-minimum", MINIMA) or MINIMA[0]
    made.client_ca = values.get("client-ca") or _variable(environ, b"CCAFILE")
    if made.client_ca == NO_CLIENT_CA:
        made.client_ca = ""
    made.client_certificate = _one_of(values, "client-certificate", CLIENT_RULES)
    if made.client_certificate and not made.client_ca:
        raise Hard("--client-certificate needs --client-ca: who signs them?")
    if made.client_ca and not made.client_certificate:
        made.client_certificate = "ask"
    return made


def _certificates(
    values: "Values", environ: "Mapping[bytes, bytes]"
) -> list[tuple[str, str]]:
    paths, keys = values.every("certificate"), values.every("key")
    if not paths:
        path = _variable(environ, b"CERTCHAINFILE") or _variable(environ, b"CERTFILE")
        return [(path, _variable(environ, b"KEYFILE"))] if path else []
    if keys and len(keys) != len(paths):
        raise Hard("as many --key as --certificate, in the same order, or none")
    return list(zip(paths, keys or [""] * len(paths), strict=True))


def _variable(environ: "Mapping[bytes, bytes]", name: bytes) -> str:
    value = environ.get(name, b"")
    return value.decode(sys.getfilesystemencoding(), "surrogateescape")


def _one_of(values: "Values", name: str, words: tuple[str, ...]) -> str:
    value = values.get(name, "")
    if value and value not in words:
        raise Hard(f"--{name} takes {' or '.join(words)}, not {value}")
    return value


def load(settings: TlsSettings) -> "ServerContext":
    """Read certificates and keys, and give the context for relay.run().

    To be called by whoever may read the keys, before he gives up his privileges. It
    loads the ssl library.
    Raises: Hard, with the file's name; Temporary.
    """
    from qtools.server.tls import context as tls_context

    return tls_context.load(settings)


def warnings(settings: TlsSettings, now: float) -> list[str]:
    """Give a line for each certificate that clients are going to refuse.

    Takes the time in seconds since 1970. A server that starts with an expired
    certificate is better than none: somebody may have to fetch his mail about it.
    """
    from qtools.server.tls import context as tls_context

    return tls_context.warnings(settings, now)
