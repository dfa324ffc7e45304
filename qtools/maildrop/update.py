# SPDX-License-Identifier: ISC
"""The steps by which files leave a Maildir's folders or change them.

Each is one system call on one message, or two of which the first alone does no harm, so
that a kill between any two loses nothing. Directories are not synced: after a power
failure a file system that keeps metadata in order brings back a message at worst.
See: maildir(5).
"""

import posix
from errno import ENOENT, ESTALE
from time import time

VANISHED = frozenset((ENOENT, ESTALE))  # the latter is what NFS says of a removed file

TMP_SECONDS = 129600  # 36 hours, as maildir(5) has it
TMP_FILES = 1000  # looked at in one session; a flooded tmp/ takes several


def remove(root: int, path: bytes) -> bool:
    """Remove a message below the root's descriptor; false when it is not there.

    Another session may be about to move it to cur/: the name there, made a moment ago,
    goes too. The mover can't see to that: the name in new/ is gone just the same when
    a third session has moved the message.
    Raises: OSError when it is there and can't be removed.
    """
    mine = _own_identity(root, path) if path.startswith(b"new/") else None
    if not unlink(root, path):
        return False
    if mine:
        target = _target(path)
        if _own_identity(root, target) == mine:
            unlink(root, target)
    return True


def unlink(root: int, path: bytes) -> bool:
    """Unlink one name; false when it is not there.

    Raises: OSError.
    """
    try:
        posix.unlink(path, dir_fd=root)
    except OSError as why:
        if why.errno not in VANISHED:
            raise
        return False
    return True


def move_to_cur(root: int, path: bytes) -> None:
    """Move a message out of new/, never over another one.

    A name that has flags already keeps them. What can't be moved stays and is as good
    in new/ as in cur/, so no failure is reported.
    """
    target = _target(path)
    try:
        # The link itself where the message is a symbolic link.
        posix.link(
            path, target, src_dir_fd=root, dst_dir_fd=root, follow_symlinks=False
        )
    except FileExistsError:
        if not is_same_file(root, path, target):
            return
    except OSError:
        _rename(root, path, target)
        return
    unlink_quietly(path, root)


def _target(path: bytes) -> bytes:
    """Give the path in cur/ for one in new/."""
    name = path.removeprefix(b"new/")
    return b"cur/" + (name if b":" in name else name + b":2,")


def is_same_file(root: int, path: bytes, other: bytes) -> bool:
    """Tell whether two names lead to one file, as a move cut short leaves them."""
    mine = _own_identity(root, path)
    return mine is not None and mine == _own_identity(root, other)


def identity(
    file: int | bytes, root: int | None = None, *, follows: bool = True
) -> tuple[int, int] | None:
    """Give what tells a file from all others, None when it is not there.

    Takes a descriptor or a path. follows: what a symbolic link leads to.
    Raises: OSError.
    """
    try:
        facts = posix.stat(file, dir_fd=root, follow_symlinks=follows)
    except OSError as why:
        if why.errno not in VANISHED:
            raise
        return None
    return facts.st_dev, facts.st_ino


def _own_identity(root: int, path: bytes) -> tuple[int, int] | None:
    """Give identity() of a link itself, None when nothing can be said."""
    try:
        return identity(path, root, follows=False)
    except OSError:
        return None


def _rename(root: int, path: bytes, target: bytes) -> None:
    """Move where hard links can't be made: another owner's file, or FAT.

    Between the look and the rename somebody could put another message there, but only
    one that carries the same unique name.
    """
    try:
        posix.stat(target, dir_fd=root, follow_symlinks=False)
    except FileNotFoundError:
        try:
            posix.rename(path, target, src_dir_fd=root, dst_dir_fd=root)
        except OSError:
            return
    except OSError:
        return


def clean_tmp(path: bytes) -> None:
    """Unlink what deliveries left in tmp/ more than 36 hours ago.

    The youngest of the three times counts, since many mounts keep no access times. No
    error matters: the next session tries again.
    """
    oldest = time() - TMP_SECONDS
    try:
        with posix.scandir(path) as entries:
            for _, entry in zip(range(TMP_FILES), entries, strict=False):
                facts = entry.stat(follow_symlinks=False)
                if entry.name[:1] != b"." and max(facts[7:10]) < oldest:
                    unlink_quietly(entry.path)
    except OSError:
        return


def unlink_quietly(path: bytes, root: int | None = None) -> None:
    """Unlink a name that does no harm when it stays."""
    try:
        posix.unlink(path, dir_fd=root)
    except OSError:
        return
