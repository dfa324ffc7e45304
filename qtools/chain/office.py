# SPDX-License-Identifier: ISC
"""The privileged side of popup: runs the rest of the chain, starts TLS, keeps the log.

It never reads what a client sent but for the one record a verification is about. Where
that begins a dialogue, it carries messages between client and verifier, unread.
"""

import posix
import sys

from qtools.chain import handover
from qtools.chain.launch import launch
from qtools.chain.request import EVENTS
from qtools.errors import (
    EXIT_DONE,
    EXIT_EXPIRED,
    EXIT_HARD,
    EXIT_REFUSED,
    EXIT_TEMPORARY,
)
from qtools.protocol import replies, sasl, tongue
from qtools.sessions.login import lasting_capabilities
from qtools.sessions.policy import CRASHED, VERDICTS
from qtools.system import guard, verdict
from qtools.system.fdio import PeerLost, TimedOut, Wire
from qtools.system.logline import escape
from qtools.system.ucspi import TlsFailed, end_point

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from qtools.chain.launch import Launched
    from qtools.chain.request import Request
    from qtools.sessions.policy import Policy
    from qtools.system.logline import SessionLog
    from qtools.system.ucspi import TlsControl

SERVED = 0  # verify(): the session took place, nothing is left to say
MOST_RESPONSES = 4  # from the client to one verifier; SCRAM has two
NOBODYS_CODE = 255  # of a checker: what 3 would mean is only for our own to say

_DIALOGUES = frozenset(
    mechanism.word for mechanism in sasl.MECHANISMS.values() if mechanism.is_dialogue
)


class Office:
    """Performs for one connection what the dialogue may only ask for."""

    def __init__(
        self,
        subprogram: list[str],
        policy: "Policy",
        stamp: bytes,
        log: "SessionLog | None",
        control: "TlsControl | None",
    ) -> None:
        self.lifeline = -1  # the dialogue is in this process
        self.on_accept: Callable[[], None] | None = None
        self.unshared: list[int] = []  # descriptors the chain must not get
        self.code, self.reason = EXIT_DONE, "served"
        self.mechanism = "None"
        self.user = b""
        self._subprogram = subprogram
        self._policy = policy
        self._challenge = b"\0" + stamp + b"\0"
        self._log = log
        self._control = control
        self.attempts = self._attempts_left = policy.attempts
        self._is_accepted = False
        self._is_expired = False
        self._has_greeted = False
        self._launched: Launched | None = None  # a chain that waits for the client
        self._responses_left = 0
        self._language = b""
        self._link: handover.Link | None = None

    def log(self, event: str, mechanism: str, user: bytes, note: str = "") -> None:
        """Write one line to the session log, where there is one."""
        if self._log is not None:
            self._log.write(f"{event}::{mechanism}", user, note)

    def log_descriptors(self) -> list[int]:
        """Give the descriptors that only the log needs."""
        if self._log is None or self._log.descriptor <= 2:
            return []
        return [self._log.descriptor]

    def note(self, told: "Request") -> None:
        """Write what the dialogue has to tell to the session log."""
        code = "" if told.code <= EXIT_REFUSED else f"code={told.code}"
        self.log(EVENTS[told.detail], told.mechanism, told.user, code)

    def start_tls(self) -> bytes | None:
        """Have the UCSPI server start TLS and put the cleartext on 0 and 1.

        Gives the tls-server-end-point, empty where the server doesn't tell it, or None
        when there is no TLS.
        """
        control, self._control = self._control, None
        if control is None:
            return None
        try:
            for name, value in control.start().items():
                if value is None:
                    posix.environ.pop(name, None)
                else:
                    posix.environ[name] = value
            control.give_up()
            control.switch()
        except (TlsFailed, OSError):
            return None
        control.leave(posix.environ)
        self._policy.is_tls = True
        self._policy.binding = end_point(posix.environ)
        if self._log is not None:
            self._log.protocol = "POP3S"
        return self._policy.binding

    @property
    def is_waiting(self) -> bool:
        """Whether a verifier waits for the client's answer."""
        return self._launched is not None

    def verify(self, asked: "Request") -> "int | bytes":
        """Run the rest of the chain on a record.

        Gives SERVED, or the code with which it refused: an exit code, negative for a
        signal; or a message for the client, whose answer is to be given to respond().
        A dialogue that asks more often than a client may, or in a way that no client
        may, is refused unheard. So is one with another challenge: it could play back a
        digest heard before.
        """
        self._attempts_left -= 1
        is_ours = asked.record.endswith(self._challenge)
        is_open = self._policy.allows(asked.mechanism)
        if self._attempts_left < 0 or not is_ours or not is_open:
            return EXIT_REFUSED
        self.mechanism, self.user = asked.mechanism, asked.user
        self._language = asked.language
        return self._conclude(self._run_chain(asked))

    def respond(self, message: bytes) -> "int | bytes":
        """Pass on the client's answer to a verifier; gives what verify() gives."""
        launched, self._launched = self._launched, None
        if launched is None:
            return EXIT_REFUSED
        self._responses_left -= 1
        if self._responses_left < 0:
            launched.kill()
            return EXIT_REFUSED
        launched.answer(message)
        return self._conclude(self._await(launched))

    def withdraw(self) -> None:
        """End a verification whose client is not going to answer, if there is one."""
        launched, self._launched = self._launched, None
        if launched is not None:
            launched.kill()

    def _conclude(self, code: "int | bytes") -> "int | bytes":
        """Give what verify() gives for the chain's code or message."""
        if isinstance(code, bytes):
            return code
        if code == EXIT_DONE and not self._is_accepted:
            self._accept()
        if not self._is_accepted:
            return code
        # Whatever number a program of others ends with, ours are a closed set.
        is_ours = code in (EXIT_DONE, EXIT_REFUSED, EXIT_HARD)
        self.code = code if is_ours else EXIT_TEMPORARY
        if code and not self._has_greeted:
            self.reason = "failed"
            speak_for(code, self._language)
        return SERVED

    def _accept(self) -> None:
        self._is_accepted = True
        self.log("Accept::AUTH", self.mechanism, self.user, _tls_note())
        if self.on_accept is not None:
            self.on_accept()

    def _run_chain(self, asked: "Request") -> "int | bytes":
        """Run the next program to its end; give its code, negative for a signal.

        Or give what its verifier says before that.
        """
        self._foresee()
        variables = {
            b"POP3METHOD": asked.mechanism.encode(),
            b"POP3LANG": asked.language,
            b"POP3UTF8": b"%d" % asked.is_utf8,
            b"POP3CAPA": b"\n".join(lasting_capabilities(self._policy)),
        }
        posix.environ.pop(verdict.DIALOGUE, None)  # whose number it was, it is not ours
        self._responses_left = MOST_RESPONSES
        is_dialogue = asked.mechanism in _DIALOGUES
        try:
            launched = launch(
                self._run_next,
                asked.record,
                variables,
                self.unshared,
                is_dialogue=is_dialogue,
            )
        except OSError as why:
            guard.complain(sys.argv, f"unable to start the chain: {why.strerror}")
            return EXIT_TEMPORARY
        return self._await(launched)

    def _await(self, launched: "Launched") -> "int | bytes":
        """Wait for a chain's end or message; give its code as ours."""
        self._is_expired = False
        code = launched.wait(self._heed)
        if isinstance(code, bytes):
            self._launched = launched
        elif code == EXIT_REFUSED and self._is_expired:
            return EXIT_EXPIRED
        elif code == EXIT_EXPIRED:
            return NOBODYS_CODE
        return code

    def _heed(self, note: bytes) -> None:
        if note == verdict.EXPIRED:
            self._is_expired = True
            return
        if not self._is_accepted:
            self._accept()
        self._has_greeted |= note == verdict.GREETED

    def _foresee(self) -> None:
        """Load the rest of the chain here; what can't be is the child's to report."""
        if self._link is None:
            try:
                self._link = handover.prepare(self._subprogram)
                self._link.foresee()
            except Exception:  # noqa: BLE001  # it will fail there as it did here
                return

    def _run_next(self) -> int:
        """In the child: become the next program."""
        link = self._link or handover.prepare(self._subprogram)
        return link.run()


def speak_for(code: int, language: bytes) -> None:
    """Answer for a session that was let in and ended before it spoke.

    The password was right, so a client must not be told that it was wrong.
    """
    verdicts = {**VERDICTS, EXIT_REFUSED: VERDICTS[EXIT_TEMPORARY]}
    del verdicts[EXIT_EXPIRED]
    label, text = verdicts.get(code, CRASHED)
    wire = Wire()
    try:
        wire.write(replies.err(tongue.translate(language, text), label))
    except (PeerLost, TimedOut):
        return
    finally:
        wire.release()


def _tls_note() -> str:
    """Say which TLS the session has, where the UCSPI server told."""
    protocol = posix.environ.get(b"SSL_PROTOCOL", b"")
    cipher = posix.environ.get(b"SSL_CIPHER", b"")
    return f"tls={escape(protocol)}/{escape(cipher)}" if protocol else ""
