# SPDX-License-Identifier: ISC
"""What a new password must be, besides what PAM's modules or a database ask for.

For a change that root makes most modules enforce nothing, and a change made for a
client is made by root. So there is a least here: a length, and nothing that whoever
knows the name or the old password tries first.
"""

from qtools.accounts.refusals import Unfit

LEAST_CHARACTERS = 8  # NIST SP 800-63B section 5.1.1.2, what is chosen by people
NAME_CHARACTERS = 3  # a shorter name is part of too many good passwords


def check(user: bytes, old: bytes, new: bytes, least: int = LEAST_CHARACTERS) -> None:
    """Refuse a new password that is weak.

    user: the account's name, maybe with a domain, whose local part counts as well.
    least: how many characters; octets where it is not UTF-8.
    Raises: Unfit, its text fit for the client.
    """
    if any(octet < 0x20 or octet == 0x7F for octet in new):
        raise Unfit("the new password holds a control character")
    if len(new.decode("utf-8", "replace")) < least:
        raise Unfit(f"the new password is shorter than {least} characters")
    if new == old:
        raise Unfit("the new password is the old one")
    if _folded(new) in (_folded(old), _folded(old)[::-1]):
        raise Unfit("the new password is too similar to the old one")
    found = _folded(new)
    for name in {_folded(user), _folded(user.partition(b"@")[0])}:
        if len(name) >= NAME_CHARACTERS and (name in found or name[::-1] in found):
            raise Unfit("the new password holds the user's name")


def _folded(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape").casefold()
