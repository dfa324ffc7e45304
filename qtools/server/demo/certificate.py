# SPDX-License-Identifier: ISC
"""A certificate for the demo, signed by itself: for localhost and its addresses.

Python's library can use certificates but not make them. The openssl command can, and
so can the package cryptography, which is looked for by an interpreter of its own: ours
may have been started without the packages of the site.
"""

import os
import shutil
import subprocess
import sys

CERTIFICATE, KEY = "certificate.pem", "key.pem"
DAYS = 30  # longer than any demo runs; a key nobody guards should not last
PATIENCE_SECONDS = 20

# Ours and not the system's configuration, which may say anything or be missing. A
# client that checks strictly wants all of these.
CONFIGURATION = """\
[req]
prompt = no
distinguished_name = name
x509_extensions = use
[name]
CN = localhost
[use]
basicConstraints = critical, CA:TRUE
keyUsage = critical, digitalSignature, keyCertSign
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost, IP:127.0.0.1, IP:::1
subjectKeyIdentifier = hash
"""


def make(folder: str) -> "tuple[str, str] | None":
    """Make a certificate and its key in a folder; give their paths.

    None: neither openssl nor cryptography is here, or neither of them could.
    """
    certificate, key = f"{folder}/{CERTIFICATE}", f"{folder}/{KEY}"
    for words in (_openssl(folder, certificate, key), _cryptography(certificate, key)):
        if words and _run(words):
            os.chmod(certificate, 0o644)
            os.chmod(key, 0o600)
            return certificate, key
    return None


def _openssl(folder: str, certificate: str, key: str) -> list[str]:
    """Give the words that have openssl make it; none when it is not here."""
    program = shutil.which("openssl")
    if program is None:
        return []
    path = f"{folder}/openssl.cnf"
    with open(path, "w", encoding="ascii") as file:
        file.write(CONFIGURATION)
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    return [
        *(program, "req", "-x509", "-sha256", "-days", str(DAYS), "-config", path),
        *(*curve, "-keyout", key, "-out", certificate),
    ]


def _cryptography(certificate: str, key: str) -> list[str]:
    """Give the words that have an interpreter with the site's packages make it."""
    script = os.path.join(os.path.dirname(__file__), "self_signed.py")
    return [sys.executable, "-I", "-B", script, certificate, key, str(DAYS)]


def _run(words: list[str]) -> bool:
    """Run a program that is to say nothing; tell whether it could."""
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
