# SPDX-License-Identifier: ISC
"""What a client hears of a failure: a code that is the reason's, and words.

The vendor's clients tell these codes apart. Of failures that are not the client's, the
words are for the log.
"""

from qtools.accounts import refusals
from qtools.errors import Failure, Refused
from qtools.protocol import codes

# A reason and its code, the special ones before Refused, which is a wrong password.
CODES: tuple[tuple[type[Failure], bytes, bytes], ...] = (
    (refusals.NoDomain, codes.NO_DOMAIN, b"unknown domain"),
    (refusals.NoAccount, codes.NO_ACCOUNT, b"unknown account"),
    (
        refusals.AccountExists,
        codes.ACCOUNT_EXISTS,
        b"account with this name already exists",
    ),
    (
        refusals.PlaceTaken,
        codes.ACCOUNT_EXISTS,
        b"another account has its mail where this one's would be",
    ),
    (
        refusals.DomainExists,
        codes.REFUSED,
        b"domain with this name already exists",
    ),
    (refusals.InUse, codes.IN_USE, b"it is in use"),
    (
        refusals.NotAllowed,
        codes.NOT_ALLOWED,
        b"you do not have the required access rights",
    ),
    (refusals.Unfit, codes.WRONG, b""),
    (Refused, codes.REFUSED, b"incorrect password"),
)
TROUBLE = b"temporary failure, try again later"


def answer(why: Failure) -> bytes:
    """Give the reply for a failure."""
    for kind, code, words in CODES:
        if isinstance(why, kind):
            text = words or str(why).encode("ascii", "backslashreplace")
            return codes.reply(code, text)
    return codes.reply(codes.BUSY, TROUBLE)
