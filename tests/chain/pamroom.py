# SPDX-License-Identifier: ISC
"""Services of PAM for tests: in a folder of their own, or for a while in the system's.

Modules of other packages are named by their path, so that nothing is to be set up.
"""

import contextlib
import posix
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from qtools.accounts.interface import Identity
from qtools.accounts.pam.source import Source
from qtools.accounts.verifier import Verifier
from tests import support

MODULES = {
    "pam_matrix": ("pam_wrapper", "libpam-wrapper"),
    "pam_set_items": ("pam_wrapper", "libpam-wrapper"),
    "pam_pwdfile": ("security", "libpam-pwdfile"),
}
SYSTEM = Path("/etc/pam.d")

# A module that asks for the password, and takes whatever it gets for good.
ASKS = "pam_exec expose_authtok quiet /bin/cat"

STEPS = ("auth", "account", "password", "session")


def module(name: str) -> str:
    """Give what names a module in a service; skip the test without it."""
    folder, package = MODULES.get(name, ("security", "libpam-modules"))
    found = sorted(Path("/usr/lib").glob(f"*/{folder}/{name}.so"))
    found += sorted(Path("/lib").glob(f"*/{folder}/{name}.so"))
    if not found:
        pytest.skip(f"needs {name}: Debian package {package}")
    return str(found[0])


def lines(*rows: str) -> str:
    """Give a service: rows of step, control, module and its arguments.

    The step "all" is each of them; a step that no row has gets pam_permit, and auth
    a module that asks for the password first.
    """
    made = []
    if not any(row.startswith(("auth", "all")) for row in rows):
        rows = (f"auth required {ASKS}", *rows)
    for row in rows:
        steps, control, name, *arguments = row.split()
        rest = " ".join((control, module(name), *arguments))
        taken = STEPS if steps == "all" else steps.split(",")
        made += [f"{step} {rest}" for step in taken]
    missing = [s for s in STEPS if not any(line.startswith(s) for line in made)]
    made += [f"{step} required {module('pam_permit')}" for step in missing]
    return "\n".join(made) + "\n"


def script(path: Path, text: str) -> Path:
    """Write a program for pam_exec, or for command:."""
    path.write_text(text)
    path.chmod(0o755)
    return path


class PamRoom:
    """A folder with services, what they log, and an account source that uses it."""

    def __init__(self, room: Path) -> None:
        self.room = room
        self.folder = room / "pam.d"
        self.folder.mkdir()
        self.log = room / "log"
        self.logger = script(
            room / "logger",
            "#!/bin/sh\n"
            'echo "$PAM_TYPE $PAM_SERVICE $PAM_USER $PAM_RHOST $PAM_TTY $MAILDIR"'
            f" >>{self.log}\n",
        )

    def service(self, *rows: str, name: str = "pop3") -> None:
        """Make a service; see lines()."""
        (self.folder / name).write_text(lines(*rows))

    def source(self, service: bytes = b"pop3") -> Source:
        """Give the source, which makes nobody wait."""
        return Source(service, folder=bytes(self.folder), has_delay=False)

    def logged(self) -> list[str]:
        """Give what the logger has written, one line a step."""
        return self.log.read_text().splitlines() if self.log.exists() else []


class Attempt:
    """A login in a process of its own, as a verifier has it: its code, who it is."""

    def __init__(
        self, source: Source, user: bytes, secret: bytes, challenge: bytes = b""
    ) -> None:
        self.verifier = Verifier(
            lambda: source.verify(user, secret, challenge), ["try"], is_verbose=True
        )
        self.code, self.who = self.verifier.wait()

    def identity(self) -> Identity:
        """Give who it is; only for those who are let in."""
        assert self.code == 0
        assert self.who is not None
        return self.who

    def end(self) -> None:
        """End the session, and wait until that is done."""
        self.verifier.release()
        assert posix.waitpid(self.verifier._pid, 0)[1] == 0


def log_in(source: Source, user: bytes, secret: bytes) -> int:
    """Log in, and out again; give the code."""
    attempt = Attempt(source, user, secret)
    if attempt.who is not None:
        attempt.end()
    return attempt.code


@contextlib.contextmanager
def system_service(*rows: str) -> Iterator[str]:
    """Give the name of a service that the system has for a while."""
    support.need_root()
    if not SYSTEM.is_dir():
        pytest.skip("needs /etc/pam.d: Debian package libpam-runtime")
    path = SYSTEM / f"qt{secrets.token_hex(4)}"
    path.write_text(lines(*rows))
    try:
        yield path.name
    finally:
        path.unlink()
