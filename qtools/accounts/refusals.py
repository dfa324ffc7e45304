# SPDX-License-Identifier: ISC
"""Why a change of accounts was refused, told apart because a client is told apart.

See: qtools-accounts(5), and the codes of poppassd(8)'s command line interface.
"""

from qtools.errors import Refused


class NoAccount(Refused):
    """There is no account of that name."""


class NoDomain(Refused):
    """There is no domain of that name."""


class AccountExists(Refused):
    """There is an account, or an alias, of that name already."""


class PlaceTaken(Refused):
    """Another account has its mail where this one's would be."""


class DomainExists(Refused):
    """There is a domain of that name already."""


class InUse(Refused):
    """It can't be removed while something else needs it."""


class NotAllowed(Refused):
    """Whoever asks has no right to it."""


class Unfit(Refused):
    """A value can't be what it says: a name, a secret, a setting."""
