# SPDX-License-Identifier: ISC
"""One command to be carried out: on which database, for whom, with which arguments."""

from qtools.accounts.cli import names
from qtools.protocol import commands

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from qtools.accounts.cli.names import Name
    from qtools.accounts.cli.rights import Caller
    from qtools.accounts.db.secrets import Prepared
    from qtools.accounts.db.store import Account, Store
    from qtools.protocol.grammar import Call

    Log = Callable[[int, str], None]
    Verify = Callable[[bytes, bytes], None]


class Errand:
    """A command, and what it needs to be carried out.

    log: called with a level from 0 to 5 and a text. verify: called with a user and a
    password, raises Refused when they don't belong together. prepared: what was made
    of a password that is about to be set.
    """

    def __init__(
        self,
        store: "Store",
        caller: "Caller",
        call: "Call",
        log: "Log",
        verify: "Verify",
    ) -> None:
        self.store = store
        self.caller = caller
        self.call = call
        self.log = log
        self.verify = verify
        self.prepared: Prepared | None = None

    def require(self) -> None:
        """Make sure that the command may be given for what it names, and only read.

        Raises: NotAllowed; Unfit; Temporary, Hard.
        """
        names_of_parts = [part.name for part in self.call.command.parts]
        if "account" in names_of_parts:
            self.name()
            return
        given = self.call.text("domain")
        domain = names.domain(given) if given else self.caller.domain
        self.caller.require(self.call.command.right, domain)

    def name(self, argument: str = "account") -> "Name":
        """Give the account that an argument names, once the command may concern it.

        Raises: NotAllowed, whether it exists or not; Unfit; Temporary, Hard.
        """
        found = names.account(self.store, self.call.text(argument), self.caller.domain)
        self.caller.require(self.call.command.right, found.domain, found.user)
        return found

    def account(self) -> "Account":
        """Give the account that is named, maybe by an alias, once it may concern it.

        Raises: NoAccount, and as name() does.
        """
        found = self.store.show(self.name().user)
        user = found.user.encode("utf-8", "surrogateescape")
        domain = names.account(self.store, user).domain  # an alias may be of another
        self.caller.require(self.call.command.right, domain, user)
        return found

    def subject(self) -> bytes:
        """Give the account that is to be changed, which must not be above the caller.

        Raises: as account() does.
        """
        user = self.account().user.encode("utf-8", "surrogateescape")
        if not self.caller.is_master:
            self.caller.require_not_above(self.store.rights(user))
        return user

    def domain(self) -> str:
        """Give the domain that is named, the caller's own when none is.

        Raises: NotAllowed, whether it exists or not; NoDomain, Unfit; Temporary, Hard.
        """
        given = self.call.text("domain")
        domain = names.domain(given) if given else self.caller.domain
        domain = domain or self.store.main_domain()
        self.caller.require(self.call.command.right, domain)
        names.require_domain(self.store, domain)
        return domain

    @property
    def may_place(self) -> bool:
        """Tell whether the caller may say where mail is, and whose it is.

        That is as good as being whoever he says.
        """
        return self.caller.may(commands.MASTER, "")
