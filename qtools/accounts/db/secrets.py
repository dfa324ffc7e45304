# SPDX-License-Identifier: ISC
"""The secrets of accounts: what is made of one when it is set, and what is kept.

Of a password there are its hash, the keys for SCRAM, which need no hash of theirs to be
strong and no clear password, and the clear password where the account asks for it.
"""

import os
import time
from collections import Counter
from hashlib import sha256

from qtools.accounts import hashes
from qtools.accounts.db.ledger import octets
from qtools.accounts.db.options import ITERATIONS, METHOD
from qtools.accounts.db.preparation import prepared
from qtools.accounts.db.tally import Tally, tally_of
from qtools.accounts.limits import check_secret
from qtools.accounts.refusals import NoAccount, Unfit
from qtools.protocol import scram

DECOY_OCTETS = 16  # of randomness in the secret that nobody has

NEWEST = 10_000  # accounts that are looked at to know what a check costs

_NEWEST = """
SELECT value FROM credential WHERE kind = 'hash' ORDER BY account DESC LIMIT ?
"""

_KEYS = "SELECT value FROM credential WHERE account = ? AND kind = 'scram-sha-256'"

# What is another when a password has been set, and the same when its hash was renewed.
_MARK = """
SELECT a.user, a.created, h.changed, k.value FROM account AS a
LEFT JOIN credential AS h ON h.account = a.id AND h.kind = 'hash'
LEFT JOIN credential AS k ON k.account = a.id AND k.kind = 'scram-sha-256'
WHERE a.id = ?
"""

HASH, CLEAR, SCRAM = "hash", "clear", "scram-sha-256"  # kinds of credentials


class Prepared:
    """A secret that is to be set, and what was made of it; see Secrets.prepare().

    made: its credentials by kind, without itself. decoy: a new one for strangers,
    empty where the old one will do.
    """

    __slots__ = ("decoy", "made", "secret")

    def __init__(self, secret: bytes, made: dict[str, bytes], decoy: bytes) -> None:
        self.secret = secret
        self.made = made
        self.decoy = decoy


class Secrets(Tally):
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
        self.set_prepared(user, self.prepare(secret, method), clear=clear)

    def prepare(self, secret: bytes, method: str = "") -> "Prepared":
        """Do all that takes time about a secret, before the transaction's lock.

        Takes one of hashes.METHODS, or nothing for the one that the database has
        chosen.
        Raises: Unfit; Hard for a method that can't be had.
        """
        check_secret(secret)
        method = method or self._meta(METHOD).decode()
        made = self.make_credentials(secret, method)
        return Prepared(secret, made, self._new_decoy(made[HASH], method))

    def set_prepared(
        self, user: bytes, prepared: "Prepared", *, clear: bool | None = None
    ) -> None:
        """Replace all credentials of an account; see set_secret().

        Raises: NoAccount, Unfit.
        """
        account = self._touch(user, "password")
        if clear is None:
            clear = CLEAR in self._credentials(account)
        self._put(account, prepared.made | {CLEAR: prepared.secret if clear else b""})
        if prepared.decoy:
            self._change("REPLACE INTO meta VALUES ('decoy', ?)", prepared.decoy)

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

    def forget_clear(self, user: bytes) -> None:
        """Forget the clear secret of an account, if it is there, and nothing else.

        Raises: NoAccount, Unfit.
        """
        query = "DELETE FROM credential WHERE account = ? AND kind = 'clear'"
        if self._change(query, self._id(user)):
            self._touch(user, "password")
            self._is_wiping = True

    def number(self, user: bytes) -> int:
        """Give the number of an account, which stays its own when its name doesn't.

        Raises: NoAccount, Unfit.
        """
        return self._id(user)

    def mark(self, number: int) -> tuple[str, str]:
        """Give an account's name, and a mark of it and of its password.

        The mark of another account that gets its number is another, and so is its own
        when the password is set anew: within the same second only by the keys for
        SCRAM, if it has any.
        Raises: NoAccount.
        """
        for user, *others in self._execute(_MARK, number):
            told = repr((number, *others)).encode()
            return str(user), sha256(told).hexdigest()
        raise NoAccount("the account is gone")

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
        gone = self._execute(_KEYS, account)
        self._change("DELETE FROM credential WHERE account = ?", account)
        self._is_wiping = True
        now = int(time.time())
        for kind, value in made.items():
            if value:
                query = "INSERT INTO credential VALUES (?, ?, ?, ?)"
                self._change(query, account, kind, value, now)
        held = octets(gone[0][0]) if gone else b""
        self._recount(tally_of(held), tally_of(made.get(SCRAM, b"")))

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
