# SPDX-License-Identifier: ISC
"""answer: unpack inverts pack, and nothing else is an answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.accounts import answer
from qtools.accounts.interface import LARGEST_ID, Identity

texts = st.binary(max_size=300).map(lambda data: data.replace(b"\0", b""))
ids = st.integers(0, LARGEST_ID)


def fields(who: Identity) -> list[object]:
    return [getattr(who, name) for name in Identity.__slots__]


@st.composite
def identities(draw: st.DrawFn) -> Identity:
    uid, gid = draw(st.tuples(ids, ids) | st.just((-1, -1)))
    home, shell, maildir = draw(texts), draw(texts), draw(texts)
    who = Identity(draw(texts), uid, gid, home=home, shell=shell, maildir=maildir)
    who.groups = draw(st.lists(ids, max_size=8))
    return who


@given(identities())
def test_unpack_inverts_pack(who: Identity) -> None:
    code, back = answer.unpack(answer.pack(0, who))
    assert code == 0
    assert back is not None
    assert fields(back) == fields(who)


@given(st.integers(1, 255))
def test_a_refusal_has_no_identity(code: int) -> None:
    assert answer.unpack(answer.pack(code)) == (code, None)


@given(identities(), st.data())
def test_an_answer_cut_short_is_none(who: Identity, data: st.DataObject) -> None:
    packed = answer.pack(0, who)
    cut = data.draw(st.integers(0, len(packed) - 1))
    with pytest.raises(ValueError, match="answer"):
        answer.unpack(packed[:cut])
    with pytest.raises(ValueError, match="answer"):
        answer.unpack(packed + b"\0")


@given(st.binary(max_size=100))
def test_garbage_is_no_answer(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"answer|field|octets|id|identity"):
        answer.unpack(data)


@given(st.binary(max_size=80), st.integers(0, 255), st.integers(0, 2))
def test_garbage_of_the_right_shape_does_not_crash(
    body: bytes, code: int, flag: int
) -> None:
    total = answer.HEAD_OCTETS + len(body)
    packed = total.to_bytes(2, "big") + answer.MAGIC + bytes((code, flag)) + body
    try:
        got, who = answer.unpack(packed)
    except ValueError:
        return
    assert (who is None) == (got != 0)


@pytest.mark.parametrize(
    ("uid", "gid"), [(-1, 5), (5, -1), (-2, -2), (2**32 - 1, 5), (5, 2**32)]
)
def test_half_an_identity_is_none(uid: int, gid: int) -> None:
    packed = answer.pack(0, Identity(b"joe", uid, gid))
    with pytest.raises(ValueError, match="id"):
        answer.unpack(packed)


def test_a_nul_in_a_path_is_no_identity() -> None:
    with pytest.raises(ValueError, match="NUL"):
        answer.unpack(answer.pack(0, Identity(b"joe", 1, 1, home=b"/a\0b")))


def test_what_is_to_be_ended_is_told_and_not_given_away() -> None:
    who = Identity(b"joe", 1, 1)
    assert not answer.has_ending(answer.pack(0, who))
    who.ending = lambda: None
    packed = answer.pack(0, who)
    assert answer.has_ending(packed)
    _, back = answer.unpack(packed)
    assert back is not None
    assert back.ending is None, "only the process that began something can end it"


@pytest.mark.parametrize(("code", "flag"), [(1, 1), (111, 1), (0, 2), (0, 255)])
def test_nothing_is_to_be_ended_that_has_not_begun(code: int, flag: int) -> None:
    packed = bytearray(answer.pack(code, Identity(b"joe") if not code else None))
    packed[answer.HEAD_OCTETS - 1] = flag
    with pytest.raises(ValueError, match="ending"):
        answer.unpack(bytes(packed))


def test_an_answer_fits_one_atomic_write() -> None:
    with pytest.raises(ValueError, match="4096"):
        answer.pack(0, Identity(b"joe", 1, 1, home=b"/" * 4096))
