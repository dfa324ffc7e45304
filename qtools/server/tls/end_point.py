# SPDX-License-Identifier: ISC
"""The channel binding tls-server-end-point: what a certificate comes to, in one hash.

A client that proves its password together with this value proves that it speaks with
the holder of this very certificate: somebody between the two who has another one is
found out. The hash is that of the certificate's signature; instead of MD5 and SHA-1 it
is SHA-256. Where the signature has no hash of its own, or two different ones, there is
no such binding.
See: RFC 5929 section 4.1; RFC 5280, 5758, 4055 and 8410 (algorithms).
"""

import hashlib
from binascii import Error, a2b_base64

from qtools.server.tls.der import (
    FIRST_CONTEXT,
    SEQUENCE,
    Malformed,
    Reader,
    algorithm,
    certificate,
)
from qtools.system.ucspi import END_POINT

VARIABLE = END_POINT  # in hexadecimal; whom it is told, believes nobody else's

_RSA, _ECDSA = "1.2.840.113549.1.1.", "1.2.840.10045.4."
_NIST = "2.16.840.1.101.3.4."  # .2: hashes, .3: signatures
_PSS, _MASK = _RSA + "10", _RSA + "8"
_SHA1 = "1.3.14.3.2.26"
_SUBSTITUTE = "sha256"  # for what is too weak

# Of a signature: the hash to take.
SIGNATURES = {
    _RSA + "4": _SUBSTITUTE,  # with MD5
    _RSA + "5": _SUBSTITUTE,  # with SHA-1, as are the next two
    "1.2.840.10040.4.3": _SUBSTITUTE,
    _ECDSA + "1": _SUBSTITUTE,
    _RSA + "14": "sha224",
    _RSA + "11": "sha256",
    _RSA + "12": "sha384",
    _RSA + "13": "sha512",
    _ECDSA + "3.1": "sha224",
    _ECDSA + "3.2": "sha256",
    _ECDSA + "3.3": "sha384",
    _ECDSA + "3.4": "sha512",
    _NIST + "3.1": "sha224",  # DSA
    _NIST + "3.2": "sha256",
    _NIST + "3.3": "sha384",
    _NIST + "3.4": "sha512",
    _NIST + "3.9": "sha3_224",  # ECDSA
    _NIST + "3.10": "sha3_256",
    _NIST + "3.11": "sha3_384",
    _NIST + "3.12": "sha3_512",
    _NIST + "3.13": "sha3_224",  # RSA
    _NIST + "3.14": "sha3_256",
    _NIST + "3.15": "sha3_384",
    _NIST + "3.16": "sha3_512",
}

# The hashes that the parameters of RSASSA-PSS can name.
HASHES = {
    "1.2.840.113549.2.5": _SUBSTITUTE,
    _SHA1: _SUBSTITUTE,
    _NIST + "2.1": "sha256",
    _NIST + "2.2": "sha384",
    _NIST + "2.3": "sha512",
    _NIST + "2.4": "sha224",
    _NIST + "2.7": "sha3_224",
    _NIST + "2.8": "sha3_256",
    _NIST + "2.9": "sha3_384",
    _NIST + "2.10": "sha3_512",
}


def binding(pem: bytes) -> bytes:
    """Give the binding of a certificate in PEM; empty where there is none."""
    try:
        lines = pem.strip().splitlines()[1:-1]
        alone, signature, parameters = certificate(a2b_base64(b"".join(lines)))
        is_pss = signature == _PSS
        name = _pss_hash(parameters) if is_pss else SIGNATURES.get(signature, "")
    except (Malformed, Error):
        return b""
    return hashlib.new(name, alone).digest() if name else b""


def _pss_hash(parameters: bytes) -> str:
    """Give the one hash that RSASSA-PSS is used with, or "".

    Raises: Malformed.
    See: RFC 4055 section 3.1, where what is left out stands for SHA-1.
    """
    reader = Reader(Reader(parameters).take(SEQUENCE))
    found = mask = _SHA1
    if reader.next_tag() == FIRST_CONTEXT:
        found, _ = algorithm(Reader(reader.take(FIRST_CONTEXT)).take(SEQUENCE))
    if reader.next_tag() == FIRST_CONTEXT + 1:
        inner = Reader(reader.take(FIRST_CONTEXT + 1)).take(SEQUENCE)
        generation, inside = algorithm(inner)
        mask, _ = algorithm(Reader(inside).take(SEQUENCE))
        if generation != _MASK:
            return ""
    return HASHES.get(found, "") if found == mask else ""
