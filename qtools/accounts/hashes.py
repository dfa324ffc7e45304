# SPDX-License-Identifier: ISC
"""Salted hashes of secrets: make one, check one, spend the cost of one.

What is stored says how it was made. Forms: everything the system's crypt(3) knows
(`$y$`, `$6$`, `$2b$` ...), and `$scrypt$ln=..,r=..,p=..$salt$key` with unpadded base64,
for systems whose crypt has no good method; the form is the one that other password
libraries write. See: crypt(5), RFC 7914 (scrypt).
"""

from posix import urandom

from qtools.errors import Hard
from qtools.protocol.digests import equal
from qtools.system.ffi.crypt import Crypt

# Method's name -> what crypt_gensalt calls it, and its cost number; 0 is the
# library's default. The first method is the one that the library prefers.
CRYPT_METHODS = {
    "crypt": (b"", 0),
    "yescrypt": (b"$y$", 0),
    "gost-yescrypt": (b"$gy$", 0),
    "bcrypt": (b"$2b$", 10),  # the default, 5, is of 1999; 10 takes about 50 ms
    "sha512": (b"$6$", 0),
    "sha256": (b"$5$", 0),
    "md5": (b"$1$", 0),  # broken; for comparing with old systems
}
METHODS = (*CRYPT_METHODS, "scrypt")
PREFERRED = "yescrypt"  # where crypt(3) has it; elsewhere scrypt, which is always there

# Prefix -> method, from the weakest to the strongest; DES has no prefix.
STRENGTHS = {
    "": "des",
    "$1$": "md5",
    "$5$": "sha256",
    "$6$": "sha512",
    "$2a$": "bcrypt",
    "$2y$": "bcrypt",
    "$2b$": "bcrypt",
    "$scrypt$": "scrypt",
    "$7$": "scrypt",
    "$gy$": "gost-yescrypt",
    "$y$": "yescrypt",
}
SHA_ROUNDS = 5000  # of $5$ and $6$ where nothing is said; see: crypt(5)
CRYPT_DIGITS = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

BCRYPT = b"$2"
BCRYPT_OCTETS = 72  # it silently ignores what follows

SCRYPT = b"$scrypt$"
SCRYPT_COST = (14, 8, 1)  # log2 N, r, p: 16 MiB, about 50 ms; what RFC 7914 names
SCRYPT_MOST_MIB = 256  # more in a stored hash is a mistake that would stop the server
SALT_OCTETS = 16
KEY_OCTETS = 32

_crypt: list[Crypt] = []


def matches(secret: bytes, stored: bytes) -> bool:
    """Say whether the stored hash was made from this secret.

    Whatever is not a hash, a locked or an empty one for instance, matches nothing.
    Neither does a secret of which the method would leave a part unread.
    Raises: Hard when the method isn't there.
    """
    made = _again(secret, stored) if stored else None
    is_whole = not stored.startswith(BCRYPT) or len(secret) <= BCRYPT_OCTETS
    return made is not None and equal(made, stored) and is_whole


def burn(secret: bytes, stored: bytes) -> None:
    """Spend what matches() would spend; nothing when stored is empty."""
    matches(secret, stored)


def is_usable(stored: bytes) -> bool:
    """Say whether this can match anything: it isn't locked, hidden or empty.

    A traditional DES hash has thirteen letters, and every other begins with "$" or,
    for BSDi's, "_".
    """
    first = stored[:1]
    return first in (b"$", b"_") or (len(stored) == 13 and first not in (b"!", b"*"))


def is_modern(stored: bytes) -> bool:
    """Say whether this names its method between dollar signs."""
    return stored.startswith(b"$") and stored.count(b"$") >= 3


def method_of(stored: bytes) -> str:
    """Give the prefix of a stored hash, which tells its method and no more."""
    return stored[: stored.find(b"$", 1) + 1].decode("ascii", "replace")


def cost_of(stored: bytes) -> int:
    """Give a number that grows with what a method is told to spend.

    It compares hashes of one method and means nothing besides.
    """
    words = stored.split(b"$", 3)[2:3]
    word = words[0] if words else b""
    method = STRENGTHS.get(method_of(stored), "")
    if method.startswith("sha"):
        rounds = word.removeprefix(b"rounds=")
        return int(rounds) if rounds != word and rounds.isdigit() else SHA_ROUNDS
    if method == "bcrypt":
        return int(word) if word.isdigit() else 0
    if stored.startswith(SCRYPT):
        cost = word.split(b",")[0].removeprefix(b"ln=")
        return int(cost) if cost.isdigit() else 0
    if method.endswith("yescrypt"):  # flags, log2 N, r
        return CRYPT_DIGITS.find(word[1:2]) if len(word) > 1 else 0
    return 0


def is_weaker(stored: bytes, method: str) -> bool:
    """Say whether a fresh hash by this method would be stronger than a stored one.

    It never is where the method is weaker, so that a change of mind costs nobody his
    better hash. Nor where the system hasn't got the method.
    """
    setting = _setting_of(method)
    ranks = list(STRENGTHS.values())
    ours, theirs = (
        ranks.index(STRENGTHS[prefix]) if prefix in STRENGTHS else -1
        for prefix in (method_of(setting), method_of(stored))
    )
    is_known = theirs >= 0 and is_usable(stored)
    if not setting or not is_known:
        return False
    return theirs < ours or (ours == theirs and cost_of(stored) < cost_of(setting))


def _setting_of(method: str) -> bytes:
    """Give how hashes of a method begin; empty when there can't be any."""
    if method == "scrypt":
        return SCRYPT + b"ln=%d,r=%d,p=%d$" % SCRYPT_COST
    try:
        return _library().setting(*CRYPT_METHODS[method]) or b""
    except (Hard, KeyError):
        return b""


def new_setting() -> bytes:
    """Give a setting of this system's best method: burn() takes it for a hash."""
    return _library().setting(b"") or b""


def again(secret: bytes, stored: bytes) -> bytes | None:
    """Hash a secret with salt and cost of a stored hash; None when that can't be."""
    return _again(secret, stored) if stored else None


def make(secret: bytes, method: str = "") -> bytes:
    """Hash a secret with a fresh salt.

    Takes one of METHODS; empty for yescrypt, or scrypt where there is none.
    Raises: Hard when the system hasn't got that method, or it would not use all of
    the secret.
    """
    if method not in ("", *METHODS):
        raise Hard(f"no hash method {method}; there are {', '.join(METHODS)}")
    if method != "scrypt":
        made = _make_crypt(secret, *CRYPT_METHODS[method or PREFERRED])
        if made is not None:
            return made
        if method:
            raise Hard(f"this system's crypt(3) has no {method}")
    return _scrypt(secret, urandom(SALT_OCTETS), *SCRYPT_COST)


def prepare() -> None:
    """Load the library now, if there is one."""
    try:
        _library()
    except Hard:
        return


def _library() -> Crypt:
    if not _crypt:
        _crypt.append(Crypt())
    return _crypt[0]


def _make_crypt(secret: bytes, prefix: bytes, cost: int) -> bytes | None:
    """Hash by crypt(3); None when that can't be had."""
    try:
        library = _library()
    except Hard:
        return None
    setting = library.setting(prefix, cost)
    if setting is None:
        return None
    if setting.startswith(BCRYPT) and len(secret) > BCRYPT_OCTETS:
        raise Hard(f"bcrypt uses no more than {BCRYPT_OCTETS} octets of a secret")
    return library.hash(secret, setting)


def _again(secret: bytes, stored: bytes) -> bytes | None:
    """Hash the secret the way the stored hash was made."""
    if not stored.startswith(SCRYPT):
        return _library().hash(secret, stored)
    try:
        costs, salt, _ = stored[len(SCRYPT) :].split(b"$")
        ln, r, p = (_cost(*pair) for pair in zip(COSTS, costs.split(b","), strict=True))
        if ln > 30 or (r * p << ln) > SCRYPT_MOST_MIB << 13:
            return None
        return _scrypt(secret, _unbase64(salt), ln, r, p)
    except ValueError:
        return None


COSTS = (b"ln=", b"r=", b"p=")


def _cost(name: bytes, text: bytes) -> int:
    digits = text.removeprefix(name)
    if digits == text or not digits.isdigit() or len(digits) > 4:
        raise ValueError("not a cost")
    return int(digits)


def _scrypt(secret: bytes, salt: bytes, ln: int, r: int, p: int) -> bytes:
    """Give the stored form of a secret's scrypt hash."""
    from _hashlib import scrypt

    key = scrypt(
        secret,
        salt=salt,
        n=1 << ln,
        r=r,
        p=p,
        maxmem=SCRYPT_MOST_MIB << 20,
        dklen=KEY_OCTETS,
    )
    costs = b"ln=%d,r=%d,p=%d" % (ln, r, p)
    return SCRYPT + b"$".join((costs, _base64(salt), _base64(key)))


def _base64(data: bytes) -> bytes:
    from binascii import b2a_base64

    return b2a_base64(data, newline=False).rstrip(b"=")


def _unbase64(text: bytes) -> bytes:
    from binascii import a2b_base64

    return a2b_base64(text + b"=" * (-len(text) % 4))
