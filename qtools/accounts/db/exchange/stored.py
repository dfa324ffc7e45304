# SPDX-License-Identifier: ISC
"""Which hashes of other programs are taken: such as can match, and in a bearable time.

A hash is checked by making it anew and comparing all of it. So one that is not spelled
as it would be made never matches anything, and one of a file could be told to compute
for hours and so hold up all logins. Only those are taken whose method says in its
first words what it costs. See: crypt(5), RFC 7914 (scrypt).
"""

import re

from qtools.accounts import hashes
from qtools.accounts.refusals import Unfit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

HASH_OCTETS = 511  # crypt(3) has no longer ones

# The most that a check may be told to spend: about a second.
MOST_ROUNDS = 3_000_000
MOST_BCRYPT = 14  # log2
MOST_BLOCKS = hashes.SCRYPT_MOST_MIB << 13  # of 128 octets, that is N * r * p

_DIGIT = rb"[./0-9A-Za-z]"
# Octets in digits of six bits; what is left over of the last digit is nothing.
_OCTETS = rb"(?:~{4}){0,21}(?:~[./01]|~~[./0-9A-D])?"
_BASE64 = rb"(?:B{4}){0,21}(?:B[AQgw]|BB[AEIMQUYcgkosw048])?"
_YESCRYPT = rb"j([./0-9A-Za-j])([./0-9A-Za-j])\$" + _OCTETS + rb"\$~{43}"
_SALT = rb"[^$:;*!\\]"  # what crypt(3) takes for one
_SHA = rb"(?:rounds=([1-9][0-9]{3,8})\$)?(?!rounds=)" + _SALT + rb"{0,16}\$"
_BCRYPT = rb"([0-9]{2})\$~{21}[.Oeu]~{31}"
_SCRYPT = (
    rb"ln=([1-9][0-9]?),r=([1-9][0-9]{0,3}),p=([1-9][0-9]{0,3})"
    rb"\$" + _BASE64.replace(b"B", rb"[+/0-9A-Za-z]") + rb"\$[+/0-9A-Za-z]{43}"
)


def check(stored: bytes) -> None:
    """Refuse what is no hash, can't match anything, or takes too long.

    Raises: Unfit.
    """
    is_text = stored.isascii() and stored.decode("ascii", "replace").isprintable()
    if not is_text or b" " in stored or len(stored) > HASH_OCTETS:
        raise Unfit("the password is no hash")
    if not hashes.is_usable(stored):
        raise Unfit("the password is locked, or no hash")
    prefix = hashes.method_of(stored)
    if prefix not in FORMS or stored.startswith(b"_"):
        raise Unfit("a hash of a method that can't be imported")
    form, is_cheap = FORMS[prefix]
    found = re.fullmatch(form.replace(b"~", _DIGIT), stored[len(prefix) :])
    if found is None:
        raise Unfit("the password is locked, or no hash")
    if not is_cheap(*found.groups(b"")):
        raise Unfit("checking this hash would take too long")


def _is_always_cheap() -> bool:
    return True


def _is_cheap_sha(rounds: bytes) -> bool:
    return int(rounds or b"0") <= MOST_ROUNDS


def _is_cheap_bcrypt(log2: bytes) -> bool:
    return int(log2) <= MOST_BCRYPT


def _is_cheap_yescrypt(log2: bytes, blocks: bytes) -> bool:
    """Say so of log2 N and r, which are counted from 1."""
    return (_number(blocks) + 1) << (_number(log2) + 1) <= MOST_BLOCKS


def _is_cheap_scrypt(log2: bytes, blocks: bytes, parts: bytes) -> bool:
    return _is_cheap(int(log2), int(blocks), int(parts))


def _is_cheap_seven(log2: bytes, blocks: bytes, parts: bytes) -> bool:
    return _is_cheap(_number(log2), _number(blocks), _number(parts))


def _is_cheap(log2: int, blocks: int, parts: int) -> bool:
    """Say so of log2 N, r and p.

    It has to be less than what is allowed: the library needs some more.
    """
    return 0 < blocks * parts << log2 < MOST_BLOCKS


def _number(digits: bytes) -> int:
    """Read a number of crypt(3)'s, the lowest digit first."""
    return sum(
        hashes.CRYPT_DIGITS.index(digit) << 6 * place
        for place, digit in enumerate(digits)
    )


# Prefix -> what follows it in hashes as they are made, ~ for a digit of crypt(3), with
# what they cost in groups; and who says whether that is bearable.
FORMS: "dict[str, tuple[bytes, Callable[..., bool]]]" = {
    "": (rb"~{13}", _is_always_cheap),
    "$1$": (_SALT + rb"{0,8}\$~{22}", _is_always_cheap),
    "$5$": (_SHA + rb"~{43}", _is_cheap_sha),
    "$6$": (_SHA + rb"~{86}", _is_cheap_sha),
    "$2a$": (_BCRYPT, _is_cheap_bcrypt),
    "$2b$": (_BCRYPT, _is_cheap_bcrypt),
    "$2y$": (_BCRYPT, _is_cheap_bcrypt),
    "$scrypt$": (_SCRYPT, _is_cheap_scrypt),
    "$7$": (rb"(~)(~{5})(~{5})~{0,86}\$~{43}", _is_cheap_seven),
    "$gy$": (_YESCRYPT, _is_cheap_yescrypt),
    "$y$": (_YESCRYPT, _is_cheap_yescrypt),
}
