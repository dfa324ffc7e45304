# SPDX-License-Identifier: ISC
"""Settings, rights and aliases of accounts: what the command line interface speaks of.

A setting is a name and octets that mean nothing here; a right is one of some words.
"""

from qtools.accounts.db.accounts import Accounts
from qtools.accounts.db.ledger import whole
from qtools.accounts.db.rights import rights_of
from qtools.accounts.limits import change_settings, name_of, words_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import builtins
    from collections.abc import Iterable, Mapping

    Names = builtins.list[str]


class Settings(Accounts):
    """What can be done with settings, rights and aliases."""

    def settings(self, user: bytes) -> dict[str, bytes]:
        """Give the settings of an account.

        Raises: NoAccount, Unfit.
        """
        query = "SELECT name, value FROM setting WHERE account = ? ORDER BY name"
        return self._pairs(query, self._id(user))

    @whole
    def set_settings(self, user: bytes, changes: "Mapping[str, bytes | None]") -> None:
        """Change settings of an account; None removes one.

        Raises: NoAccount, Unfit.
        """
        account = self._touch(user, "settings")
        for key in changes:
            query = "DELETE FROM setting WHERE account = ? AND name = ?"
            self._change(query, account, key)
        for key, value in change_settings(self.settings(user), changes):
            query = "INSERT INTO setting VALUES (?, ?, ?)"
            self._change(query, account, key, value)

    def rights(self, user: bytes) -> "Names":
        """Give the rights of an account, in order of the alphabet.

        Raises: NoAccount, Unfit.
        """
        query = "SELECT name FROM privilege WHERE account = ? ORDER BY name"
        return [str(row[0]) for row in self._execute(query, self._id(user))]

    @whole
    def set_rights(self, user: bytes, rights: "Iterable[str]") -> None:
        """Give an account these rights and no others.

        Raises: NoAccount; Unfit for words that are none, and for rights over the server
        when it is not of the main domain.
        """
        account = self._touch(user, "rights")
        self._change("DELETE FROM privilege WHERE account = ?", account)
        for right in rights_of(rights, self.show(user).user):
            self._change("INSERT INTO privilege VALUES (?, ?)", account, right)

    def aliases(self, user: bytes) -> "Names":
        """Give the other names of an account, in order of the alphabet.

        Raises: NoAccount, Unfit.
        """
        query = "SELECT name FROM alias WHERE account = ? ORDER BY name"
        return [str(row[0]) for row in self._execute(query, self._id(user))]

    @whole
    def set_aliases(self, user: bytes, names: "Iterable[str]") -> None:
        """Give an account these other names and no more.

        Takes whole names: one without a domain is one of the main domain.
        Raises: NoAccount, NoDomain, AccountExists, Unfit.
        """
        account = self._touch(user, "aliases")
        self._change("DELETE FROM alias WHERE account = ?", account)
        words = [word.encode(errors="surrogateescape") for word in names]
        wanted = {self._canonical(name_of(word)) for word in words}
        for name in words_of(wanted, "aliases"):
            self._check_free(name)
            query = "INSERT INTO alias VALUES (?, ?, ?)"
            self._change(query, name, account, self._domain_of(name))
