# SPDX-License-Identifier: ISC
"""Settings of an account by their keys: some are something to us, others are kept.

A key that is something to us is a row. The case of these doesn't matter, so that a
password can't be kept, and shown, as something else. All others are kept as the datum
that was sent.
"""

import re

from qtools.accounts import hashes
from qtools.accounts.interface import LARGEST_ID
from qtools.accounts.limits import check_secret
from qtools.accounts.refusals import Unfit
from qtools.protocol.values import Malformed, parse, render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from qtools.protocol.values import Value

    Pairs = dict[bytes, Value]
    Setter = Callable[["Draft", Value], None]

KEY_OCTETS = 64
PASSWORD = b"Password"
YES, NO = b"YES", b"NO"
DEFAULT = b"default"
ALL, NONE = b"All", b"None"
POP = b"POP"  # the service of AccessModes that is ours

_WORDS = {b"YES": True, b"NO": False, b"TRUE": True, b"FALSE": False}
_AMOUNT = re.compile(rb"(?:[0-9]{1,15}[KMG]?|unlimited)", re.IGNORECASE)
# Names for "whatever the server prefers"; all else is a method of ours.
_PREFERRED = (b"A-CRPT", b"U-CRPT", b"CRYPT")


class Draft:
    """What is to become of an account; nothing is written before all of it is read.

    kept: settings to be kept as they are, None to be removed. place: uid, gid, home,
    maildir as far as they change. patterned: those of them that a pattern has made.
    """

    def __init__(self) -> None:
        self.secret = b""
        self.may_change: bool | None = None
        self.is_enabled: bool | None = None
        self.kept: dict[str, bytes | None] = {}
        self.place: dict[str, Value] = {}
        self.patterned: frozenset[str] = frozenset()

    def keep(self, key: bytes, value: "Value") -> None:
        """Have a setting kept, or with None removed."""
        self.kept[key.decode()] = None if value is None else render(value)

    def overridden_by(self, other: "Draft") -> "Draft":
        """Give this with what another draft says in its stead."""
        made = Draft()
        made.secret = other.secret or self.secret
        is_told = other.may_change is not None
        made.may_change = other.may_change if is_told else self.may_change
        is_told = other.is_enabled is not None
        made.is_enabled = other.is_enabled if is_told else self.is_enabled
        made.kept = self.kept | other.kept
        made.place = self.place | other.place
        made.patterned = self.patterned.difference(other.place)
        return made


def draft(pairs: "Pairs", *, is_place_allowed: bool) -> Draft:
    """Read settings.

    is_place_allowed: where mail is and whose it is may be set, too; else those keys
    are dropped without a word, as the vendor does with all that somebody may not set.
    Raises: Unfit.
    """
    made = Draft()
    seen = set()
    for given, value in pairs.items():
        key = _canonical(given)
        if key in seen:
            raise Unfit(f"{key.decode()} is there twice")
        seen.add(key)
        if key in PLACES and not is_place_allowed:
            continue
        setter = SETTERS.get(key)
        if setter is None:
            made.keep(key, or_none(value))
        else:
            setter(made, value)
    return made


def _canonical(key: bytes) -> bytes:
    known = _KNOWN.get(key.upper())
    if known:
        return known
    try:
        is_fit = 0 < len(key) <= KEY_OCTETS and key.decode().isprintable()
    except UnicodeDecodeError:
        is_fit = False
    if not is_fit:
        raise Unfit(f"the name of a setting is 1 to {KEY_OCTETS} printable octets")
    return key


def read_kept(octets: bytes) -> "Value":
    """Give the datum that is kept; what is none was kept by others, as a string."""
    try:
        return parse(octets)
    except Malformed:
        return octets


def or_none(value: "Value") -> "Value":
    """Give None for what stands for the default."""
    is_default = isinstance(value, bytes) and value.lower() == DEFAULT
    return None if is_default else value


def yes(value: "Value") -> bool:
    """Read YES or NO.

    Raises: Unfit.
    """
    word = _WORDS.get(value.upper()) if isinstance(value, bytes) else None
    if word is None:
        raise Unfit("YES or NO")
    return word


def _password(made: Draft, value: "Value") -> None:
    if not isinstance(value, bytes):
        raise Unfit("a password is a string")
    if value.lower() == DEFAULT:
        raise Unfit("a password has no default, and can't be that word")
    check_secret(value)
    made.secret = value


def _may_change(made: Draft, value: "Value") -> None:
    value = or_none(value)
    made.may_change = True if value is None else yes(value)


def _access(made: Draft, value: "Value") -> None:
    value = or_none(value)
    made.keep(b"AccessModes", value)
    if isinstance(value, list):
        words = [each.upper() if isinstance(each, bytes) else b"" for each in value]
        made.is_enabled = POP in words
    elif value is None or (isinstance(value, bytes) and value.upper() == ALL.upper()):
        made.is_enabled = True
    elif isinstance(value, bytes) and value.upper() == NONE.upper():
        made.is_enabled = False
    else:
        raise Unfit("AccessModes are All, None or an array of services")


def _flag(key: bytes) -> "Setter":
    def keep(made: Draft, value: "Value") -> None:
        value = or_none(value)
        made.keep(key, None if value is None else YES if yes(value) else NO)

    return keep


def _own_password(made: Draft, value: "Value") -> None:
    value = or_none(value)
    if value is not None and not yes(value):
        raise Unfit("an account here has no other password than its own")
    made.keep(b"UseAppPassword", value)


def _encryption(made: Draft, value: "Value") -> None:
    value = or_none(value)
    if value is None or (isinstance(value, bytes) and value.upper() in _PREFERRED):
        made.keep(b"PasswordEncryption", None)
        return
    word = value.lower() if isinstance(value, bytes) else b""
    if word.decode("ascii", "replace") not in hashes.METHODS:
        raise Unfit(f"PasswordEncryption is one of {', '.join(hashes.METHODS)}")
    made.keep(b"PasswordEncryption", word)


def _amount(made: Draft, value: "Value") -> None:
    value = or_none(value)
    if isinstance(value, int):
        value = b"%d" % value
    if value is not None and not (
        isinstance(value, bytes) and _AMOUNT.fullmatch(value)
    ):
        raise Unfit("MaxAccountSize is a number of octets, or unlimited")
    made.keep(b"MaxAccountSize", value)


def _path(name: str, *, is_absolute: bool) -> "Setter":
    def place(made: Draft, value: "Value") -> None:
        value = or_none(value)
        path = value if isinstance(value, bytes) else b""
        if (value is not None and not path) or b"\0" in path:
            raise Unfit("a path is a string")
        if path and is_absolute and not path.startswith(b"/"):
            raise Unfit("Home takes an absolute path")
        made.place[name] = path

    return place


def _id(name: str) -> "Setter":
    def place(made: Draft, value: "Value") -> None:
        value = or_none(value)
        if isinstance(value, bytes) and value.isdigit() and len(value) <= 10:
            value = int(value)
        if value is not None and not isinstance(value, int):
            raise Unfit("UID and GID are numbers")
        if value is not None and not 0 <= value <= LARGEST_ID:
            raise Unfit("there can't be such a UID or GID")
        made.place[name] = value

    return place


SETTERS: "dict[bytes, Setter]" = {
    PASSWORD: _password,
    b"PWDAllowed": _may_change,
    b"AccessModes": _access,
    b"RequireAPOP": _flag(b"RequireAPOP"),
    b"UseAPOP": _flag(b"UseAPOP"),
    b"UseAppPassword": _own_password,
    b"PasswordEncryption": _encryption,
    b"MaxAccountSize": _amount,
    b"Home": _path("home", is_absolute=True),
    b"Maildir": _path("maildir", is_absolute=False),
    b"UID": _id("uid"),
    b"GID": _id("gid"),
}
PLACES = (b"Home", b"Maildir", b"UID", b"GID", b"ExternalINBOX")
_KNOWN = {key.upper(): key for key in (*SETTERS, b"RealName", b"ExternalINBOX")}
