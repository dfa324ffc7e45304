# SPDX-License-Identifier: ISC
"""Change a password by PAM, whatever it is kept in.

The modules see the old password first and the account then; a password that is too old
is no hindrance, as that is what it is changed for. As root, most modules enforce
nothing: no length, no difference, no least age. A changer that acts for the user has
his real uid while it changes, as passwd(1) has, and is then treated like him.
See: pam_chauthtok(3).
"""

import posix

from qtools.accounts import users
from qtools.accounts.pam.attempt import Attempt, library
from qtools.errors import Failure, Hard, Refused, Temporary
from qtools.system.ffi import pam

DEFAULT_SERVICE = b"poppassd"


class PamChanger:
    """Changes one password: authenticate(), then change(), then end().

    has_delay: whether a refusal waits as long as the modules want; not, where whoever
    asks makes all refusals wait. is_for_user: act with the user's real uid; who is not
    root does so anyway. folder: where services are, instead of the system's place.
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
        said = attempt.conversation.said() or attempt.transaction.text()
        raise self._kind(attempt)(said)

    def _kind(self, attempt: Attempt) -> type[Failure]:
        """Give what kind of failure a change has come to.

        What has been told of is the new password, whatever the code: modules give up
        since we don't answer them again, and pam_exec knows but one code.
        """
        conversation, code = attempt.conversation, attempt.transaction.code
        kind = type(attempt.failure("chauthtok"))
        has_told = conversation.errors or (
            code == pam.SYSTEM_ERROR and conversation.notes
        )
        return Refused if has_told and kind is Temporary else kind

    def _as_user(self, attempt: Attempt) -> int:
        """Have the modules change it; give the code."""
        if not self._is_for_user or posix.geteuid() != 0:
            return attempt.transaction.do("chauthtok")
        before = posix.getuid()
        posix.setresuid(_uid_of(self.user()), -1, -1)
        try:
            return attempt.transaction.do("chauthtok")
        finally:
            posix.setresuid(before, -1, -1)

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
        return users.find(user).pw_uid
    except KeyError as why:
        raise Hard(f"{user!r} is no user of this system") from why
