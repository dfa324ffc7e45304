# SPDX-License-Identifier: ISC
"""What a new password must be, besides what PAM's modules or a database ask for.

For a change that root makes most modules enforce nothing, and a change made for a
client is made by root. So there is a least here: a length, and nothing that whoever
knows the name or the old password tries first.
"""

from qtools.accounts.refusals import Unfit

LEAST_CHARACTERS = 8  # NIST SP 800-63B section 5.1.1.2, what is chosen by people
DELETE, LAST_CONTROL = "\x7f", "\x9f"  # ISO 6429, besides those below a blank
NAME_CHARACTERS = 3  # a shorter name is part of too many good passwords


def check(
    user: bytes,
    old: bytes,
    new: bytes,
    least: int = LEAST_CHARACTERS,
    given: bytes = b"",
) -> None:
    """Refuse a new password that is weak.

    user: the account's name, maybe with a domain, whose local part counts as well.
    given: the name that the client has for it, likewise. least: how many characters;
    each octet that is no UTF-8 counts as one.
    Raises: Unfit, its text fit for the client.
    """
    text, folded = _text(new), _folded(new)
    if any(letter < " " or DELETE <= letter <= LAST_CONTROL for letter in text):
        raise Unfit("the new password holds a control character")
    if len(text) < least:
        raise Unfit(f"the new password is shorter than {least} characters")
    if not text.strip():
        raise Unfit("the new password is nothing but blanks")
    if new == old:
        raise Unfit("the new password is the old one")
    if folded in (_folded(old), _folded(old)[::-1]):
        raise Unfit("the new password is too similar to the old one")
    for name in (_folded(part) for whole in (user, given) for part in _parts(whole)):
        if len(name) >= NAME_CHARACTERS and (name in folded or name[::-1] in folded):
            raise Unfit("the new password holds the user's name")


def _parts(name: bytes) -> tuple[bytes, bytes]:
    """Give what of a name people would begin with."""
    return name, name.partition(b"@")[0]


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "surrogateescape")


def _folded(octets: bytes) -> str:
    return _text(octets).casefold()
