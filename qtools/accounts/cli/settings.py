# SPDX-License-Identifier: ISC
"""Settings of an account: written from a draft, and given as they may be shown."""

from qtools.accounts.cli.vocabulary import ALL, NO, NONE, YES, read_kept
from qtools.accounts.refusals import Unfit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from qtools.accounts.cli.vocabulary import Draft, Pairs
    from qtools.accounts.db.secrets import Prepared
    from qtools.accounts.db.store import Account, Store
    from qtools.protocol.values import Value

    Changes = Mapping[str, bytes | None]

# Settings of which one is enough to have the clear password kept.
CLEAR_KEYS = ("RequireAPOP", "UseAPOP")


def prepare(
    store: "Store", secret: bytes, kept: "Changes", changes: "Changes | None" = None
) -> "Prepared | None":
    """Hash a password, if there is one, before there is a transaction's lock.

    kept: an account's settings; changes: those that are about to be changed.
    Raises: Unfit; Temporary, Hard.
    """
    if not secret:
        return None
    return store.prepare(secret, method_in({**kept, **(changes or {})}))


def method_in(kept: "Changes") -> str:
    """Give the method of hashing that settings ask for; empty when they don't."""
    method = kept.get("PasswordEncryption")
    word = _octets(read_kept(method)) if method else b""
    return word.decode("ascii", "replace")


def write(
    store: "Store", user: bytes, made: "Draft", prepared: "Prepared | None"
) -> None:
    """Write a draft; inside a transaction.

    prepared: what was made of the draft's password.
    Raises: NoAccount, Unfit; Temporary, Hard.
    """
    asks = _wants_clear(store, user, made.kept)
    if prepared is not None:
        set_password(store, user, prepared, made.kept)
    elif asks is False and _is_told(made.kept):
        store.forget_clear(user)
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


def set_password(
    store: "Store", user: bytes, prepared: "Prepared", changes: "Changes | None" = None
) -> None:
    """Set a password; inside a transaction.

    changes: settings that are about to be set, as they are kept.
    Raises: NoAccount, Unfit; Temporary, Hard.
    """
    clear = _wants_clear(store, user, changes or {})
    store.set_prepared(user, prepared, clear=clear)


def _wants_clear(store: "Store", user: bytes, changes: "Changes") -> bool | None:
    """Tell whether settings ask for the clear password, once these have changed.

    None when they don't say, and have not just ceased to.
    """
    kept = {**store.settings(user), **changes}
    said = [value == YES for key in CLEAR_KEYS if (value := kept.get(key))]
    return any(said) if said or _is_told(changes) else None


def _is_told(changes: "Changes") -> bool:
    """Tell whether these are about the clear password."""
    return not changes.keys().isdisjoint(CLEAR_KEYS)


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
