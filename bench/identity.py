# SPDX-License-Identifier: ISC
"""A certificate and its key, made for one run."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, NamedTuple

from bench.cost import BenchError

if TYPE_CHECKING:
    from pathlib import Path

KINDS = {
    "RSA-2048": ("rsa:2048",),
    "ECDSA P-256": ("ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
}


class Identity(NamedTuple):
    """Files in PEM."""

    certificate: Path
    key: Path


def identity(folder: Path, kind: str) -> Identity:
    """Make a certificate that nobody else has signed, with a key of one of KINDS."""
    name = kind.partition(" ")[0].lower()
    made = Identity(folder / f"{name}.crt", folder / f"{name}.key")
    command = ("openssl", "req", "-x509", "-nodes", "-days", "2")
    subject = ("-subj", "/CN=bench.example", "-newkey", *KINDS[kind])
    files = ("-out", str(made.certificate), "-keyout", str(made.key))
    done = subprocess.run(
        (*command, *subject, *files), check=False, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise BenchError(f"openssl made no certificate: {done.stderr.strip()[-200:]}")
    return made
