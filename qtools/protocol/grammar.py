# SPDX-License-Identifier: ISC
"""What a command of the Command Line Interface takes, as values that rows are made of.

See: qtools/protocol/commands.py for the rows.
"""

from qtools.protocol.values import Malformed, Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtools.protocol.values import Value


class Part:
    """One argument, or a keyword, or both: `INTO new`.

    name: of the argument, for whoever carries the command out. keyword: stands before
    it, in any case; alone it is a flag. sign: what the argument begins with: "(" an
    array, "{" a dictionary, "*" the rest of the line, "" a string, "-" none. known:
    what a log may show of it, in capitals; nothing for all.
    """

    __slots__ = ("is_optional", "keyword", "known", "name", "sign")

    def __init__(
        self,
        name: str,
        keyword: bytes = b"",
        sign: bytes = b"",
        *,
        optional: bool,
        known: "Sequence[bytes]" = (),
    ) -> None:
        self.name = name
        self.keyword = keyword
        self.sign = sign
        self.is_optional = optional
        self.known = known

    def usage(self) -> str:
        """Give it as a manual page shows it."""
        close = {b"(": ")", b"{": "}"}.get(self.sign, "")
        shown = self.sign.decode() + self.name + close if close else self.name
        words = [self.keyword.decode(), "" if self.sign == b"-" else shown]
        text = " ".join(filter(None, words))
        return f"[{text}]" if self.is_optional else text

    def is_next(self, reader: Reader, later: "Sequence[bytes]") -> bool:
        """Tell whether an optional part is there; later: keywords that would end it."""
        sign = reader.peek()
        if self.keyword:
            return keyword_of(reader) == self.keyword
        if self.sign:
            return sign == self.sign
        return sign not in (b"", b"(", b"{", b"[") and keyword_of(reader) not in later

    def take(self, reader: Reader) -> "Value":
        """Read it; a flag gives an empty string.

        Raises: Malformed.
        """
        if self.keyword and keyword_of(reader) != self.keyword:
            reader.fail(f"no {self.keyword.decode()}")
        if self.keyword:
            reader.name()
        if self.sign == b"-":
            return b""
        if self.sign == b"*":
            return reader.rest().removeprefix(b" ")
        if not self.sign:
            return reader.name()
        if reader.peek() != self.sign:
            reader.fail(f"no {self.sign.decode()}")
        value = reader.value()
        reader.separate()
        return value


def keyword_of(reader: Reader) -> bytes:
    """Give the next word in capitals without reading it; empty when it is no word."""
    begin = reader.position
    try:
        return reader.name().upper()
    except Malformed:
        return b""
    finally:
        reader.position = begin


class Command:
    """A row: see commands.COMMANDS."""

    __slots__ = ("aliases", "changes", "name", "parts", "right", "secrets")

    def __init__(
        self,
        name: str,
        parts: "Sequence[Part]",
        right: str,
        *,
        changes: bool = False,
        aliases: "Sequence[str]" = (),
    ) -> None:
        self.name = name
        self.parts = tuple(parts)
        self.right = right
        self.changes = changes
        self.aliases = tuple(aliases)
        self.secrets = frozenset({"password"} & {part.name for part in parts})

    def usage(self) -> str:
        """Give it as a manual page shows it."""
        return " ".join((self.name, *(part.usage() for part in self.parts)))


class Call:
    """A command with its arguments, by name; those that were left out are not there."""

    __slots__ = ("arguments", "command")

    def __init__(self, command: Command, arguments: "dict[str, Value]") -> None:
        self.command = command
        self.arguments = arguments

    def __contains__(self, name: str) -> bool:
        """Tell whether an argument or flag was given."""
        return name in self.arguments

    def text(self, name: str) -> bytes:
        """Give an argument that is a string; empty when it was left out."""
        value = self.arguments.get(name, b"")
        assert isinstance(value, bytes)  # noqa: S101  # for the type checker
        return value

    def array(self, name: str) -> "list[Value]":
        """Give an argument that is an array."""
        value = self.arguments.get(name, [])
        assert isinstance(value, list)  # noqa: S101  # for the type checker
        return value

    def dictionary(self, name: str) -> "dict[bytes, Value]":
        """Give an argument that is a dictionary; empty when it was left out."""
        value = self.arguments.get(name, {})
        assert isinstance(value, dict)  # noqa: S101  # for the type checker
        return value
