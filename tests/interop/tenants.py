# SPDX-License-Identifier: ISC
"""A throw-away user of the system, in /etc/passwd and /etc/shadow."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.support import need, need_root, wait_for


class Tenant(NamedTuple):
    """A user: name, numbers, home."""

    name: str
    uid: int
    gid: int
    home: Path

    @property
    def maildir(self) -> Path:
        """Where mail lies."""
        return self.home / "Maildir"

    def own(self, path: Path, mode: int) -> Path:
        """Give a file or folder to the user."""
        os.chown(path, self.uid, self.gid)
        path.chmod(mode)
        return path

    def move_in(self, files: dict[str, bytes]) -> None:
        """Have these files, in new or cur, in the Maildir, and nothing else."""
        shutil.rmtree(self.maildir, ignore_errors=True)
        for folder in ("", "tmp", "new", "cur"):
            (self.maildir / folder).mkdir()
            self.own(self.maildir / folder, 0o700)
        for second, (name, octets) in enumerate(files.items()):
            path = self.maildir / name
            path.write_bytes(octets)
            os.utime(self.own(path, 0o600), (1_000_000_000 + second,) * 2)

    def files(self) -> list[str]:
        """Give what is in new and cur."""
        found = [*self.maildir.glob("new/*"), *self.maildir.glob("cur/*")]
        return sorted(str(path.relative_to(self.maildir)) for path in found)


def _change(*words: str) -> None:
    """Run a command that changes users.

    Just now another one may hold the lock, or the user's last process be ending.
    """

    def is_done() -> bool:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        is_busy = "try again later" in done.stderr or "is currently" in done.stderr
        assert done.returncode == 0 or is_busy, done.stderr
        return not is_busy

    wait_for(is_done)


@contextmanager
def tenant(place: Path, name: str, password_hash: str) -> Iterator[Tenant]:
    """Make a user with a home below place; remove both at the end."""
    need_root()
    useradd = need("useradd", "passwd")
    home = place / name
    words = ["-M", "-U", "-s", "/bin/sh", "-d", str(home), "-p", password_hash, name]
    _change(useradd, *words)
    try:
        entry = pwd.getpwnam(name)
        found = Tenant(name, entry.pw_uid, entry.pw_gid, home)
        home.mkdir()
        found.own(home, 0o755)
        yield found
    finally:
        _change(need("userdel", "passwd"), name)
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def servant(name: str, home: str) -> Iterator[None]:
    """Have the user, and the empty folder, that a foreign server asks for."""
    need_root()
    folder = Path(home)
    is_here = any(entry.pw_name == name for entry in pwd.getpwall())
    has_folder = folder.exists()
    if not is_here:
        words = ["-r", "-M", "-d", home, "-s", "/usr/sbin/nologin", name]
        _change(need("useradd", "passwd"), *words)
    try:
        if not has_folder:
            folder.mkdir(mode=0o755)
        yield
    finally:
        if not has_folder:
            folder.rmdir()
        if not is_here:
            _change(need("userdel", "passwd"), name)
