# SPDX-License-Identifier: ISC
"""The privileged side of poppassd: one password checked, and changed, and told of.

A refusal takes the same time and gives no reason whatever was wrong: unknown, not to
be changed, a wrong password. Only that the system failed is told, which may be behind
a password that was right. The delay is made here and before the answer, where neither
a new connection nor a dialogue that was taken over can get around it.
"""

import _signal  # type: ignore[import-not-found]  # typeshed lacks it; signal is dear
from time import monotonic, sleep

from qtools.accounts import quality
from qtools.accounts.interface import Unknown
from qtools.accounts.refusals import NoAccount, NotAllowed, Unfit
from qtools.errors import (
    EXIT_DONE,
    EXIT_REFUSED,
    EXIT_TEMPORARY,
    Failure,
    Refused,
)
from qtools.sessions.poppassd import AUTHENTICATE, CHANGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from qtools.accounts.interface import Changer
    from qtools.system.changelog import ChangeLog

FAIL_SECONDS = 3

_UNHURRIED = (_signal.SIGTERM, _signal.SIGHUP, _signal.SIGINT)


class Rules:
    """What a change has to keep to.

    account: gives the account's name for what a client calls it, empty for nobody's.
    fail_seconds: a refusal is not answered before. least_characters: of a new password;
    None to leave all of its quality to others. place: where it is kept, in words.
    """

    __slots__ = ("account", "fail_seconds", "least_characters", "place")

    def __init__(
        self,
        account: "Callable[[bytes], bytes]",
        fail_seconds: float = FAIL_SECONDS,
        least_characters: int | None = quality.LEAST_CHARACTERS,
        place: str = "PAM",
    ) -> None:
        self.account = account
        self.place = place
        self.fail_seconds = fail_seconds
        self.least_characters = least_characters


class ChangeDesk:
    """Does the errands of one PasswordChange: AUTHENTICATE, then CHANGE, each once."""

    def __init__(
        self, open_changer: "Callable[[], Changer]", rules: Rules, log: "ChangeLog"
    ) -> None:
        self._open_changer = open_changer
        self._rules = rules
        self._log = log
        self._changer: Changer | None = None
        self._user = self._name = self._secret = b""
        self._mask: set[int] | None = None  # of signals, before a change
        self._expected = AUTHENTICATE

    def do(self, kind: int, fields: tuple[bytes, ...]) -> tuple[int, bytes]:
        """Do an errand; whatever comes out of turn is refused."""
        expected, self._expected = self._expected, 0
        if kind == AUTHENTICATE == expected and len(fields) == 2:
            return self._authenticate(*fields), b""
        if kind == CHANGE == expected and len(fields) == 1:
            return self._change(*fields)
        return EXIT_TEMPORARY, b""

    def settle(self) -> None:
        """Heed signals again: a change is in the log, and its answer on its way."""
        mask, self._mask = self._mask, None
        if mask is not None:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)

    def note(self, event: bytes, mechanism: bytes, user: bytes, code: int) -> None:
        """Log nothing: the dialogue has nothing to tell that is not known here."""

    def end(self) -> None:
        """Let go of the changer, and of the secret."""
        self._secret = b""
        if self._changer is not None:
            self._changer.end()
        self.settle()

    def _authenticate(self, name: bytes, secret: bytes) -> int:
        """Check the old password; a refusal comes when it is due, and no earlier."""
        due = monotonic() + self._rules.fail_seconds
        user = self._rules.account(name)
        try:
            self._check(user, secret)
        except Failure as why:
            self._tell(user, name, why)
            if (left := due - monotonic()) > 0:
                sleep(left)
            return EXIT_REFUSED if isinstance(why, Refused) else why.code
        self._user, self._name, self._secret = user, name, secret
        self._expected = CHANGE
        return EXIT_DONE

    def _tell(self, user: bytes, name: bytes, why: Failure) -> None:
        if isinstance(why, (Unknown, NoAccount, NotAllowed)):
            self._log.forbidden(user, name)
        elif isinstance(why, Refused):
            self._log.incorrect(user, name)
        else:
            self._log.not_checked(user, name, str(why))

    def _check(self, user: bytes, secret: bytes) -> None:
        if not user or b"\0" in user + secret:
            raise Unknown("nobody has such a name or such a password")
        self._changer = self._open_changer()
        self._changer.authenticate(user, secret, b"")

    def _change(self, new: bytes) -> tuple[int, bytes]:
        """Change the password; nobody who is in a hurry ends it half done.

        Nor before it is in the log, and the client's answer sent: see settle().
        """
        if self._changer is None:
            return EXIT_TEMPORARY, b""
        self._mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, _UNHURRIED)
        try:
            self._examine(new)
            self._changer.change(new)
        except Failure as why:
            place = "" if isinstance(why, Unfit) else f"{self._rules.place} error: "
            self._log.not_changed(self._user, f"{place}{why}")
            is_for_client = isinstance(why, Refused)
            return why.code, str(why).encode() if is_for_client else b""
        self._log.changed(self._user)
        return EXIT_DONE, b""

    def _examine(self, new: bytes) -> None:
        """Refuse a new password that is weak, if that is ours to say.

        Raises: Unfit.
        """
        least = self._rules.least_characters
        if least is not None:
            quality.check(self._user, self._secret, new, least, self._name)
