# SPDX-License-Identifier: ISC
"""A stand-in for notqmail's qmail-pop3d, after its transcripts.

It does what the original was seen to do, its faults included: STAT counts what is
deleted, LAST is the highest number of a DELE, sizes are those of the files, CRLF of a
file becomes CR CR LF, and an empty line comes before the final dot.
"""

import os
import re
import sys
import time
from collections.abc import Callable
from typing import NamedTuple, NoReturn

READ_OCTETS = 128


class Mail(NamedTuple):
    path: bytes
    size: int


def leave(line: bytes) -> NoReturn:
    os.write(1, line + b"\r\n")
    sys.exit(0)


def scan() -> list[Mail]:
    found = []
    for folder in (b"new", b"cur"):
        try:
            names = os.listdir(folder)
        except OSError:
            leave(b"-ERR unable to scan $HOME/Maildir")
        for name in names:
            path = folder + b"/" + name
            state = os.stat(path)
            if not name.startswith(b".") and state.st_mtime < int(time.time()):
                found.append((state.st_mtime, name, Mail(path, state.st_size)))
    return [mail for _, _, mail in sorted(found)]


class Pop3d:
    def __init__(self) -> None:
        self.mails = scan()
        self.marked: set[int] = set()
        self.last = 0
        self.held = b""

    def say(self, line: bytes) -> None:
        os.write(1, line + b"\r\n")

    def line(self) -> bytes:
        while b"\n" not in self.held:
            data = os.read(0, READ_OCTETS)
            if not data:
                sys.exit(0)
            self.held += data
        line, _, self.held = self.held.partition(b"\n")
        return line.removesuffix(b"\r").partition(b"\0")[0]

    def converse(self) -> NoReturn:
        verbs = {
            b"STAT": self.on_stat,
            b"LIST": lambda rest: self.on_listing(rest, self.size_of),
            b"UIDL": lambda rest: self.on_listing(rest, self.uid_of),
            b"RETR": self.on_retr,
            b"TOP": self.on_retr,
            b"DELE": self.on_dele,
            b"LAST": lambda _: self.say(b"+OK %d" % self.last),
            b"RSET": self.on_rset,
            b"NOOP": lambda _: self.say(b"+OK "),
            b"QUIT": self.on_quit,
        }
        self.say(b"+OK ")
        while True:
            verb, _, rest = self.line().partition(b" ")
            verbs.get(verb.upper(), self.on_unknown)(rest.lstrip(b" "))

    def on_unknown(self, _: bytes) -> None:
        self.say(b"-ERR unimplemented")

    def index(self, rest: bytes) -> int | None:
        """Give the index of a message, or complain; digits count, the rest doesn't."""
        digits = re.match(rb"[0-9]+", rest)
        number = int(digits[0]) % 2**64 if digits else -1
        if number == -1:
            self.say(b"-ERR syntax error")
        elif number == 0:
            self.say(b"-ERR messages are counted from 1")
        elif number > len(self.mails):
            self.say(b"-ERR not that many messages")
        elif number - 1 in self.marked:
            self.say(b"-ERR already deleted")
        else:
            return number - 1
        return None

    def on_stat(self, _: bytes) -> None:
        sizes = (m.size for i, m in enumerate(self.mails) if i not in self.marked)
        self.say(b"+OK %d %d" % (len(self.mails), sum(sizes)))

    def size_of(self, index: int) -> bytes:
        return b"%d" % self.mails[index].size

    def uid_of(self, index: int) -> bytes:
        return self.mails[index].path[4:].partition(b":")[0]

    def on_listing(self, rest: bytes, what: Callable[[int], bytes]) -> None:
        if rest:
            index = self.index(rest)
            if index is not None:
                self.say(b"+OK %d %s" % (index + 1, what(index)))
            return None
        there = (i for i in range(len(self.mails)) if i not in self.marked)
        rows = [b"%d %s" % (index + 1, what(index)) for index in there]
        return self.say(b"\r\n".join([b"+OK ", *rows, b"."]))

    def on_retr(self, rest: bytes) -> None:
        index = self.index(rest)
        if index is None:
            return None
        count = re.match(rb"[0-9]+ +([0-9]+)", rest)
        try:
            with open(self.mails[index].path, "rb") as file:
                lines = file.read().split(b"\n")
        except OSError:
            return self.say(b"-ERR unable to open that message")
        if not lines[-1]:
            lines.pop()
        if count:
            header = lines.index(b"") + 1 if b"" in lines else len(lines)
            lines = lines[: header + int(count[1])]
        dotted = [b"." + line if line.startswith(b".") else line for line in lines]
        return self.say(b"\r\n".join([b"+OK ", *dotted, b"", b"."]))

    def on_dele(self, rest: bytes) -> None:
        index = self.index(rest)
        if index is not None:
            self.marked.add(index)
            self.last = max(self.last, index + 1)
            self.say(b"+OK ")

    def on_rset(self, _: bytes) -> None:
        self.marked.clear()
        self.last = 0
        self.say(b"+OK ")

    def on_quit(self, _: bytes) -> None:
        for index, mail in enumerate(self.mails):
            if index in self.marked:
                try:
                    os.unlink(mail.path)
                except OSError:
                    self.say(b"-ERR unable to unlink all deleted messages")
            elif mail.path.startswith(b"new/"):
                os.rename(mail.path, b"cur/" + mail.path[4:] + b":2,")
        leave(b"+OK ")


if __name__ == "__main__":
    if os.getuid() == 0:
        os.write(2, b"qmail-pop3d invoked as uid 0, terminating\n")
        sys.exit(1)
    try:
        os.chdir(sys.argv[1])
    except (IndexError, OSError):
        leave(b"-ERR this user has no $HOME/Maildir")
    Pop3d().converse()
