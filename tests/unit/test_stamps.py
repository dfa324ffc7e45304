# SPDX-License-Identifier: ISC
"""Challenges that are out: each is good for so many answers, and then never again."""

from collections.abc import Callable
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.server.warm import stamps as module
from qtools.server.warm.stamps import Stamps


def numbered() -> Callable[[], bytes]:
    numbers = count()
    return lambda: b"<%d@mx>" % next(numbers)


@pytest.mark.parametrize("attempts", [1, 2, 3])
def test_a_challenge_is_good_for_so_many_answers(attempts: int) -> None:
    stamps = Stamps(numbered(), attempts)
    first, second = stamps.give(2)
    taken = [stamps.take(first) for _ in range(attempts + 3)]
    assert taken == [True] * attempts + [False] * 3
    assert len(stamps._left) == 1
    assert stamps.take(second)


@pytest.mark.parametrize("stamp", [b"", b"<0@mx", b"<1@mx>", b"<0@MX>"])
def test_what_was_not_given_out_here_is_good_for_nothing(stamp: bytes) -> None:
    stamps = Stamps(numbered(), 3)
    assert stamps.give(1) == [b"<0@mx>"]
    assert not stamps.take(stamp)
    assert len(stamps._left) == 1


def test_the_oldest_lapse_when_too_many_are_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MOST_OUT", 10)
    stamps = Stamps(numbered(), 3)
    given_out = stamps.give(10)
    assert stamps.take(given_out[0]), "and is younger for it"
    fresh = stamps.give(4)
    assert len(stamps._left) == 10
    good = [stamp for stamp in given_out + fresh if stamps.take(stamp)]
    assert good == [given_out[0], *given_out[5:], *fresh]


@pytest.mark.slow
@given(
    st.integers(1, 4),
    st.lists(st.one_of(st.integers(0, 3), st.binary(max_size=1)), max_size=60),
)
def test_it_equals_a_model(attempts: int, steps: list[int | bytes]) -> None:
    stamps, left = Stamps(numbered(), attempts), dict[bytes, int]()
    for step in steps:
        if isinstance(step, int):
            left |= dict.fromkeys(stamps.give(step), attempts)
        else:
            stamp = b"<%d@mx>" % sum(step) if step else b"<>"
            assert stamps.take(stamp) == (left.get(stamp, 0) > 0)
            left[stamp] = left.get(stamp, 0) - 1
        assert len(stamps._left) == sum(each > 0 for each in left.values())
