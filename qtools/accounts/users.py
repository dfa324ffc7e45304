# SPDX-License-Identifier: ISC
"""A user of the system by the octets of his name.

One place, since all who look must mean the same user by the same octets: Python turns
names into text and libc's functions get them back as octets, both by the encoding of
the locale, which need not be UTF-8. See: getpwnam(3).
"""

import sys
from pwd import getpwnam

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pwd import struct_passwd

_KEEP = "surrogateescape"


def find(user: bytes) -> "struct_passwd":
    """Give a user's entry.

    Raises: KeyError when there is none that we can see; OSError.
    """
    try:
        return getpwnam(user.decode(sys.getfilesystemencoding(), _KEEP))
    except ValueError as why:  # with a NUL in it
        raise KeyError(user) from why


def octets(text: str) -> bytes:
    """Give the octets of a field of an entry."""
    return text.encode(sys.getfilesystemencoding(), _KEEP)
