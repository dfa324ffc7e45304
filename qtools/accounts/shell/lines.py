# SPDX-License-Identifier: ISC
"""Commands of the Command Line Interface, given on this machine by its administrator.

The words are those of the wire. Either they are popaccount's arguments, or they come
as lines on its standard input and are answered as a client is.
"""

import re
import sys

from qtools.accounts.cli.interpreter import Interpreter
from qtools.accounts.db.outbox import run_hook
from qtools.errors import EXIT_DONE, EXIT_REFUSED, EXIT_TEMPORARY, Hard
from qtools.protocol import codes, commands
from qtools.protocol.values import Malformed, render
from qtools.system import guard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import BinaryIO

    from qtools.protocol.grammar import Call
    from qtools.protocol.values import Value

    Pairs = dict[bytes, Value]

STDIN = b"-"  # in the place of a password: read it
PASSWORD = b"PASSWORD"  # the key of settings
LINE_OCTETS = 1 << 20

_PLAIN = re.compile(rb"[^\x00-\x20\x7f\"\\(){}\[\],;=]+")
_DATUM = (b'"', b"(", b"{", b"[")


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
        line = _with_secret(commands.read(line), line, read_secret)
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
        while line := source.readline(LINE_OCTETS):
            line = line.rstrip(b"\r\n")
            name = _name(line)
            if name == "INLINE":
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
    """Give a word as a line has it; the shell has taken the quotes away."""
    if word.startswith(_DATUM) or _PLAIN.fullmatch(word):
        return word
    return render(word)


def _with_secret(
    call: "Call", line: bytes, read_secret: "Callable[[str], bytes]"
) -> bytes:
    """Give the line with a password that is read in the place of a hyphen.

    Raises: Hard for one that is there already.
    """
    user = call.text("account").decode("utf-8", "surrogateescape")
    for name in call.command.secrets:
        _check_hyphen(call.text(name))
        return line[: line.rindex(STDIN)] + render(read_secret(user))
    settings = call.dictionary("settings")
    for key, value in settings.items():
        if key.upper() == PASSWORD:
            _check_hyphen(value)
            told: Pairs = {**settings, key: read_secret(user)}
            return line[: line.index(b"{")] + render(told)
    return line


def _check_hyphen(value: "Value") -> None:
    """Make sure that a password is still to be read.

    Raises: Hard.
    """
    if not isinstance(value, bytes) or value != STDIN:
        raise Hard("a password stands where all can read it; write - to be asked")
