# SPDX-License-Identifier: ISC
"""Throw-away system users with mail, made for one run and removed after it.

They are real lines in /etc/passwd and /etc/shadow, because that is what the servers
compared read. Their names begin with a word nobody else uses; a name that is already
there stops the bench before it touches anything.
"""

from __future__ import annotations

import ctypes
import functools
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from bench.client import SECRET
from bench.cost import BenchError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

PREFIX = "qtbench"
SPOOL = Path("/var/mail")
SALTS = {"des": b"qt", "md5": b"$1$qtbench$", "sha512": b"$6$qtbench$"}

_AGE_SECONDS = 3600  # qmail-pop3d hides a message of the current second
_HASHES_TIMED = 200


@functools.cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL("libcrypt.so.1")
    library.crypt.argtypes = (ctypes.c_char_p, ctypes.c_char_p)
    library.crypt.restype = ctypes.c_char_p
    return library


def crypt(kind: str) -> str:
    """Hash the common secret with one of SALTS, by the system's own library."""
    made: bytes | None = _library().crypt(SECRET, SALTS[kind])
    if made is None or made.startswith(b"*"):
        raise BenchError(f"this system's libcrypt does not make {kind} hashes")
    return made.decode("ascii")


def hash_seconds(kind: str) -> float:
    """Give the CPU seconds of one hash, to be told apart from a server's own cost."""
    began = time.process_time()
    for _ in range(_HASHES_TIMED):
        crypt(kind)
    return (time.process_time() - began) / _HASHES_TIMED


def _run(*argv: str) -> None:
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise BenchError(f"{argv[0]} failed: {done.stderr.strip()}")


def leftovers() -> list[str]:
    """Give the names of users that an interrupted run has left behind."""
    return [entry.pw_name for entry in pwd.getpwall() if _is_ours(entry.pw_name)]


def _is_ours(name: str) -> bool:
    return name.startswith(PREFIX) and name.removeprefix(PREFIX).isdigit()


def sweep() -> None:
    """Remove users and spool files that an interrupted run has left behind."""
    for name in leftovers():
        _run("userdel", name)
        (SPOOL / name).unlink(missing_ok=True)


class Household:
    """A folder with homes in it and the users who live there, for one `with`."""

    def __init__(self, people: int, hash_kind: str) -> None:
        """Take the number of users and the kind of their password hash."""
        self.users = [f"{PREFIX}{number}" for number in range(people)]
        self.hash_kind = hash_kind
        self.hash = crypt(hash_kind)
        self._servants: list[str] = []
        self._folders: list[Path] = []

    def __enter__(self) -> Self:
        """Make folder and users; homes are empty Maildirs and empty mailboxes."""
        if leftovers():
            raise BenchError("users of an earlier run: bench/run --clean removes them")
        self.folder = Path(tempfile.mkdtemp(prefix="qtbench-"))
        self.folder.chmod(0o755)
        try:
            for user in self.users:
                self._make(user)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _make(self, user: str) -> None:
        home = str(self.home(user))
        _run("useradd", "-M", "-N", "-g", "users", "-d", home, "-p", self.hash, user)
        for part in ("", "Maildir", "Maildir/new", "Maildir/cur", "Maildir/tmp"):
            folder = self.home(user) / part
            folder.mkdir()
            shutil.chown(folder, user, "users")
            folder.chmod(0o755 if part == "" else 0o700)
        self._put(SPOOL / user, b"", user)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        why: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove users, homes, spool files and servants."""
        sweep()
        for name in self._servants:
            _run("userdel", name)
        for folder in (self.folder, *self._folders):
            shutil.rmtree(folder, ignore_errors=True)

    def home(self, user: str) -> Path:
        """Give the home of a user."""
        return self.folder / user

    def servant(self, name: str, home: str) -> None:
        """Make the system user and the empty folder a compared server asks for."""
        try:
            pwd.getpwnam(name)
        except KeyError:
            _run("useradd", "-r", "-M", "-d", home, "-s", "/usr/sbin/nologin", name)
            self._servants.append(name)
        if not Path(home).exists():
            Path(home).mkdir(mode=0o755)
            self._folders.append(Path(home))

    def deliver(self, user: str, messages: Sequence[bytes]) -> list[Path]:
        """Give a user these messages, in Maildir and mbox alike; give their files."""
        paths = []
        for number, text in enumerate(messages):
            name = f"{1000000000 + number}.bench{number}.host:2,"
            path = self.home(user) / "Maildir/cur" / name
            self._put(path, text, user, _AGE_SECONDS - number)
            paths.append(path)
        line = b"From bench@example Thu Jan  1 00:00:00 2026\n"
        mbox = b"".join(line + text + b"\n" for text in messages)
        self._put(SPOOL / user, mbox, user)
        return paths

    def _put(
        self, path: Path, data: bytes, user: str, age_seconds: int = _AGE_SECONDS
    ) -> None:
        """Write a file of the user's; qmail-pop3d counts messages by their age."""
        path.write_bytes(data)
        path.chmod(0o600)
        shutil.chown(path, user, "users")
        then = time.time() - age_seconds
        os.utime(path, (then, then))
