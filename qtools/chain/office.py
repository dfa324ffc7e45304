# SPDX-License-Identifier: ISC
"""The privileged side of popup: runs the rest of the chain, starts TLS, keeps the log.

It never reads what a client sent but for the one record a verification is about.
"""

import posix
import sys

from qtools.chain import handover
from qtools.chain.launch import launch
from qtools.chain.request import EVENTS
from qtools.errors import (
    EXIT_DONE,
    EXIT_HARD,
    EXIT_REFUSED,
    EXIT_TEMPORARY,
)
from qtools.protocol import replies, tongue
from qtools.sessions.login import lasting_capabilities
from qtools.sessions.policy import CRASHED, VERDICTS
from qtools.system import guard, verdict
from qtools.system.fdio import PeerLost, TimedOut, Wire
from qtools.system.logline import escape
from qtools.system.ucspi import TlsFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from qtools.chain.request import Request
    from qtools.sessions.policy import Policy
    from qtools.system.logline import SessionLog
    from qtools.system.ucspi import TlsControl

SERVED = 0  # verify(): the session took place, nothing is left to say


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
        self._has_greeted = False
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

    def start_tls(self) -> bool:
        """Have the UCSPI server start TLS and put the cleartext on 0 and 1."""
        control, self._control = self._control, None
        if control is None:
            return False
        try:
            for name, value in control.start().items():
                if value is None:
                    posix.environ.pop(name, None)
                else:
                    posix.environ[name] = value
            control.give_up()
            control.switch()
        except (TlsFailed, OSError):
            return False
        control.leave(posix.environ)
        self._policy.is_tls = True
        if self._log is not None:
            self._log.protocol = "POP3S"
        return True

    def verify(self, asked: "Request") -> int:
        """Run the rest of the chain on a record.

        Gives SERVED, or the code with which it refused: an exit code, negative for a
        signal. A dialogue that asks more often than a client may is refused unheard.
        So is one with another challenge: it could play back a digest heard before.
        """
        self._attempts_left -= 1
        if self._attempts_left < 0 or not asked.record.endswith(self._challenge):
            return EXIT_REFUSED
        self.mechanism, self.user = asked.mechanism, asked.user
        code = self._run_chain(asked)
        if code == EXIT_DONE and not self._is_accepted:
            self._accept()
        if not self._is_accepted:
            return code
        # Whatever number a program of others ends with, ours are a closed set.
        is_ours = code in (EXIT_DONE, EXIT_REFUSED, EXIT_HARD)
        self.code = code if is_ours else EXIT_TEMPORARY
        if code and not self._has_greeted:
            self.reason = "failed"
            speak_for(code, asked.language)
        return SERVED

    def _accept(self) -> None:
        self._is_accepted = True
        self.log("Accept::AUTH", self.mechanism, self.user, _tls_note())
        if self.on_accept is not None:
            self.on_accept()

    def _run_chain(self, asked: "Request") -> int:
        """Run the next program to its end; give its code, negative for a signal."""
        self._foresee()
        variables = {
            b"POP3METHOD": asked.mechanism.encode(),
            b"POP3LANG": asked.language,
            b"POP3UTF8": b"%d" % asked.is_utf8,
            b"POP3CAPA": b"\n".join(lasting_capabilities(self._policy)),
        }
        try:
            launched = launch(self._run_next, asked.record, variables, self.unshared)
            return launched.wait(self._heed)
        except OSError as why:
            guard.complain(sys.argv, f"unable to start the chain: {why.strerror}")
            return EXIT_TEMPORARY

    def _heed(self, note: bytes) -> None:
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
