# SPDX-License-Identifier: ISC
"""Constant databases: what is in them is found, and a damaged one is said to be."""

import os
import posix
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.errors import Failure, Hard, Temporary
from qtools.system.cdb import LONGEST_VALUE_OCTETS, MOST_PROBES, Cdb

Records = list[tuple[bytes, bytes]]
Open = Callable[[bytes], Cdb]

SOME = [(b"one", b"1"), (b"two", b""), (b"one", b"again"), (b"", b"empty")]
keys = st.binary(max_size=6)


def hash_of(key: bytes) -> int:
    """Follow the letter of cdb.txt: ((h << 5) + h) ^ c, with 32 bits."""
    h = 5381
    for c in key:
        h = (((h << 5) + h) ^ c) % 2**32
    return h


def file_of(records: Records) -> bytes:
    """Write a database as cdb.txt has it."""
    tables: list[list[tuple[int, int]]] = [[] for _ in range(256)]
    body = b""
    for key, value in records:
        hashed = hash_of(key)
        tables[hashed % 256].append((hashed, 2048 + len(body)))
        body += struct.pack("<2I", len(key), len(value)) + key + value
    head = b""
    for table in tables:
        head += struct.pack("<2I", 2048 + len(body), 2 * len(table))
        slots = [(0, 0)] * (2 * len(table))
        for hashed, position in table:
            at = hashed // 256 % len(slots)
            while slots[at][1]:
                at = (at + 1) % len(slots)
            slots[at] = hashed, position
        body += b"".join(struct.pack("<2I", *slot) for slot in slots)
    return head + body


@contextmanager
def descriptor_of(data: bytes) -> Iterator[int]:
    """Give a descriptor of a file, which has no name."""
    descriptor = os.memfd_create("test")
    try:
        os.write(descriptor, data)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def opened(data: bytes) -> Iterator[Cdb]:
    with descriptor_of(data) as descriptor:
        yield Cdb(descriptor, "rules.cdb")


@given(st.lists(st.tuples(keys, st.binary(max_size=40)), max_size=40), keys)
def test_the_first_record_of_a_key_is_found(records: Records, other: bytes) -> None:
    first = dict(reversed(records))
    with opened(file_of(records)) as database:
        for key in [*first, other]:
            assert database.get(key) == first.get(key)


@given(st.dictionaries(st.binary(max_size=4), keys), keys, st.integers(0, 6))
def test_the_longest_beginning_is_found(
    records: dict[bytes, bytes], key: bytes, least: int
) -> None:
    found = [
        key[:end] for end in range(len(key), least - 1, -1) if key[:end] in records
    ]
    with opened(file_of(list(records.items()))) as database:
        expected = records[found[0]] if found else None
        assert database.get_longest(key, least) == expected


def test_an_empty_database_has_nothing() -> None:
    with opened(file_of([])) as database:
        assert database.get(b"") is None
        assert database.get_longest(b"some", 0) is None


def test_keys_with_one_hash_are_told_apart() -> None:
    """33 * a ^ b is the same for both: found by trying, checked here."""
    one, other = b"!a", b" @"
    assert hash_of(one) == hash_of(other)
    with opened(file_of([(one, b"1"), (other, b"2")])) as database:
        assert (database.get(one), database.get(other)) == (b"1", b"2")


def test_the_place_in_the_file_stays_the_callers() -> None:
    with descriptor_of(file_of(SOME)) as descriptor:
        os.lseek(descriptor, 7, os.SEEK_SET)
        assert Cdb(descriptor).get(b"one") == b"1"
        assert os.lseek(descriptor, 0, os.SEEK_CUR) == 7


def test_a_file_that_ends_anywhere_is_damaged() -> None:
    """The key's slot is the last one, and so all of the file is needed to find it."""
    whole = file_of([(b"one", b"1")])
    assert whole[-4:] != bytes(4)
    for octets in range(len(whole)):
        with (
            descriptor_of(whole[:octets]) as descriptor,
            pytest.raises(Hard, match="constant database is damaged: it ends"),
        ):
            Cdb(descriptor).get(b"one")


def test_the_longest_value_is_the_longest() -> None:
    value = b"x" * LONGEST_VALUE_OCTETS
    with opened(file_of([(b"fits", value), (b"not", value + b"x")])) as database:
        assert database.get(b"fits") == value
        with pytest.raises(Hard, match=r"rules.cdb is damaged: a value of 65537"):
            database.get(b"not")


def full_table(slots: int, key: bytes) -> bytes:
    """Give a database whose only table has not one empty slot, and the key in none."""
    record = struct.pack("<2I", 3, 0) + b"not"
    pointer = struct.pack("<2I", 2048 + len(record), slots)
    slot = struct.pack("<2I", hash_of(key), 2048)
    return pointer * 256 + record + slot * slots


def test_a_full_table_comes_to_an_end() -> None:
    with opened(full_table(MOST_PROBES, b"key")) as database:
        assert database.get(b"key") is None


def test_a_table_that_is_too_long_to_be_full_is_damaged() -> None:
    with (
        opened(full_table(MOST_PROBES + 1, b"key")) as database,
        pytest.raises(Hard, match=r"rules.cdb is damaged: a table without an end"),
    ):
        database.get(b"key")


@given(st.data())
def test_no_file_makes_a_reader_read_without_end(data: st.DataObject) -> None:
    """Pointers are drawn from what is likely to hurt: near, far, into themselves."""
    places = st.sampled_from([0, 1, 8, 2040, 2047, 2048, 2056, 4096, 2**31, 2**32 - 1])
    numbers = data.draw(st.lists(places | st.integers(0, 2**32 - 1), max_size=60))
    words = struct.pack(f"<{len(numbers)}I", *numbers)
    head = (words * 600)[:2048] if words else bytes(2048)
    tail = data.draw(st.binary(max_size=64)) * data.draw(st.integers(0, 64))
    asked = []

    def pread(descriptor: int, octets: int, position: int) -> bytes:
        asked.append(octets)
        return os.pread(descriptor, octets, position)  # is posix's, under its own name

    key = data.draw(keys)
    with (
        pytest.MonkeyPatch.context() as patch,
        descriptor_of(head + tail) as descriptor,
    ):
        patch.setattr(posix, "pread", pread)
        with suppress(Hard):
            Cdb(descriptor).get(key)
    assert len(asked) <= 1 + 3 * MOST_PROBES + 1
    assert max(asked) <= LONGEST_VALUE_OCTETS


def test_what_cannot_be_read_is_a_failure() -> None:
    reader, writer = posix.pipe()
    folder = posix.open("/", posix.O_RDONLY)
    failures: list[Failure] = []
    for descriptor in (reader, folder):
        with pytest.raises(Failure, match="unable to read rules") as caught:
            Cdb(descriptor, "rules")
        failures.append(caught.value)
    for descriptor in (reader, writer, folder):
        posix.close(descriptor)
    assert [type(failure) for failure in failures] == [Temporary, Hard]
