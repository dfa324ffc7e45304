# SPDX-License-Identifier: ISC
"""Comma-separated values with a header: what says all about an account.

Columns may come in any order, and be left out but for `user`. Names of aliases and
rights stand between blanks, settings as name=value with the value in base64, which
keeps octets that are no text; `password` is hashed and not kept. See: RFC 4180.
"""

import csv
import io
from binascii import Error, a2b_base64, b2a_base64

from qtools.accounts.db.exchange.entry import Entry
from qtools.accounts.db.secrets import CLEAR, HASH, SCRAM
from qtools.accounts.limits import check_secret
from qtools.accounts.refusals import Unfit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _csv import Reader as Rows
    from collections.abc import Iterable, Iterator

COLUMNS = (
    *("user", "enabled", "may_change", "uid", "gid", "home", "maildir"),
    *("hash", "clear", "scram", "aliases", "rights", "settings"),
)
PASSWORD = "password"  # noqa: S105  # a column, and no password
BROKEN = ("",) * (len(COLUMNS) + 2)  # more fields than there are columns
TRUTHS = {"": True, "1": True, "0": False}


def read(lines: "Iterable[bytes]") -> "Iterator[tuple[int, Entry | Unfit]]":
    """Give line numbers and what stands there."""
    texts = (line.decode("utf-8", "surrogateescape") for line in lines)
    rows = csv.reader(texts, strict=True)
    columns = _next(rows) or []
    columns[:1] = [name.removeprefix("\ufeff") for name in columns[:1]]
    if "user" not in columns or not {*columns} <= {*COLUMNS, PASSWORD}:
        names = ", ".join((*COLUMNS, PASSWORD))
        yield 1, Unfit(f"the first line names columns, user among them, of: {names}")
        return
    while (row := _next(rows)) is not None:
        if row:
            yield rows.line_num, _entry_of(columns, row)


def _next(rows: "Rows") -> list[str] | None:
    """Give the next line's fields, None at the end; too many for a broken line."""
    try:
        return next(rows, None)
    except csv.Error:
        return ["", *BROKEN]


def _entry_of(columns: list[str], row: list[str]) -> Entry | Unfit:
    if len(row) != len(columns):
        return Unfit("not as many fields as columns, or quotes in the wrong place")
    try:
        return _entry(dict(zip(columns, row, strict=True)))
    except Unfit as why:
        return why


def _entry(row: dict[str, str]) -> Entry:
    """Make an account of a line's fields.

    Raises: Unfit.
    """
    octets = {
        name: text.encode("utf-8", "surrogateescape") for name, text in row.items()
    }
    entry = Entry(octets["user"])
    entry.is_enabled = _truth(row.get("enabled", ""))
    entry.may_change = _truth(row.get("may_change", ""))
    entry.set_ids(octets.get("uid", b""), octets.get("gid", b""))
    entry.home, entry.maildir = octets.get("home", b""), octets.get("maildir", b"")
    _set_credentials(entry, octets)
    entry.aliases = row.get("aliases", "").split()
    entry.rights = row.get("rights", "").split()
    entry.settings = dict(map(_setting, row.get("settings", "").split()))
    return entry


def _set_credentials(entry: Entry, octets: dict[str, bytes]) -> None:
    """Take the credentials that there are.

    Raises: Unfit.
    """
    if octets.get("hash"):
        entry.set_hash(octets["hash"])
    if octets.get("clear"):
        entry.set_clear(octets["clear"])
    if octets.get("scram"):
        entry.set_keys(octets["scram"])
    if octets.get(PASSWORD):
        check_secret(octets[PASSWORD])
        if entry.made:
            raise Unfit("a password, and what was made of one")
        entry.secret = octets[PASSWORD]


def _truth(text: str) -> bool:
    """Read a yes or no; nothing is a yes.

    Raises: Unfit.
    """
    if text not in TRUTHS:
        raise Unfit("a yes is 1, a no is 0")
    return TRUTHS[text]


def _setting(word: str) -> tuple[str, bytes]:
    """Read one setting.

    Raises: Unfit.
    """
    name, _, value = word.partition("=")
    try:
        return name, a2b_base64(value.encode(), strict_mode=bool(value))
    except (Error, ValueError) as why:
        raise Unfit("a setting that is not name=value in base64") from why


def header() -> bytes:
    """Give the line that names the columns."""
    return _line(COLUMNS)


def write(entry: Entry) -> "Iterator[bytes]":
    """Give the line of an account."""
    yield _line([_text(field) for field in _fields(entry)])


def _fields(entry: Entry) -> "Iterator[bytes | str]":
    ids = map(str, entry.ids or ("", ""))
    yield entry.user
    yield from ("01"[entry.is_enabled], "01"[entry.may_change], *ids)
    yield from (entry.home, entry.maildir)
    yield from (entry.made.get(kind, b"") for kind in (HASH, CLEAR, SCRAM))
    yield from (" ".join(entry.aliases), " ".join(entry.rights))
    yield " ".join(
        name + "=" + b2a_base64(value, newline=False).decode()
        for name, value in entry.settings.items()
    )


def _text(field: bytes | str) -> str:
    return field if isinstance(field, str) else field.decode("utf-8", "surrogateescape")


def _line(fields: "Iterable[str]") -> bytes:
    line = io.StringIO(newline="")
    csv.writer(line, lineterminator="\n").writerow(fields)
    return line.getvalue().encode("utf-8", "surrogateescape")
