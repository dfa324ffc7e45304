# SPDX-License-Identifier: ISC
"""A client by hand: one pop3d process on a socket pair, and what was said."""

import os
import re
import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from tests.support import IS_ROOT, OWNER, PATIENCE_SECONDS


class Ended(NamedTuple):
    """What a process had said when it ended, its exit code, its descriptor 2."""

    output: bytes
    code: int
    errors: str


class Pop3:
    """The client's end of a connection to a program that runs as support.OWNER."""

    def __init__(
        self, argv: list[str], folder: Path, env: dict[str, str] | None = None
    ) -> None:
        self.client, theirs = socket.socketpair()
        self.client.settimeout(PATIENCE_SECONDS)
        self.said = b""
        self._unread = b""
        with theirs:
            self.process = subprocess.Popen(
                argv,
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.PIPE,
                cwd=folder,
                env={"PATH": "/usr/bin:/bin"} if env is None else env,
                user=OWNER[0] if IS_ROOT else None,
                group=OWNER[1] if IS_ROOT else None,
                extra_groups=() if IS_ROOT else None,
            )

    def __enter__(self) -> Self:
        """Leave nothing behind."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        why: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.client.close()
        self.process.kill()
        self.process.communicate()

    def send(self, data: bytes) -> None:
        """Say something, anything."""
        self.client.sendall(data)

    def _receive(self) -> bytes:
        try:
            return self.client.recv(65536)
        except ConnectionResetError:  # it left something unread
            return self.client.recv(65536)

    def line(self) -> bytes:
        """Give the next line with its end; empty when the server has closed."""
        while b"\n" not in self._unread:
            if not (part := self._receive()):
                line, self._unread = self._unread, b""
                return line
            self._unread += part
        line, _, self._unread = self._unread.partition(b"\n")
        return line + b"\n"

    def ask(self, command: bytes) -> bytes:
        """Send a command and give the one line of its reply."""
        self.send(command + b"\r\n")
        return self.line()

    def lines(self) -> list[bytes]:
        """Give the lines of a multi-line reply up to its dot, without ends, stuffed."""
        found = []
        while (line := self.line()) != b".\r\n":
            assert line.endswith(b"\r\n"), line
            found.append(line[:-2])
        return found

    def fetch(self, command: bytes) -> bytes:
        """Send RETR or TOP and give the message as a client stores it."""
        assert self.ask(command).startswith(b"+OK")
        return b"".join(line.removeprefix(b".") + b"\r\n" for line in self.lines())

    def end(self, *, shut: bool = True) -> Ended:
        """Read to the end and wait for the process; shut: send no more before."""
        if shut:
            self.client.shutdown(socket.SHUT_WR)
        rest = self._unread
        while part := self._receive():
            rest += part
        _, errors = self.process.communicate(timeout=PATIENCE_SECONDS)
        return Ended(rest, self.process.returncode, errors.decode())


def talk(
    argv: list[str], folder: Path, said: bytes, env: dict[str, str] | None = None
) -> Ended:
    """Say all of it at once and give all that came back."""
    with Pop3(argv, folder, env) as client:
        client.send(said)
        return client.end()


def make_maildir(path: Path, messages: dict[str, bytes]) -> Path:
    """Make a Maildir with files by "folder/name", one second apart in this order."""
    for folder in (path, path / "tmp", path / "new", path / "cur"):
        folder.mkdir(0o700)
    for number, (name, stored) in enumerate(messages.items()):
        add(path, name, stored, 1_000_000_000 + number)
    own(path)
    return path


def add(path: Path, name: str, stored: bytes, second: int = 1_100_000_000) -> Path:
    """Put one more file into a Maildir."""
    place = path / name
    place.write_bytes(stored)
    os.utime(place, (second, second))
    own(place)
    return place


def own(path: Path) -> None:
    """Give a file, or a folder with all in it, to support.OWNER."""
    for place in (path, *path.rglob("*")):
        os.chown(place, *OWNER, follow_symlinks=False)


def names(path: Path) -> set[str]:
    """Give "folder/name" of all that is in new/ and cur/."""
    folders = (path / "new", path / "cur")
    return {
        f"{folder.name}/{name}" for folder in folders for name in os.listdir(folder)
    }


def contents(path: Path) -> list[bytes]:
    """Give the messages that are in new/ and cur/, a file with two names once."""
    files = {os.stat(path / name).st_ino: path / name for name in names(path)}
    return sorted(file.read_bytes() for file in files.values())


STATUS = re.compile(rb"(\+OK|-ERR)[ -~]*\r\n")
