# SPDX-License-Identifier: ISC
"""A private /etc and /dev for the programs of a test: users, PAM services, a log.

Programs run in a mount namespace of their own in which a copy of /etc stands in the
place of the machine's, so that PAM's modules write to the copy, and in which /dev/log
is a socket that the test reads. Needs root, as whatever changes real passwords does.
"""

import shutil
import socket
import subprocess
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Self

from tests.support import PATIENCE_SECONDS, need, need_root

DEVICES = ("null", "zero", "random", "urandom", "tty")
# Of /etc: what programs, the name service and PAM look at.
NEEDED = (
    *("passwd", "shadow", "group", "gshadow", "nsswitch.conf", "login.defs"),
    *("pam.d", "pam.conf", "security", "environment", "ld.so.cache", "localtime"),
    *("hosts", "services", "protocols"),
)
SCRIPT = """
for node in {devices}; do mount --bind /dev/$node {place}/dev/$node; done
mount --bind {place}/etc /etc
mount --rbind {place}/dev /dev
exec "$@"
"""
NOW, END = "up to now", "up to the end"  # said by the test itself
MATRIX = "pam_wrapper/pam_matrix.so"
NEVER = 99999  # days until a password has to be changed
CHANGED = 19000  # the day, counted from 1970, on which that began


def module(path: str) -> str:
    """Give the place of a PAM module that is not where PAM looks by itself."""
    (found,) = Path("/usr/lib").glob(f"*/{path}")
    return str(found)


class Estate:
    """One private /etc and /dev, below a folder that exists as long as the test."""

    def __init__(self, place: Path) -> None:
        need_root()
        self._unshare = need("unshare", "util-linux")
        self.place = place
        place.mkdir()
        (place / "etc").mkdir()
        parts = [path for name in NEEDED if (path := Path("/etc", name)).exists()]
        subprocess.run(["cp", "-a", *parts, place / "etc"], check=True)
        (place / "dev").mkdir()
        for node in DEVICES:
            (place / "dev" / node).touch()
        self._log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._log.bind(str(place / "dev/log"))
        (place / "dev/log").chmod(0o666)
        self._lines: Queue[str] = Queue()
        # A log that nobody reads holds up whoever writes to it.
        self._reader = Thread(target=self._read_log, daemon=True)
        self._reader.start()
        script = SCRIPT.format(devices=" ".join(DEVICES), place=place)
        (place / "enter").write_text(script, encoding="ascii")

    def __enter__(self) -> Self:
        """Stay until the end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the log and remove the folder."""
        self._say(END)
        self._reader.join()
        self._log.close()
        shutil.rmtree(self.place)

    @property
    def etc(self) -> Path:
        """What is /etc there."""
        return self.place / "etc"

    def command(self, *words: str) -> list[str]:
        """Give the words that run a program in there."""
        how = ("-m", "--propagation", "private", "sh", "-eu")
        return [self._unshare, *how, str(self.place / "enter"), *words]

    def add_user(self, name: str, uid: int, stored: str = "!", aging: str = "") -> None:
        """Add a system user; stored: the hash, aging: what stands behind it."""
        with (self.etc / "passwd").open("a", encoding="ascii") as file:
            file.write(f"{name}:x:{uid}:{uid}::/nonexistent:/bin/false\n")
        with (self.etc / "shadow").open("a", encoding="ascii") as file:
            file.write(f"{name}:{stored}:{aging or f'{CHANGED}:0:{NEVER}:7:::'}\n")

    def stored(self, name: str) -> str:
        """Give the hash that is stored now."""
        for line in (self.etc / "shadow").read_text(encoding="ascii").splitlines():
            if line.startswith(f"{name}:"):
                return line.split(":")[1]
        raise KeyError(name)

    def service(self, name: str, *lines: str) -> None:
        """Write a PAM service."""
        text = "".join(f"{line}\n" for line in lines)
        (self.etc / "pam.d" / name).write_text(text, encoding="ascii")

    def matrix(self, service: str, **secrets: str) -> Path:
        """Have a service ask pam_matrix about these users; give its file."""
        passdb = self.place / f"{service}.passdb"
        rows = [f"{user}:{secret}:{service}\n" for user, secret in secrets.items()]
        passdb.write_text("".join(rows), encoding="ascii")
        words = f"required {module(MATRIX)} passdb={passdb}"
        self.service(service, *(f"{kind} {words}" for kind in KINDS))
        return passdb

    def log(self) -> list[str]:
        """Give what has come to the log since the last time."""
        self._say(NOW)
        return list(iter(lambda: self._lines.get(timeout=PATIENCE_SECONDS), NOW))

    def _say(self, line: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(line.encode(), str(self.place / "dev/log"))

    def _read_log(self) -> None:
        for line in iter(lambda: self._log.recv(8192).decode("ascii"), END):
            self._lines.put(line.rstrip("\n\0"))


KINDS = ("auth", "account", "password", "session")
