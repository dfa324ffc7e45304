# SPDX-License-Identifier: ISC
"""What logging in and changing a password have in common: an attempt with PAM.

Both begin a transaction about a user with a secret, tell PAM where the client is, and
let the modules authenticate him and judge his account. What a code means is one table:
"wrong" is only what a module can have found out; that one couldn't ask whom it asks is
temporary, or has to be mended by somebody. A system error is temporary, too, although
pam_exec has no other word for "wrong": what else says it is nobody's wrong password.

Modules that let somebody in without asking for a password, as pam_rootok does because
it is root who asks, have not found out anything about a client.
See: pam_authenticate(3), pam_acct_mgmt(3).
"""

import posix

from qtools.accounts.interface import Unknown
from qtools.accounts.pam.conversation import Conversation
from qtools.errors import Expired, Failure, Hard, Refused, Temporary
from qtools.system.ffi import pam
from qtools.system.ffi.pam_transaction import Transaction
from qtools.system.precautions import dump_no_core

REMOTE_ADDRESS = b"TCPREMOTEIP"

EXPIRED = frozenset(
    (pam.NEW_SECRET_REQUIRED, pam.SECRET_EXPIRED, pam.CREDENTIALS_EXPIRED)
)
# What a code means in any step, and what some mean in some steps; else, temporary
_EVERYWHERE: dict[int, type[Failure]] = {
    pam.OPEN_ERROR: Hard,
    pam.SYMBOL_ERROR: Hard,
    pam.MODULE_UNKNOWN: Hard,
    **dict.fromkeys(EXPIRED, Expired),
}
_NO: dict[int, type[Failure]] = dict.fromkeys(
    (
        *(pam.PERMISSION_DENIED, pam.AUTHENTICATION_ERROR),
        *(pam.USER_UNKNOWN, pam.ACCOUNT_EXPIRED, pam.TRIES_EXCEEDED),
    ),
    Refused,
)
_KINDS: dict[str, dict[int, type[Failure]]] = {
    "authenticate": {**_EVERYWHERE, **_NO, pam.USER_UNKNOWN: Unknown},
    "acct_mgmt": {**_EVERYWHERE, **_NO},
    "chauthtok": {**_EVERYWHERE, **_NO, pam.SECRET_ERROR: Refused},
}

APOP_LETTERS = b"APOP"
DIGEST_OCTETS = 32
HEXADECIMAL = b"0123456789abcdefABCDEF"

_bound: list[pam.Pam] = []


def library() -> pam.Pam:
    """Give the library, loaded once.

    Raises: Hard when there is none.
    """
    if not _bound:
        _bound.append(pam.Pam())
    return _bound[0]


class Attempt:
    """One user, one secret, one transaction."""

    def __init__(
        self,
        service: bytes,
        user: bytes,
        secret: bytes,
        folder: bytes | None = None,
        *,
        is_digest: bool = False,
    ) -> None:
        """Start it.

        is_digest: the secret is a digest of a challenge of ours, not what was typed.
        Raises: Refused for a name or secret that is nobody's; Hard.
        """
        check_name(user)
        if not secret:
            raise Refused("an empty password is no password")
        if not is_digest and holds_digest(secret):
            # Overheard once, it would be good for ever, with the stamp it belongs to.
            raise Refused("a digest, sent as a password")
        dump_no_core()
        self.conversation = Conversation(user, secret)
        self.transaction = Transaction(
            library(), service, user, self.conversation.answer, folder
        )
        self.transaction.set(pam.TTY, service)
        address = posix.environ.get(REMOTE_ADDRESS)
        if address:
            self.transaction.set(pam.RHOST, address)

    def authenticate(self, fine: tuple[int, ...] = (pam.SUCCESS,)) -> None:
        """Have the modules look at the secret.

        Raises: what their code means; Hard when none of them has looked.
        """
        self.step("authenticate", pam.NO_NULL_AUTHTOK, fine)
        if not self.conversation.has_shown_secret:
            raise Hard("PAM, authenticate: no module has asked for the password")

    def step(
        self, name: str, flags: int = 0, fine: tuple[int, ...] = (pam.SUCCESS,)
    ) -> None:
        """Take a step of the transaction.

        Raises: what its code means, if it is none of the fine ones.
        """
        if self.transaction.do(name, flags) not in fine:
            raise self.failure(name)

    def failure(self, name: str) -> Failure:
        """Give what the last code means, with all that the modules have told."""
        code, meaning = self.transaction.code, self.transaction.text()
        told = " ".join((*self.conversation.errors, *self.conversation.notes))
        kind = _KINDS.get(name, _EVERYWHERE).get(code, Temporary)
        return kind(f"PAM, {name}: {meaning} ({code})" + (told and f": {told}"))


def check_name(user: bytes) -> None:
    """Refuse a name that modules may take for a path, or spoil a log with.

    Raises: Unknown.
    """
    if not user or any(octet < 32 or octet == 127 for octet in user):
        raise Unknown("no user can have such a name")
    if any(sign in user for sign in (b"/", b":")) or user[:1] in (b"-", b"."):
        raise Unknown("no user can have such a name")


def holds_digest(secret: bytes) -> bool:
    """Tell what modules that know APOP may take for a digest with its stamp.

    However they read it: blanks between its parts and cases of letters don't count.
    """
    joined = b"".join(secret.split())
    digest = joined[len(APOP_LETTERS) :][:DIGEST_OCTETS]
    is_digest = len(digest) == DIGEST_OCTETS and not digest.strip(HEXADECIMAL)
    return is_digest and joined[: len(APOP_LETTERS)].upper() == APOP_LETTERS
