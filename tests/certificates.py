# SPDX-License-Identifier: ISC
"""An authority of our own and what it signs, made by the openssl command.

Each is made once in a run: ask authority() with the same folder.
"""

import functools
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.support import need

CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")


class Pair(NamedTuple):
    """A certificate and its key, as files in PEM."""

    certificate: Path
    key: Path


class Authority:
    """A CA in a folder; ca: its certificate."""

    def __init__(self, folder: Path, name: str = "Test CA") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._openssl = need("openssl", "openssl")
        self._own = self._place("ca")
        self.ca = self._own.certificate
        words = ["-subj", f"/O=qtools/CN={name}", "-out", str(self.ca)]
        words += ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
        self._make("req", "-x509", *CURVE, "-nodes", "-days", "2", *words)

    def _place(self, name: str) -> Pair:
        return Pair(self.folder / f"{name}.pem", self.folder / f"{name}.key")

    def _make(self, command: str, *words: str) -> None:
        key = ("-keyout", str(self._own.key)) if "-x509" in words else ()
        subprocess.run(
            [self._openssl, command, *words, *key], check=True, capture_output=True
        )

    @functools.cache  # noqa: B019  # an authority lives as long as the run
    def server(self, *names: str) -> Pair:
        """Give a certificate for host names; the first is its common name, too."""
        wanted = ",".join(f"DNS:{name}" for name in names)
        place = "+".join(names).replace("*", "any")
        return self._sign(place, f"/O=qtools/CN={names[0]}", wanted)

    @functools.cache  # noqa: B019
    def unnamed(self, name: str) -> Pair:
        """Give one whose host is named by the common name only."""
        return self._sign(f"cn-{name}", f"/CN={name}")

    @functools.cache  # noqa: B019
    def client(self, name: str) -> Pair:
        """Give a certificate for a person."""
        subject = f"/C=DE/O=qtools/OU=Mail/CN={name}/emailAddress=joe@example"
        return self._sign(f"client-{len(name)}", subject)

    def _sign(self, place: str, subject: str, names: str = "") -> Pair:
        made = self._place(place)
        request = str(self.folder / f"{place}.csr")
        words = [*CURVE, "-nodes", "-subj", subject, "-out", request, "-utf8"]
        words += ["-addext", f"subjectAltName={names}"] if names else []
        self._make("req", "-new", *words, "-keyout", str(made.key))
        words = ["-in", request, "-CA", str(self.ca), "-CAkey", str(self._own.key)]
        words += ["-days", "2", "-copy_extensions", "copyall"]
        self._make("x509", "-req", *words, "-out", str(made.certificate))
        return made

    @functools.cache  # noqa: B019
    def combined(self, *names: str) -> Path:
        """Give one file with a key and its certificate, in this order."""
        made = self.server(*names)
        path = made.certificate.with_suffix(".both")
        path.touch(mode=0o600)
        path.write_bytes(made.key.read_bytes() + made.certificate.read_bytes())
        return path

    @functools.cache  # noqa: B019
    def locked_key(self, *names: str) -> Path:
        """Give the key of a server's certificate, encrypted."""
        key = self.server(*names).key
        path = key.with_suffix(".locked")
        words = ["-in", str(key), "-aes256", "-passout", "pass:x", "-out", str(path)]
        self._make("ec", *words)
        path.chmod(0o600)
        return path


@functools.cache
def authority(folder: Path, name: str = "Test CA") -> Authority:
    """Give the authority of a folder, made the first time."""
    return Authority(folder, name)
