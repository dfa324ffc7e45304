# SPDX-License-Identifier: ISC
"""Give up everything: an unprivileged user and a root directory with nothing in it.

For the part that reads from strangers before anybody has logged in.
"""

import posix
from binascii import hexlify
from pwd import getpwnam

from qtools.errors import Hard, from_os_error

USER = "nobody"
EMPTY_PARENT = b"/tmp"  # a fresh name below it, gone before it is used


def confine(user: str, root: bytes = b"") -> None:
    """Enter a root directory and become the user, for good.

    Without a root a directory is made, entered and removed again: what has no name
    can be given no content.
    Raises: Hard when the user is unknown or is root, Temporary.
    """
    try:
        entry = getpwnam(user)
    except KeyError:
        raise Hard(f"no such user: {user}") from None
    if not entry.pw_uid or not entry.pw_gid:
        raise Hard(f"{user} is not unprivileged")
    try:
        _enter(root)
        posix.setgroups([])
        posix.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
        posix.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
    except OSError as why:
        raise from_os_error(why, "give up privileges") from why
    if posix.getresuid() != (entry.pw_uid,) * 3 or posix.getgroups():
        raise Hard("privileges were not given up")


def _enter(root: bytes) -> None:
    fresh = b"" if root else EMPTY_PARENT + b"/qtools-" + hexlify(posix.urandom(12))
    if fresh:
        posix.mkdir(fresh, 0o700)
    posix.chdir(root or fresh)
    if fresh:
        posix.rmdir(fresh)
    posix.chroot(b".")
