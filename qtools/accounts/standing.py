# SPDX-License-Identifier: ISC
"""Sources of accounts that stay open, for a verifier that checks many records.

A short-lived verifier opens its sources for each login and so sees every change. One
that stays has to look: a source whose file has been replaced or written is opened
again. See: registry.
"""

import posix

from qtools.accounts import registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtools.accounts.interface import Source
    from qtools.accounts.registry import Opener

    Stamp = tuple[int, int, int, int]


class Standing:
    """The sources that some words name, opened when they are needed."""

    def __init__(self, words: "Sequence[str]") -> None:
        """Load what the sources need, and open none.

        Raises: Hard when a library is missing.
        """
        self._paths = [_path(word) for word in words]
        self._openers: list[Opener] = registry.load(words)
        self._sources: list[Source] = []
        self._stamps: list[Stamp | None] = []
        # whether each check has to be made in a process of its own
        self.is_solitary = registry.is_solitary(words)

    def sources(self) -> "list[Source]":
        """Give the sources as they are now.

        Raises: Hard, Temporary.
        """
        stamps = [_stamp(path) for path in self._paths]
        if stamps != self._stamps or not self._sources:
            self._sources = []
            self._sources = [open_source() for open_source in self._openers]
            self._stamps = stamps
        return self._sources


def _path(word: str) -> str:
    """Give the file a word names, or ""."""
    where = word.partition(":")[2]
    return where if where.startswith("/") else ""


def _stamp(path: str) -> "Stamp | None":
    """Give what changes when a file does: device, inode, octets, time."""
    if not path:
        return None
    try:
        found = posix.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
