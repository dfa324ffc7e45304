# SPDX-License-Identifier: ISC
"""Options of a chained program, parsed from rows without a library.

A link of the chain takes options up to the first word that is not one, or "--"; the
rest is its own arguments and the next program. argparse would cost as much as a whole
login, so the rows are all there is: parsing and --help both derive from them.
"""

import posix

from qtools import __version__
from qtools.errors import Hard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtools.errors import Failure


MOST = 10**9  # a number; 32 years, when it is one of seconds


class Option:
    """One option: letter (or empty), long name, argument's name (or empty), text."""

    __slots__ = ("argument", "letter", "name", "text")

    def __init__(self, letter: str, name: str, argument: str, text: str) -> None:
        self.letter = letter
        self.name = name
        self.argument = argument
        self.text = text


class Values(dict[str, str]):
    """What was given, by long name; a flag's value is empty, the last one counts."""

    def __init__(self) -> None:
        super().__init__()
        self._given: list[tuple[str, str]] = []

    def __setitem__(self, name: str, value: str) -> None:
        """Keep a value, and that it was given."""
        super().__setitem__(name, value)
        self._given.append((name, value))

    def every(self, name: str) -> list[str]:
        """Give all values of an option that may be repeated, in order."""
        return [value for given, value in self._given if given == name]

    def is_last(self, name: str, *others: str) -> bool:
        """Tell whether, of options that exclude each other, this one came last."""
        given = [each for each, _ in self._given if each in (name, *others)]
        return given[-1:] == [name]

    def number(self, name: str, default: int, least: int = 0, most: int = MOST) -> int:
        """Give an option's whole number, or the default when it was not given.

        Raises: Hard for anything but digits, and beyond least and most.
        """
        text = self.get(name)
        if text is None:
            return default
        is_number = text.isascii() and text.isdigit() and len(text) <= len(str(most))
        if not is_number or not least <= int(text) <= most:
            limits = f"from {least} to {most}"
            raise Hard(f"--{name} takes a whole number {limits}, not {text}")
        return int(text)


def parse(
    argv: "Sequence[str]",
    rows: "Sequence[Option]",
    usage: str,
    failure: "type[Failure]" = Hard,
) -> tuple[Values, list[str]]:
    """Cut argv into option values and the remaining arguments.

    --help and --version are answered at once on standard output.
    Raises: failure on an unknown option or a missing argument.
    """
    values = Values()
    names = {row.name: row for row in rows}
    letters = {row.letter: row for row in rows if row.letter}
    rest = list(argv[1:])
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        if word in ("--help", "--version"):
            _answer(argv[0], word, rows, usage)
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            row = names.get(name)
            if row is None or (equals and not row.argument):
                raise failure(f"unknown option {word}; usage: {usage}")
            if row.argument and not equals:
                value = _argument(word, rest, failure)
            values[row.name] = value
        else:
            _letters(word[1:], letters, rest, values, failure)
    return values, rest


def _letters(
    cluster: str,
    letters: dict[str, Option],
    rest: list[str],
    values: Values,
    failure: "type[Failure]",
) -> None:
    """Take a word of single letters; the last may carry its argument."""
    while cluster:
        row = letters.get(cluster[0])
        if row is None:
            raise failure(f"unknown option -{cluster[0]}; try --help")
        cluster = cluster[1:]
        if row.argument:
            values[row.name] = cluster or _argument("-" + row.letter, rest, failure)
            return
        values[row.name] = ""


def _argument(word: str, rest: list[str], failure: "type[Failure]") -> str:
    if not rest:
        raise failure(f"option {word} needs an argument")
    return rest.pop(0)


def _answer(program: str, word: str, rows: "Sequence[Option]", usage: str) -> None:
    """Print what --help or --version asks for and leave with 0."""
    lines = [f"{program.rpartition('/')[2]} (qtools) {__version__}"]
    if word == "--help":
        lines = [f"usage: {usage}", *map(_help_line, rows)]
    posix.write(1, ("\n".join(lines) + "\n").encode())
    raise SystemExit(0)


def _help_line(row: Option) -> str:
    letter = f"-{row.letter}, " if row.letter else "    "
    given = f"{letter}--{row.name}" + (f" {row.argument}" if row.argument else "")
    return f"  {given:30} {row.text}"
