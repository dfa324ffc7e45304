# SPDX-License-Identifier: ISC
"""Who may do what by commands: master, administrators of domains, users.

Rights are words that an account has. Those over the server can only be had by accounts
of the main domain; an administrator of a domain has keys, for his own domain. Everyone
may look at himself. Nobody may touch an account that has a right he has not: he could
set its password and so become it.
See: qtools/protocol/commands.py for the right each command needs.
"""

from qtools.accounts.db import rights as known
from qtools.accounts.refusals import NotAllowed
from qtools.protocol import commands

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from qtools.accounts.cli.names import Name

MASTER, DOMAINS, DOMAINS_READ = commands.MASTER, commands.DOMAINS, known.DOMAINS_READ
SERVER_RIGHTS, DOMAIN_RIGHTS = known.SERVER_RIGHTS, known.DOMAIN_RIGHTS
KNOWN = known.KNOWN


class Caller:
    """Who gives a command. name: his account, None for the machine's administrator."""

    def __init__(self, name: "Name | None", rights: "Iterable[str]") -> None:
        self.name = name
        self.rights = frozenset(rights)

    @property
    def is_master(self) -> bool:
        """Tell whether everything is allowed."""
        return MASTER in self.rights

    @property
    def is_over_domains(self) -> bool:
        """Tell whether every domain is his to manage."""
        return self.is_master or DOMAINS in self.rights

    @property
    def domain(self) -> str:
        """Give the domain that names without one are of."""
        return self.name.domain if self.name else ""

    def may(self, right: str, domain: str, user: bytes = b"") -> bool:
        """Tell whether he has a right over a domain, or over an account in it."""
        is_self = self.name is not None and user == self.name.user
        if right == commands.ANYBODY or (right == commands.OWN and is_self):
            return True
        if right in (commands.MASTER, commands.DOMAINS):
            return self.is_master or right in self.rights
        return self.is_over_domains or self._has_key(right, domain)

    def _has_key(self, right: str, domain: str) -> bool:
        """Tell whether his rights over his own domain, or to look, are enough."""
        is_own = self.name is not None and domain == self.name.domain
        if right not in (commands.OWN, commands.DOMAIN):
            return is_own and right in self.rights
        has_keys = not self.rights.isdisjoint(DOMAIN_RIGHTS)
        return DOMAINS_READ in self.rights or (is_own and has_keys)

    def require(self, right: str, domain: str, user: bytes = b"") -> None:
        """Make sure of a right.

        Raises: NotAllowed.
        """
        if not self.may(right, domain, user):
            raise NotAllowed("you do not have the required access rights")

    def require_not_above(self, rights: "Iterable[str]") -> None:
        """Make sure that an account with these rights is not above him.

        Raises: NotAllowed.
        """
        keys = DOMAIN_RIGHTS if self.is_over_domains else ()
        if not self.is_master and not self.rights.union(keys).issuperset(rights):
            raise NotAllowed("you do not have the required access rights")


def master() -> Caller:
    """Give whoever administers this machine."""
    return Caller(None, (MASTER,))
