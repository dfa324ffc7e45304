# SPDX-License-Identifier: ISC
"""Call functions of C libraries through the C half of ctypes.

The package ctypes costs 2 ms of each login and its C module `_ctypes` 0.1; what the
package adds for our needs is the handful of classes below. A class whose direct base
is _SimpleCData and whose `_type_` is one of ctypes's codes is converted by the C
module itself, in arguments and results alike. Every function is bound with all its
types, so that no pointer is ever taken for an int. Structures are read as arrays of
words instead, because the C module needs the package again to lay out a structure
from Python 3.14 on.
"""

import _ctypes
import posix

from qtools.errors import Hard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    CType = type[_ctypes._SimpleCData[Any]]


class Int(_ctypes._SimpleCData):  # type: ignore[type-arg]  # none at run time
    """A C int."""

    _type_ = "i"


class Long(_ctypes._SimpleCData):  # type: ignore[type-arg]  # none at run time
    """A C long, as wide as a pointer on every Linux."""

    _type_ = "l"


class Word(_ctypes._SimpleCData):  # type: ignore[type-arg]  # none at run time
    """A C unsigned long: size_t, and the words of a structure."""

    _type_ = "L"


class Text(_ctypes._SimpleCData):  # type: ignore[type-arg]  # none at run time
    """A char * that ends with a NUL; bytes or None in Python."""

    _type_ = "z"


class Pointer(_ctypes._SimpleCData):  # type: ignore[type-arg]  # none at run time
    """Any address; an int or None in Python."""

    _type_ = "P"


class _Function(_ctypes.CFuncPtr):
    """A C function that sets errno."""

    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO
    _restype_ = Int


class Library:
    """One shared library."""

    def __init__(self, *names: str) -> None:
        """Load the first of these that is there; "" is what is loaded anyway, libc.

        Raises: Hard when there is none of them.
        """
        self._name = names[0] or "libc"
        self._handle = _load(names)

    def function(
        self, name: str, result: "CType | None", *arguments: "CType"
    ) -> "Callable[..., Any]":
        """Give a function as a callable, its types declared.

        Raises: Hard when the library hasn't got it.
        """
        try:
            bound = _Function(_ctypes.dlsym(self._handle, name))
        except OSError as why:
            raise Hard(f"{self._name} has no {name}") from why
        bound.restype = result
        bound.argtypes = arguments
        return bound


def callback(
    work: "Callable[..., Any]", result: "CType | None", *arguments: "CType"
) -> "_ctypes.CFuncPtr":
    """Give a function of ours that C can call; a Pointer to it is pointer_to() it.

    Whoever hands it out keeps it until C can't call it any more, and has it raise
    nothing: the C module would print the exception and go on with any result.
    """
    kind = type(
        "Callback",
        (_ctypes.CFuncPtr,),
        {
            "_flags_": _ctypes.FUNCFLAG_CDECL,
            "_restype_": result,
            "_argtypes_": arguments,
        },
    )
    made: _ctypes.CFuncPtr = kind(work)
    return made


def pointer_to(made: "_ctypes.CFuncPtr") -> int:
    """Give the address at which C calls a callback."""
    address: int = Pointer.from_buffer(made).value
    return address


def _load(names: tuple[str, ...]) -> int:
    for name in names:
        try:
            return _ctypes.dlopen(name, posix.RTLD_NOW)
        except OSError:
            continue
    raise Hard(f"no library {names[0]} on this system")


byref = _ctypes.byref


def longs(count: int) -> "Any":
    """Give an array of C longs, all zero: a structure's words, or plain memory."""
    kind = type("Longs", (_ctypes.Array,), {"_type_": Long, "_length_": count})
    return kind()


LONG_OCTETS = _ctypes.sizeof(Long)
