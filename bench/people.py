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
SALTS = {
    "des": b"qt",
    "md5": b"$1$qtbench$",
    "sha512": b"$6$qtbench$",
    "yescrypt": b"$y$j9T$qtbench/qtbench/qtben/$",
}

_AGE_SECONDS = 3600  # qmail-pop3d hides a message of the current second
_HASHES_TIMED_SECONDS = 0.2
_LOCKED_ATTEMPTS = 40  # somebody else changes /etc/passwd just now
_LOCKED_PAUSE_SECONDS = 0.25


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
    count, began = 0, time.process_time()
    while time.process_time() - began < _HASHES_TIMED_SECONDS:
        crypt(kind)
        count += 1
    return (time.process_time() - began) / count


def _run(*argv: str, text: str = "") -> None:
    for _ in range(_LOCKED_ATTEMPTS):
        done = subprocess.run(
            argv, input=text, check=False, capture_output=True, text=True
        )
        if done.returncode == 0:
            return
        if "lock" not in done.stderr:
            break
        time.sleep(_LOCKED_PAUSE_SECONDS)
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


def make_maildir(home: Path, owner: str) -> None:
    """Make a home with an empty Maildir in it."""
    for part in ("", "Maildir", "Maildir/new", "Maildir/cur", "Maildir/tmp"):
        folder = home / part
        folder.mkdir()
        shutil.chown(folder, owner, "users")
        folder.chmod(0o755 if part == "" else 0o700)


def mbox(messages: Sequence[bytes]) -> bytes:
    """Give the mailbox file that holds these messages."""
    line = b"From bench@example Thu Jan  1 00:00:00 2026\n"
    return b"".join(line + text + b"\n" for text in messages)


class Household:
    """A folder with homes in it and the users who live there, for one `with`."""

    def __init__(self, people: int, hash_kind: str) -> None:
        """Take the number of users and the kind of their password hash."""
        self.users = [f"{PREFIX}{number}" for number in range(people)]
        self.hash_kind = hash_kind
        self.hash = crypt(hash_kind)
        self._servants: list[str] = []
        self._folders: list[Path] = []
        self._links: list[Path] = []

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
        make_maildir(self.home(user), user)
        self.put(SPOOL / user, b"", user)

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
        for link in self._links:
            link.unlink(missing_ok=True)
        for folder in (self.folder, *self._folders):
            shutil.rmtree(folder, ignore_errors=True)

    def home(self, user: str) -> Path:
        """Give the home of a user."""
        return self.folder / user

    def servant(self, name: str, home: str = "") -> None:
        """Make the system user and the empty folder a compared server asks for."""
        try:
            pwd.getpwnam(name)
        except KeyError:
            place = home or "/nonexistent"
            _run("useradd", "-r", "-M", "-d", place, "-s", "/usr/sbin/nologin", name)
            self._servants.append(name)
        if home and not Path(home).exists():
            Path(home).mkdir(mode=0o755)
            self._folders.append(Path(home))

    def link(self, name: str, target: Path) -> None:
        """Make the link that a program not installed asks for, unless it is there."""
        if not Path(name).exists():
            Path(name).symlink_to(target)
            self._links.append(Path(name))

    def set_hash(self, kind: str) -> None:
        """Give all users another kind of hash of the same secret."""
        self.hash_kind, self.hash = kind, crypt(kind)
        lines = "".join(f"{user}:{self.hash}\n" for user in self.users)
        _run("chpasswd", "-e", text=lines)

    def virtual_home(self, user: str) -> Path:
        """Give the user's home among those that all belong to one uid."""
        return self.folder / "virtual" / user

    def make_virtual(self) -> str:
        """Make homes and Maildirs for the users' names, all owned by one user.

        Gives: that user's name.
        """
        owner = self.users[0]
        if not self.virtual_home(owner).exists():
            self.virtual_home(owner).parent.mkdir()
            for user in self.users:
                make_maildir(self.virtual_home(user), owner)
        return owner

    def deliver(self, user: str, messages: Sequence[bytes]) -> list[Path]:
        """Give a user these messages, in Maildir and mbox alike; give their files."""
        paths = []
        for number, text in enumerate(messages):
            name = f"{1000000000 + number}.bench{number}.host:2,"
            path = self.home(user) / "Maildir/cur" / name
            self.put(path, text, user, _AGE_SECONDS - number)
            paths.append(path)
        self.put(SPOOL / user, mbox(messages), user)
        return paths

    def put(
        self, path: Path, data: bytes, user: str, age_seconds: int = _AGE_SECONDS
    ) -> None:
        """Write a file of the user's; qmail-pop3d counts messages by their age."""
        path.write_bytes(data)
        path.chmod(0o600)
        shutil.chown(path, user, "users")
        then = time.time() - age_seconds
        os.utime(path, (then, then))
