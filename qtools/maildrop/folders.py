# SPDX-License-Identifier: ISC
"""The folders new/ and cur/ of a Maildir, read while others rename what lies there.

Listing them and looking at each file takes many system calls, and nothing keeps other
programs from moving a message to cur/ or changing its flags in between. What was listed
under a name it no longer has, or under two, is therefore looked for again by its base
name. In a Maildir at rest that costs nothing.
See: maildir(5).
"""

import posix
from errno import EACCES, ELOOP, ENOENT, ENOTDIR
from time import time_ns

from qtools.errors import Temporary
from qtools.maildrop import uids
from qtools.maildrop.update import VANISHED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    # Time of the last change in seconds, name, path, octets, device, inode.
    Found = tuple[float, bytes, bytes, int, int, int]

FOLDERS = (b"new/", b"cur/")
ROUNDS = 3  # how often a message that is renamed under our hands is looked for

_OPEN = posix.O_RDONLY | posix.O_CLOEXEC | posix.O_DIRECTORY
_DOT = 46  # indexing octets gives numbers
_TYPE_BITS, _REGULAR, _LINK = 0o170000, 0o100000, 0o120000
_MTIME = 8  # its place in a stat result, in whole seconds; by name it has fractions

# Of two changes within a tick of the file system's clock the second leaves the folder's
# time alone. The coarsest known is FAT's, 2 seconds.
TICK_NANOSECONDS = 2_000_000_000

# What a link can lead to instead of a file that we may reach.
_NOWHERE = VANISHED | {EACCES, ELOOP, ENOENT, ENOTDIR}


class Folders:
    """Both folders of one Maildir; paths are relative to root, its descriptor.

    needs_cur: false reads a missing cur/ as an empty one.
    Raises: OSError, as all methods do.
    """

    def __init__(self, path: bytes, *, needs_cur: bool = True) -> None:
        self._path = path
        self._needs_cur = needs_cur
        self._stamps: list[int] = []  # of both when they were listed; empty: no trust
        self.root = posix.open(path, _OPEN)

    def close(self) -> None:
        """Let go of the Maildir."""
        if self.root >= 0:
            posix.close(self.root)
            self.root = -1

    def scan(self) -> "tuple[list[Found], list[bytes]]":
        """Give every file that is a message, in order, and their base names.

        Raises: Temporary when messages are renamed faster than they are found.
        """
        found, doubtful = self._look(self.paths())
        found.sort()
        bases = uids.bases([entry[1] for entry in found])
        doubtful |= repeated(bases)
        if doubtful:
            found = [entry for entry in found if uids.base(entry[1]) not in doubtful]
            found += self.find(doubtful)
            found.sort()
            bases = uids.bases([entry[1] for entry in found])
        return found, bases

    def find(self, bases: set[bytes]) -> "list[Found]":
        """Give all files that have these base names.

        Raises: Temporary when they are renamed faster than they are found.
        """
        found: list[Found] = []
        for _ in range(ROUNDS):
            listed = [path for path in self.paths() if uids.base(path[4:]) in bases]
            seen, bases = self._look(listed)
            found += [entry for entry in seen if uids.base(entry[1]) not in bases]
            if not bases:
                return found
        raise Temporary("messages are renamed all the time")

    def paths(self) -> list[bytes]:
        """Give the paths of all files.

        A file renamed while its folder is read can be left out, or one that moves from
        cur/ to new/. So folders that change are read twice, and all names count.
        """
        stamps = self._now()
        paths = self._listed()
        if self._now() == stamps and max(stamps) < time_ns() - TICK_NANOSECONDS:
            self._stamps = stamps
            return paths
        self._stamps = []
        return list({*paths, *self._listed()})

    def has_changed(self) -> bool:
        """Tell whether a listing may give something else than the last one gave."""
        return self._now() != self._stamps

    def distrust(self) -> None:
        """Forget when they were listed, as nothing came of it."""
        self._stamps = []

    def _listed(self) -> list[bytes]:
        """Read new/ first, as messages move to cur/ for the most part."""
        return [
            folder + name
            for folder in FOLDERS
            for name in self._names(folder)
            if name[0] != _DOT
        ]

    def _names(self, folder: bytes) -> list[bytes]:
        try:
            return posix.listdir(self._path + b"/" + folder)
        except FileNotFoundError:
            if self._needs_cur or folder != b"cur/":
                raise
            return []

    def _look(self, paths: "Iterable[bytes]") -> "tuple[list[Found], set[bytes]]":
        """Give those of the files that are messages, and the base names of the lost."""
        found = []
        lost = set()
        for path in paths:
            try:
                facts = posix.stat(path, dir_fd=self.root)
            except OSError as why:
                if self._is_lost(path, why):
                    lost.add(uids.base(path[4:]))
                continue
            if facts.st_mode & _TYPE_BITS == _REGULAR:
                octets, device, inode = facts.st_size, facts.st_dev, facts.st_ino
                found.append((facts[_MTIME], path[4:], path, octets, device, inode))
        return found, lost

    def _is_lost(self, path: bytes, why: OSError) -> bool:
        """Tell a file that is gone from a link that leads nowhere.

        Raises: OSError for a file that is there and can't be looked at. A message that
        is left out for that is a message the client takes for removed.
        """
        try:
            facts = posix.stat(path, dir_fd=self.root, follow_symlinks=False)
        except OSError as again:
            if again.errno in VANISHED:
                return True
            raise
        if facts.st_mode & _TYPE_BITS == _LINK and why.errno in _NOWHERE:
            return False
        if why.errno in VANISHED:
            return True  # and is back
        raise why

    def _now(self) -> list[int]:
        """Give when each folder changed last, in nanoseconds."""
        return [self._stamp(folder) for folder in FOLDERS]

    def _stamp(self, folder: bytes) -> int:
        try:
            return posix.stat(folder, dir_fd=self.root).st_mtime_ns
        except OSError:
            return 0


def repeated(bases: "Sequence[bytes]") -> set[bytes]:
    """Give those that occur more than once."""
    seen = set(bases)
    if len(seen) == len(bases):
        return set()
    found = set()
    for base in bases:
        if base in seen:
            seen.remove(base)
        else:
            found.add(base)
    return found


def merge(found: "list[Found]") -> "tuple[list[Found], dict[bytes, list[bytes]]]":
    """Take the names of one file for one message, in the order given.

    A move to cur/ gives a file two names for a moment, or for longer when it was cut
    short. Gives the messages, and for the path of each that has more names those.
    """
    first: dict[tuple[bytes, int, int], bytes] = {}
    single = []
    twins: dict[bytes, list[bytes]] = {}
    for entry in reversed(found):
        _, name, path, _, device, inode = entry
        known = first.setdefault((uids.base(name), device, inode), path)
        if known is path:
            single.append(entry)
        else:
            twins.setdefault(known, []).append(path)
    single.reverse()
    return single, twins
