# SPDX-License-Identifier: ISC
"""Commands of the Command Line Interface, given on this machine by its administrator.

The words are those of the wire. Either they are popaccount's arguments, or they come
as lines on its standard input and are answered as a client is.
"""

import os
import re
import sys

from qtools.accounts.cli.interpreter import Interpreter
from qtools.accounts.db.outbox import run_hook
from qtools.errors import EXIT_DONE, EXIT_REFUSED, EXIT_TEMPORARY, Hard
from qtools.protocol import codes, commands
from qtools.protocol.lines import BAD_LINE, Lines
from qtools.protocol.values import Malformed, parse, render
from qtools.system import guard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import BinaryIO

    from qtools.protocol.grammar import Call
    from qtools.protocol.values import Value

STDIN = b"-"  # in the place of a password: read it
PASSWORD = b"PASSWORD"  # the key of settings
LINE_OCTETS = 1 << 20
READ_OCTETS = 65536
BAD = b"a line too long, or with a NUL in it"

_PLAIN = re.compile(rb"[^\x00-\x20\x7f\"\\(){}\[\],;=]+")


def is_command(word: str) -> bool:
    """Say whether a command that can be given here begins like this."""
    name = "".join(word.split(None, 1)[:1])
    command = commands.TABLE.get(name.upper().encode(errors="surrogateescape"))
    return command is not None and command.name not in ("INLINE", "QUIT", "NEWPASS")


def run_words(
    path: bytes, words: "Sequence[bytes]", read_secret: "Callable[[str], bytes]"
) -> int:
    """Carry out one command, in words or in one piece; print its datum.

    read_secret: gives the password of an account, where its place has a hyphen.
    Raises: Hard for a password among the words, where everybody could read it;
    Temporary.
    """
    line = b" ".join(map(_word, words)) if len(words) > 1 else words[0]
    try:
        call = commands.read(line)
        _read_secret(call, read_secret)
        line = commands.written(call)
    except Malformed as why:
        raise Hard(str(why)) from why
    answer = _run(path, [line])[0]
    code, _, text = answer.partition(b" ")
    if code == codes.DATA:
        sys.stdout.buffer.write(text + b"\n")
        return EXIT_DONE
    if code == codes.DONE:
        return EXIT_DONE
    guard.complain(sys.argv, answer.decode("utf-8", "replace"))
    return EXIT_TEMPORARY if code == codes.BUSY else EXIT_REFUSED


def run_lines(path: bytes, source: "BinaryIO") -> int:
    """Answer lines as a client's are, up to the end or QUIT."""
    interpreter = Interpreter(path, None, _complain)
    is_inline = False
    out = sys.stdout.buffer
    try:
        for line in _lines(source):
            name = _name(line)
            if line == BAD_LINE:
                answer = codes.reply(codes.WRONG, BAD)
            elif name == "INLINE":
                is_inline, answer = True, codes.OK
            elif name == "QUIT":
                out.write(codes.reply(codes.DONE, b"closed") + b"\r\n")
                break
            else:
                answer = interpreter.run(line)
            out.write(codes.lines(answer, is_inline=is_inline))
            out.flush()
    finally:
        interpreter.close()
        if interpreter.has_changed:
            tell_hook(path)
    return EXIT_DONE


def _lines(source: "BinaryIO") -> "Iterator[bytes]":
    """Give each line, BAD_LINE for one that is too long; the last may have no end."""
    lines = Lines()
    end = b"\n"
    while data := os.read(source.fileno(), READ_OCTETS):
        lines.feed(data)
        end = data[-1:]
        while (line := lines.next(LINE_OCTETS)) is not None:
            yield line
    lines.feed(b"" if end == b"\n" else b"\n")
    last = lines.next(LINE_OCTETS)
    if last is not None:
        yield last


def tell_hook(path: bytes) -> None:
    """Tell the hook what has changed; its trouble is none of the change's."""
    trouble = run_hook(path)
    if trouble:
        guard.complain(sys.argv, trouble)


def _name(line: bytes) -> str:
    try:
        return commands.read(line).command.name
    except Malformed:
        return ""


def _run(path: bytes, lines: "Iterable[bytes]") -> list[bytes]:
    interpreter = Interpreter(path, None, _complain)
    try:
        return [interpreter.run(line) for line in lines]
    finally:
        interpreter.close()
        if interpreter.has_changed:
            tell_hook(path)


def _complain(level: int, text: str) -> None:
    """Tell what a client would not be told: failures of ours."""
    if level <= 1:
        guard.complain(sys.argv, text)


def _word(word: bytes) -> bytes:
    """Give a word as a line has it; the shell has taken the quotes away.

    What is a datum to its end is one. All else is a string, so that no word can be two
    arguments, whatever is in it.
    """
    if _PLAIN.fullmatch(word):
        return word
    try:
        parse(word)
    except Malformed:
        return render(word)
    return word


def _read_secret(call: "Call", read_secret: "Callable[[str], bytes]") -> None:
    """Put a password that is read into the place of a hyphen.

    Raises: Hard for one that is there already.
    """
    user = call.text("account").decode("utf-8", "surrogateescape")
    for name in call.command.secrets:
        _check_hyphen(call.text(name))
        call.arguments[name] = read_secret(user)
    settings = call.dictionary("settings")
    for key, value in settings.items():
        if key.upper() == PASSWORD:
            _check_hyphen(value)
            settings[key] = read_secret(user)


def _check_hyphen(value: "Value") -> None:
    """Make sure that a password is still to be read.

    Raises: Hard.
    """
    if not isinstance(value, bytes) or value != STDIN:
        raise Hard("a password stands where all can read it; write - to be asked")
