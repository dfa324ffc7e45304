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
MOST_OCTETS = 1 << 22  # far more than the whole file has

_units: "list[Unit] | None" = None
_linked = b""  # kept, since install may put another file into its place meanwhile


def preload(root: str) -> None:
    """Run the linked modules that a root needs and that are not there yet.

    A unit holds the modules that the same roots need. What a module imports is needed
    by every root that needs the module, so units of more roots come first.
    """
    global _units, _linked  # noqa: PLW0603  # read once, shared by forks
    if _units is None:
        _linked = _read(f"{sys.path[0]}/linked.{sys.implementation.cache_tag}")
        _units = _load(_linked[len(_magic()) : INDEX_OCTETS]) if _linked else []
    for unit in [unit for unit in _units if root in unit[0]]:
        _units.remove(unit)
        code = memoryview(_linked)[unit[1] : unit[1] + unit[2]]
        for name, is_package, module in _load(code):
            if name not in sys.modules:
                _define(name, module, is_package=is_package)


def _read(path: str) -> bytes:
    """Read the linked file; empty when there is none for this interpreter."""
    try:
        descriptor = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return b""
    linked = posix.read(descriptor, MOST_OCTETS)
    posix.close(descriptor)
    return linked if linked.startswith(_magic()) else b""


def _magic() -> bytes:
    magic: bytes = sys.modules["_frozen_importlib_external"].MAGIC_NUMBER
    return magic


def _load(dump: "bytes | memoryview") -> "Any":
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
