# SPDX-License-Identifier: ISC
"""Find the servers we are compared with; fetch Debian's packages where they are not.

Debian's POP3 servers conflict with each other and start themselves when installed, so
they are unpacked into .cache/peers and never installed. What the environment names
comes first (README.md lists the variables).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

# Package -> folder. Both packages of dovecot share one, as its programs expect.
PACKAGES = {
    "ucspi-tcp": "ucspi-tcp",
    "popa3d": "popa3d",
    "solid-pop3d": "solid-pop3d",
    "liblockfile1": "liblockfile1",
    "poppassd": "poppassd",
    "dovecot-core": "dovecot",
    "dovecot-pop3d": "dovecot",
}
# What is not needed when a program is installed.
_INSTALLED = {"ucspi-tcp": "tcpserver", "dovecot": "dovecot"}

_CACHE = Path(__file__).resolve().parent.parent / ".cache"


def folder() -> Path:
    """Give the folder in which the packages lie, or will lie, unpacked."""
    return Path(os.environ.get("BENCH_PEERS", _CACHE / "peers"))


def unpack() -> None:
    """Download and unpack what is missing, and say so; without apt, do nothing."""
    missing = [
        name
        for name, place in PACKAGES.items()
        if not (folder() / place).is_dir()
        and not (place in _INSTALLED and shutil.which(_INSTALLED[place]))
    ]
    if not missing or shutil.which("apt-get") is None:
        return
    folder().mkdir(parents=True, exist_ok=True)
    for name in missing:
        print(f"bench: downloading Debian package {name} into {folder()}")
        command = ("apt-get", "-q", "download", name)
        done = subprocess.run(command, cwd=folder(), check=False, capture_output=True)
        for found in folder().glob(f"{name}_*.deb"):
            target = folder() / PACKAGES[name]
            subprocess.run(("dpkg-deb", "-x", found, target), check=True)
            found.unlink()
        if done.returncode != 0:
            print(f"bench: {name} cannot be had; it will be left out")


def program(variable: str, name: str) -> str | None:
    """Find a program: by its variable, then on PATH, then in the unpacked packages."""
    given = os.environ.get(variable)
    if given:
        return given
    found = shutil.which(name)
    if found:
        return found
    for place in ("usr/bin", "usr/sbin"):
        for candidate in sorted(folder().glob(f"*/{place}/{name}")):
            return str(candidate)
    return None


def library_path() -> str:
    """Give the folders of unpacked shared libraries, as the loader wants them."""
    found = folder().glob("*/usr/lib/*/*.so*")
    return ":".join(sorted({str(path.parent) for path in found}))
