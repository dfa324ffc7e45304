# SPDX-License-Identifier: ISC
"""Make a certificate signed by itself, with the package cryptography.

A script, run by certificate.py as `python -I self_signed.py CERTIFICATE KEY
DAYS`; it finds none of our modules and needs none.
"""

import datetime as dt
import ipaddress
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _extensions(x509: "Any", key: "Any") -> "list[tuple[Any, bool]]":
    """Give what stands in the certificate, each with whether it is critical."""
    usage = dict.fromkeys(
        (
            *("content_commitment", "key_encipherment", "data_encipherment"),
            *("key_agreement", "crl_sign", "encipher_only", "decipher_only"),
        ),
        False,
    )
    addresses = map(ipaddress.ip_address, ("127.0.0.1", "::1"))
    names = [x509.DNSName("localhost"), *map(x509.IPAddress, addresses)]
    server = x509.oid.ExtendedKeyUsageOID.SERVER_AUTH
    signs = x509.KeyUsage(digital_signature=True, key_cert_sign=True, **usage)
    return [
        (x509.BasicConstraints(ca=True, path_length=None), True),
        (signs, True),
        (x509.ExtendedKeyUsage([server]), False),
        (x509.SubjectAlternativeName(names), False),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
    ]


def main(certificate: str, key: str, days: int) -> None:
    """Write certificate and key."""
    from cryptography import x509  # type: ignore[import-not-found,unused-ignore]
    from cryptography.hazmat.primitives import (  # type: ignore[import-not-found,unused-ignore]
        hashes,
        serialization,
    )
    from cryptography.hazmat.primitives.asymmetric import (  # type: ignore[import-not-found,unused-ignore]
        ec,
    )

    made = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(name, name, made.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - dt.timedelta(hours=1))
    builder = builder.not_valid_after(now + dt.timedelta(days=days))
    for extension, is_critical in _extensions(x509, made):
        builder = builder.add_extension(extension, is_critical)
    pem = serialization.Encoding.PEM
    _write(key, made.private_bytes(pem, *_form(serialization)))
    _write(certificate, builder.sign(made, hashes.SHA256()).public_bytes(pem))


def _form(serialization: "Any") -> "tuple[Any, Any]":
    return serialization.PrivateFormat.PKCS8, serialization.NoEncryption()


def _write(path: str, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
