# SPDX-License-Identifier: ISC
"""system: age rules and decoy; the real tables are in tests/chain/test_checkpw.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.accounts.system import System, check_age, commonest, prepare
from qtools.errors import Refused
from qtools.system.ffi.shadow import Entry

TODAY = 20000


def entry(
    change: int = 19990, most: int = -1, grace: int = -1, expiry: int = -1
) -> Entry:
    return Entry(b"$6$a$b", (change, most, grace, expiry))


@pytest.mark.parametrize(
    "good",
    [
        entry(),
        entry(change=-1, most=1),
        entry(expiry=20001),
        entry(most=99999),
        entry(most=10),
        entry(most=10, grace=0),
    ],
)
def test_an_account_in_its_time_is_good(good: Entry) -> None:
    check_age(good, TODAY)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (entry(expiry=20000), "account has expired"),
        (entry(expiry=0), "account has expired"),
        (entry(change=0), "has to be changed"),
        (entry(most=9), "password expired"),
        (entry(most=0), "password expired"),
        (entry(most=9, grace=1), "password expired"),
        (entry(most=8, grace=1), "account is closed"),
        (entry(most=9, grace=0), "account is closed"),
    ],
)
def test_an_account_out_of_its_time_is_refused(bad: Entry, why: str) -> None:
    with pytest.raises(Refused, match=why):
        check_age(bad, TODAY)


days = st.integers(-1, 40000)


@given(days, days, days, days)
def test_no_days_raise_anything_else(a: int, b: int, c: int, d: int) -> None:
    try:
        check_age(Entry(b"", (a, b, c, d)), TODAY)
    except Refused:
        pass


def test_the_system_s_users_are_known_whatever_their_password() -> None:
    prepare()
    source = System()
    assert source.knows(b"root")
    assert not source.knows(b"no-such-user")
    assert not source.knows(b"root\0")
    assert not source.knows(b"r\xf6\xf6t")


def test_the_decoy_is_of_the_commonest_method() -> None:
    lines = b"root:*:1::\na:$6$a$x:1::\nb:$y$b$x:1::\nc:$6$c$x:1::\nd:!$y$d$x:1::\n"
    assert commonest(lines) == b"$6$a$x"
    assert commonest(b"root:*:\nx:!:\nbroken\n\n:") == b""
    assert commonest(b"") == b""


@given(st.binary(max_size=200))
def test_no_lines_raise(lines: bytes) -> None:
    assert isinstance(commonest(lines), bytes)
