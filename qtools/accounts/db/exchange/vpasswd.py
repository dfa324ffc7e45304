# SPDX-License-Identifier: ISC
"""vpopmail's vpasswd: `name:crypt:uid:gid:gecos:dir:quota[:clear]`, a file a domain.

Its uid and gid are no ids: the second has flags. Ids are those of vpopmail itself, so
they come with the domain, as in `vpasswd:example.org:89:89`. See: vpopmail.h.
"""

from qtools.accounts.db.exchange.entry import Entry, check_fields
from qtools.accounts.db.secrets import CLEAR, HASH
from qtools.accounts.limits import domain_of
from qtools.accounts.refusals import Unfit
from qtools.errors import Hard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NO_CHANGE, NO_POP = 0x01, 0x02  # flags in the field of the gid
MAILDIR = b"/Maildir"
LEAST_FIELDS, MOST_FIELDS = 7, 8


class Domain:
    """What `domain[:uid:gid]` says."""

    def __init__(self, words: str) -> None:
        """Read it.

        Raises: Hard.
        """
        name, _, ids = words.partition(":")
        self.ids: tuple[int, int] | None = None
        try:
            self.name = domain_of(name)
            taken = Entry(b"")
            uid, _, gid = ids.encode().partition(b":")
            taken.set_ids(uid, gid)
            self.ids = taken.ids
        except Unfit as why:
            raise Hard(f"vpasswd:domain or vpasswd:domain:uid:gid, {why}") from why


def read(
    lines: "Iterable[bytes]", domain: Domain
) -> "Iterator[tuple[int, Entry | Unfit]]":
    """Give line numbers and what stands there."""
    for number, line in enumerate(lines, 1):
        text = line.rstrip(b"\r\n")
        if not text.strip():
            continue
        try:
            yield number, _entry(text, domain)
        except Unfit as why:
            yield number, why


def _entry(line: bytes, domain: Domain) -> Entry:
    """Make an account of a line.

    Raises: Unfit.
    """
    fields = line.split(b":", MOST_FIELDS - 1)
    if len(fields) < LEAST_FIELDS:
        raise Unfit("not the seven or eight fields of a vpasswd file")
    name, stored, _, flags, _, home, _, *clear = fields
    if b"@" in name or not name:
        raise Unfit("a name in a vpasswd file is without its domain")
    if flags and (not flags.isdigit() or len(flags) > 10):
        raise Unfit("the flags are no number")
    entry = Entry(name + b"@" + domain.name.encode())
    entry.set_hash(stored)
    if clear and clear[0]:
        entry.set_clear(clear[0])
    entry.ids, entry.home = domain.ids, home
    entry.maildir = home.rstrip(b"/") + MAILDIR
    entry.may_change = not int(flags or 0) & NO_CHANGE
    entry.is_enabled = not int(flags or 0) & NO_POP
    return entry


def write(entry: Entry) -> "Iterator[bytes]":
    """Give the line of an account.

    Raises: Unfit.
    """
    flags = NO_CHANGE * (not entry.may_change) + NO_POP * (not entry.is_enabled)
    home = entry.maildir.removesuffix(MAILDIR) or entry.home
    clear = entry.made.get(CLEAR, b"")
    name = entry.user.rpartition(b"@")[0] or entry.user
    fields = [name, entry.made.get(HASH, b"*"), b"1", b"%d" % flags, b"", home]
    check_fields(entry, *fields)
    check_fields(entry, clear, barred=b"\r\n\0")
    yield b":".join([*fields, b"NOQUOTA", clear]) + b"\n"
