# SPDX-License-Identifier: ISC
"""Whose password may be changed at all, told before any password is looked at.

System users below a uid, root first among them, are not to be guessed through a
service for people. Without root's privileges there is but one user to change.
"""

import posix

from qtools.accounts import users

LEAST_UID = 100  # Debian's system users end there, those made for a package


def is_above(user: bytes, least: int) -> bool:
    """Tell whether a system user of that name may have his password changed.

    least: the lowest uid; never 0. Not root: no other user's than our own.
    """
    try:
        uid = users.find(user).pw_uid
    except KeyError:
        return False
    return uid >= max(least, 1) and posix.geteuid() in (0, uid)
