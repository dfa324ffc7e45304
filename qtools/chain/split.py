# SPDX-License-Identifier: ISC
"""The dialogue in a process of its own, unprivileged and in an empty root directory.

Two processes and a socket: the child speaks with the client and can do nothing but
ask; the parent does what is asked, if it is one of six things, and reads nothing the
client sent but the one record. As popa3d does it.
"""

import _signal  # type: ignore[import-not-found]  # typeshed lacks it; signal is dear
import _socket
import posix
import sys

from qtools.chain import answers, request
from qtools.chain.office import SERVED
from qtools.chain.request import (
    END,
    LOG,
    LONG_REQUEST_OCTETS,
    REASONS,
    RESPOND,
    START_TLS,
    VERIFY,
    WITHDRAW,
    Request,
)
from qtools.errors import EXIT_HARD, EXIT_TEMPORARY
from qtools.system import guard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from qtools.chain.office import Office
    from qtools.system.ucspi import TlsControl

    Converse = Callable[["Window"], tuple[int, str]]

LOST = "dialogue-lost"


class Window:
    """The child's side: asks the office through the socket."""

    def __init__(self, channel: _socket.socket, control: "TlsControl | None") -> None:
        self.lifeline = channel.fileno()  # hangs up when the office is gone
        self._channel = channel
        self._control = control

    def verify(self, asked: Request) -> "int | bytes":
        """Give SERVED, the code of a refusal, or a message for the client."""
        return answers.unpack(self._ask(asked))

    def respond(self, message: bytes) -> "int | bytes":
        """Give the client's answer to such a message; gives what verify() gives."""
        return answers.unpack(self._ask(Request(RESPOND, record=message)))

    def withdraw(self) -> None:
        """Tell that the client is not going to answer."""
        self.send(Request(WITHDRAW))

    def start_tls(self) -> bytes | None:
        """Have TLS started and take the cleartext onto 0 and 1 here as well.

        Gives the tls-server-end-point, or None when there is no TLS.
        """
        if self._control is None:
            return None
        binding = answers.unpack_tls(self._ask(Request(START_TLS)))
        if binding is not None:
            self._control.switch()
            self._control = None
        return binding

    def note(self, told: Request) -> None:
        """Send a line for the log."""
        self.send(told)

    def _ask(self, asked: Request) -> bytes:
        self.send(asked)
        return self._channel.recv(answers.ANSWER_OCTETS + 1)

    def send(self, told: Request) -> None:
        """Send a request that has no answer; an office that is gone needs none."""
        _send(self._channel, told.pack())


def run(
    office: "Office",
    control: "TlsControl | None",
    confine: "Callable[[], None]",
    converse: "Converse",
    unneeded: list[int],
) -> tuple[int, str]:
    """Have a confined child converse and serve its requests.

    unneeded: descriptors the child must not keep. Gives exit code and reason.
    """
    here, there = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    child = posix.fork()
    if not child:
        # Kept until the exit: the office takes the socket's end for the child's.
        window = Window(there, control)

        def speak(_argv: list[str]) -> int:
            here.close()
            for descriptor in unneeded:
                posix.close(descriptor)
            return _speak(window, confine, converse)

        posix._exit(guard.guarded(speak, sys.argv))
    there.close()
    office.on_accept = lambda: _reply(here, SERVED)
    office.unshared.append(here.fileno())
    try:
        code, reason = _serve(here, office)
    finally:
        office.withdraw()
        here.close()
        posix.kill(child, _signal.SIGKILL)  # it has no more to do, whatever it thinks
        status = posix.waitstatus_to_exitcode(posix.waitpid(child, 0)[1])
    return (status, reason) if status == EXIT_HARD else (code, reason)


def _speak(window: Window, confine: "Callable[[], None]", converse: "Converse") -> int:
    """In the child: give up everything, converse, tell how it ended."""
    _signal.signal(_signal.SIGTERM, _signal.SIG_DFL)
    confine()
    code, reason = converse(window)
    if reason in REASONS:
        detail = REASONS.index(reason)
        window.send(Request(END, code=code, detail=detail))
    return 0


def _serve(channel: _socket.socket, office: "Office") -> tuple[int, str]:
    """Carry out requests until the dialogue has ended.

    Each refusal makes one line for the log, so there are no more than attempts.
    """
    lines_left = office.attempts
    while True:
        try:
            asked = request.unpack(channel.recv(LONG_REQUEST_OCTETS + 1))
        except (ValueError, OSError):
            return EXIT_TEMPORARY, LOST
        if asked.kind == END:
            return asked.code, REASONS[asked.detail]
        if asked.kind == LOG:
            if not lines_left:
                return EXIT_TEMPORARY, LOST
            lines_left -= 1
            office.note(asked)
        elif office.is_waiting is not (asked.kind in (RESPOND, WITHDRAW)):
            return EXIT_TEMPORARY, LOST  # to answer nobody, or to leave one waiting
        elif asked.kind == START_TLS:
            _send(channel, answers.pack_tls(office.start_tls()))
        elif asked.kind == WITHDRAW:
            office.withdraw()
        else:
            is_new = asked.kind == VERIFY
            answer = office.verify(asked) if is_new else office.respond(asked.record)
            if not isinstance(answer, bytes) and answer == SERVED:
                return office.code, office.reason
            _reply(channel, answer)


def _reply(channel: _socket.socket, answer: "int | bytes") -> None:
    _send(channel, answers.pack(answer))


def _send(channel: _socket.socket, data: bytes) -> None:
    try:
        channel.send(data)
    except OSError:
        return  # the dialogue has gone; the session needs it no longer
