# SPDX-License-Identifier: ISC
"""Commands about domains: which there are, what is set for them, who is in them.

Each takes an errand and gives a datum, or DONE. Those that change anything run inside
a transaction.
"""

from fnmatch import fnmatchcase
from itertools import islice

from qtools.accounts.cli import defaults, names, vocabulary
from qtools.accounts.cli.accounts import DONE, Done
from qtools.accounts.refusals import NotAllowed, Unfit
from qtools.protocol import commands
from qtools.protocol.values import render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from qtools.accounts.cli.errand import Errand
    from qtools.protocol.values import Value

MULTI_MAILBOX = b"macnt"  # what the vendor calls the type of account that ours are
MOST_OBJECTS = 1_000_000


def list_accounts(errand: "Errand") -> "Value":
    """Give the accounts of a domain, each with its type."""
    return {local: MULTI_MAILBOX for local, _ in _accounts(errand, errand.domain())}


def _accounts(errand: "Errand", domain: str) -> "Iterator[tuple[bytes, bytes]]":
    """Give names without and with the domain."""
    for account in errand.store.list(domain):
        user = account.user
        yield user.rpartition("@")[0].encode() or user.encode(), user.encode()


def list_objects(errand: "Errand") -> "Value":
    """Give accounts and aliases of a domain, some at a time.

    In an array: how many accounts match, accounts with their types, aliases with
    their accounts, no groups, no forwarders; with COOKIE, what the next COOKIE is,
    empty when nothing is left.
    """
    call = errand.call
    domain = errand.domain()
    limit = call.text("limit")
    if not limit.isdigit() or len(limit) > 7 or int(limit) > MOST_OBJECTS:
        raise Unfit(f"the limit is a number up to {MOST_OBJECTS}")
    pattern = f"*{call.text('filter').decode('utf-8', 'replace').lower()}*"
    cookie = call.text("cookie")
    found = sorted(  # by the name that is a cookie, which is not that of the database
        (local, user)
        for local, user in _accounts(errand, domain)
        if fnmatchcase(local.decode("utf-8", "replace"), pattern)
    )
    left = (pair for pair in found if pair[0] > cookie)
    some = list(islice(left, int(limit)))
    is_all = not any(kind in call for kind in ("accounts", "aliases", "groups"))
    accounts: dict[bytes, Value] = {}
    aliases: dict[bytes, Value] = {}
    if is_all or "accounts" in call:
        accounts = {local: MULTI_MAILBOX for local, _ in some}
    if is_all or "aliases" in call:
        aliases = _aliases(errand, some)
    result: list[Value] = [len(found), accounts, aliases, {}, {}]
    if "cookie" in call:
        has_more = next(left, None) is not None
        result.append(some[-1][0] if some and has_more else b"")
    return result


def _aliases(
    errand: "Errand", some: "list[tuple[bytes, bytes]]"
) -> "dict[bytes, Value]":
    return {
        alias.rpartition("@")[0].encode() or alias.encode(): local
        for local, user in some
        for alias in errand.store.aliases(user)
    }


def list_domains(errand: "Errand") -> "Value":
    """Give the domains that the caller may look at, the main one first."""
    store, caller = errand.store, errand.caller
    main = store.main_domain()
    others = sorted(name for name in store.domains() if name != main)
    found: list[Value] = [
        name.encode()
        for name in ([main] if main else []) + others
        if caller.may(commands.DOMAIN, name)
    ]
    if not found:
        caller.require(commands.DOMAIN, "")
    return found


def main_name(errand: "Errand") -> "Value":
    """Give the name of the main domain; empty when the server has none."""
    return errand.store.main_domain().encode()


def create(errand: "Errand") -> Done:
    """Add a domain."""
    errand.caller.require(commands.DOMAINS, "")
    domain = names.domain(errand.call.text("domain"))
    changes = _changes(errand)
    errand.store.add_domain(domain)
    if changes:
        errand.store.set_domain_settings(domain, changes)
    return DONE


def rename(errand: "Errand") -> Done:
    """Give a domain another name, and with it its accounts."""
    old = errand.domain()
    new = names.domain(errand.call.text("new"))
    errand.store.rename_domain(old, new)
    return DONE


def delete(errand: "Errand") -> Done:
    """Remove a domain; FORCE: together with its accounts, but not their mail."""
    is_forced = "force" in errand.call
    domain = errand.domain()
    if is_forced and not errand.caller.is_master:
        users = [user for _, user in _accounts(errand, domain)]
        users += [user.encode() for user in errand.store.alias_holders(domain)]
        for user in users:
            errand.caller.require_not_above(errand.store.rights(user))
    errand.store.remove_domain(domain, force=is_forced)
    return DONE


def get_settings(errand: "Errand") -> "Value":
    """Give what is set for a domain."""
    domain = errand.domain()
    if domain not in errand.store.domains():
        return {}
    kept = errand.store.domain_settings(domain)
    return {key.encode(): vocabulary.read_kept(value) for key, value in kept.items()}


def get_effective(errand: "Errand") -> "Value":
    """Give what is in force for a domain."""
    kept = get_settings(errand)
    assert isinstance(kept, dict)  # noqa: S101  # for the type checker
    standing = defaults.in_force(errand.store, errand.domain())
    return {**kept, defaults.KEY.encode(): standing}


def update_settings(errand: "Errand") -> Done:
    """Change some settings of a domain."""
    domain = errand.domain()
    errand.store.set_domain_settings(domain, _changes(errand))
    return DONE


def get_defaults(errand: "Errand") -> "Value":
    """Give what new accounts of a domain get."""
    return defaults.of_domain(errand.store, errand.domain())


def _changes(errand: "Errand") -> dict[str, bytes | None]:
    """Read settings of a domain as they are kept.

    Raises: Unfit; NotAllowed for defaults that say where mail is, or whose, which is
    the master's to say.
    """
    changes: dict[str, bytes | None] = {}
    for key, value in errand.call.dictionary("settings").items():
        name = key.decode("utf-8", "replace")
        if not 0 < len(key) <= vocabulary.KEY_OCTETS or not name.isprintable():
            raise Unfit("this can't be the name of a setting")
        is_default = vocabulary.or_none(value) is None
        changes[name] = None if is_default else render(value)
        if name == defaults.KEY and not is_default:
            if not isinstance(value, dict):
                raise Unfit(f"{defaults.KEY} is a dictionary of settings")
            defaults.check(value)
            if not errand.may_place and _has_places(value):
                raise NotAllowed("you do not have the required access rights")
    return changes


def _has_places(pairs: "vocabulary.Pairs") -> bool:
    places = {key.upper() for key in vocabulary.PLACES}
    return not places.isdisjoint(key.upper() for key in pairs)
