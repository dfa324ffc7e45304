# SPDX-License-Identifier: ISC
"""A stand-in for notqmail's qmail-popup, after its transcripts.

It does what the original was seen to do, its faults included: input is read 128 octets
at a time and what lies behind the line of PASS is lost, every failure of the child is
"authorization failed", and every ending but a signal has the exit code 1.
"""

import os
import signal
import sys
import time
from typing import NoReturn

READ_OCTETS = 128


class Popup:
    def __init__(self, hostname: str, subprogram: list[str]) -> None:
        stamp = f"<{os.getpid()}.{int(time.time())}@{hostname}>"
        self.stamp = stamp.encode()
        self.subprogram = subprogram
        self.held = b""
        self.user: bytes | None = None

    def say(self, line: bytes) -> None:
        os.write(1, line + b"\r\n")

    def line(self) -> bytes:
        """Give a line as a C string: nothing from the first NUL on."""
        while b"\n" not in self.held:
            data = os.read(0, READ_OCTETS)
            if not data:
                sys.exit(1)
            self.held += data
        line, _, self.held = self.held.partition(b"\n")
        return line.removesuffix(b"\r").partition(b"\0")[0]

    def converse(self) -> NoReturn:
        self.say(b"+OK " + self.stamp)
        while True:
            verb, _, argument = self.line().partition(b" ")
            argument = argument.lstrip(b" ")
            verbs = {
                b"USER": self.on_user,
                b"PASS": self.on_pass,
                b"APOP": self.on_apop,
                b"QUIT": self.on_quit,
                b"NOOP": self.on_noop,
            }
            verbs.get(verb.upper(), self.on_unknown)(argument)

    def on_unknown(self, _: bytes) -> None:
        self.say(b"-ERR authorization first")

    def on_noop(self, _: bytes) -> None:
        self.say(b"+OK ")

    def on_user(self, argument: bytes) -> None:
        if argument:
            self.user = argument
        self.say(b"+OK " if argument else b"-ERR syntax error")

    def on_pass(self, argument: bytes) -> None:
        if self.user is None:
            self.say(b"-ERR USER first")
        elif argument:
            self.hand_over(self.user, argument)
        else:
            self.say(b"-ERR syntax error")

    def on_apop(self, argument: bytes) -> None:
        user, space, digest = argument.partition(b" ")
        if space:
            self.hand_over(user, digest)
        else:
            self.say(b"-ERR syntax error")

    def on_quit(self, _: bytes) -> None:
        self.say(b"+OK ")
        sys.exit(1)

    def hand_over(self, user: bytes, secret: bytes) -> NoReturn:
        """Run the child with the record on descriptor 3; there is no way back."""
        if os.pipe() != (3, 4):
            self.say(b"-ERR unable to open pipe")
            sys.exit(1)
        child = os.fork()
        if not child:
            self.become_child()
        os.close(3)
        os.write(4, b"\0".join((user, secret, self.stamp, b"")))
        os.close(4)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code < 0:
            self.say(b"-ERR aack, child crashed")
        elif code:
            self.say(b"-ERR authorization failed")
        sys.exit(1)

    def become_child(self) -> NoReturn:
        os.close(4)
        os.set_inheritable(3, True)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        try:
            os.execvp(self.subprogram[0], self.subprogram)
        except OSError:
            os._exit(1)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        os.write(1, b"-ERR usage: popup hostname subprogram\r\n")
        sys.exit(1)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    Popup(sys.argv[1], sys.argv[2:]).converse()
