# SPDX-License-Identifier: ISC
"""Who has logged in: one account, and more than its name.

Names move: accounts and domains are renamed, another domain becomes the main one. And
whoever logged in by a password that has been set anew since may be just the one that
it was set anew for. So it is looked at for each command whether the account is still
the one to which somebody has logged in, by that password, under that name.
"""

from qtools.accounts.refusals import NoAccount, NotAllowed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtools.accounts.db.store import Store

CHANGED = "your account has changed, log in again"


class Member:
    """An account as it was at a login: its number, and what Store.mark() gives."""

    def __init__(self, number: int, told: tuple[str, str]) -> None:
        self._number = number
        self._told = told

    @property
    def user(self) -> bytes:
        """Give the account's own name."""
        return self._told[0].encode("utf-8", "surrogateescape")

    def is_as(self, other: "Member | None") -> bool:
        """Tell whether nothing has happened between two looks at an account."""
        return other is not None and vars(self) == vars(other)

    def check(self, store: "Store") -> None:
        """Make sure that it is still the account that it was.

        Raises: NotAllowed when it isn't; Temporary, Hard.
        """
        try:
            found = store.mark(self._number)
        except NoAccount:
            found = "", ""
        if found != self._told:
            raise NotAllowed(CHANGED)

    def renewed(self, store: "Store") -> "Member":
        """Give it as it has become by what its own session has done to it.

        In the transaction in which it was checked before that.
        Raises: Temporary, Hard.
        """
        try:
            return Member(self._number, store.mark(self._number))
        except NoAccount:  # which check() is going to tell
            return self


def member_of(store: "Store", user: bytes) -> Member:
    """Look an account up, by an alias too.

    Raises: NoAccount, Unfit; Temporary, Hard.
    """
    number = store.number(user)
    return Member(number, store.mark(number))
