# SPDX-License-Identifier: ISC
"""A reader of constant databases, over an open descriptor.

Such a file never changes: whoever has news makes another and renames it into place. So
the descriptor is the version, and a reader may keep it for as long as it likes. What is
in the file is not believed: each read is of a bounded number of octets, and pointers
that lead past the end, or round in a circle, are a damaged file and not a hang.
See: cr.yp.to/cdb/cdb.txt.
"""

import posix
from _struct import unpack

from qtools.errors import Hard, from_os_error

HEAD_OCTETS = 2048  # 256 tables, each a position and a number of slots
LONGEST_VALUE_OCTETS = 65536  # more than anybody's record needs

# Half of all slots are empty by design, so that a few probes find one. Thousands in a
# row mean thousands of keys with one hash: no program made that by accident.
MOST_PROBES = 16384


class Cdb:
    """One constant database; the descriptor stays the caller's.

    name: what to call the file when there is something wrong with it.
    Raises: Hard when the file is too short to be one; Temporary.
    """

    def __init__(self, descriptor: int, name: str = "the constant database") -> None:
        self.name = name
        self._descriptor = descriptor
        self._tables = unpack("<512I", self._read(0, HEAD_OCTETS))

    def get(self, key: bytes) -> bytes | None:
        """Give the first value of a key, None without one.

        Raises: Hard when the file is damaged, Temporary when it can't be read.
        """
        return self._find(key, _hashes(key)[-1])

    def get_longest(self, key: bytes, least: int) -> bytes | None:
        """Give the first value of the longest beginning of a key that has one.

        Takes the fewest octets that are still looked up. One walk over the key hashes
        all its beginnings, which is what makes 128 of them cheap.
        Raises: as get() does.
        """
        hashes = _hashes(key)
        for octets in range(len(key), least - 1, -1):
            value = self._find(key[:octets], hashes[octets])
            if value is not None:
                return value
        return None

    def damage(self, what: str) -> Hard:
        """Give the failure that says what is wrong with the file."""
        return Hard(f"{self.name} is damaged: {what}")

    def _find(self, key: bytes, hashed: int) -> bytes | None:
        table = hashed % 256 * 2
        position, slots = self._tables[table : table + 2]
        for probe in range(min(slots, MOST_PROBES)):
            slot = (hashed // 256 + probe) % slots
            stored, record = self._pair(position + 8 * slot)
            if not record:
                return None
            value = self._value(record, key) if stored == hashed else None
            if value is not None:
                return value
        if slots > MOST_PROBES:
            raise self.damage("a table without an end")
        return None

    def _value(self, record: int, key: bytes) -> bytes | None:
        """Give the value of a record, None when it is another key's."""
        key_octets, octets = self._pair(record)
        if key_octets != len(key) or self._read(record + 8, key_octets) != key:
            return None
        if octets > LONGEST_VALUE_OCTETS:
            raise self.damage(f"a value of {octets} octets")
        return self._read(record + 8 + key_octets, octets)

    def _pair(self, position: int) -> tuple[int, int]:
        first, second = unpack("<2I", self._read(position, 8))
        return first, second

    def _read(self, position: int, octets: int) -> bytes:
        try:
            data = posix.pread(self._descriptor, octets, position)
        except OSError as why:
            raise from_os_error(why, f"read {self.name}") from why
        if len(data) < octets:
            raise self.damage("it ends too early")
        return data


def _hashes(key: bytes) -> list[int]:
    """Give the hash of each beginning of a key, from the empty one to the whole."""
    hashed = 5381
    hashes = [hashed]
    for octet in key:
        hashed = hashed * 33 & 0xFFFFFFFF ^ octet
        hashes.append(hashed)
    return hashes
