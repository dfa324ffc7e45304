# SPDX-License-Identifier: ISC
"""Options of a chained program: taken up to the first word that is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.errors import Hard, Misuse
from qtools.system import options
from qtools.system.options import Option, Values

ROWS = (
    Option("a", "attempts", "N", "how many"),
    Option("n", "no-split", "", "a flag"),
    Option("x", "exec", "", "another flag"),
    Option("", "long-only", "WORD", "without a letter"),
)


def parse(*words: str) -> tuple[dict[str, str], list[str]]:
    return options.parse(["popup", *words], ROWS, "popup host prog")


@pytest.mark.parametrize(
    ("words", "values", "rest"),
    [
        ("host prog -a 1", {}, "host prog -a 1"),
        ("-a 1 host", {"attempts": "1"}, "host"),
        ("-a1 host", {"attempts": "1"}, "host"),
        ("--attempts 1 host", {"attempts": "1"}, "host"),
        ("--attempts=1 host", {"attempts": "1"}, "host"),
        ("--attempts= host", {"attempts": ""}, "host"),
        ("-nx host", {"no-split": "", "exec": ""}, "host"),
        ("-nxa1 host", {"no-split": "", "exec": "", "attempts": "1"}, "host"),
        ("-na 1 host", {"no-split": "", "attempts": "1"}, "host"),
        ("-a -n host", {"attempts": "-n"}, "host"),
        ("-a 1 -a 2 host", {"attempts": "2"}, "host"),
        ("-n -- -x host", {"no-split": ""}, "-x host"),
        ("--long-only x -", {"long-only": "x"}, "-"),
        ("- -n", {}, "- -n"),
        ("", {}, ""),
    ],
)
def test_parse(words: str, values: dict[str, str], rest: str) -> None:
    assert parse(*words.split()) == (values, rest.split())


@pytest.mark.parametrize(
    "words", ["-z", "-nz", "--none", "--exec=1", "-a", "-na", "--attempts", "--=x"]
)
def test_misuse(words: str) -> None:
    with pytest.raises(Hard, match="option"):
        parse(*words.split())


def test_the_failure_is_the_tool_s_own() -> None:
    with pytest.raises(Misuse):
        options.parse(["checkpw", "-z"], ROWS, "checkpw prog", Misuse)


@given(st.lists(st.text(max_size=8), max_size=6))
def test_any_words_are_options_or_hard(words: list[str]) -> None:
    try:
        _, rest = parse(*[word for word in words if word not in ANSWERED])
    except Hard:
        return
    assert words[len(words) - len(rest) :] == rest


ANSWERED = ("--help", "--version")


def attempts(text: str) -> Values:
    values = Values()
    values["attempts"] = text
    return values


@pytest.mark.parametrize("word", ANSWERED)
def test_help_and_version_are_answered_before_anything_else(
    word: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        parse("-n", word, "-z")
    assert left.value.code == 0
    said = capfd.readouterr().out
    if word == "--help":
        assert said.startswith("usage: popup host prog\n  -a, --attempts N ")
        assert all(row.name in said and row.text in said for row in ROWS)
    else:
        assert said.startswith("popup (qtools) ")


@pytest.mark.parametrize("text", ["0", "7", "0010", "1000000000"])
def test_a_number(text: str) -> None:
    assert attempts(text).number("attempts", 3) == int(text)


def test_a_number_that_was_not_given() -> None:
    assert Values().number("attempts", 3) == 3


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-1",
        "+1",
        "1.5",
        "x",
        " 1",
        "1_0",
        "\N{SUPERSCRIPT TWO}",
        "9" * 5000,
        "9" * 12,
    ],
)
def test_what_is_no_number_is_hard(text: str) -> None:
    with pytest.raises(Hard, match="attempts"):
        attempts(text).number("attempts", 3)


def test_a_number_below_the_least_is_hard() -> None:
    with pytest.raises(Hard, match="from 1"):
        attempts("0").number("attempts", 3, least=1)


def test_an_option_that_may_be_repeated() -> None:
    values, _ = options.parse(["popup", "-a1", "--attempts=2"], ROWS, "usage")
    assert values.every("attempts") == ["1", "2"]
    assert values["attempts"] == "2"
    assert values.every("exec") == []
