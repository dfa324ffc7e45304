# SPDX-License-Identifier: ISC
"""Hashes of other programs: taken when they can match, and in a bearable time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.accounts import hashes
from qtools.accounts.db.exchange.stored import FORMS, check
from qtools.accounts.refusals import Unfit

K22, K31, K43, K86 = (b"k" * count for count in (22, 31, 43, 86))
SALT = b"s" * 21 + b"."

TAKEN = [
    b"qtkkkkkkkkkkk",
    b"$1$$" + K22,
    b"$1$saltsalt$" + K22,
    b"$5$salt$" + K43,
    b"$6$rounds=1000$saltsaltsaltsalt$" + K86,
    b"$2a$04$" + SALT + K31,
    b"$2b$05$" + SALT + K31,
    b"$scrypt$ln=10,r=8,p=1$c2FsdA$" + K43,
    b"$7$7U..../....salt$" + K43,
    b"$y$j75$abcd./$" + K43,
    b"$gy$j75$abcd./$" + K43,
    b"$y$j75$abcdabD$" + K43,
]


@pytest.mark.parametrize("stored", TAKEN)
def test_what_is_taken_can_be_checked(stored: bytes) -> None:
    check(stored)
    made = hashes.again(b"secret", stored)
    assert made is not None
    assert made.startswith(stored.rstrip(b"k"))
    assert len(made) == len(stored)


@pytest.mark.parametrize("method", hashes.METHODS)
def test_what_is_made_here_is_taken(method: str) -> None:
    check(hashes.make(b"secret", method))


def test_every_method_of_ours_has_a_form() -> None:
    assert set(FORMS) == set(hashes.STRENGTHS)


@pytest.mark.parametrize(
    "stored",
    [
        b"$sha1$4000000$saltsalt$" + b"k" * 28,
        b"$md5,rounds=4000000$saltsalt$$" + K22,
        b"$md5$saltsalt$" + K22,
        b"$3$$" + b"8" * 32,
        b"$argon2id$v=19$m=65536,t=3,p=4$salt$" + K43,
        b"_zzzzabcd" + b"k" * 11,
        b"$9$",
    ],
)
def test_methods_that_do_not_say_what_they_cost(stored: bytes) -> None:
    with pytest.raises(Unfit, match="of a method"):
        check(stored)


@pytest.mark.parametrize(
    "stored",
    [
        b"$5$rounds=3000001$salt$" + K43,
        b"$6$rounds=999999999$salt$" + K86,
        b"$2b$15$" + SALT + K31,
        b"$2y$31$" + SALT + K31,
        b"$y$jET$abcd./$" + K43,
        b"$gy$jjj$abcd./$" + K43,
        b"$7$EU..../....salt$" + K43,
        b"$7$CU....z....salt$" + K43,
        b"$7$zzzzzzzzzzzsalt$" + K43,
        b"$7$C...../....salt$" + K43,
        b"$scrypt$ln=20,r=8,p=1$c2FsdA$" + K43,
        b"$scrypt$ln=18,r=8,p=1$c2FsdA$" + K43,
        b"$scrypt$ln=10,r=9999,p=9999$c2FsdA$" + K43,
    ],
)
def test_hashes_that_take_too_long(stored: bytes) -> None:
    with pytest.raises(Unfit, match="too long"):
        check(stored)


@pytest.mark.parametrize(
    "stored",
    [
        b"$1$saltsaltx$" + K22,
        b"$1$sa:t$" + K22,
        b"$6$rounds=9$salt$" + K86,
        b"$6$rounds=999$" + K86,
        b"$6$salt$" + K86[1:],
        b"$6$salt$" + K86 + b"k",
        b"$5$saltsaltsaltsaltx$" + K43,
        b"$2b$5$" + SALT + K31,
        b"$2b$05$" + b"s" * 22 + K31,
        b"$y$jDzzz$abcd./$" + K43,
        b"$y$j9$abcd./$" + K43,
        b"$7$salt$" + K43,
        b"$scrypt$ln=010,r=8,p=1$c2FsdA$" + K43,
        b"$scrypt$r=8,ln=14,p=1$c2FsdA$" + K43,
        b"$",
        b"qt!kkkkkkkkkk",
        b"$y$j75$abc$" + K43,
        b"$scrypt$ln=10,r=8,p=1$c2Fsd$" + K43,
        b"!" + b"$6$salt$" + K86,
    ],
)
def test_hashes_that_nothing_can_match(stored: bytes) -> None:
    with pytest.raises(Unfit, match="no hash"):
        check(stored)


@given(
    st.sampled_from(TAKEN),
    st.integers(0, 120),
    st.integers(0, 3),
    st.binary(max_size=4) | st.sampled_from([b"$", b"9", b"zz", b"rounds=9", b","]),
)
def test_whatever_is_taken_can_be_checked(
    stored: bytes, place: int, gone: int, fresh: bytes
) -> None:
    changed = stored[:place] + fresh + stored[place + gone :]
    try:
        check(changed)
    except Unfit:
        return
    made = hashes.again(b"secret", changed)
    assert made is not None
    assert len(made) == len(changed)
