# SPDX-License-Identifier: ISC
"""The domains in a database, and which of them is the main one.

Accounts of the main domain have bare names; when another domain becomes the main one,
the names of both follow, and everybody can log in by the same words as before with
their domain.
"""

import time

from qtools.accounts.db.ledger import Ledger, whole
from qtools.accounts.db.rights import SERVER_RIGHTS
from qtools.accounts.limits import USER_OCTETS, change_settings, domain_of
from qtools.accounts.refusals import (
    AccountExists,
    DomainExists,
    InUse,
    NoDomain,
    Unfit,
)

# What has names with a domain in them.
_NAMED = (("account", "user"), ("alias", "name"))
_MEMBERS = "SELECT user FROM account WHERE domain = ? ORDER BY user"
# Accounts of other domains, or of the main one, with aliases in a domain.
_HOLDERS = """
SELECT DISTINCT a.user FROM alias AS l JOIN account AS a ON a.id = l.account
WHERE l.domain = ?1 AND a.domain IS NOT ?1 ORDER BY a.user
"""
# Rights of accounts of other domains than the main one.
_ELSEWHERE = """
SELECT a.id, a.user, p.name FROM privilege AS p JOIN account AS a ON a.id = p.account
WHERE a.domain IS NOT NULL
"""


class Domains(Ledger):
    """What can be done with domains."""

    def domains(self) -> list[str]:
        """Give all domains, ordered by name, the main one among them."""
        rows = self._execute("SELECT name FROM domain ORDER BY name")
        return [str(row[0]) for row in rows]

    def main_domain(self) -> str:
        """Give the main domain, or "" when there is none."""
        rows = self._execute("SELECT name FROM domain WHERE main")
        return str(rows[0][0]) if rows else ""

    def add_domain(self, name: str) -> None:
        """Add a domain.

        Raises: DomainExists, Unfit.
        """
        domain = domain_of(name)
        self._check_no_domain(domain)
        now = int(time.time())
        self._change("INSERT INTO domain (name, created) VALUES (?, ?)", domain, now)
        self._note("domain-add", domain)

    @whole
    def rename_domain(self, old: str, new: str) -> None:
        """Give a domain, and so its accounts, another name.

        Raises: NoDomain, DomainExists, Unfit.
        """
        number, domain, was = self._domain_id(old), domain_of(new), domain_of(old)
        if domain == was:
            return
        self._check_no_domain(domain)
        self._change("UPDATE domain SET name = ? WHERE id = ?", domain, number)
        for table, column in _NAMED:
            self._change(
                f"UPDATE {table} SET {column} ="  # noqa: S608  # names of ours
                f" substr({column}, 1, length({column}) - ?) || ? WHERE domain = ?",
                *(len(was), domain, number),
            )
        self._check_names()
        self._note("domain-rename", was, domain)

    @whole
    def remove_domain(self, name: str, *, force: bool = False) -> None:
        """Remove a domain; with force also its accounts and aliases, never their mail.

        The hook program is told of each account, and of those of other domains whose
        aliases go.
        Raises: NoDomain; InUse without force when there are any, and always for the
        main domain.
        """
        number, domain = self._domain_id(name), domain_of(name)
        if domain == self.main_domain():
            raise InUse(f"{domain} is the main domain; make another one that first")
        for user in self.alias_holders(domain):
            self._note("aliases", user)
        for row in self._execute(_MEMBERS, number):
            self._note("remove", str(row[0]))
        for table, _ in _NAMED:
            query = f"SELECT 1 FROM {table} WHERE domain = ? LIMIT 1"  # noqa: S608
            if not force and self._execute(query, number):
                raise InUse(f"the domain {domain} has accounts or aliases")
            self._change(f"DELETE FROM {table} WHERE domain = ?", number)  # noqa: S608
        self._change("DELETE FROM domain WHERE id = ?", number)
        self._is_wiping = True
        self._note("domain-remove", domain)

    def alias_holders(self, name: str) -> list[str]:
        """Give the accounts of other domains that have aliases in this one.

        Raises: NoDomain.
        """
        rows = self._execute(_HOLDERS, self._domain_id(name))
        return [str(row[0]) for row in rows]

    @whole
    def set_main_domain(self, name: str) -> None:
        """Make a domain the main one; with "" none is.

        What was the main one until now becomes one like the others. Without one
        before, accounts with bare names are henceforth accounts of this one. Who is not
        of the main domain any more loses his rights over the server.
        Raises: NoDomain; AccountExists when two would have one name; Unfit.
        """
        was = self.main_domain()
        domain = domain_of(name) if name else ""
        number = self._domain_id(domain) if domain else None
        if was == domain:
            return
        self._drop_idle_rights()
        if was:
            self._qualify(self._domain_id(was), was)
        if number is not None:
            self._strip(number, domain)
        self._check_names()
        self._drop_idle_rights()
        self._note("main-domain", domain, was)

    def _drop_idle_rights(self) -> None:
        """Take rights over the server from accounts of other domains than the main one.

        To be called before and after accounts change their domain: what had no effect
        must not get one.
        """
        losers = set()
        for number, user, right in self._execute(_ELSEWHERE):
            if right in SERVER_RIGHTS:
                query = "DELETE FROM privilege WHERE account = ? AND name = ?"
                self._change(query, number, right)
                losers.add(str(user))
        for user in sorted(losers):
            self._note("rights", user)

    def _qualify(self, number: int, domain: str) -> None:
        """Make the main domain one like the others."""
        self._change("UPDATE domain SET main = 0")
        for table, column in _NAMED:
            self._change(
                f"UPDATE {table} SET {column} = {column} || '@' || ?, domain = ?"  # noqa: S608
                " WHERE domain IS NULL",
                *(domain, number),
            )

    def _strip(self, number: int, domain: str) -> None:
        """Make a domain the main one, when there is none.

        Raises: AccountExists.
        """
        self._change("UPDATE domain SET main = 1 WHERE id = ?", number)
        for table, column in _NAMED:
            bare = f"substr({column}, 1, length({column}) - ?)"
            query = (
                f"SELECT {bare} FROM {table} WHERE domain = ? AND {bare} IN"  # noqa: S608
                " (SELECT user FROM account UNION ALL SELECT name FROM alias) LIMIT 1"
            )
            octets = len(domain) + 1
            for row in self._execute(query, octets, number, octets):
                raise AccountExists(f"there is an account {row[0]!s} already")
            self._change(
                f"UPDATE {table} SET {column} = {bare}, domain = NULL"  # noqa: S608
                " WHERE domain = ?",
                *(octets, number),
            )

    def domain_settings(self, name: str) -> dict[str, bytes]:
        """Give the settings of a domain.

        Raises: NoDomain.
        """
        query = "SELECT name, value FROM domain_setting WHERE domain = ? ORDER BY name"
        return self._pairs(query, self._domain_id(name))

    @whole
    def set_domain_settings(self, name: str, changes: dict[str, bytes | None]) -> None:
        """Change settings of a domain; None removes one.

        Raises: NoDomain, Unfit.
        """
        number = self._domain_id(name)
        for key in changes:
            query = "DELETE FROM domain_setting WHERE domain = ? AND name = ?"
            self._change(query, number, key)
        for key, value in change_settings(self.domain_settings(name), changes):
            query = "INSERT INTO domain_setting VALUES (?, ?, ?)"
            self._change(query, number, key, value)
        self._note("domain-settings", domain_of(name))

    def _domain_id(self, name: str) -> int:
        """Give a domain's number.

        Raises: NoDomain.
        """
        rows = self._execute("SELECT id FROM domain WHERE name = ?", domain_of(name))
        if not rows:
            raise NoDomain(f"there is no domain {domain_of(name)}")
        return int(rows[0][0] or 0)

    def _check_no_domain(self, domain: str) -> None:
        if self._execute("SELECT 1 FROM domain WHERE name = ?", domain):
            raise DomainExists(f"there is a domain {domain} already")

    def _check_names(self) -> None:
        """Refuse what has become of names when their domain has changed.

        Raises: Unfit.
        """
        for table, column in _NAMED:
            query = (
                f"SELECT {column} FROM {table} WHERE {column} = ''"  # noqa: S608
                f" OR (domain IS NULL AND {column} LIKE '%_@_%')"
                f" OR length(CAST({column} AS BLOB)) > ? LIMIT 1"
            )
            for row in self._execute(query, USER_OCTETS):
                raise Unfit(f"an account would be called {row[0]!r}, which can't be")
