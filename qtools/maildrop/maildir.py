# SPDX-License-Identifier: ISC
"""A Maildir as a maildrop: which files are messages, in which order, how to reach them.

Numbers follow the time of the file's last change in seconds, then its name. A message
of this very second, or from the future, is as complete as others (delivery is one
rename), so it is shown. Files are named relative to the Maildir's own descriptor, in
parallel lists: an object for each message would cost more than reading the directory.
No lock is taken, as a Maildir needs none: what another session removed is gone.
See: maildir(5), RFC 1939 section 5.
"""

import posix

from qtools.errors import Failure, Temporary, from_os_error
from qtools.maildrop import folders, octets, uids, update
from qtools.maildrop.folders import ROUNDS, Folders
from qtools.maildrop.interface import Gone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from qtools.maildrop.folders import Found

# Never wait for the other end, should somebody put a FIFO in a message's place.
_OPEN = posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK | posix.O_NOCTTY

MOVES_BEFORE_REPLY = 1000  # about 10 ms; the rest of a long backlog can wait


class Maildir:
    """One Maildir, scanned once.

    path: the Maildir. moves: on update() take messages from new/ to cur/.
    needs_cur: false reads a missing cur/ as an empty one.
    Raises: Hard when there is no such Maildir or it may not be read; Temporary.
    """

    def __init__(
        self, path: bytes, *, moves: bool = True, needs_cur: bool = True
    ) -> None:
        self._path = path
        self._moves = moves
        self._to_move: list[bytes] = []
        self._twins: dict[int, list[bytes]] = {}
        # Of messages that share a base name, or have several names:
        self._known: dict[int, tuple[int, int]] = {}  # device and inode
        self._marks: dict[int, bytes] = {}
        self._uids: Sequence[bytes] = ()
        try:
            self._folders = Folders(path, needs_cur=needs_cur)
        except OSError as why:
            raise _unreadable(path, why) from why
        try:
            found, self._bases = self._folders.scan()
        except OSError as why:
            self.close()
            raise _unreadable(path, why) from why
        except Failure:
            self.close()
            raise
        if folders.repeated(self._bases):
            found = self._merge(found)
        self.count = len(found)
        self._paths = [entry[2] for entry in found]
        self._octets = list(
            map(octets.promised, self._bases, [entry[3] for entry in found])
        )

    @property
    def _root(self) -> int:
        return self._folders.root

    def close(self) -> None:
        """Let go of the Maildir."""
        self._folders.close()

    def octets(self, number: int) -> int:
        """Give the octets RETR will send; those of an unreadable message are 0."""
        known = self._octets[number - 1]
        if known == octets.UNKNOWN:
            known = self._octets[number - 1] = self._count(number)
        return known

    def all_octets(self) -> "Sequence[int]":
        """Give octets() of every message."""
        if octets.UNKNOWN in self._octets:
            for number in range(1, self.count + 1):
                self.octets(number)
        return self._octets

    def uid(self, number: int) -> bytes:
        """Give the unique-id."""
        return self.all_uids()[number - 1]

    def all_uids(self) -> "Sequence[bytes]":
        """Give uid() of every message."""
        if not self._uids:
            self._uids = uids.assign(self._bases, self._marks)
        return self._uids

    def open(self, number: int) -> int:
        """Open a message, under whatever flags it has by now."""
        for _ in range(ROUNDS):
            try:
                descriptor = posix.open(
                    self._paths[number - 1], _OPEN, dir_fd=self._root
                )
            except OSError as why:
                if why.errno not in update.VANISHED:
                    raise Temporary(f"unable to open a message: {why}") from why
            else:
                if self._is_that(number - 1, descriptor):
                    return descriptor
                posix.close(descriptor)
            if not self._find_again([number]):
                break
        raise Gone

    def _is_that(self, index: int, descriptor: int) -> bool:
        """Tell whether the file that was opened is the message."""
        known = self._known.get(index)
        try:
            return known is None or update.identity(descriptor) == known
        except OSError:
            return False

    def update(self, deleted: "Collection[int]") -> int:
        """Remove the deleted messages, then move from new/ to cur/."""
        for index, twins in self._twins.items():
            for twin in twins:
                if update.is_same_file(self._root, self._paths[index], twin):
                    update.unlink_quietly(twin, self._root)
        failed = self._remove(deleted)
        if self._moves:
            gone = set(deleted)
            self._to_move = [
                path
                for number, path in enumerate(self._paths, 1)
                if path.startswith(b"new/") and number not in gone
            ]
        self._move(MOVES_BEFORE_REPLY)
        return failed

    def tidy(self) -> None:
        """Move what is left of a long backlog and clean tmp/."""
        self._move(len(self._to_move))
        update.clean_tmp(self._path + b"/tmp")

    def _move(self, most: int) -> None:
        batch, self._to_move = self._to_move[:most], self._to_move[most:]
        for path in batch:
            update.move_to_cur(self._root, path)

    def _remove(self, deleted: "Collection[int]") -> int:
        """Give how many of the deleted messages are still there."""
        failed = 0
        waiting = sorted(deleted)
        for _ in range(ROUNDS):
            missing = []
            for number in waiting:
                try:
                    if not self._remove_one(number - 1):
                        missing.append(number)
                except OSError:
                    failed += 1
            waiting = self._find_again(missing) if missing else []
            if not waiting:
                return failed
        return failed + len(waiting)

    def _remove_one(self, index: int) -> bool:
        """Remove a message; false when one of its names is not there, or another's."""
        known = self._known.get(index)
        if known is None:
            return update.remove(self._root, self._paths[index])
        paths = (self._paths[index], *self._twins.get(index, ()))
        there = [path for path in paths if update.identity(path, self._root) == known]
        removed = [update.remove(self._root, path) for path in there]
        return len(there) == len(paths) and all(removed)

    def _count(self, number: int) -> int:
        try:
            descriptor = self.open(number)
        except (Gone, Temporary):
            return 0
        try:
            return octets.count(descriptor)
        except OSError:
            return 0
        finally:
            posix.close(descriptor)

    def _merge(self, found: "list[Found]") -> "list[Found]":
        """Leave out further names of one file, and mark files with one base name.

        The mark is the inode, which renaming and linking leave alone, and the time of
        the last change, as inodes are used again. In a copy of the Maildir those few
        messages are new ones.
        """
        single, twins = folders.merge(found)
        self._bases = uids.bases([entry[1] for entry in single])
        shared = folders.repeated(self._bases)
        for index, (changed, _, path, _, device, inode) in enumerate(single):
            if path in twins:
                self._twins[index] = twins[path]
            if path in twins or self._bases[index] in shared:
                self._known[index] = device, inode
            if self._bases[index] in shared:
                self._marks[index] = b"%d.%d" % (inode, changed)
        return single

    def _find_again(self, numbers: list[int]) -> list[int]:
        """Look for messages that vanished; give those there under another name.

        Everything that was renamed is noted at once, and nothing is read as long as
        the folders do not change: another program may have renamed all.
        """
        if not self._folders.has_changed():
            return []
        try:
            listed = set(self._folders.paths())
            listed |= self._follow_known()
        except (OSError, Failure):
            self._folders.distrust()
            return numbers  # nothing is known; nobody is told that they are gone
        self._follow(listed)
        return [number for number in numbers if self._paths[number - 1] in listed]

    def _follow_known(self) -> set[bytes]:
        """Look for messages that share a base name by their files; give the paths.

        The name of one that is gone may be another's by now: it gets none.
        """
        if not self._known:
            return set()
        found = self._folders.find({self._bases[index] for index in self._known})
        single, twins = folders.merge(sorted(found))
        places = {entry[4:]: entry[2] for entry in single}
        for index, known in self._known.items():
            self._paths[index] = path = places.get(known, b"")
            self._twins[index] = twins.get(path, [])
        return set(places.values())

    def _follow(self, listed: set[bytes]) -> None:
        """Take over the new name of each other message whose old one is not listed.

        Where there is a choice nothing is guessed: DELE must never reach another
        message than the one the client saw.
        """
        places: dict[bytes, list[bytes]] = {}
        for path in listed.difference(self._paths):
            places.setdefault(uids.base(path[4:]), []).append(path)
        lost = [
            index
            for index, path in enumerate(self._paths)
            if path not in listed and index not in self._known
        ]
        for index in lost:
            found = places.get(self._bases[index], [])
            if len(found) == 1:
                self._paths[index] = found[0]


def _unreadable(path: bytes, why: OSError) -> Failure:
    doing = "read maildir " + path.decode("ascii", "backslashreplace")
    return from_os_error(why, doing)
