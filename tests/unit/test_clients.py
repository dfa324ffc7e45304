# SPDX-License-Identifier: ISC
"""Lists of addresses: what is in them, and what is no list."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.errors import Hard
from qtools.server import clients
from qtools.server.clients import Clients

LIST = """
; our own
192.0.2.7
192.0.2.10 - 192.0.2.20 ; a room
198.51.100.0/24
! 192.0.2.13
!198.51.100.128-198.51.100.255
2001:db8::/32
!2001:db8:1::/48
2001:db9::1-2001:db9::f
"""


@pytest.mark.parametrize(
    ("address", "is_in"),
    [
        (b"192.0.2.7", True),
        (b"::ffff:192.0.2.7", True),
        (b"192.0.2.6", False),
        (b"192.0.2.8", False),
        (b"192.0.2.9", False),
        (b"192.0.2.10", True),
        (b"192.0.2.13", False),
        (b"192.0.2.20", True),
        (b"192.0.2.21", False),
        (b"198.51.100.0", True),
        (b"198.51.100.127", True),
        (b"198.51.100.128", False),
        (b"198.51.101.0", False),
        (b"2001:db8::1", True),
        (b"2001:db8:1::1", False),
        (b"2001:db9::5", True),
        (b"2001:db9::10", False),
        (b"unknown", False),
        (b"", False),
        (b"/run/socket", False),
    ],
)
def test_who_is_in_the_list(address: bytes, *, is_in: bool) -> None:
    assert Clients(LIST).holds(address) == is_in


def test_lists_of_nothing_and_of_exceptions() -> None:
    assert not Clients("").holds(b"192.0.2.1")
    assert not Clients("; nobody\n").holds(b"192.0.2.1")
    others = Clients("!192.0.2.1")
    assert others.holds(b"192.0.2.2")
    assert others.holds(b"2001:db8::1")
    assert not others.holds(b"192.0.2.1")
    assert not others.holds(b"unknown")
    assert Clients("0.0.0.0/0").holds(b"192.0.2.1")
    assert not Clients("0.0.0.0/0").holds(b"::1")
    assert Clients("::/0").holds(b"::1")


@pytest.mark.parametrize(
    "line",
    [
        *("x", "192.0.2", "192.0.2.1/33", "192.0.2.1/-1", "192.0.2.1/", "192.0.2.1/x"),
        *("192.0.2.2-192.0.2.1", "192.0.2.1-::1", "192.0.2.1-", "-192.0.2.1", "!"),
        *("!!192.0.2.1", "192.0.2.1 192.0.2.2", "192.0.2.1,192.0.2.2", "::1/129"),
        *("192.0.2.1/1000", "a/24", "# comment", "\udcff"),
    ],
)
def test_what_is_no_entry_is_named(line: str) -> None:
    with pytest.raises(Hard, match="line 2 of the list"):
        Clients(f"192.0.2.1\n{line}\n")


@given(st.integers(0, 2**32 - 1), st.integers(0, 32), st.integers(0, 2**32 - 1))
def test_a_network_holds_what_begins_like_it(
    number: int, length: int, other: int
) -> None:
    def written(address: int) -> str:
        return ".".join(str(octet) for octet in address.to_bytes(4, "big"))

    found = Clients(f"{written(number)}/{length}").holds(written(other).encode())
    assert found == (number >> (32 - length) == other >> (32 - length))


def test_a_list_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "list"
    with pytest.raises(Hard):
        clients.read(str(path))
    path.write_text(LIST, encoding="ascii")
    assert clients.read(str(path)).holds(b"192.0.2.7")
    path.write_text(" " * (clients.LIST_OCTETS + 1), encoding="ascii")
    with pytest.raises(Hard, match="longer"):
        clients.read(str(path))
