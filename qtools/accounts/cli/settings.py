# SPDX-License-Identifier: ISC
"""Settings of an account: written from a draft, and given as they may be shown."""

from qtools.accounts.cli.vocabulary import ALL, NO, NONE, YES, read_kept
from qtools.accounts.db.secrets import CLEAR
from qtools.accounts.refusals import Unfit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from qtools.accounts.cli.vocabulary import Draft, Pairs
    from qtools.accounts.db.store import Account, Store
    from qtools.protocol.values import Value


def write(store: "Store", user: bytes, made: "Draft") -> None:
    """Write a draft; inside a transaction.

    Raises: NoAccount, Unfit; Temporary, Hard.
    """
    if made.secret:
        Keeping(store, user, made.kept).set(store, user, made.secret)
    elif _wants_clear(made.kept) is False:
        drop_clear(store, user)
    if made.may_change is not None:
        store.set_may_change(user, may_change=made.may_change)
    if made.is_enabled is not None:
        store.set_enabled(user, is_enabled=made.is_enabled)
    if made.kept:
        store.set_settings(user, made.kept)
    if made.place:
        write_place(store, user, made.place)


def write_place(store: "Store", user: bytes, place: "dict[str, Value]") -> None:
    """Change where an account's mail is, or whose.

    Raises: NoAccount, Unfit; Temporary, Hard.
    """
    found = store.show(user)
    uid = place.get("uid", found.uid)
    gid = place.get("gid", found.gid)
    if (uid is None) != (gid is None):
        raise Unfit("UID and GID go together")
    home = place.get("home", found.home.encode("utf-8", "surrogateescape"))
    maildir = place.get("maildir", found.maildir.encode("utf-8", "surrogateescape"))
    ids = (uid, gid) if isinstance(uid, int) and isinstance(gid, int) else None
    if not home and maildir and not _octets(maildir).startswith(b"/"):
        raise Unfit("Maildir takes an absolute path, or one below Home")
    store.set_place(user, ids, _octets(home), _octets(maildir))


class Keeping:
    """How an account's next password is to be kept.

    To be found out before the transaction: hashing takes time, and is done without its
    lock only where the password is the first thing in it.
    """

    def __init__(
        self,
        store: "Store",
        user: bytes,
        changes: "Mapping[str, bytes | None] | None" = None,
    ) -> None:
        """Find out; changes: settings that are about to be set, as they are kept.

        Raises: NoAccount, Unfit; Temporary, Hard.
        """
        kept: dict[str, bytes | None] = {**store.settings(user), **(changes or {})}
        method = read_kept(kept.get("PasswordEncryption") or b'""')
        self._method = _octets(method).decode("ascii", "replace")
        self._clear = _wants_clear(kept)

    def set(self, store: "Store", user: bytes, secret: bytes) -> None:
        """Set the password.

        Raises: NoAccount, Unfit; Temporary, Hard.
        """
        store.set_secret(user, secret, self._method, clear=self._clear)


def drop_clear(store: "Store", user: bytes) -> None:
    """Forget the clear password of an account, if it is there, and nothing else.

    Raises: NoAccount; Temporary, Hard.
    """
    made = store.credentials(user)
    if made.pop(CLEAR, b""):
        store.set_credentials(user, made)


def _wants_clear(kept: "Mapping[str, bytes | None]") -> bool | None:
    """Tell whether settings ask for the clear password; None when they don't say."""
    told = [kept.get(key) for key in ("RequireAPOP", "UseAPOP")]
    said = [value == YES for value in told if value]
    return any(said) if said else None


def explicit(store: "Store", account: "Account") -> "Pairs":
    """Give what is set of an account, and none of its secrets."""
    found: Pairs = {
        key.encode(): read_kept(value)
        for key, value in store.settings(account.user.encode()).items()
    }
    if not account.may_change:
        found[b"PWDAllowed"] = NO
    if not account.is_enabled:
        found[b"AccessModes"] = NONE
    paths = ((b"Home", account.home), (b"Maildir", account.maildir))
    for key, path in paths:
        if path:
            found[key] = path.encode("utf-8", "surrogateescape")
    for key, number in ((b"UID", account.uid), (b"GID", account.gid)):
        if number is not None:
            found[key] = number
    return found


def effective(store: "Store", account: "Account") -> "Pairs":
    """Give what is in force for an account, whether it is set or not."""
    standing: Pairs = {
        b"PWDAllowed": YES,
        b"AccessModes": ALL,
        b"RequireAPOP": YES if account.has_clear else NO,
        b"PasswordEncryption": account.method.strip("$").encode() or b"crypt",
    }
    return standing | explicit(store, account)


def _octets(value: "Value") -> bytes:
    return value if isinstance(value, bytes) else b""
