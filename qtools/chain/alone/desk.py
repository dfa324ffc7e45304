# SPDX-License-Identifier: ISC
"""The privileged side of a pop3d that logs in by itself.

Where popup's office runs the rest of the chain, this one has the record verified and
keeps who it is, so that its own process can become the user when the dialogue is gone.
"""

import posix

from qtools.accounts import answer, entry
from qtools.accounts.verifier import Verifier
from qtools.chain.alone.checks import DIALOGUES
from qtools.chain.launch import launch
from qtools.chain.office import MOST_RESPONSES, Office
from qtools.errors import (
    EXIT_DONE,
    EXIT_REFUSED,
    EXIT_TEMPORARY,
    Failure,
    from_os_error,
)
from qtools.sessions.login import lasting_capabilities
from qtools.system import guard, verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtools.accounts.interface import Identity
    from qtools.chain.alone.checks import Checks
    from qtools.chain.launch import Launched
    from qtools.chain.request import Request
    from qtools.sessions.policy import Policy
    from qtools.system.ucspi import TlsControl


class Desk(Office):
    """Verifies for one connection.

    guest: who was let in, None so far. method, language: of that login.
    """

    def __init__(
        self,
        argv: list[str],
        policy: "Policy",
        stamp: bytes,
        control: "TlsControl | None",
        checks: "Checks",
    ) -> None:
        super().__init__([], policy, stamp, None, control)
        self.guest: Identity | None = None
        self.variables: dict[bytes, bytes] = {}
        self._argv = argv
        self._checks = checks
        self._verifier: Verifier | None = None  # may have begun a session
        self._reader = -1  # where the answer behind a dialogue comes from
        self._is_told = False  # the refusal under way is in the log already

    def note(self, told: "Request") -> None:
        """Log a refusal that never came to a verifier."""
        if self._is_told or told.code != EXIT_REFUSED:
            self._is_told = False
            return
        self._checks.report.incorrect(told.user)

    def _run_chain(self, asked: "Request") -> "int | bytes":
        """Have the record verified; give the code, 0 with a guest to serve.

        Or give what the verifier says before that.
        """
        self._is_told = True
        self._responses_left = MOST_RESPONSES
        self.variables = {
            b"POP3LANG": asked.language,
            b"POP3CAPA": b"\n".join(lasting_capabilities(self._policy)),
        }
        try:
            if asked.mechanism in DIALOGUES:
                return self._await(self._begin(asked))
            return self._receive(*self._verify(asked))
        except Failure as why:
            guard.complain(self._argv, str(why))
            return why.code

    def _receive(self, code: int, who: "Identity | None") -> int:
        """Take a verdict; keep the guest, if it is one who may come in.

        Raises: Temporary.
        """
        if who is None:
            return code
        if not entry.may_be(who, allow_root=False):
            self._checks.report.incorrect(who.name)
            if self._verifier is not None:
                self._verifier.release()
            return EXIT_REFUSED
        self.guest = who
        return EXIT_DONE

    def _verify(self, asked: "Request") -> "tuple[int, Identity | None]":
        """Have a verifier say who it is; give the exit code, and that when it is 0.

        Raises: Temporary.
        """

        def check() -> "Identity":
            for descriptor in self.unshared:
                posix.close(descriptor)
            return self._checks.run(asked)

        self._verifier = Verifier(check, self._argv, is_verbose=False)
        verdict.hush()
        return self._verifier.wait()

    def _begin(self, asked: "Request") -> "Launched":
        """Start a process that has a verifier speak with the client.

        It has the shape of a chain, which popup's office knows how to carry messages
        to; where that would run a program, it writes an answer to a pipe.
        Raises: Temporary.
        """
        unshared, self.unshared = self.unshared, []

        def hold() -> int:
            posix.close(self._reader)
            guard.let_go()
            code, who = self._verify(asked)
            try:
                posix.write(writer, answer.pack(code, who))
            except OSError:
                return EXIT_TEMPORARY  # who waited for it is gone
            return EXIT_DONE

        self._forget()
        try:
            self._reader, writer = posix.pipe2(posix.O_CLOEXEC)
            begun = launch(hold, asked.record, {}, unshared, is_dialogue=True)
        except OSError as why:
            raise from_os_error(why, "start a verifier") from why
        finally:
            self.unshared = unshared
        posix.close(writer)
        return begun

    def _await(self, launched: "Launched") -> "int | bytes":
        """Wait for a verifier's message or verdict."""
        code = super()._await(launched)
        if isinstance(code, bytes):
            return code
        told = posix.read(self._reader, answer.ANSWER_OCTETS + 1)
        self._forget()
        try:
            return self._receive(*answer.unpack(told))
        except (ValueError, Failure) as why:
            guard.complain(self._argv, f"the verifier gave no answer: {why}")
            return EXIT_TEMPORARY

    def _forget(self) -> None:
        """Let go of the pipe of a dialogue that has ended, or that nobody finished."""
        if self._reader >= 0:
            posix.close(self._reader)
        self._reader = -1
