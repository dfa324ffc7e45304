# SPDX-License-Identifier: ISC
"""Deadlines in baskets, beside a model that looks at everybody every time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.server.warm.timers import PER_SECOND, Timers

EIGHTH = 1 / PER_SECOND


class Timed:
    """What has a deadline."""

    def __init__(self) -> None:
        self.deadline = 0.0
        self.basket = 0


def due(timers: Timers, now: float) -> list[object]:
    return list(timers.due(now))


def held(timers: Timers) -> int:
    """Count what is kept in all baskets."""
    return sum(map(len, timers._baskets.values()))


def test_without_anybody_nothing_comes_up() -> None:
    timers = Timers()
    assert timers.next() is None
    assert due(timers, 1e9) == []


def test_a_deadline_comes_once_and_up_to_an_eighth_late() -> None:
    timers, timed = Timers(), Timed()
    timers.set(timed, 100.0)
    assert due(timers, 99.99) == []
    assert due(timers, 100.0) == []
    assert timers.next() == 100.0 + EIGHTH
    assert due(timers, 100.0 + EIGHTH) == [timed]
    assert (timed.deadline, timed.basket) == (0.0, 0)
    assert due(timers, 200.0) == []
    assert timers.next() is None


def test_who_moves_away_stays_until_his_first_basket_comes_up() -> None:
    timers, timed = Timers(), Timed()
    for when in range(100, 1300):
        timers.set(timed, float(when))
    assert held(timers) == len(timers._order) == 1
    assert due(timers, 101.0) == []
    assert timers.next() == 1299.0 + EIGHTH
    assert due(timers, 1299.2) == [timed]


def test_who_comes_nearer_moves_at_once() -> None:
    timers, timed = Timers(), Timed()
    timers.set(timed, 1000.0)
    timers.set(timed, 10.0)
    assert due(timers, 11.0) == [timed]
    assert due(timers, 1001.0) == []


def test_who_ends_leaves_nothing() -> None:
    timers, everybody = Timers(), [Timed() for _ in range(100)]
    for number, timed in enumerate(everybody):
        timers.set(timed, number % 7)
        timers.set(timed, 1000.0)
        timers.cancel(timed)
        assert (timed.deadline, timed.basket) == (0.0, 0)
    assert held(timers) == 0
    timers.cancel(everybody[0])
    assert due(timers, 2000.0) == []


@pytest.mark.parametrize("when", [0.0, 5.0, 9.99, 10.0, 100.0])
def test_one_may_end_another_of_the_same_basket(when: float) -> None:
    """An end of his own, or one that was put off: neither is for this moment."""
    timers, everybody = Timers(), [Timed() for _ in range(3)]
    for timed in everybody:
        timers.set(timed, 9.9)
    seen: list[object] = []
    for first in timers.due(10.0):
        if not seen:
            others = [other for other in everybody if other is not first]
            timers.cancel(others[0])
            timers.cancel(others[1])
            if when:
                timers.set(others[1], when)
        seen.append(first)
    seen += timers.due(11.0) if when < 11 else []
    expected = 1 + (0 < when < 11)
    assert len(seen) == len(set(map(id, seen))) == expected
    assert held(timers) == (when == 100.0)


def test_one_whose_time_is_always_past_does_not_stop_the_loop() -> None:
    timers, timed = Timers(), Timed()
    timers.set(timed, 1.0)
    times = 0
    for each in timers.due(10.0):
        times += 1
        if times < 5:
            timers.set(each, 1.0)
    assert times == 5
    assert held(timers) == 0


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(0, 5), st.floats(0, 40)),
        st.tuples(st.just("cancel"), st.integers(0, 5)),
        st.tuples(st.just("look"), st.floats(0, 10)),
        st.tuples(st.just("ending"), st.floats(0, 10), st.integers(0, 5)),
        st.tuples(
            st.just("putting off"),
            st.floats(0, 10),
            st.integers(0, 5),
            st.floats(0.01, 20),
        ),
    ),
    max_size=60,
)


@given(STEPS)
def test_it_equals_a_model_that_looks_at_everybody(
    steps: list[tuple[str, *tuple[float, ...]]],
) -> None:
    """Nobody is early or called twice, and nobody is later than by an eighth."""
    timers, everybody, now = Timers(), [Timed() for _ in range(6)], 1000.0
    deadlines: dict[int, float] = {}
    for word, *numbers in steps:
        if word == "set":
            place, ahead = int(numbers[0]), numbers[1]
            timers.set(everybody[place], now + ahead)
            deadlines[place] = now + ahead
        elif word == "cancel":
            timers.cancel(everybody[int(numbers[0])])
            deadlines.pop(int(numbers[0]), None)
        else:
            now += numbers[0]
            for timed in timers.due(now):
                place = everybody.index(timed)  # type: ignore[arg-type]  # ours
                assert deadlines.pop(place) <= now
                if word != "look":
                    other = int(numbers[1])
                    timers.cancel(everybody[other])
                    deadlines.pop(other, None)
                if word == "putting off":
                    timers.set(everybody[other], now + numbers[2])
                    deadlines[other] = now + numbers[2]
            assert all(when > now - EIGHTH for when in deadlines.values())
        assert held(timers) == len(deadlines)
        assert len(timers._order) == len(timers._baskets)
        known = {
            place: timed.deadline
            for place, timed in enumerate(everybody)
            if timed.basket
        }
        assert known == deadlines
        first = timers.next()
        if deadlines:
            assert first is not None
            assert first <= min(deadlines.values()) + EIGHTH
