# SPDX-License-Identifier: ISC
"""Load modules from linked code, where make install has made some.

Finding, opening and checking one byte-code file costs more than running what is in
it, and a login needs sixty of them. So install links: the code of all modules that a
tool imports goes into one file, in the order in which importing it would have run
them, and preload() runs them in that order. A module that is not in there, and all of
them in a checkout or under another interpreter than install's, is imported from its
own file as ever.
"""

import posix
import sys
from marshal import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    # Roots that need a unit, where it lies in the file, how many octets it has.
    Unit = tuple[frozenset[str], int, int]

INDEX_OCTETS = 4096  # far more than an index with all its roots has

_units: "list[Unit] | None" = None
_identity = (0, 0)  # inode and time of the file that the units were found in


def preload(root: str) -> None:
    """Run the linked modules that a root needs and that are not there yet.

    A unit holds the modules that the same roots need. What a module imports is needed
    by every root that needs the module, so units of more roots come first. When
    install has put another file into the place of the one we began with, the rest is
    left to imports.
    """
    global _units, _identity  # noqa: PLW0603  # read once, shared by forks
    path = f"{sys.path[0]}/linked.{sys.implementation.cache_tag}"
    try:
        linked = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return
    found = posix.fstat(linked)
    identity = (found.st_ino, found.st_mtime_ns)
    if _units is None:
        _units, _identity = _index(posix.read(linked, INDEX_OCTETS)), identity
    elif identity != _identity:
        _units = []
    needed = [unit for unit in _units if root in unit[0]]
    _units = [unit for unit in _units if root not in unit[0]]
    dumps = [posix.pread(linked, octets, place) for _, place, octets in needed]
    posix.close(linked)
    for dump in dumps:
        for name, is_package, code in _load(dump):
            if name not in sys.modules:
                _define(name, code, is_package=is_package)


def _index(head: bytes) -> "list[Unit]":
    """Read the index; empty when the file was made for another interpreter."""
    magic: bytes = sys.modules["_frozen_importlib_external"].MAGIC_NUMBER
    index: list[Unit] = _load(head[len(magic) :]) if head.startswith(magic) else []
    return index


def _load(dump: bytes) -> "Any":
    """Undo marshal; the file is as trustworthy as the byte code beside it."""
    return loads(dump)  # noqa: S302


def _define(name: str, code: object, *, is_package: bool) -> None:
    """Make a module of code as an import would have made it."""
    module = type(sys)(name)
    if is_package:
        module.__path__ = [f"{sys.path[0]}/{name.replace('.', '/')}"]
    sys.modules[name] = module
    exec(code, module.__dict__)  # type: ignore[arg-type]  # noqa: S102  # our own
    parent, _, leaf = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], leaf, module)
