# SPDX-License-Identifier: ISC
"""Change the password of an account in the embedded database.

Whoever knows the old one may, unless the account has been denied that: which is looked
at when it is changed, and not before, so that a denial counts from the moment it is
committed.
"""

from qtools.accounts import registry
from qtools.accounts.cli import settings
from qtools.accounts.cli.member import CHANGED, Member, member_of
from qtools.accounts.db.outbox import run_hook
from qtools.accounts.db.store import Store
from qtools.accounts.refusals import NoAccount, NotAllowed, Unfit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtools.accounts.registry import Opener

DENIED = "password modification is not allowed for this account"


def load(where: str) -> "Opener":
    """Load what verifying needs, and give a function to open the database for it.

    Raises: Hard when a library is missing.
    """
    (opener,) = registry.load([f"db:{where}"])
    return opener


class DatabaseChanger:
    """A Changer; member: who has proved already that he is it, None for nobody.

    has_changed: the hook is to be run.
    """

    def __init__(
        self, opener: "Opener", path: bytes, member: Member | None = None
    ) -> None:
        self.member = member
        self._opener = opener
        self._path = path
        self.has_changed = False

    def authenticate(self, user: bytes, secret: bytes, challenge: bytes) -> None:
        """Check the old password, or a digest over the challenge.

        Raises: Refused; Temporary, Hard.
        """
        before = look_up(self._path, user)
        registry.verify([self._opener()], user, secret, challenge)
        member = look_up(self._path, user)
        if member is None or not member.is_as(before):
            raise NotAllowed(CHANGED)
        self.member = member

    def change(self, new: bytes) -> None:
        """Store the new password, durably.

        Raises: NotAllowed, Unfit; Temporary, Hard.
        """
        member = self.member
        if member is None:
            raise NotAllowed("nobody has logged in")
        store = Store(self._path)
        try:
            _check(store, member)
            method = settings.method_in(store.settings(member.user))
            prepared = store.prepare(new, method)
            with store:
                _check(store, member)  # still
                settings.set_password(store, member.user, prepared)
                member = member.renewed(store)
        finally:
            store.close()
        self.member = member
        self.has_changed = True

    def settle(self) -> str:
        """Tell the hook, when nobody waits any more; give what went wrong with that."""
        has_changed, self.has_changed = self.has_changed, False
        return run_hook(self._path) if has_changed else ""

    def end(self) -> None:
        """Let go of what is held, which is nothing, and tell the hook."""
        self.settle()


def look_up(path: bytes, user: bytes) -> Member | None:
    """Give an account as it is now, None when there is none of this name.

    Raises: Temporary, Hard.
    """
    store = Store(path)
    try:
        return member_of(store, user)
    except (NoAccount, Unfit):
        return None
    finally:
        store.close()


def _check(store: Store, member: Member) -> None:
    """Make sure that the account may change its password.

    Raises: NotAllowed; Temporary, Hard.
    """
    member.check(store)
    account = store.show(member.user)
    if not (account.may_change and account.is_enabled):
        raise NotAllowed(DENIED)
