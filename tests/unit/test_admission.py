# SPDX-License-Identifier: ISC
"""Limits of connections: popa3d's rule, beside a model that remembers everything."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.server.admission import LEAST_LOG_SECONDS, SOURCE, TOTAL, Admission

ONE, TWO, THREE = b"192.0.2.1", b"192.0.2.2", b"2001:db8::3"


def admitted(admission: Admission, source: bytes, times: int, now: float) -> list[str]:
    return [admission.admit(source, now) for _ in range(times)]


def test_a_source_gets_what_one_source_may_have() -> None:
    admission = Admission(500, 3, 10)
    assert admitted(admission, ONE, 5, now=1) == ["", "", "", SOURCE, SOURCE]
    assert admitted(admission, TWO, 1, now=1) == [""]
    assert (admission.count, admission.sources) == (4, 2)


def test_all_sources_together_get_the_limit() -> None:
    admission = Admission(3, 2, 10)
    assert [admission.admit(each, 1) for each in (ONE, TWO, THREE)] == ["", "", ""]
    assert admission.admit(ONE, 1) == TOTAL
    assert admission.admit(b"192.0.2.99", 1) == TOTAL


def test_who_has_too_many_is_told_so_even_when_all_is_full() -> None:
    admission = Admission(2, 2, 10)
    assert admitted(admission, ONE, 3, now=1) == ["", "", SOURCE]


def test_without_a_limit_for_one_source_it_may_have_all() -> None:
    admission = Admission(100, 0, 10)
    assert set(admitted(admission, ONE, 100, now=1)) == {""}
    assert admission.admit(ONE, 1) == TOTAL


def test_a_short_connection_counts_until_the_delay_is_over() -> None:
    """popa3d: 50 very short sessions in 10 seconds are at the limit as well."""
    admission = Admission(500, 1, 10)
    assert admission.admit(ONE, 100.0) == ""
    admission.release(ONE, 100.0, 100.5)
    assert admission.admit(ONE, 109.9) == SOURCE
    assert admission.admit(ONE, 110.0) == ""


def test_a_long_connection_counts_as_long_as_it_lives() -> None:
    admission = Admission(500, 1, 10)
    admission.admit(ONE, 100.0)
    assert admission.admit(ONE, 5000.0) == SOURCE
    admission.release(ONE, 100.0, 5000.0)
    assert admission.admit(ONE, 5000.0) == ""


def test_without_a_delay_an_ended_connection_counts_no_more() -> None:
    admission = Admission(1, 1, 0)
    for now in range(5):
        assert admission.admit(ONE, now) == ""
        admission.release(ONE, now, now)
    assert (admission.count, admission.sources) == (0, 0)


def test_what_another_process_admitted_counts_beyond_the_limits() -> None:
    admission = Admission(2, 2, 10)
    for _ in range(3):
        admission.resume(ONE, 100)
    assert admission.count == 3
    assert admission.admit(ONE, 100) == SOURCE
    assert admission.admit(TWO, 100) == TOTAL
    admission.release(ONE, 50, 100)
    admission.release(ONE, 95, 101)
    assert admission.count == 2
    admission.release(ONE, 95, 104)
    assert admission.admit(TWO, 105) == ""
    assert (admission.count, admission.sources) == (1, 1)


def test_a_connection_that_never_came_is_a_fault() -> None:
    with pytest.raises(KeyError):
        Admission(2, 2, 0).release(ONE, 1, 2)


def test_a_refusal_is_told_once_in_a_while_and_counted_between() -> None:
    admission = Admission(500, 1, 20)
    told = [admission.is_loud(ONE, SOURCE, now) for now in range(100, 161)]
    assert [place for place, is_loud in enumerate(told) if is_loud] == [0, 20, 40, 60]


def test_a_line_can_say_how_many_it_stands_for() -> None:
    admission = Admission(500, 1, 10)
    assert admission.is_loud(ONE, SOURCE, 100)
    assert admission.suppressed(ONE, SOURCE) == 0
    assert not any(admission.is_loud(ONE, SOURCE, 101) for _ in range(41))
    assert admission.is_loud(ONE, SOURCE, 110)
    assert admission.suppressed(ONE, SOURCE) == 41
    assert admission.suppressed(ONE, SOURCE) == 0


def test_without_a_delay_the_log_has_one_all_the_same() -> None:
    admission = Admission(500, 1, 0)
    assert admission.is_loud(ONE, SOURCE, 100)
    assert not admission.is_loud(ONE, SOURCE, 100 + LEAST_LOG_SECONDS - 0.1)
    assert admission.is_loud(ONE, SOURCE, 100 + LEAST_LOG_SECONDS)


@pytest.mark.parametrize(("later", "left_out"), [(19.9, 5), (20, 0)])
def test_what_was_left_out_long_ago_is_not_worth_a_word(
    later: float, left_out: int
) -> None:
    admission = Admission(500, 1, 10)
    assert admission.is_loud(ONE, SOURCE, 100)
    assert not any(admission.is_loud(ONE, SOURCE, 101) for _ in range(5))
    assert admission.is_loud(ONE, SOURCE, 100 + later)
    assert admission.suppressed(ONE, SOURCE) == left_out


def test_a_source_told_of_again_does_not_keep_the_others() -> None:
    admission = Admission(500, 1, 10)
    for source, now in ((ONE, 100), (TWO, 101), (ONE, 110), (THREE, 121)):
        assert admission.is_loud(source, SOURCE, now)
    assert list(admission._told) == [(SOURCE, ONE), (SOURCE, THREE)]


def test_each_source_and_each_reason_has_lines_of_its_own() -> None:
    admission = Admission(500, 1, 10)
    assert admission.is_loud(ONE, SOURCE, 100)
    assert admission.is_loud(TWO, SOURCE, 100)
    assert admission.is_loud(ONE, "rules", 100)
    assert admission.is_loud(ONE, TOTAL, 100)
    assert not admission.is_loud(TWO, TOTAL, 100), "all are one where all is full"
    assert admission.suppressed(THREE, TOTAL) == 1


def test_a_flood_from_everywhere_gets_no_more_lines_than_connections() -> None:
    admission = Admission(40, 1, 10)
    sources = [b"%d" % number for number in range(10_000)]
    told = [admission.is_loud(source, SOURCE, 100) for source in sources]
    assert sum(told) == 40
    assert admission.is_loud(ONE, TOTAL, 100), "this line is never crowded out"
    assert len(admission._told) == 41
    assert admission.is_loud(sources[-1], SOURCE, 200)
    assert len(admission._told) == 1


@pytest.mark.slow
def test_a_million_sources_leave_nothing_behind() -> None:
    admission = Admission(500, 50, 10)
    most = 0
    for number in range(1_000_000):
        source, now = b"%d" % number, number / 40
        assert admission.admit(source, now) == ""
        admission.release(source, now, now + 0.01)
        if not number % 97:
            assert admission.is_loud(source, SOURCE, now)
        tables = admission._sources, admission._lingering, admission._told
        most = max(most, *map(len, tables))
    assert most <= 400 + 1, "40 a second, each for 10 seconds"
    assert admission.admit(ONE, now + 1000) == ""
    assert (admission.count, admission.sources) == (1, 1)
    assert not admission._lingering


class Model:
    """Every connection and every line there ever was."""

    def __init__(self, limit: int, per_source: int, min_delay: int) -> None:
        self.limit, self.per_source, self.min_delay = limit, per_source, min_delay
        self.log_seconds = max(min_delay, 10)
        self.connections: list[tuple[bytes, int, int | None]] = []
        self.lines: dict[tuple[str, bytes], list[int]] = {}
        self.denied: dict[tuple[str, bytes], int] = {}

    def counting(self, now: int) -> list[bytes]:
        return [
            source
            for source, began, ended in self.connections
            if ended is None or now < max(ended, began + self.min_delay)
        ]

    def admit(self, source: bytes, now: int) -> str:
        counting = self.counting(now)
        if self.per_source and counting.count(source) >= self.per_source:
            return SOURCE
        if len(counting) >= self.limit:
            return TOTAL
        self.connections.append((source, now, None))
        return ""

    def is_loud(self, source: bytes, why: str, now: int) -> bool:
        key = (why, b"" if why == TOTAL else source)
        remembered = {
            each
            for each, times in self.lines.items()
            if now - times[-1] < 2 * self.log_seconds
        }
        if key not in remembered:
            if why != TOTAL and len(remembered) >= self.limit:
                return False
            self.denied[key] = 0
        elif now - self.lines[key][-1] < self.log_seconds:
            self.denied[key] += 1
            return False
        self.lines.setdefault(key, []).append(now)
        return True


SOURCES = st.sampled_from([ONE, TWO, THREE, b"192.0.2.4"])
STEPS = st.one_of(
    st.tuples(st.just("admit"), SOURCES),
    st.tuples(st.just("admit"), SOURCES),
    st.tuples(st.just("resume"), SOURCES, st.integers(0, 30)),
    st.tuples(st.just("release"), st.integers(0, 20)),
    st.tuples(st.just("release"), st.integers(0, 20)),
    st.tuples(st.just("wait"), st.integers(0, 12)),
    st.tuples(st.just("refuse"), SOURCES, st.sampled_from([SOURCE, TOTAL])),
)


@pytest.mark.slow
@given(
    st.tuples(st.integers(1, 6), st.integers(0, 4), st.integers(0, 15)),
    st.lists(STEPS, max_size=60),
)
def test_it_equals_a_model_that_forgets_nothing(
    limits: tuple[int, int, int], steps: list[tuple[str, *tuple[object, ...]]]
) -> None:
    admission, model, now = Admission(*limits), Model(*limits), 1000
    for step in steps:
        match step:
            case ("admit", bytes(source)):
                assert admission.admit(source, now) == model.admit(source, now)
            case ("resume", bytes(source), int(age)):
                admission.resume(source, now)
                model.connections.append((source, now - age, None))
            case ("release", int(number)):
                release(admission, model, number, now)
            case ("wait", int(seconds)):
                now += seconds
            case ("refuse", bytes(source), str(why)):
                is_loud = model.is_loud(source, why, now)
                assert admission.is_loud(source, why, now) == is_loud
                if is_loud:
                    key = (why, b"" if why == TOTAL else source)
                    assert admission.suppressed(source, why) == model.denied[key]
                    model.denied[key] = 0
        admission._forget(now)
        counting = model.counting(now)
        assert admission.count == len(counting)
        assert admission.sources == len(set(counting))
        assert len(admission._lingering) <= len(counting)
        assert len(admission._told) <= model.limit + 1


def release(admission: Admission, model: Model, number: int, now: int) -> None:
    """End one of the living connections, if there is any."""
    living = [place for place, row in enumerate(model.connections) if row[2] is None]
    if living:
        place = living[number % len(living)]
        source, began, _ = model.connections[place]
        model.connections[place] = (source, began, now)
        admission.release(source, began, now)
