# SPDX-License-Identifier: ISC
"""What new accounts get that their creator did not say: by server, by domain.

Defaults are settings like an account's own, kept under one key of a domain, or as an
option of the server for all domains. In paths of theirs %n is the account's name
without its domain, %d the domain, %% a per cent sign.
"""

import re

from qtools.accounts.cli import vocabulary
from qtools.accounts.refusals import Unfit
from qtools.errors import Hard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtools.accounts.cli.names import Name
    from qtools.accounts.cli.vocabulary import Draft, Pairs
    from qtools.accounts.db.store import Store

KEY = "AccountDefaults"
_MARK = re.compile(rb"%(.?)", re.DOTALL)


def of_domain(store: "Store", domain: str) -> "Pairs":
    """Give the defaults that a domain has of its own.

    Raises: NoDomain; Temporary, Hard.
    """
    has_settings = domain and domain in store.domains()
    kept = store.domain_settings(domain) if has_settings else {}
    return _pairs(kept.get(KEY, b""))


def in_force(store: "Store", domain: str) -> "Pairs":
    """Give the defaults for new accounts in a domain.

    Raises: NoDomain; Temporary, Hard.
    """
    return _pairs(store.option(KEY)) | of_domain(store, domain)


def of_account(store: "Store", name: "Name") -> "Draft":
    """Give what a new account gets, its paths made out.

    Raises: Unfit when the name can't be part of a path; NoDomain; Temporary, Hard.
    """
    made = vocabulary.draft(in_force(store, name.domain), is_place_allowed=True)
    paths = {key: it for key, it in made.place.items() if isinstance(it, bytes)}
    made.place |= {key: _made_out(path, name) for key, path in paths.items()}
    made.patterned = frozenset(key for key in paths if paths[key] != made.place[key])
    return made


def check(pairs: "Pairs") -> None:
    """Make sure that these can be defaults.

    Raises: Unfit.
    """
    if vocabulary.draft(pairs, is_place_allowed=True).secret:
        raise Unfit("a password is nobody's default")


def _pairs(kept: bytes) -> "Pairs":
    """Read defaults as they are kept.

    Raises: Hard for what are none: accounts without the place that was meant for them
    would be worse than none. And for a password, that would be everybody's.
    """
    value = vocabulary.read_kept(kept) if kept else {}
    if not isinstance(value, dict):
        raise Hard(f"{KEY}, as it is kept, is no dictionary of settings")
    if any(key.upper() == vocabulary.PASSWORD.upper() for key in value):
        raise Hard(f"{KEY}, as it is kept, has a password")
    return value


def _made_out(path: bytes, name: "Name") -> bytes:
    parts = {
        b"n": name.local.encode("utf-8", "surrogateescape"),
        b"d": name.domain.encode("ascii", "surrogateescape"),
        b"%": b"%",
    }

    def part(found: "re.Match[bytes]") -> bytes:
        text = parts.get(found[1])
        if text is None or b"/" in text or text.startswith(b".") or not text:
            raise Unfit("no path can be made of this name")
        return text

    return _MARK.sub(part, path)
