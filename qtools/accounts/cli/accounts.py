# SPDX-License-Identifier: ISC
"""Commands about accounts.

Each takes an errand and gives a datum, or DONE. Those that change anything run inside
a transaction, and what takes time for them is prepared before it.
"""

from qtools.accounts.cli import names, rights, settings, storage, vocabulary
from qtools.accounts.cli.defaults import of_account
from qtools.accounts.refusals import PlaceTaken, Unfit
from qtools.protocol import commands

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from qtools.accounts.cli.errand import Errand
    from qtools.accounts.cli.names import Name
    from qtools.accounts.cli.vocabulary import Draft
    from qtools.accounts.db.secrets import Prepared
    from qtools.accounts.db.store import Account
    from qtools.protocol.values import Value

EMPTY = b""


class Done:
    """There is no datum to give."""


DONE = Done()


def create(errand: "Errand") -> Done:
    """Add an account; without a password nobody can log in to it."""
    name, made = _new(errand)
    errand.store.add(name.user, None, EMPTY, EMPTY)
    settings.write(errand.store, name.user, made, errand.prepared)
    if made.patterned and errand.store.shares_mail(name.user):
        raise PlaceTaken("another account, maybe renamed, has its mail there")
    return DONE


def prepare_new(errand: "Errand") -> "Prepared | None":
    """Hash the password of a new account."""
    _, made = _new(errand)
    return settings.prepare(errand.store, made.secret, made.kept)


def _new(errand: "Errand") -> "tuple[Name, Draft]":
    """Read what a new account is to be.

    Raises: NotAllowed, NoDomain, Unfit; Temporary, Hard.
    """
    call, store = errand.call, errand.store
    kind = call.text("type").upper()
    if kind and kind not in commands.TYPES:
        raise Unfit("accounts of this type are not supported")
    if "external" in call:
        raise Unfit("accounts with an external INBOX are not supported")
    name = errand.name()
    names.require_domain(store, name.domain)
    given = call.dictionary("settings")
    made = vocabulary.draft(given, is_place_allowed=errand.may_place)
    return name, of_account(store, name).overridden_by(made)


def rename(errand: "Errand") -> Done:
    """Give an account another name."""
    old, new = errand.subject(), errand.name("new")
    names.require_domain(errand.store, new.domain)
    held = errand.store.rights(old)
    if b"@" in new.user and not set(held).isdisjoint(rights.SERVER_RIGHTS):
        raise Unfit("rights over the server are for accounts of the main domain")
    errand.store.rename(errand.name().user, new.user)
    return DONE


def delete(errand: "Errand") -> Done:
    """Remove an account, but not its mail."""
    errand.subject()
    errand.store.remove(errand.name().user)  # and not what an alias leads to
    return DONE


def get_settings(errand: "Errand") -> "Value":
    """Give what is set."""
    return settings.explicit(errand.store, errand.account())


def get_effective(errand: "Errand") -> "Value":
    """Give what is in force."""
    return settings.effective(errand.store, errand.account())


def update(errand: "Errand") -> Done:
    """Change some settings."""
    user, made = _some(errand)
    settings.write(errand.store, user, made, errand.prepared)
    return DONE


def replace(errand: "Errand") -> Done:
    """Change some settings and have the default for all others, but the password."""
    user, made = _all(errand)
    settings.write(errand.store, user, made, errand.prepared)
    return DONE


def prepare_some(errand: "Errand") -> "Prepared | None":
    """Hash the password among some settings, if there is one."""
    return _prepare(errand, *_some(errand))


def prepare_all(errand: "Errand") -> "Prepared | None":
    """Hash the password among all settings, if there is one."""
    return _prepare(errand, *_all(errand))


def _prepare(errand: "Errand", user: bytes, made: "Draft") -> "Prepared | None":
    store = errand.store
    return settings.prepare(store, made.secret, store.settings(user), made.kept)


def _some(errand: "Errand") -> "tuple[bytes, Draft]":
    user = errand.subject()
    return user, _draft(errand, errand.call.dictionary("settings"))


def _all(errand: "Errand") -> "tuple[bytes, Draft]":
    user = errand.subject()
    given = errand.call.dictionary("settings")
    named = {key.upper() for key in given}
    standing = settings.explicit(errand.store, errand.store.show(user))
    dropped: dict[bytes, Value] = {
        key: None for key in standing if key.upper() not in named
    }
    return user, _draft(errand, dropped | given)


def _draft(errand: "Errand", pairs: "dict[bytes, Value]") -> "Draft":
    return vocabulary.draft(pairs, is_place_allowed=errand.may_place)


def set_password(errand: "Errand") -> Done:
    """Set a password."""
    user = errand.subject()
    assert errand.prepared is not None  # noqa: S101  # for the type checker
    settings.set_password(errand.store, user, errand.prepared)
    return DONE


def prepare_password(errand: "Errand") -> "Prepared":
    """Hash a password."""
    kept = errand.store.settings(errand.subject())
    method = settings.method_in(kept)
    return errand.store.prepare(errand.call.text("password"), method)


def verify_password(errand: "Errand") -> Done:
    """Say whether this is the password of an account that may log in.

    Raises: Refused when it isn't.
    """
    errand.verify(errand.subject(), errand.call.text("password"))
    return DONE


def get_aliases(errand: "Errand") -> "Value":
    """Give the aliases of an account, without its domain."""
    account = errand.account()
    domain = _domain_of(errand, account)
    found: list[Value] = []
    for alias in errand.store.aliases(account.user.encode()):
        each = names.account(errand.store, alias.encode(), domain)
        is_near = each.domain == domain
        found.append((each.local if is_near else alias).encode())
    return found


def set_aliases(errand: "Errand") -> Done:
    """Replace the aliases of an account; they are of its domain."""
    user = errand.subject()
    domain = _domain_of(errand, errand.store.show(user))
    wanted = []
    for each in errand.call.array("aliases"):
        if not isinstance(each, bytes):
            raise Unfit("an alias is a string")
        name = names.account(errand.store, each, domain)
        if name.domain != domain:
            raise Unfit("an alias is of the domain of its account")
        wanted.append(name.user.decode())
    errand.store.set_aliases(user, wanted)
    return DONE


def _domain_of(errand: "Errand", account: "Account") -> str:
    return names.account(errand.store, account.user.encode()).domain


def get_info(errand: "Errand") -> "Value":
    """Give what is known of an account besides its settings: all of it, or one."""
    account = errand.account()
    known: dict[bytes, Callable[[], Value]] = {
        b"Created": lambda: account.created,
        b"Changed": lambda: account.changed,
        b"PasswordMethod": lambda: account.method.strip("$").encode(),
        b"HasAPOPSecret": lambda: _yes(is_so=account.has_clear),
        b"HasSCRAMKeys": lambda: _yes(is_so=account.has_scram),
        b"StorageUsed": lambda: storage.used(account),
    }
    key = errand.call.text("key")
    if not key:
        return {name: tell() for name, tell in known.items()}
    for name, tell in known.items():
        if name.upper() == key.upper():
            return tell()
    return None


def _yes(*, is_so: bool) -> bytes:
    return vocabulary.YES if is_so else vocabulary.NO


def get_rights(errand: "Errand") -> "Value":
    """Give the rights of an account."""
    user = errand.account().user
    return [right.encode() for right in errand.store.rights(user.encode())]


def set_rights(errand: "Errand") -> Done:
    """Replace the rights of an account; those over the server need the main domain."""
    user = errand.subject()
    wanted = []
    for each in errand.call.array("rights"):
        known = rights.KNOWN.get(
            each.decode("ascii", "replace").upper() if isinstance(each, bytes) else ""
        )
        if known is None:
            raise Unfit(f"rights are {', '.join(rights.KNOWN.values())}")
        wanted.append(known)
    if b"@" in user and not set(wanted).isdisjoint(rights.SERVER_RIGHTS):
        raise Unfit("rights over the server are for accounts of the main domain")
    errand.store.set_rights(user, wanted)
    return DONE
