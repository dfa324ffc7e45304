# SPDX-License-Identifier: ISC
"""The privileged side of a pop3d that logs in by itself.

Where popup's office runs the rest of the chain, this one has the record verified and
keeps who it is, so that its own process can become the user when the dialogue is gone.
"""

import posix

from qtools.accounts import entry
from qtools.accounts.interface import Unknown
from qtools.accounts.verifier import Verifier
from qtools.chain.office import Office
from qtools.errors import EXIT_DONE, EXIT_REFUSED, Expired, Failure, Refused
from qtools.sessions.login import lasting_capabilities
from qtools.system import guard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtools.accounts.interface import Identity, Source
    from qtools.accounts.registry import Opener
    from qtools.chain.request import Request
    from qtools.sessions.policy import Policy
    from qtools.system.report import LoginReport
    from qtools.system.ucspi import TlsControl

REMOTE_IP = b"TCPREMOTEIP"


class Checks:
    """What a verifier needs: sources not yet opened, and what it may tell whom.

    openers: give the account sources. host: the client, as PAM and the log have it.
    """

    def __init__(
        self, openers: "Sequence[Opener]", host: bytes, report: "LoginReport"
    ) -> None:
        self.openers = openers
        self.host = host
        self.report = report

    def run(self, record: bytes, user: bytes, method: bytes) -> "Identity":
        """Say who the record's user is, in the verifier; log whom it refuses.

        Only here is known whether there is such a user; the client is not to know.
        Raises: Failure.
        """
        guard.let_go()
        posix.environ[entry.METHOD] = method
        posix.environ[REMOTE_IP] = self.host
        try:
            return entry.check(record, self._sources(), method, allow_empty=False)
        except Unknown:
            self.report.unknown(user)
            raise
        except Expired:
            self.report.expired(user)
            raise
        except Refused:
            self.report.incorrect(user)
            raise

    def _sources(self) -> "list[Source]":
        return [open_source() for open_source in self.openers]


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
        checks: Checks,
    ) -> None:
        super().__init__([], policy, stamp, None, control)
        self.guest: Identity | None = None
        self.variables: dict[bytes, bytes] = {}
        self._argv = argv
        self._checks = checks
        self._is_told = False  # the refusal under way is in the log already

    def note(self, told: "Request") -> None:
        """Log a refusal that never came to a verifier."""
        if self._is_told or told.code != EXIT_REFUSED:
            self._is_told = False
            return
        self._checks.report.incorrect(told.user)

    def _run_chain(self, asked: "Request") -> int:
        """Have the record verified; give the code, 0 with a guest to serve."""
        self._is_told = True
        try:
            code, who = self._verify(asked)
        except Failure as why:
            guard.complain(self._argv, str(why))
            return why.code
        if who is not None:
            self.guest = who
            self.variables = {
                b"POP3LANG": asked.language,
                b"POP3CAPA": b"\n".join(lasting_capabilities(self._policy)),
            }
        return code

    def _verify(self, asked: "Request") -> "tuple[int, Identity | None]":
        """Give the exit code, and who it is when that is 0.

        Raises: Temporary.
        """

        def check() -> "Identity":
            for descriptor in self.unshared:
                posix.close(descriptor)
            method = asked.mechanism.encode()
            return self._checks.run(asked.record, asked.user, method)

        code, who = Verifier(check, self._argv, is_verbose=False).wait()
        if who is None:
            return code, None
        if not entry.may_be(who, allow_root=False):
            self._checks.report.incorrect(asked.user)
            return EXIT_REFUSED, None
        return EXIT_DONE, who
