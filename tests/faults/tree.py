# SPDX-License-Identifier: ISC
"""What the kernel tells of processes: kinds of our own, descriptors, memory."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

MASTER, NURSERY, WORKER = "master", "nursery", "login worker"
VERIFIER, TLS, SESSION = "verifier", "TLS worker", "session"

LISTENING = "0A"

# Kinds of descriptors.
LISTENER, CLIENT, CHANNEL, PAIR = "listener", "client", "channel", "pair"
EPOLL, NULL, PIPE = "epoll", "null", "pipe"
UNIX_TYPES = {"0001": PAIR, "0002": "datagram", "0005": CHANNEL}


class Process(NamedTuple):
    """One process: its number and what its status says."""

    pid: int
    status: dict[str, str]

    @property
    def uids(self) -> list[int]:
        """Real, effective, saved, file system's."""
        return [int(word) for word in self.status["Uid"].split()]

    @property
    def gids(self) -> list[int]:
        """Real, effective, saved, file system's."""
        return [int(word) for word in self.status["Gid"].split()]

    @property
    def groups(self) -> list[int]:
        """Supplementary ones."""
        return [int(word) for word in self.status["Groups"].split()]

    def place(self, name: str) -> str:
        """Give where a link of its folder in /proc leads to: root, cwd, exe."""
        return os.readlink(f"/proc/{self.pid}/{name}")

    def limit(self, name: str) -> list[str]:
        """Give soft and hard limit."""
        text = Path(f"/proc/{self.pid}/limits").read_text(encoding="ascii")
        (line,) = (each for each in text.splitlines() if each.startswith(name))
        return line.removeprefix(name).split()[:2]


def look(pid: int) -> Process:
    """Read a process's status.

    Raises: OSError when it is gone.
    """
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    pairs = (line.partition(":")[::2] for line in text.splitlines())
    return Process(pid, {name: value.strip() for name, value in pairs})


def children(pid: int) -> list[int]:
    """Give the children of a process, ended ones included."""
    with suppress(FileNotFoundError, ProcessLookupError):
        place = Path(f"/proc/{pid}/task/{pid}/children")
        return [int(word) for word in place.read_text(encoding="ascii").split()]
    return []


def descriptors(pid: int, table: dict[str, str] | None = None) -> dict[int, str]:
    """Give what is open in a process, by its kind or the path of a file."""
    table = sockets() if table is None else table
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):
            found[int(name)] = _kind(os.readlink(f"/proc/{pid}/fd/{name}"), table)
    return found


def count(pid: int) -> int:
    """Give how many descriptors are open in a process."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def _kind(link: str, table: dict[str, str]) -> str:
    if link.startswith("socket:"):
        return table.get(link[8:-1], "socket")
    words = {"anon_inode:[eventpoll]": EPOLL, "/dev/null": NULL}
    return PIPE if link.startswith("pipe:") else words.get(link, link)


def inodes(pid: int) -> dict[str, int]:
    """Give the sockets of a process: descriptor by inode."""
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):
            link = os.readlink(f"/proc/{pid}/fd/{name}")
            if link.startswith("socket:"):
                found[link[8:-1]] = int(name)
    return found


def sockets() -> dict[str, str]:
    """Give the kind of each socket of this machine by its inode."""
    found = {}
    for state, inode in _rows("/proc/net/tcp", 3, 9):
        found[inode] = LISTENER if state == LISTENING else CLIENT
    for kind, inode in _rows("/proc/net/unix", 4, 6):
        found[inode] = UNIX_TYPES[kind]
    return found


def _rows(path: str, *columns: int) -> Iterator[list[str]]:
    for line in Path(path).read_text(encoding="ascii").splitlines()[1:]:
        words = line.split()
        yield [words[column] for column in columns]


def ports(pid: int) -> list[int]:
    """Give the ports on which a process listens, in the order of its descriptors."""
    here = inodes(pid)
    found = []
    for place, state, inode in _rows("/proc/net/tcp", 1, 3, 9):
        if state == LISTENING and inode in here:
            found.append((here[inode], int(place.partition(":")[2], 16)))
    return [port for _, port in sorted(found)]


_known: dict[tuple[int, str], str] = {}  # by pid and when it was forked


def kind_of(pid: int, table: dict[str, str] | None = None) -> str:
    """Tell what a child of a master is; empty for one that has just been forked.

    By what it holds, whoever it runs as: listeners, the ssl library, a loop, channels.
    """
    try:
        key = pid, _stat(pid)[19]
        kind = _known.get(key) or _kind_of(pid, descriptors(pid, table))
    except OSError:
        return ""
    if kind:
        _known[key] = kind
    return kind


def _kind_of(pid: int, held: dict[int, str]) -> str:
    kinds = [kind for number, kind in held.items() if number > 2]
    if PIPE in kinds:
        return ""  # the master's own, which it is about to close
    if EPOLL not in kinds:
        return VERIFIER if kinds.count(CHANNEL) == 3 else ""
    if LISTENER in kinds:
        return WORKER
    has_ssl = re.search(r"/_ssl[^/]*\.so", Path(f"/proc/{pid}/maps").read_text())
    return TLS if has_ssl else NURSERY


def _stat(pid: int) -> list[str]:
    """Give the words behind the name: state, parent, ..."""
    text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    return text.rpartition(")")[2].split()


def crew(pid: int) -> dict[str, list[int]]:
    """Give a master's children by their kind, and sessions, his children's."""
    found: dict[str, list[int]] = {}
    table = sockets()
    for child in children(pid):
        kind = kind_of(child, table)
        found.setdefault(kind, []).append(child)
        if kind == NURSERY:
            found.setdefault(SESSION, []).extend(children(child))
    return {kind: pids for kind, pids in found.items() if pids}


def descendants(pid: int) -> list[int]:
    """Give all below a process."""
    below = children(pid)
    return below + [each for child in below for each in descendants(child)]


def is_there(pid: int) -> bool:
    """Tell whether a process lives: one that has ended and waits does not."""
    try:
        return look(pid).status["State"][0] not in "ZX"
    except OSError:
        return False


def zombies(pid: int) -> list[int]:
    """Give children that have ended and were not taken leave of."""
    return [each for each in children(pid) if not is_there(each)]


def memory(pid: int) -> int:
    """Give how many octets of memory are a process's own."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    rows = [line.split() for line in text.splitlines()[1:]]
    return 1024 * sum(
        int(row[1]) for row in rows if row[0] in ("Private_Clean:", "Private_Dirty:")
    )


def ticks(pid: int) -> int:
    """Give the processor time of a process, in ticks."""
    return sum(map(int, _stat(pid)[11:13]))
