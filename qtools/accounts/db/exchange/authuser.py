# SPDX-License-Identifier: ISC
"""The file of authuser:FILE, whose lines are explained in accounts/authuser.

Its lines of one name lie anywhere in it and the last one counts, so it is read as a
whole. What asks other programs, what is good for many names and unsalted digests have
no account to become, and are faults.
"""

from qtools.accounts import authuser
from qtools.accounts.db.exchange.entry import Entry, check_fields
from qtools.accounts.db.secrets import CLEAR, HASH
from qtools.accounts.interface import Identity
from qtools.accounts.refusals import Unfit
from qtools.errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PLACE = b"#:"
MARKS = (b"!", b"@", b"*", b"#")


def read(lines: "Iterable[bytes]") -> "Iterator[tuple[int, Entry | Unfit]]":
    """Give line numbers and what stands there."""
    kept = [line.rstrip(b"\r\n") for line in lines]
    rows: dict[bytes, tuple[int, bytes]] = {}
    for number, line in enumerate(kept, 1):
        text = line.removeprefix(PLACE)
        key, colon, value = text.partition(b":")
        is_comment = line.startswith(b"#") and text is line
        if colon and not is_comment:
            mark = PLACE if line.startswith(PLACE) else b""
            rows[mark + key.lower()] = number, value.partition(b"\0")[0].rstrip(b" \t")
    for key, (number, value) in sorted(rows.items(), key=lambda row: row[1][0]):
        if key.startswith((PLACE, b"!")):
            continue
        try:
            yield number, _entry(key, value, rows)
        except Unfit as why:
            yield number, why


def _entry(key: bytes, value: bytes, rows: dict[bytes, tuple[int, bytes]]) -> Entry:
    """Make an account of its lines.

    Raises: Unfit.
    """
    if key.startswith(MARKS):
        raise Unfit("a line for many names can't be imported")
    entry = Entry(key)
    stored = authuser.hash_of(value)
    if stored:
        entry.set_hash(stored)
    elif len(value) == 1 or value.startswith(b"%"):
        raise Unfit("a password of a kind that can't be imported")
    elif value:
        entry.set_clear(value)
    keys = authuser.keys_of(key)
    entry.is_enabled = not any(b"!" + one in rows for one in keys if one != b"*")
    place = next((rows[PLACE + one] for one in keys if PLACE + one in rows), None)
    if place is not None:
        _set_place(entry, place[1])
    return entry


def _set_place(entry: Entry, text: bytes) -> None:
    """Take what the account's `#:` line says.

    Raises: Unfit.
    """
    try:
        who = authuser.placed(Identity(b""), text, entry.user)
    except Failure as why:
        raise Unfit(str(why)) from why
    entry.ids = (who.uid, who.gid) if who.uid >= 0 else None
    entry.maildir = who.maildir
    if any(word.startswith(b"home=") for word in text.split()):
        entry.home = who.home


def write(entry: Entry) -> "Iterator[bytes]":
    """Give the lines of an account.

    Raises: Unfit, behind some of them.
    """
    value = _value(entry)
    check_fields(entry, entry.user)
    if entry.user.startswith(MARKS):
        check_fields(entry, entry.user, barred=b"!@*#")
    yield entry.user + b":" + value + b"\n"
    if not entry.is_enabled:
        yield b"!" + entry.user + b":\n"
    words = [b"uid=%d gid=%d" % entry.ids] if entry.ids else []
    for name, path in ((b"home", entry.home), (b"maildir", entry.maildir)):
        check_fields(entry, path, barred=b" \t\r\n\0")
        if path:
            words.append(name + b"=" + path.replace(b"%", b"%%"))
    if words:
        yield PLACE + entry.user + b":" + b" ".join(words) + b"\n"


def _value(entry: Entry) -> bytes:
    """Give the clear password where it can't be taken for something else, or the hash.

    Without either nobody is let in.
    """
    clear, stored = entry.made.get(CLEAR, b""), entry.made.get(HASH, b"")
    is_plain = len(clear) > 1 and not clear.startswith(b"%")
    if is_plain and not authuser.hash_of(clear) and clear == clear.rstrip(b" \t"):
        return clear
    if not stored or authuser.hash_of(stored):
        return stored
    return authuser.CRYPT_PREFIX + stored
