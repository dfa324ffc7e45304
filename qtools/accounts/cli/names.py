# SPDX-License-Identifier: ISC
"""Names of accounts and domains as commands have them, and as they are kept.

Accounts of the main domain are kept without it. A name without a domain is of the
domain of whoever gives the command, which for the server's administrators is the main
one.
"""

from qtools.accounts import limits
from qtools.accounts.db.names import join, split
from qtools.accounts.refusals import NoDomain, Unfit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtools.accounts.db.store import Store


class Name:
    """An account's name. user: as it is kept; local, domain: its parts."""

    __slots__ = ("domain", "local", "user")

    def __init__(self, local: str, domain: str, main_domain: str) -> None:
        self.local = local
        self.domain = domain
        self.user = join(local, "" if domain == main_domain else domain).encode()


def account(store: "Store", text: bytes, default: str = "") -> Name:
    """Read an account's name; default: the domain of a name without one.

    Raises: Unfit; Temporary, Hard.
    """
    main = store.main_domain()
    whole = limits.name_of(text)
    local, domain = split(whole)
    if not local or whole.endswith("@"):
        raise Unfit("an account's name is a word, or a word, @ and its domain")
    return Name(local, domain or default or main, main)


def domain(text: bytes) -> str:
    """Read a domain's name.

    Raises: Unfit.
    """
    return limits.domain_of(text.decode("utf-8", "surrogateescape"))


def require_domain(store: "Store", name: str) -> None:
    """Make sure that a domain is there; the main one of a server without any is.

    Raises: NoDomain; Temporary, Hard.
    """
    if name not in ("", store.main_domain(), *store.domains()):
        raise NoDomain("there is no domain of this name")
