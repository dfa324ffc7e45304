# SPDX-License-Identifier: ISC
"""Become a user: groups, gid, uid, directory, in this order, and make sure of it.

The directory is entered as the user, so that nobody gets into one that is closed to
him. Each step is verified afterwards, because a session that runs as the wrong user is
the one failure that nothing later can mend.
See: checkpassword's interface, cr.yp.to/checkpwd/interface.html.
"""

import posix

from qtools.errors import Temporary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def become(uid: int, gid: int, groups: "Sequence[int]", home: bytes) -> None:
    """Change to these ids for good and enter the directory.

    Takes -1 for uid and gid to leave the ids, an empty home to stay where we are. A
    process without privileges may "become" what it is; its supplementary groups stay.
    Raises: Temporary when any step fails, the verification included.
    """
    if uid >= 0 and not _is_only(uid, gid):
        _change_ids(uid, gid, groups)
    if home:
        try:
            posix.chdir(home)
        except OSError as why:
            raise Temporary(f"unable to enter {home!r}: {why.strerror}") from why


def _is_only(uid: int, gid: int) -> bool:
    """Say whether we are an unprivileged process with exactly these ids."""
    if posix.geteuid() == 0:
        return False
    return set(posix.getresuid()) == {uid} and set(posix.getresgid()) == {gid}


def _change_ids(uid: int, gid: int, groups: "Sequence[int]") -> None:
    if posix.geteuid() != 0:
        raise Temporary(f"unable to become uid {uid}, gid {gid}: not started as root")
    try:
        posix.setgroups(groups)
        posix.setresgid(gid, gid, gid)
        posix.setresuid(uid, uid, uid)
    except OSError as why:
        text = f"unable to become uid {uid}, gid {gid}: {why.strerror}"
        raise Temporary(text) from why
    verify(uid, gid, groups)


def verify(uid: int, gid: int, groups: "Sequence[int]") -> None:
    """Make sure that we are this user and can't be root again.

    Raises: Temporary.
    """
    is_user = posix.getresuid() == (uid, uid, uid)
    is_group = posix.getresgid() == (gid, gid, gid)
    if not (is_user and is_group and set(posix.getgroups()) == set(groups)):
        raise Temporary(f"this process should be uid {uid}, gid {gid}, and is not")
    if uid == 0:
        return
    for change in (posix.setuid, posix.seteuid):
        try:
            change(0)
        except OSError:
            continue
        raise Temporary(f"this process became uid {uid} and could be root again")
