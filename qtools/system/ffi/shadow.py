# SPDX-License-Identifier: ISC
"""The system's user tables through libc: shadow entries, and why a user isn't found.

Python has no shadow module since 3.13, and its pwd module says "not found" also when
the lookup failed. The structures are read as words: struct spwd is two pointers and
seven longs on Linux, and of struct passwd nothing is read at all.
See: getspnam(3), getpwnam(3).
"""

import errno

from qtools.errors import Temporary
from qtools.system.ffi.native import (
    LONG_OCTETS,
    Int,
    Library,
    Pointer,
    Text,
    Word,
    byref,
    longs,
)

SPWD_WORDS = 9
PASSWD_WORDS = 32  # more than any libc needs
FIRST_WORDS = 512  # 4 KiB; doubled when the entry is longer
MOST_WORDS = 1 << 17  # 1 MiB

# What a lookup may give for "there is no such user"; see: getpwnam(3), ERRORS
_NOT_FOUND = (0, errno.ENOENT, errno.ESRCH, errno.EBADF, errno.EPERM)


class Entry:
    """One shadow entry: the hash, and days since 1970 (-1: unset).

    change: of the last change of the password, 0 when it must be changed now. most:
    how many days it is good. grace: days after that until the account is closed.
    expiry: when the account ends.
    """

    __slots__ = ("change", "expiry", "grace", "hash", "most")

    def __init__(self, stored: bytes, days: "tuple[int, int, int, int]") -> None:
        self.hash = stored
        self.change, self.most, self.grace, self.expiry = days


class Tables:
    """The lookups, bound."""

    def __init__(self) -> None:
        libc = Library("")
        kinds = (Text, Pointer, Pointer, Word, Pointer)
        self._getspnam = libc.function("getspnam_r", Int, *kinds)
        self._getpwnam = libc.function("getpwnam_r", Int, *kinds)
        self._memset = libc.function("memset", Pointer, Pointer, Int, Word)

    def shadow(self, name: bytes) -> Entry | None:
        """Give the shadow entry of a user, None when there is none or it is hidden.

        Raises: Temporary when the lookup failed.
        """
        words = FIRST_WORDS
        code = errno.ERANGE
        while code == errno.ERANGE and words <= MOST_WORDS:
            entry, buffer, found = longs(SPWD_WORDS), longs(words), Pointer(None)
            octets = words * LONG_OCTETS
            code = self._getspnam(
                name, byref(entry), byref(buffer), octets, byref(found)
            )
            if code == 0 and found.value:
                # the second word is a pointer into the buffer
                stored = Text.from_buffer(entry, LONG_OCTETS).value or b""
                self._memset(byref(buffer), 0, octets)
                return Entry(stored, (entry[2], entry[4], entry[6], entry[7]))
            words *= 2
        if code in (*_NOT_FOUND, errno.EACCES):
            return None
        raise Temporary(f"unable to look up a shadow entry: error {code}")

    def check_user_lookup(self, name: bytes) -> None:
        """Make sure that a user who wasn't found isn't there.

        Raises: Temporary when the lookup failed.
        """
        entry, buffer, found = longs(PASSWD_WORDS), longs(MOST_WORDS), Pointer(None)
        octets = MOST_WORDS * LONG_OCTETS
        code = self._getpwnam(name, byref(entry), byref(buffer), octets, byref(found))
        if code not in _NOT_FOUND:
            raise Temporary(f"unable to look up a user: error {code}")
