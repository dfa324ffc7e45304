# SPDX-License-Identifier: ISC
"""Data of the Command Line Interface: what is written is read back, junk is not."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.protocol import values
from qtools.protocol.values import Block, Malformed, Reader, parse, render

SIMPLE = (
    st.binary(max_size=12)
    | st.integers(-values.LARGEST_NUMBER, values.LARGEST_NUMBER)
    | st.none()
    | st.binary(max_size=9).map(Block)
)
DATA = st.recursive(
    SIMPLE,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.binary(max_size=5), inner, max_size=4)
    ),
    max_leaves=20,
)
SIGNS = st.text(alphabet='aZ9"\\(){}[]=;,#- NULetn0.@\r\n\t', max_size=40)


@given(DATA)
def test_parse_inverts_render(value: "values.Value") -> None:
    written = render(value)
    assert parse(written) == value
    assert b"\n" not in written
    assert b"\r" not in written
    assert render(parse(written)) == written


@given(st.dictionaries(st.binary(max_size=5), SIMPLE, max_size=5))
def test_the_order_of_keys_changes_nothing(pairs: "dict[bytes, values.Value]") -> None:
    assert render(dict(reversed(pairs.items()))) == render(pairs)


@given(st.binary(max_size=60) | SIGNS.map(str.encode))
def test_anything_else_is_one_exception_with_a_position(text: bytes) -> None:
    with contextlib.suppress(Malformed):
        value = parse(text)
        assert parse(render(value)) == value
        return
    with pytest.raises(Malformed) as caught:
        parse(text)
    assert 0 <= caught.value.position <= len(text)
    assert str(caught.value).endswith(f"at octet {caught.value.position}")


@given(DATA, st.data())
def test_a_datum_cut_short_is_none(value: "values.Value", data: st.DataObject) -> None:
    written = render(value)
    if written[:1] in (b"(", b"{", b"[", b'"'):
        with pytest.raises(Malformed):
            parse(written[: data.draw(st.integers(0, len(written) - 1))])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"user1", b"user1"),
        (b'  "two words" ', b"two words"),
        (b'""', b""),
        (b"client1.com", b"client1.com"),
        (b"joe@a-b.example_x!%:", b"joe@a-b.example_x!%:"),
        ("müller".encode(), "müller".encode()),
        (rb'"a\"b\\c\r\n\e\t\009\255"', b'a"b\\c\r\n\n\t\t\xff'),
        (rb'"\0010"', b"\x010"),
        (b"#0", 0),
        (b"#-17", -17),
        (b"#9223372036854775807", 2**63 - 1),
        (b"#NULL#", None),
        (b"[AQID]", Block(b"\1\2\3")),
        (b"[ AQ\tID ]", Block(b"\1\2\3")),
        (b"[]", Block(b"")),
        (b"()", []),
        (b"( a , b )", [b"a", b"b"]),
        (b"((),{},(#1))", [[], {}, [1]]),
        (b"{}", {}),
        (b'{A=1;B="x y";}', {b"A": b"1", b"B": b"x y"}),
        (b'{ "a b" = ( 1 , 2 ) ; c = { } ; }', {b"a b": [b"1", b"2"], b"c": {}}),
        (b"{a=1;A=2;}", {b"a": b"1", b"A": b"2"}),
        (b'("ab" "cd", [AQ==] [Ag==])', [b"abcd", Block(b"\1\2")]),
    ],
)
def test_what_a_text_says(text: bytes, value: "values.Value") -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"user1", b"user1"),
        (b"client1.com", b'"client1.com"'),
        (b"", b'""'),
        (b'say "\\', rb'"say \"\\"'),
        (b"a\nb\r\t\0\x7f", rb'"a\010b\013\009\000\127"'),
        ({b"B": b"x y", b"A": b"1"}, b'{A=1;B="x y";}'),
        ([b"a", 1, None, Block(b"\1\2\3")], b"(a,#1,#NULL#,[AQID])"),
        ([[], {}], b"((),{})"),
    ],
)
def test_how_a_datum_is_written(value: "values.Value", text: bytes) -> None:
    assert render(value) == text


@pytest.mark.parametrize(
    ("text", "position"),
    [
        (b"", 0),
        (b"   ", 3),
        (b"a b", 2),
        (b'"a', 0),
        (b'"a"b"', 3),
        (b'"a\\"', 0),
        (b'"a\\x"', 0),
        (b'"\\25"', 0),
        (b'"\\256"', 6),
        (b'"a\tb"', 0),
        (b'"a\nb"', 0),
        (b'"a" "b"', 4),
        (b"(a", 2),
        (b"(a b)", 3),
        (b"(a,)", 3),
        (b"(,)", 1),
        (b"(a}", 2),
        (b"{a}", 2),
        (b"{a=1}", 4),
        (b"{a=1;", 5),
        (b"{a=1;;}", 5),
        (b"{=1;}", 1),
        (b"{a=;}", 3),
        (b"{#1=a;}", 1),
        (b"{a=1;a=2;}", 5),
        (b"{(a)=1;}", 1),
        (b"[A]", 3),
        (b"[AQ=]", 5),
        (b"[AQID", 0),
        (b"[AQ-D]", 0),
        (b"#", 0),
        (b"#1x", 0),
        (b"#12345678901234567890", 0),
        (b"#9223372036854775808", 0),
        (b"#null#", 0),
        (b")", 0),
        (b"()()", 2),
        (b"a\0", 1),
        (b"a/b", 1),
    ],
)
def test_what_is_no_datum(text: bytes, position: int) -> None:
    with pytest.raises(Malformed) as caught:
        parse(text)
    assert caught.value.position == position


@pytest.mark.parametrize("opening", [b"(", b"{a=", b"({a="])
def test_data_nest_to_a_limit_and_no_further(opening: bytes) -> None:
    closing = {b"(": b")", b"{a=": b";}", b"({a=": b";})"}[opening]
    levels = values.MOST_LEVELS // (opening.count(b"(") + opening.count(b"{"))
    fit = opening * levels + b"x" + closing * levels
    assert render(parse(fit)) == fit
    with pytest.raises(Malformed, match="levels"):
        parse(opening * 10_000 + b"x" + closing * 10_000)
    with pytest.raises(Malformed, match="levels"):
        parse(opening * 10_000)


def test_what_is_nested_too_deep_for_recursion_can_be_written() -> None:
    value: "values.Value" = b"x"
    for _ in range(10_000):
        value = [value]
    assert render(value) == b"(" * 10_000 + b"x" + b")" * 10_000


@pytest.mark.parametrize(
    "text",
    [
        b"x" * 1_000_000,
        b'"' + rb"\\" * 500_000 + b'"',
        b"(" + b"a," * 100_000 + b"a)",
        b'("a"' + b'"b"' * 100_000 + b")",
        b"[" + b"AQID" * 250_000 + b"]",
    ],
)
@pytest.mark.slow
def test_a_megabyte_is_read(text: bytes) -> None:
    assert parse(render(parse(text))) == parse(text)


@pytest.mark.parametrize(
    "text",
    [b'"' + b"x" * 1_000_000, b"[" + b"A" * 1_000_000, b"#" + b"1" * 1_000_000],
)
def test_a_megabyte_without_an_end_is_refused(text: bytes) -> None:
    with pytest.raises(Malformed):
        parse(text)


def test_arguments_of_a_command_are_kept_apart() -> None:
    reader = Reader(b'joe+x@a.b "to be"  rest  of it ')
    assert reader.name() == b"joe+x@a.b"
    assert reader.name() == b"to be"
    assert reader.rest() == b"  rest  of it "
    assert reader.is_at_end()


@pytest.mark.parametrize(
    "text", [b'"pa"ss"', b'pa"ss', b'"a""b"', b'"a"b', b"", b"(a)"]
)
def test_an_argument_has_a_blank_behind_it(text: bytes) -> None:
    with pytest.raises(Malformed):
        Reader(text).name()


def test_blocks_are_compared_with_blocks_only() -> None:
    assert Block(b"x") != b"x"
    assert Block(b"x") != Block(b"y")
    assert repr(Block(b"x")) == "Block(b'x')"
