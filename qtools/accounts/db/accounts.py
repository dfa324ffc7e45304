# SPDX-License-Identifier: ISC
"""The accounts in a database: which there are, what they are called, where they live.

A name may be given with the main domain, which the account's own name has not, and an
alias will do wherever the account itself stays what it is.
"""

import os
import time

from qtools.accounts import hashes
from qtools.accounts.db.domains import Domains
from qtools.accounts.db.names import split
from qtools.accounts.db.schema import MAIL
from qtools.accounts.limits import check_place, name_of
from qtools.accounts.refusals import AccountExists, NoAccount, Unfit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    Ids = tuple[int, int] | None

_QUERY = """
SELECT a.user, a.enabled, a.uid, a.gid, a.home, a.maildir, a.created, a.changed,
    (SELECT value FROM credential WHERE account = a.id AND kind = 'hash'),
    EXISTS (SELECT 1 FROM credential WHERE account = a.id AND kind = 'clear'),
    EXISTS (SELECT 1 FROM credential WHERE account = a.id AND kind = 'scram-sha-256'),
    a.may_change
FROM account AS a
"""

_SHARING = f"""
SELECT 1 FROM account WHERE id != ?1
    AND ({MAIL}) = (SELECT {MAIL} FROM account WHERE id = ?1) LIMIT 1
"""  # noqa: S608  # an expression of ours


class Account:
    """One account as it may be shown: everything but its secrets.

    created, changed: seconds since 1970. method: the prefix of the stored hash.
    """

    def __init__(self, row: "tuple[Any, ...]") -> None:
        self.user = _text(row[0])
        self.is_enabled = bool(row[1])
        self.uid: int | None = row[2]
        self.gid: int | None = row[3]
        self.home = _text(row[4])
        self.maildir = _text(row[5])
        self.created: int = row[6]
        self.changed: int = row[7]
        self.method = hashes.method_of(row[8] or b"")
        self.has_clear = bool(row[9])
        self.has_scram = bool(row[10])
        self.may_change = bool(row[11])


class Accounts(Domains):
    """What can be done with accounts, but for their secrets."""

    def add(
        self,
        user: bytes,
        ids: "Ids",
        home: bytes,
        maildir: bytes,
        *,
        make_domain: bool = False,
    ) -> None:
        """Add an account, without any credential so far.

        make_domain: make the domain, too, where there is none of that name.
        Raises: AccountExists, NoDomain, Unfit.
        """
        check_place(ids, home, maildir)
        name = self._canonical(name_of(user))
        domain = split(name)[1]
        if make_domain and domain and domain not in self.domains():
            self.add_domain(domain)
        self._check_free(name)
        now = int(time.time())
        uid, gid = ids or (None, None)
        self._change(
            "INSERT INTO account"
            " (user, domain, uid, gid, home, maildir, created, changed)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            *(name, self._domain_of(name), uid, gid, _value(home), _value(maildir)),
            *(now, now),
        )
        self._note("add", name)

    def remove(self, user: bytes) -> None:
        """Remove an account; its mail stays where it is.

        Takes its own name, no alias.
        Raises: NoAccount, Unfit.
        """
        name = self._canonical(name_of(user))
        if not self._change("DELETE FROM account WHERE user = ?", name):
            raise no_account(name)
        self._is_wiping = True
        self._note("remove", name)

    def rename(self, old: bytes, new: bytes) -> None:
        """Give an account another name, in another domain even; it keeps the rest.

        But for rights over the server, outside of the main domain. Takes its own name,
        no alias.
        Raises: NoAccount, AccountExists, NoDomain, Unfit.
        """
        name, fresh = (self._canonical(name_of(user)) for user in (old, new))
        rows = self._execute("SELECT id FROM account WHERE user = ?", name)
        if not rows:
            raise no_account(name)
        if name == fresh:
            return
        self._check_free(fresh)
        self._drop_idle_rights()
        self._change(
            "UPDATE account SET user = ?, domain = ?, changed = ? WHERE id = ?",
            *(fresh, self._domain_of(fresh), int(time.time()), rows[0][0]),
        )
        self._drop_idle_rights()
        self._note("rename", name, fresh)

    def set_enabled(self, user: bytes, *, is_enabled: bool) -> None:
        """Let an account log in, or not.

        Raises: NoAccount, Unfit.
        """
        account = self._touch(user, "enable" if is_enabled else "disable")
        change = "UPDATE account SET enabled = ? WHERE id = ?"
        self._change(change, int(is_enabled), account)

    def set_may_change(self, user: bytes, *, may_change: bool) -> None:
        """Let an account's owner change its password, or not.

        Raises: NoAccount, Unfit.
        """
        change = "UPDATE account SET may_change = ? WHERE id = ?"
        self._change(change, int(may_change), self._touch(user, "may-change"))

    def set_place(self, user: bytes, ids: "Ids", home: bytes, maildir: bytes) -> None:
        """Say anew where an account lives and as whom it is served.

        Raises: NoAccount, Unfit.
        """
        check_place(ids, home, maildir)
        uid, gid = ids or (None, None)
        self._change(
            "UPDATE account SET uid = ?, gid = ?, home = ?, maildir = ? WHERE id = ?",
            *(uid, gid, _value(home), _value(maildir), self._touch(user, "place")),
        )

    def show(self, user: bytes) -> Account:
        """Give one account.

        Raises: NoAccount, Unfit.
        """
        rows = self._execute(_QUERY + "WHERE a.id = ?", self._id(user))
        return Account(rows[0])

    def list(self, domain: str | None = None) -> "Iterator[Account]":
        """Give all accounts, or those of a domain, ordered by name.

        Takes "" for those of the main domain, whether it has a name or not.
        Raises: NoDomain.
        """
        if domain is None:
            return map(Account, self._rows(_QUERY + "ORDER BY a.user"))
        if domain in ("", self.main_domain()):
            where = "WHERE a.domain IS NULL ORDER BY a.user"
            return map(Account, self._rows(_QUERY + where))
        where = "WHERE a.domain = ? ORDER BY a.user"
        return map(Account, self._rows(_QUERY + where, self._domain_id(domain)))

    def shares_mail(self, user: bytes) -> bool:
        """Tell whether another account has its mail in the same place.

        Raises: NoAccount, Unfit.
        """
        return bool(self._execute(_SHARING, self._id(user)))

    def has_clear_secrets(self) -> bool:
        """Say whether any account at all can log in by APOP or CRAM-MD5."""
        query = "SELECT 1 FROM credential WHERE kind = 'clear' LIMIT 1"
        return bool(self._execute(query))

    def _canonical(self, name: str) -> str:
        """Give a name as accounts have it: without the main domain."""
        local, domain = split(name)
        return local if domain and domain == self.main_domain() else name

    def _domain_of(self, name: str) -> int | None:
        """Give the number of the domain of a canonical name, None for the main one.

        Raises: NoDomain.
        """
        domain = split(name)[1]
        return self._domain_id(domain) if domain else None

    def _check_free(self, name: str) -> None:
        """Refuse a name that an account or an alias has, or that can't be one.

        Raises: AccountExists, NoDomain, Unfit.
        """
        local = split(name)[0]
        if not local or "@" in local or name.endswith("@"):
            raise Unfit("an account's name is user or user@domain")
        self._domain_of(name)
        if self._holder(name) is not None:
            raise AccountExists(f"there is an account {name} already")

    def _holder(self, name: str) -> int | None:
        """Give the number of the account that a canonical name or an alias leads to."""
        query = (
            "SELECT id FROM account WHERE user = ?1"
            " UNION ALL SELECT account FROM alias WHERE name = ?1 LIMIT 1"
        )
        rows = self._execute(query, name)
        return int(rows[0][0] or 0) if rows else None

    def _id(self, user: bytes) -> int:
        """Give the number of an account by its name or alias.

        Raises: NoAccount, Unfit.
        """
        name = self._canonical(name_of(user))
        found = self._holder(name)
        if found is None:
            raise no_account(name)
        return found

    def _touch(self, user: bytes, event: str) -> int:
        """Note that an account changes now, and give its number.

        Raises: NoAccount, Unfit.
        """
        account = self._id(user)
        query = "UPDATE account SET changed = ? WHERE id = ?"
        self._change(query, int(time.time()), account)
        rows = self._execute("SELECT user FROM account WHERE id = ?", account)
        self._note(event, str(rows[0][0]))
        return account


def no_account(name: str) -> NoAccount:
    """Say that there is no such account."""
    return NoAccount(f"there is no account {name}")


def _value(path: bytes) -> str | bytes | None:
    """Give what is stored for a path."""
    try:
        return path.decode() or None
    except UnicodeDecodeError:
        return path


def _text(value: str | bytes | None) -> str:
    return os.fsdecode(value or "")
