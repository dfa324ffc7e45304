# SPDX-License-Identifier: ISC
"""Change the password of an account in the embedded database.

Whoever knows the old one may, unless the account has been denied that: which is looked
at when it is changed, and not before, so that a denial counts from the moment it is
committed.
"""

from qtools.accounts import registry
from qtools.accounts.cli import settings
from qtools.accounts.db.outbox import run_hook
from qtools.accounts.db.store import Store
from qtools.accounts.refusals import NoAccount, NotAllowed

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
    """A Changer; user: who has proved already that he is it, empty for nobody.

    has_changed: the hook is to be run.
    """

    def __init__(self, opener: "Opener", path: bytes, user: bytes = b"") -> None:
        self._opener = opener
        self._path = path
        self._user = user
        self.has_changed = False

    def authenticate(self, user: bytes, secret: bytes, challenge: bytes) -> None:
        """Check the old password, or a digest over the challenge.

        Raises: Refused; Temporary, Hard.
        """
        registry.verify([self._opener()], user, secret, challenge)
        self._user = user

    def change(self, new: bytes) -> None:
        """Store the new password, durably.

        Raises: NotAllowed, Unfit; Temporary, Hard.
        """
        if not self._user:
            raise NotAllowed("nobody has logged in")
        store = Store(self._path)
        try:
            self._check(store)
            keeping = settings.Keeping(store, self._user)
            with store:
                keeping.set(store, self._user, new)
                self._check(store)  # still
        finally:
            store.close()
        self.has_changed = True

    def _check(self, store: Store) -> None:
        """Make sure that the account may change its password.

        Raises: NotAllowed; Temporary, Hard.
        """
        try:
            account = store.show(self._user)
        except NoAccount:
            raise NotAllowed(DENIED) from None
        if not (account.may_change and account.is_enabled):
            raise NotAllowed(DENIED)

    def settle(self) -> str:
        """Tell the hook, when nobody waits any more; give what went wrong with that."""
        has_changed, self.has_changed = self.has_changed, False
        return run_hook(self._path) if has_changed else ""

    def end(self) -> None:
        """Let go of what is held, which is nothing, and tell the hook."""
        self.settle()
