# SPDX-License-Identifier: ISC
"""The secrets of accounts: what is made of one when it is set, and what is kept.

Of a password there are its hash, the keys for SCRAM, which need no hash of theirs to be
strong and no clear password, and the clear password where the account asks for it.
"""

import os
import time
from collections import Counter

from qtools.accounts import hashes
from qtools.accounts.db.accounts import Accounts
from qtools.accounts.db.ledger import octets
from qtools.accounts.db.options import ITERATIONS, METHOD
from qtools.accounts.db.preparation import prepared
from qtools.accounts.limits import check_secret
from qtools.accounts.refusals import Unfit
from qtools.protocol import scram

DECOY_OCTETS = 16  # of randomness in the secret that nobody has

NEWEST = 10_000  # accounts that are looked at to know what a check costs

_NEWEST = """
SELECT value FROM credential WHERE kind = 'hash' ORDER BY account DESC LIMIT ?
"""

HASH, CLEAR, SCRAM = "hash", "clear", "scram-sha-256"  # kinds of credentials


class Secrets(Accounts):
    """What can be done with secrets."""

    def set_secret(
        self,
        user: bytes,
        secret: bytes,
        method: str = "",
        *,
        clear: bool | None = None,
    ) -> None:
        """Replace all credentials of an account.

        Takes one of hashes.METHODS, or nothing for the one that the database has
        chosen. clear: whether the clear secret is kept too, as APOP and CRAM-MD5 need;
        None for "as before".
        Raises: NoAccount, Unfit; Hard for a method that can't be had.
        """
        check_secret(secret)
        # all that takes time goes before the transaction's lock, where this is first
        method = method or self._meta(METHOD).decode()
        made = self.make_credentials(secret, method)
        decoy = self._new_decoy(made[HASH], method)
        account = self._touch(user, "password")
        if clear is None:
            clear = CLEAR in self._credentials(account)
        made[CLEAR] = secret if clear else b""
        self._put(account, made)
        if decoy:
            self._change("REPLACE INTO meta VALUES ('decoy', ?)", decoy)

    def make_credentials(self, secret: bytes, method: str = "") -> dict[str, bytes]:
        """Make what is kept of a secret, without the secret itself.

        Raises: Hard for a method that can't be had.
        """
        method = method or self._meta(METHOD).decode()
        return {HASH: hashes.make(secret, method), SCRAM: self.make_keys(secret)}

    def set_credentials(self, user: bytes, made: dict[str, bytes]) -> None:
        """Replace all credentials of an account by some that were made elsewhere.

        Takes values by kind; see CREDENTIALS for kinds.
        Raises: NoAccount, Unfit.
        """
        if not made.keys() <= CREDENTIALS.keys():
            raise Unfit("no such kind of credential")
        self._put(self._touch(user, "password"), made)

    def refresh_decoy(self) -> None:
        """Have strangers cost what most of the newest accounts cost."""
        stored = [octets(row[0]) for row in self._execute(_NEWEST, NEWEST)]
        kinds = [(hashes.method_of(each), hashes.cost_of(each)) for each in stored]
        if stored:
            commonest = Counter(kinds).most_common(1)[0][0]
            decoy = _like(stored[kinds.index(commonest)])
            self._change("REPLACE INTO meta VALUES ('decoy', ?)", decoy)

    def credentials(self, user: bytes) -> dict[str, bytes]:
        """Give the credentials of an account by kind, for an export.

        Raises: NoAccount, Unfit.
        """
        return self._credentials(self._id(user))

    def _credentials(self, account: int) -> dict[str, bytes]:
        query = "SELECT kind, value FROM credential WHERE account = ?"
        return self._pairs(query, account)

    def _put(self, account: int, made: dict[str, bytes]) -> None:
        self._change("DELETE FROM credential WHERE account = ?", account)
        self._is_wiping = True
        now = int(time.time())
        for kind, value in made.items():
            if value:
                query = "INSERT INTO credential VALUES (?, ?, ?, ?)"
                self._change(query, account, kind, value, now)

    def make_keys(self, secret: bytes) -> bytes:
        """Make the keys for SCRAM, or none where nobody could type the secret."""
        text = prepared(secret)
        iterations = int(self._meta(ITERATIONS) or scram.ITERATIONS)
        if text is None or not iterations:
            return b""
        return scram.make_keys(text, os.urandom(scram.SALT_OCTETS), iterations)

    def _new_decoy(self, stored: bytes, method: str) -> bytes:
        """Give what makes strangers cost what the method last chosen costs.

        Nothing where they do so already.
        """
        if hashes.method_of(self._meta("decoy")) == hashes.method_of(stored):
            return b""
        return hashes.make(os.urandom(DECOY_OCTETS).hex().encode(), method)


CREDENTIALS = {
    HASH: "what crypt(3) or scrypt has made",
    CLEAR: "the secret itself",
    SCRAM: "the keys that scram.make_keys() has made",
}


def _like(stored: bytes) -> bytes:
    """Give a hash that costs what this one costs, of a secret that nobody has."""
    secret = os.urandom(DECOY_OCTETS).hex().encode()
    return hashes.again(secret, stored) or stored
