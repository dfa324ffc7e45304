# SPDX-License-Identifier: ISC
"""Change a password by PAM, whatever it is kept in.

The modules see the old password first and the account then; a password that is too old
is no hindrance, as that is what it is changed for. As root, most modules enforce
nothing: no length, no difference, no least age. A changer that acts for the user has
his real uid while it changes, as passwd(1) has, and is then treated like him.
See: pam_chauthtok(3).
"""

import posix
import sys
from pwd import getpwnam

from qtools.accounts.pam.attempt import Attempt, library
from qtools.errors import Hard, Refused, Temporary
from qtools.system.ffi import pam

DEFAULT_SERVICE = b"poppassd"


class PamChanger:
    """Changes one password: authenticate(), then change(), then end().

    has_delay: whether a refusal waits as long as the modules want; not, where whoever
    asks makes all refusals wait. is_for_user: act with the user's real uid; needs
    root. folder: where services are, instead of the system's place.
    """

    def __init__(
        self,
        service: bytes = DEFAULT_SERVICE,
        *,
        has_delay: bool = False,
        is_for_user: bool = False,
        folder: bytes | None = None,
    ) -> None:
        """Load the library.

        Raises: Hard when there is none.
        """
        library()
        self._service = service
        self._has_delay = has_delay
        self._is_for_user = is_for_user
        self._folder = folder
        self._attempt: Attempt | None = None
        self._is_known = False

    def authenticate(self, user: bytes, secret: bytes, challenge: bytes) -> None:
        """Check the old password and the account; see the interface."""
        if challenge:
            raise Refused("PAM can't check a digest")
        self.end()
        attempt = Attempt(self._service, user, secret, self._folder)
        self._attempt = attempt
        if not self._has_delay:
            attempt.transaction.drop_delay()
        # Not so one that has been too old for so long that the account is closed.
        too_old_is_fine = pam.SUCCESS, pam.NEW_SECRET_REQUIRED
        attempt.authenticate(too_old_is_fine)
        attempt.step("acct_mgmt", pam.NO_NULL_AUTHTOK, too_old_is_fine)
        self._is_known = True

    def user(self) -> bytes:
        """Give the name of the user that the modules have settled on, or nothing."""
        return self._attempt.transaction.user() if self._attempt else b""

    def change(self, new: bytes) -> None:
        """Have the modules store the new password; see the interface.

        Raises: Refused, Temporary, Hard, with the modules' reason on one line.
        """
        attempt = self._attempt
        if attempt is None or not self._is_known:
            raise Temporary("nobody is authenticated")
        if not new or b"\0" in new:
            raise Refused("a password can't be empty or hold a NUL")
        attempt.conversation.begin_change(new)
        if self._as_user(attempt) == pam.SUCCESS:
            return
        failure = attempt.failure("chauthtok")
        kind = type(failure)
        if (
            attempt.conversation.errors
            and attempt.transaction.code == pam.CONVERSATION_ERROR
        ):
            kind = Refused  # it is the new password that a module has complained of
        raise kind(attempt.conversation.said() or attempt.transaction.text())

    def _as_user(self, attempt: Attempt) -> int:
        """Have the modules change it; give the code."""
        if not self._is_for_user:
            return attempt.transaction.do("chauthtok")
        posix.setresuid(_uid_of(self.user()), -1, -1)
        try:
            return attempt.transaction.do("chauthtok")
        finally:
            posix.setresuid(0, -1, -1)

    def end(self) -> None:
        """Let PAM and the secrets go."""
        attempt, self._attempt = self._attempt, None
        self._is_known = False
        if attempt is not None:
            attempt.conversation.forget()
            attempt.transaction.end()


def _uid_of(user: bytes) -> int:
    """Give a user's uid.

    Raises: Hard when the system has no such user.
    """
    try:
        return getpwnam(user.decode(sys.getfilesystemencoding(), "surrogateescape"))[2]
    except KeyError as why:
        raise Hard(f"{user!r} is no user of this system") from why
