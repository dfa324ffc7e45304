# SPDX-License-Identifier: ISC
"""The C half of ctypes, over functions of libc whose answers are known."""

import _ctypes

import pytest

from qtools.errors import Hard
from qtools.system.ffi.native import (
    LONG_OCTETS,
    Int,
    Library,
    Long,
    Pointer,
    Text,
    Word,
    byref,
    callback,
    longs,
    pointer_to,
)


@pytest.fixture
def libc() -> Library:
    return Library("")


def test_the_first_library_that_is_there_is_taken() -> None:
    assert Library("libnone.so.9", "libc.so.6").function("abs", Int, Int)(-7) == 7


def test_what_is_not_there_is_hard(libc: Library) -> None:
    with pytest.raises(Hard, match=r"no library libnone\.so\.9 on this system"):
        Library("libnone.so.9", "libnone.so.8")
    with pytest.raises(Hard, match="libc has no no_such_function"):
        libc.function("no_such_function", Int)


def test_values_keep_their_width_and_sign(libc: Library) -> None:
    assert libc.function("labs", Long, Long)(-(2**62)) == 2**62
    assert libc.function("strtoul", Word, Text, Pointer, Int)(b"-1", None, 10) == (
        256**LONG_OCTETS - 1
    )
    assert libc.function("strlen", Word, Text)("Jö".encode()) == 3


def test_text_that_is_not_there_is_none(libc: Library) -> None:
    get = libc.function("getenv", Text, Text)
    assert get(b"QTOOLS_NO_SUCH_VARIABLE") is None


def test_an_address_is_no_int(libc: Library) -> None:
    """As one would be cut to, were its type left out."""
    make = libc.function("mmap", Pointer, Pointer, Word, Int, Int, Int, Long)
    free = libc.function("munmap", Int, Pointer, Word)
    private_and_anonymous = 0x22
    address = make(1 << 45, 4096, 3, private_and_anonymous, -1, 0)
    assert address > 1 << 32
    assert free(address, 4096) == 0


@pytest.mark.parametrize("wrong", ["text", 1.5, b"octets", None])
def test_an_argument_of_another_type_is_refused(libc: Library, wrong: object) -> None:
    with pytest.raises((_ctypes.ArgumentError, TypeError)):
        libc.function("abs", Int, Int)(wrong)


def test_c_calls_back(libc: Library) -> None:
    numbers = longs(5)
    for place, number in enumerate((3, -1, 2, 9, 0)):
        numbers[place] = number

    def compare(one: int, other: int) -> int:
        seen.append((one, other))
        return int(Long.from_address(one).value - Long.from_address(other).value)

    seen: list[tuple[int, int]] = []
    made = callback(compare, Int, Pointer, Pointer)
    sort = libc.function("qsort", None, Pointer, Word, Word, Pointer)
    sort(_ctypes.addressof(numbers), 5, LONG_OCTETS, pointer_to(made))
    assert [numbers[place] for place in range(5)] == [-1, 0, 2, 3, 9]
    assert seen


def test_longs_are_zero_and_can_be_pointed_to(libc: Library) -> None:
    words = longs(3)
    assert [words[place] for place in range(3)] == [0, 0, 0]
    end = Pointer(None)
    parse = libc.function("strtol", Long, Text, Pointer, Int)
    assert parse(b"12x", byref(end), 10) == 12
    assert end.value
