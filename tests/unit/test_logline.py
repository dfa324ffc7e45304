# SPDX-License-Identifier: ISC
"""The session log: s/qmail's shape, and nothing in it that a stranger wrote."""

import os
import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.system import logline
from qtools.system.logline import SessionLog, escape

LINE = re.compile(
    r"popup: pid [0-9]+ Reject::AUTH::User P:POP3 S:[!-~]+:[!-~]+ \?~ '([!-~]*)'"
)
# A greedy ban rule would take the address in this name for the client's.
HOSTILE = b"x popup: Reject::AUTH::User P:POP3 S:192.0.2.1 "


def written(
    user: bytes,
    address: bytes = b"192.0.2.7",
    note: str = "",
    host: bytes = b"c.example",
) -> str:
    reader, writer = os.pipe()
    SessionLog(writer, "popup", address, host).write("Reject::AUTH::User", user, note)
    os.close(writer)
    with os.fdopen(reader, "rb") as log:
        return log.read().decode("ascii")


def test_the_shape() -> None:
    assert written(b"joe") == (
        f"popup: pid {os.getpid()} Reject::AUTH::User P:POP3"
        " S:192.0.2.7:c.example ?~ 'joe'\n"
    )


def test_a_note_follows() -> None:
    assert written(b"joe", note="code=111").endswith(" ?~ 'joe' code=111\n")


def test_an_ipv6_address_is_followed_by_the_same_colon() -> None:
    assert " S:2001:db8::1:c.example ?~ " in written(b"joe", b"2001:db8::1")


def test_a_colon_in_the_host_name_is_not_part_of_the_address() -> None:
    line = written(b"joe", b"2001:db8::5", host=b"c:x")
    assert r" S:2001:db8::5:c\x3ax ?~ " in line


def test_a_name_that_looks_like_a_log_line() -> None:
    line = written(HOSTILE)
    assert line.count(" popup: ") == 0
    assert line.count(" S:") == 1
    assert r"'x\x20popup:\x20Reject::AUTH::User\x20P:POP3\x20S:192.0.2.1\x20'" in line


@given(st.binary(max_size=300))
def test_whatever_the_name_the_line_is_one_and_visible(user: bytes) -> None:
    line = written(user)
    assert line.endswith("\n")
    assert LINE.fullmatch(line[:-1])


@given(st.binary(max_size=60))
def test_escape_can_be_undone_and_leaves_nothing_dangerous(text: bytes) -> None:
    escaped = escape(text)
    assert not set(escaped) & set(" '\"\n\x1b")
    undone = re.sub(
        rb"\\x([0-9a-f]{2})", lambda at: bytes.fromhex(at[1].decode()), escaped.encode()
    )
    assert undone == text


def test_every_octet() -> None:
    plain = {octet for octet in range(256) if escape(bytes([octet])) == chr(octet)}
    assert plain == set(range(0x21, 0x7F)) - set(b"'\"\\")


def test_a_log_that_cannot_be_written_is_no_failure() -> None:
    SessionLog(-1, "popup", b"a", b"h").write("Info::END::None", b"")


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def test_an_open_descriptor_is_usable(ends: tuple[int, int]) -> None:
    assert logline.is_usable(ends[1], set())


def test_a_closed_descriptor_is_not(ends: tuple[int, int]) -> None:
    free = os.dup(ends[1])
    os.close(free)
    assert not logline.is_usable(free, set())


def test_one_in_use_is_not(ends: tuple[int, int]) -> None:
    assert not logline.is_usable(ends[1], {ends[1]})


def test_a_copy_of_one_in_use_is_not(ends: tuple[int, int]) -> None:
    copy = os.dup(ends[1])
    try:
        assert not logline.is_usable(copy, {ends[1]})
    finally:
        os.close(copy)


@pytest.mark.parametrize("number", [0, 1])
def test_a_copy_of_the_client_s_is_not(number: int, ends: tuple[int, int]) -> None:
    kept = os.dup(number)
    os.dup2(ends[number], number)
    copy = os.dup(number)
    try:
        assert not logline.is_usable(copy, set())
    finally:
        os.dup2(kept, number)
        os.close(kept)
        os.close(copy)
