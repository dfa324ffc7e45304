# SPDX-License-Identifier: ISC
"""The words that are rights, and whose they can be.

Those over the server are for accounts of the main domain: another domain has its own
administrators, and what it is must not hang on which one is the main one.
See: accounts/cli/rights for what each allows.
"""

from qtools.accounts.limits import words_of
from qtools.accounts.refusals import Unfit
from qtools.protocol import commands

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

DOMAINS_READ = "DomainsRead"

# Master implies all others. AllDomains: every domain and its accounts. DomainsRead:
# look at them. The others are kept for the vendor's sake and allow nothing here.
SERVER_RIGHTS = (
    *(commands.MASTER, commands.DOMAINS, DOMAINS_READ),
    *("Settings", "Monitor", "Directory"),
)
DOMAIN_RIGHTS = (
    commands.ACCOUNTS,  # create, rename, delete accounts
    commands.ALIASES,  # set aliases
    commands.SETTINGS,  # change settings and passwords
    "RulesAllowed",  # kept for the vendor's sake
)
KNOWN = {right.upper(): right for right in (*SERVER_RIGHTS, *DOMAIN_RIGHTS)}


def rights_of(words: "Iterable[str]", user: str) -> list[str]:
    """Give rights in order, each once and well spelled, if an account may have them.

    Takes the account's own name, which has a domain when that is not the main one.
    Raises: Unfit.
    """
    asked = words_of(words, "rights")
    found = sorted({KNOWN.get(word.upper(), "") for word in asked})
    if "" in found:
        raise Unfit(f"rights are {', '.join(KNOWN.values())}")
    if "@" in user and not set(found).isdisjoint(SERVER_RIGHTS):
        raise Unfit("rights over the server are for accounts of the main domain")
    return found
