# SPDX-License-Identifier: ISC
"""A dialogue that has errands done for it: confined itself, and asking who is not.

Two processes and a socket, as popup has them (see split), for dialogues that want
more than one verdict: changing a password, running an account command. The child
speaks with the client and has no privileges; the parent does errands and never reads
what a client sent but for the fields of an errand. What an errand of some kind is,
only the session that asks and the desk that does it know.
"""

import _signal  # type: ignore[import-not-found]  # typeshed lacks it; signal is dear
import posix
import sys

from qtools.chain.change import parcels
from qtools.chain.change.parcels import ANSWER, ASK, END, NOTE, START_TLS, Lost, Parcel
from qtools.errors import (
    EXIT_DONE,
    EXIT_EXPIRED,
    EXIT_HARD,
    EXIT_REFUSED,
    EXIT_TEMPORARY,
)
from qtools.system import guard, precautions
from qtools.system.ucspi import TlsFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from qtools.chain.change.parcels import Post
    from qtools.system.ucspi import TlsControl

    Confine = Callable[[], None]
    Converse = Callable[["Window"], tuple[int, str]]

    class Desk(Protocol):
        """The privileged side: does what a dialogue may have done."""

        def do(self, kind: int, fields: tuple[bytes, ...]) -> tuple[int, bytes]:
            """Do an errand; give an exit code, 0 when it is done, and a text.

            Everything about the errand is hostile: its kind, how many fields it has
            and what is in them. A delay before an answer is made here, where nobody
            can leave it out.
            """

        def settle(self) -> None:
            """Do what is left of an errand when its answer is on its way."""

        def note(self, event: bytes, mechanism: bytes, user: bytes, code: int) -> None:
            """Log what a dialogue has to tell; hostile as well."""


LOST = "dialogue-lost"
MOST_REASON_OCTETS = 32

_END_CODES = (EXIT_DONE, EXIT_REFUSED, EXIT_TEMPORARY)
_CODES = (*_END_CODES, EXIT_EXPIRED, EXIT_HARD)


class Window:
    """The child's side: asks through the socket."""

    def __init__(self, post: "Post", control: "TlsControl | None") -> None:
        self.lifeline = post.descriptor  # hangs up when the parent is gone
        self._post = post
        self._control = control

    def ask(self, kind: int, fields: tuple[bytes, ...]) -> tuple[int, bytes]:
        """Have an errand done; give its exit code and its text.

        Raises: Lost.
        """
        return self._answer(Parcel(ASK, kind, fields))

    def start_tls(self) -> bool:
        """Have TLS started and take the cleartext onto 0 and 1.

        Raises: Lost.
        """
        if self._control is None or self._answer(Parcel(START_TLS))[0] != EXIT_DONE:
            return False
        self._control.switch()
        self._control = None
        return True

    def _answer(self, asked: Parcel) -> tuple[int, bytes]:
        self._post.send(asked)
        answer = self._post.receive(parcels.ANSWER_OCTETS)
        if answer.word != ANSWER or len(answer.fields) != 1:
            raise Lost
        return answer.number, answer.fields[0]

    def note(self, event: str, mechanism: str, user: bytes, code: int) -> None:
        """Send a line for the log.

        Raises: Lost.
        """
        fields = event.encode(), mechanism.encode(), user
        self._post.send(Parcel(NOTE, code if code >= 0 else EXIT_TEMPORARY, fields))

    def end(self, code: int, reason: str) -> None:
        """Tell how it ended; a parent that is gone need not know."""
        try:
            self._post.send(Parcel(END, code, (reason.encode(),)))
        except Lost:
            return


def run(
    desk: "Desk",
    control: "TlsControl | None",
    confine: "Confine",
    converse: "Converse",
) -> tuple[int, str]:
    """Have a child converse and do its errands; give exit code and reason.

    confine: called in the child, to give up whatever it has. This process lets go of
    the client's descriptors, so that no library it uses can speak to the client.
    """
    precautions.dump_no_core()
    precautions.end_at_interrupt()
    here, there = parcels.pair()
    child = posix.fork()
    if not child:
        # Kept until the exit: the parent takes the socket's end for the child's.
        window = Window(there, control)

        def speak(_argv: list[str]) -> int:
            here.close()
            if control is not None:
                control.give_up()
            return _speak(window, confine, converse)

        posix._exit(guard.guarded(speak, sys.argv))
    there.close()
    guard.let_go()
    try:
        code, reason = serve(here, desk, control)
    finally:
        here.close()
        posix.kill(child, _signal.SIGKILL)  # it has no more to do, whatever it thinks
        status = posix.waitstatus_to_exitcode(posix.waitpid(child, 0)[1])
    return (status, reason) if status == EXIT_HARD else (code, reason)


def _speak(window: Window, confine: "Confine", converse: "Converse") -> int:
    """In the child: give up everything, converse, tell how it ended."""
    _signal.signal(_signal.SIGTERM, _signal.SIG_DFL)
    confine()
    try:
        code, reason = converse(window)
    except Lost:
        return EXIT_TEMPORARY
    window.end(code, reason)
    return EXIT_DONE


def serve(post: "Post", desk: "Desk", control: "TlsControl | None") -> tuple[int, str]:
    """Do errands until the dialogue has ended; give its exit code and reason."""
    while True:
        try:
            told = post.receive()
            if told.word == ASK:
                code, text = desk.do(told.number, told.fields)
                post.send(Parcel(ANSWER, _closed(code), (text,)))
                desk.settle()
            elif told.word == START_TLS and not told.fields:
                is_on = control is not None and _start_tls(control)
                control = None
                code = EXIT_DONE if is_on else EXIT_TEMPORARY
                post.send(Parcel(ANSWER, code, (b"",)))
            elif told.word == NOTE and len(told.fields) == 3:
                desk.note(*told.fields, told.number)
            elif told.word == END and len(told.fields) == 1:
                return _ending(told)
            else:
                return EXIT_TEMPORARY, LOST
        except Lost:
            return EXIT_TEMPORARY, LOST


def _closed(code: int) -> int:
    return code if code in _CODES else EXIT_TEMPORARY


def _ending(told: Parcel) -> tuple[int, str]:
    """Read an END; the reason is one word of letters and hyphens."""
    (reason,) = told.fields
    is_word = len(reason) <= MOST_REASON_OCTETS and reason.replace(b"-", b"").isalpha()
    if told.number not in _END_CODES or not is_word:
        return EXIT_TEMPORARY, LOST
    return told.number, reason.decode()


def _start_tls(control: "TlsControl") -> bool:
    """Have the UCSPI server start TLS; where the cleartext is, is the child's."""
    try:
        for name, value in control.start().items():
            if value is None:
                posix.environ.pop(name, None)
            else:
                posix.environ[name] = value
        control.give_up()
        for descriptor in {control.read, control.write}:
            posix.close(descriptor)
    except (TlsFailed, OSError):
        return False
    control.leave(posix.environ)
    return True
