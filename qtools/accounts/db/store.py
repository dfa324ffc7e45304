# SPDX-License-Identifier: ISC
"""Accounts in an SQLite file: the writing half, for whoever changes them.

    with Store(path) as accounts: ...      one transaction, on disk when it ends

Its parts are rooms of their own; each knows only those below it: options and domains
stand on the ledger, accounts on domains, secrets and settings on accounts.
"""

from qtools.accounts.db.accounts import Account
from qtools.accounts.db.options import Options
from qtools.accounts.db.secrets import Secrets
from qtools.accounts.db.settings import Settings

__all__ = ["Account", "Store"]


class Store(Secrets, Settings, Options):
    """An account database, opened for writing."""
