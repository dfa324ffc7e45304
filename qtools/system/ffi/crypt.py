# SPDX-License-Identifier: ISC
"""crypt(3) of the system's library: hash a secret, make a setting.

crypt_ra is used because it needs no knowledge of the library's structure and is safe
with threads; where only plain crypt exists, that one. The result is judged by itself
and never by errno, which may be left over from anything.
See: crypt(3), crypt_gensalt(3) of libxcrypt.
"""

from qtools.errors import Hard
from qtools.system.ffi.native import Int, Library, Pointer, Text, Word, byref

# the last one is libc, where musl has its crypt
SONAMES = ("libcrypt.so.1", "libcrypt.so.2", "libcrypt.so", "")
SECRET_OCTETS = 511  # the library refuses longer keys


class Crypt:
    """The library, loaded.

    Raises: Hard when there is none.
    """

    def __init__(self, *sonames: str) -> None:
        library = Library(*(sonames or SONAMES))
        libc = Library("")
        self._free = libc.function("free", None, Pointer)
        self._memset = libc.function("memset", Pointer, Pointer, Int, Word)
        try:
            self._crypt_ra = library.function(
                "crypt_ra", Text, Text, Text, Pointer, Pointer
            )
            self._gensalt_ra = library.function(
                "crypt_gensalt_ra", Pointer, Text, Word, Text, Int
            )
            self._crypt = None
        except Hard:
            self._crypt = library.function("crypt", Text, Text, Text)

    def hash(self, secret: bytes, setting: bytes) -> bytes | None:
        """Hash a secret; None when the setting or the secret is not acceptable.

        Takes a setting or a whole stored hash.
        """
        if b"\0" in secret or b"\0" in setting or len(secret) > SECRET_OCTETS:
            return None
        made: bytes | None
        if self._crypt is not None:
            made = self._crypt(secret, setting)
        else:
            made = self._hash_ra(secret, setting)
        # a failure token is a failure and not a hash, and so is an empty one
        return made if made and not made.startswith(b"*") else None

    def _hash_ra(self, secret: bytes, setting: bytes) -> bytes | None:
        data = Pointer(None)
        octets = Int(0)
        made: bytes | None = self._crypt_ra(secret, setting, byref(data), byref(octets))
        if data.value:
            # made is a copy already; the scratch area has seen the secret
            self._memset(data.value, 0, octets.value)
            self._free(data.value)
        return made

    def setting(self, prefix: bytes, cost: int = 0) -> bytes | None:
        """Make a setting with a fresh salt; None when the method is unknown.

        Takes the method's prefix, e.g. "$6$"; empty for the one the library prefers.
        The meaning of cost is the method's; 0 is its default.
        """
        if self._crypt is not None:
            return None
        made: int | None = self._gensalt_ra(prefix or None, cost, None, 0)
        if not made:
            return None
        setting: bytes | None = Text.from_buffer(Pointer(made)).value
        self._free(made)
        return setting
