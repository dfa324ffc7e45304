# SPDX-License-Identifier: ISC
"""Data as the Command Line Interface writes them: parse and print.

A string is bytes, a number int, #NULL# None, a datablock Block, an array a list, a
dictionary a dict of strings to data. The reader takes more than the writer writes, as
the vendor's own does: words without quotes may hold some signs, and strings and blocks
that stand side by side inside an array or a dictionary are one. What is no datum is
one exception; nothing is guessed, because what was meant may be a password. There is
no recursion: how deep data nest is the sender's choice up to a limit of ours.
"""

import re
from binascii import Error, a2b_base64, b2a_base64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn, TypeAlias

    Value: TypeAlias = "bytes | int | Block | list[Value] | dict[bytes, Value] | None"

MOST_LEVELS = 64  # of arrays and dictionaries inside one another; settings have two
LARGEST_NUMBER = 2**63 - 1  # as the vendor's

_BLANKS = re.compile(rb"[ \t\r\n]*")
_WORD = re.compile(rb"[-A-Za-z0-9_.@!#%:\x80-\xff]+")
_NAME = re.compile(rb"[^\x00-\x20\x7f\"\\(){}\[\],;=]+")
_QUOTED = re.compile(rb'"((?:[^"\\\x00-\x1f\x7f]++|\\(?:[\\"rnet]|[0-9]{3}))*+)"')
_ESCAPE = re.compile(rb"\\([0-9]{3}|.)")
_BLOCK = re.compile(rb"\[([A-Za-z0-9+/= \t\r\n]*)\]")
_NUMBER = re.compile(rb"#-?[0-9]{1,19}")
_ATOM = re.compile(rb"[A-Za-z0-9]+")
_UNPRINTABLE = re.compile(rb'[\x00-\x1f\x7f"\\]')

_ESCAPED = {b"r": b"\r", b"n": b"\n", b"e": b"\n", b"t": b"\t"}
_ESCAPES = {b'"': b'\\"', b"\\": b"\\\\"}


class Malformed(ValueError):
    """This is no datum, or more than one; position: the octet where that shows."""

    def __init__(self, what: str, position: int) -> None:
        super().__init__(f"{what} at octet {position}")
        self.position = position


class Block:
    """A datablock: octets that are no text."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __eq__(self, other: object) -> bool:
        """Compare with another block; a string is something else."""
        return isinstance(other, Block) and self.data == other.data

    __hash__ = None  # type: ignore[assignment]  # values are compared, never keyed

    def __repr__(self) -> str:
        """Show the octets."""
        return f"Block({self.data!r})"


def parse(text: bytes) -> "Value":
    """Read a datum with nothing but blanks around it.

    Raises: Malformed.
    """
    reader = Reader(text)
    value = reader.value()
    if not reader.is_at_end():
        reader.fail("something behind the datum")
    return value


def render(value: "Value") -> bytes:
    """Write a datum on one line: keys sorted, no blanks, quotes where needed.

    Data nested deeper than parse() reads are written all the same.
    """
    done: list[bytes] = []
    # What is still to be written, the next one last; octets are written as they are.
    ahead: list[tuple[bool, Value]] = [(True, value)]
    while ahead:
        is_datum, each = ahead.pop()
        if not is_datum:
            assert isinstance(each, bytes)  # noqa: S101  # for the type checker
            done.append(each)
        elif isinstance(each, list):
            ahead += reversed(_of_array(each))
        elif isinstance(each, dict):
            ahead += reversed(_of_dictionary(each))
        else:
            done.append(_simple(each))
    return b"".join(done)


def _of_array(array: "list[Value]") -> "list[tuple[bool, Value]]":
    parts: list[tuple[bool, Value]] = []
    for each in array:
        parts += [(False, b","), (True, each)]
    return [(False, b"("), *parts[1:], (False, b")")]


def _of_dictionary(pairs: "dict[bytes, Value]") -> "list[tuple[bool, Value]]":
    parts: list[tuple[bool, Value]] = [(False, b"{")]
    for key in sorted(pairs):
        parts += [(False, _string(key) + b"="), (True, pairs[key]), (False, b";")]
    return [*parts, (False, b"}")]


def _simple(value: "bytes | int | Block | None") -> bytes:
    if value is None:
        return b"#NULL#"
    if isinstance(value, Block):
        return b"[" + b2a_base64(value.data, newline=False) + b"]"
    return b"#%d" % value if isinstance(value, int) else _string(value)


def _string(text: bytes) -> bytes:
    if _ATOM.fullmatch(text):
        return text
    return b'"' + _UNPRINTABLE.sub(_escape, text) + b'"'


def _escape(found: "re.Match[bytes]") -> bytes:
    # Of the names of control characters, readers know different ones.
    return _ESCAPES.get(found[0]) or b"\\%03d" % found[0][0]


class Reader:
    """A line, and how far it has been read; position: in octets."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self.position = 0

    def is_at_end(self) -> bool:
        """Tell whether nothing but blanks is left, which are read."""
        self._skip()
        return self.position >= len(self._text)

    def peek(self) -> bytes:
        """Give the octet that comes next behind blanks, which are read."""
        self._skip()
        return self._text[self.position : self.position + 1]

    def rest(self) -> bytes:
        """Give all that is left as it is."""
        text, self.position = self._text[self.position :], len(self._text)
        return text

    def name(self) -> bytes:
        """Read one argument of a command: a string, or a word with any signs.

        A blank or the end has to follow: with a quote that somebody has not escaped
        the line would be read as something else than was meant.
        Raises: Malformed.
        """
        self._skip()
        found = _NAME.match(self._text, self.position)
        if found:
            self.position = found.end()
            word = found[0]
        else:
            word = self._quoted()
        self.separate()
        return word

    def separate(self) -> None:
        """Make sure that what was read ends here.

        Raises: Malformed.
        """
        if self._text[self.position : self.position + 1] not in (b"", b" ", b"\t"):
            self.fail("no blank behind an argument")

    def value(self) -> "Value":
        """Read a datum.

        Raises: Malformed.
        """
        frames: list[_Frame] = []  # what is open, the innermost last
        while True:
            sign = self.peek()
            if sign in CLOSING:
                if len(frames) >= MOST_LEVELS:
                    self.fail(f"more than {MOST_LEVELS} levels")
                self.position += 1
                frames.append(_Frame(CLOSING[sign]))
                is_closed = self._takes(CLOSING[sign])
            elif not frames:
                return self._simple(is_inside=False)
            else:
                is_closed = self._put(frames[-1], self._simple(is_inside=True))
            while is_closed:
                whole = frames.pop().whole
                if not frames:
                    return whole
                is_closed = self._put(frames[-1], whole)
            self._begin_element(frames[-1])

    def _put(self, frame: "_Frame", value: "Value") -> bool:
        """Add an element and read what is behind it; tell whether it was the last."""
        if isinstance(frame.whole, list):
            frame.whole.append(value)
            if self._takes(frame.closing):
                return True
            self._expect(b",")
            return False
        frame.whole[frame.key] = value
        self._expect(b";")
        return self._takes(frame.closing)

    def _begin_element(self, frame: "_Frame") -> None:
        """Read what is before an element: of a dictionary, its key."""
        if isinstance(frame.whole, list):
            return
        begin = self.position
        key = self._simple(is_inside=True)
        if not isinstance(key, bytes):
            self.fail("a key that is no string", begin)
        if key in frame.whole:
            self.fail("the same key again", begin)
        frame.key = key
        self._expect(b"=")

    def _simple(self, *, is_inside: bool) -> "bytes | int | Block | None":
        """Read a datum that holds no others."""
        sign = self.peek()
        if sign == b"[":
            return self._block(is_inside=is_inside)
        if sign == b"#":
            return self._number()
        if sign != b'"':
            return self._match(_WORD, "no datum")[0]
        parts = [self._quoted()]
        while is_inside and self.peek() == b'"':
            parts.append(self._quoted())
        return b"".join(parts)

    def _quoted(self) -> bytes:
        found = self._match(_QUOTED, "no string, or one without its end")
        return _ESCAPE.sub(self._unescape, found[1])

    def _unescape(self, found: "re.Match[bytes]") -> bytes:
        what = found[1]
        if not what.isdigit():
            return _ESCAPED.get(what, what)
        if int(what) > 255:
            self.fail("no such octet: " + what.decode())
        return bytes((int(what),))

    def _block(self, *, is_inside: bool) -> Block:
        data = bytearray()
        while True:
            found = self._match(_BLOCK, "no datablock, or one without its end")
            try:
                text = b"".join(found[1].split())
                data += a2b_base64(text, strict_mode=True) if text else b""
            except Error:
                self.fail("no base64")
            if not is_inside or self.peek() != b"[":
                return Block(bytes(data))

    def _number(self) -> int | None:
        begin = self.position
        if self._text.startswith(b"#NULL#", begin):
            self.position += len(b"#NULL#")
            return None
        number = int(self._match(_NUMBER, "no number")[0][1:])
        if abs(number) > LARGEST_NUMBER or _WORD.match(self._text, self.position):
            self.fail("no number", begin)
        return number

    def _skip(self) -> None:
        found = _BLANKS.match(self._text, self.position)
        if found:
            self.position = found.end()

    def _takes(self, sign: bytes) -> bool:
        is_there = self.peek() == sign
        self.position += is_there
        return is_there

    def _expect(self, sign: bytes) -> None:
        if not self._takes(sign):
            self.fail(f"no {sign.decode()}")

    def _match(self, pattern: "re.Pattern[bytes]", what: str) -> "re.Match[bytes]":
        found = pattern.match(self._text, self.position)
        if found is None:
            self.fail(what)
        self.position = found.end()
        return found

    def fail(self, what: str, position: int = -1) -> "NoReturn":
        """Complain, of what is here or at another position.

        Raises: Malformed.
        """
        raise Malformed(what, self.position if position < 0 else position)


CLOSING = {b"(": b")", b"{": b"}"}


class _Frame:
    """An array or dictionary that is being read; key: of the element that comes."""

    __slots__ = ("closing", "key", "whole")

    def __init__(self, closing: bytes) -> None:
        self.closing = closing
        self.key = b""
        self.whole: list[Value] | dict[bytes, Value] = [] if closing == b")" else {}
