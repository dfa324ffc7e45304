# SPDX-License-Identifier: ISC
"""Unique-ids: qmail-pop3d's where the standard allows them, else stable ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.maildrop import uids

NAME = st.binary(min_size=1, max_size=90).map(uids.base)


@pytest.mark.parametrize(
    ("name", "base"),
    [
        (b"1.x.host:2,S", b"1.x.host"),
        (b"3.c.host,S=12:2,", b"3.c.host,S=12"),
        (b"1.x.host", b"1.x.host"),
        (b":2,", b""),
        (b"a:b:2,S", b"a"),
    ],
)
def test_the_base_ends_at_the_first_colon(name: bytes, base: bytes) -> None:
    assert uids.base(name) == base


def test_good_names_are_what_qmail_gave() -> None:
    names = [b"1.x.host", b"2.y.host,S=3", b"x" * 70, b"!~"]
    assert uids.assign(names) == names


@pytest.mark.parametrize(
    "name", [b"", b"x" * 71, b"a b", b"a\tb", b"\xc3\xa4", b"a\nb", b"\x7f", b"\0"]
)
def test_a_bad_name_gets_a_substitute_that_is_the_same_each_time(name: bytes) -> None:
    first = list(uids.assign([b"1.x.host", name]))
    assert first[0] == b"1.x.host"
    assert first[1] == uids.assign([name, b"2.y.host"])[0]
    assert first[1].startswith(b":")


def test_substitutes_never_change() -> None:
    # Made by b2sum -l 160 of 0:a b, 1.9:x and 2.9:x. With other ones everybody would
    # download these messages again.
    assert list(uids.assign([b"a b", b"x", b"x"], {1: b"1.9", 2: b"2.9"})) == [
        b":877ae680f01bb13ac5aa53fa3917f49b88cf5439",
        b":aa5b483a3299dd23925ac752e7ca4e8efd142b4d",
        b":ff6c794c6ac7715d208ad31927c81568c9fa1748",
    ]


def test_equal_names_are_told_apart_by_their_marks_alone() -> None:
    first = uids.assign([b"x", b"y", b"x", b"x"], {0: b"a", 2: b"b", 3: b"c"})
    again = uids.assign([b"x", b"x"], {0: b"c", 1: b"a"})
    assert list(again) == [first[3], first[0]]
    assert first[1] == b"y"
    assert b"x" not in first


@given(
    st.lists(NAME, max_size=12),
    st.dictionaries(st.integers(0, 11), st.sampled_from((b"1", b"2"))),
)
def test_all_are_different_and_allowed(
    names: list[bytes], marks: dict[int, bytes]
) -> None:
    found = uids.assign(names, marks)
    assert len(set(found)) == len(found) == len(names)
    for uid in found:
        assert 1 <= len(uid) <= 70
        assert all(0x21 <= octet <= 0x7E for octet in uid)


@given(st.lists(NAME, max_size=12, unique=True))
def test_an_id_depends_on_its_own_name_alone(names: list[bytes]) -> None:
    known = dict(zip(names, uids.assign(names), strict=True))
    other = names[::-1][: len(names) // 2]
    assert list(uids.assign(other)) == [known[name] for name in other]
