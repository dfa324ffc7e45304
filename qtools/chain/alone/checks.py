# SPDX-License-Identifier: ISC
"""What is done about a record in a process that ends: find out who its user is."""

import posix

from qtools.accounts import entry
from qtools.accounts.interface import Unknown
from qtools.errors import Expired, Refused, Withdrawn
from qtools.protocol import sasl
from qtools.system.fdio import UNKNOWN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtools.accounts.interface import Identity
    from qtools.accounts.registry import Opener
    from qtools.chain.request import Request
    from qtools.system.report import LoginReport

REMOTE_IP = b"TCPREMOTEIP"

DIALOGUES = frozenset(
    mechanism.word for mechanism in sasl.MECHANISMS.values() if mechanism.is_dialogue
)


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

    def run(self, asked: "Request") -> "Identity":
        """Say who the record's user is, in the verifier; log whom it refuses.

        Only here is known whether there is such a user; the client is not to know.
        Raises: Failure.
        """
        posix.environ[entry.METHOD] = asked.mechanism.encode()
        if self.host != UNKNOWN:
            posix.environ[REMOTE_IP] = self.host
        try:
            return self._identify(asked)
        except Unknown:
            self.report.unknown(asked.user)
            raise
        except Expired:
            self.report.expired(asked.user)
            raise
        except Withdrawn:
            self.report.given_up(asked.user)
            raise
        except Refused:
            self.report.incorrect(asked.user)
            raise

    def _identify(self, asked: "Request") -> "Identity":
        method = asked.mechanism.encode()
        sources = [open_source() for open_source in self.openers]
        if asked.mechanism in DIALOGUES:
            from qtools.chain import interview

            return interview.hold(asked.record, sources, method)
        return entry.check(asked.record, sources, method, allow_empty=False)
