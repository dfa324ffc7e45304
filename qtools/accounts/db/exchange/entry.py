# SPDX-License-Identifier: ISC
"""One account on its way from one program's file into another's.

What a form can't say is left as it is by default. Nothing is guessed: a value that
can't be told for certain makes its line a fault.
"""

import os

from qtools.accounts.db.exchange import stored as stored_hashes
from qtools.accounts.db.secrets import CLEAR, HASH, SCRAM
from qtools.accounts.interface import LARGEST_ID
from qtools.accounts.limits import check_secret
from qtools.accounts.refusals import Unfit
from qtools.protocol import scram

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from qtools.accounts.db.accounts import Account
    from qtools.accounts.db.store import Store

NO_PASSWORD = (b"!", b"!!", b"*")  # how it is said that nobody logs in

# What stands in front of a hash, by the names that other programs give to methods.
PREFIXES = {
    b"MD5": (b"$1$",),
    b"MD5-CRYPT": (b"$1$",),
    b"SHA256-CRYPT": (b"$5$",),
    b"SHA512-CRYPT": (b"$6$",),
    b"BLF-CRYPT": (b"$2a$", b"$2b$", b"$2y$"),
}


class Entry:
    """What is known of an account; its credentials by kind.

    secret: a password of which credentials are still to be made.
    """

    def __init__(self, user: bytes) -> None:
        self.user = user
        self.ids: tuple[int, int] | None = None
        self.home = self.maildir = self.secret = b""
        self.made: dict[str, bytes] = {}
        self.is_enabled = self.may_change = True
        self.aliases: list[str] = []
        self.rights: list[str] = []
        self.settings: dict[str, bytes] = {}

    def set_hash(self, stored: bytes, scheme: bytes = b"") -> None:
        """Take a hash as crypt(3) has it, or the word for none.

        scheme: the method that it is said to be of.
        Raises: Unfit when nothing could match it, or not in a bearable time.
        """
        if stored in NO_PASSWORD:
            return
        stored_hashes.check(stored)
        prefixes = PREFIXES.get(scheme, (b"",))
        if not stored.startswith(prefixes):
            raise Unfit("the hash is of another method than is said")
        self.made[HASH] = stored

    def set_clear(self, secret: bytes) -> None:
        """Take a clear password, which is to be kept.

        Raises: Unfit.
        """
        check_secret(secret)
        self.made[CLEAR] = secret
        self.secret = secret

    def set_keys(self, keys: bytes) -> None:
        """Take keys for SCRAM as scram.make_keys() has made them.

        Raises: Unfit.
        """
        try:
            scram.read_keys(keys)
        except ValueError as why:
            raise Unfit("these are no keys for SCRAM-SHA-256") from why
        self.made[SCRAM] = keys

    def set_ids(self, uid: bytes, gid: bytes) -> None:
        """Take both numbers, or neither.

        Raises: Unfit.
        """
        if not uid and not gid:
            return
        for text in (uid, gid):
            if not text.isdigit() or len(text) > 10 or int(text) > LARGEST_ID:
                raise Unfit("uid and gid are two numbers, or nothing")
        self.ids = int(uid), int(gid)


def entries(store: "Store", domain: str | None = None) -> "Iterator[Entry]":
    """Give the accounts of a database, of one moment.

    Raises: NoDomain, Temporary, Hard.
    """
    for account in store.list(domain):
        yield _entry(store, account)


def _entry(store: "Store", account: "Account") -> Entry:
    entry = Entry(account.user.encode(errors="surrogateescape"))
    entry.made = store.credentials(entry.user)
    if account.uid is not None and account.gid is not None:
        entry.ids = account.uid, account.gid
    entry.home = os.fsencode(account.home)
    entry.maildir = os.fsencode(account.maildir)
    entry.is_enabled, entry.may_change = account.is_enabled, account.may_change
    entry.aliases = store.aliases(entry.user)
    entry.rights = store.rights(entry.user)
    entry.settings = store.settings(entry.user)
    return entry


def check_fields(entry: Entry, *fields: bytes, barred: bytes = b":\r\n\0") -> None:
    """Make sure that a form in which fields stand between signs can say these.

    Raises: Unfit.
    """
    for field in fields:
        if any(sign in field for sign in barred):
            name = entry.user.decode("utf-8", "backslashreplace")
            raise Unfit(f"the account {name} can't be said in this form")
