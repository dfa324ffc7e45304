# SPDX-License-Identifier: ISC
"""How many accounts have keys for SCRAM of how many iterations.

Counting keys at each login would cost more the more there are, so a tally of them lies
beside them, and is changed in the transaction that changes keys. See: strangers.
"""

from qtools.accounts.db.accounts import Accounts
from qtools.accounts.db.strangers import read
from qtools.accounts.limits import name_of

TALLY = "key-tally"  # in the table of what belongs to no account
NOTHING = b"0:0"  # no account has keys, and that was counted

OF_ALL = "1"
OF_ACCOUNT = "account = (SELECT id FROM account WHERE user = ?)"
OF_DOMAIN = "account IN (SELECT id FROM account WHERE domain = ?)"

# The number stands behind SCRAM-SHA-256$ and before a colon; see: scram.make_keys()
_COUNT = """
SELECT CAST(substr(text, 15, instr(substr(text, 15), ':') - 1) AS INTEGER), count(*)
FROM (SELECT CAST(value AS TEXT) AS text FROM credential
    WHERE kind = 'scram-sha-256' AND {})
GROUP BY 1
"""


class Tally(Accounts):
    """Accounts whose keys are counted."""

    def remove(self, user: bytes) -> None:
        """Remove an account; see Accounts."""
        gone = self._counted(OF_ACCOUNT, self._canonical(name_of(user)))
        super().remove(user)
        self._recount(gone, {})

    def remove_domain(self, name: str, *, force: bool = False) -> None:
        """Remove a domain; see Domains."""
        gone = self._counted(OF_DOMAIN, self._domain_id(name))
        super().remove_domain(name, force=force)
        self._recount(gone, {})

    def _counted(self, which: str, *values: int | str) -> dict[int, int]:
        """Give how many iterations the keys of some accounts have."""
        rows = self._execute(_COUNT.format(which), *values)
        return {int(row[0] or 0): int(row[1] or 0) for row in rows if row[0]}

    def _recount(self, gone: dict[int, int], made: dict[int, int]) -> None:
        """Take a change of keys down, after it; count all where there is no tally."""
        text = self._meta(TALLY)
        if text and gone == made:
            return
        tally = read(text) if text else self._counted(OF_ALL)
        for sign, part in ((-1, gone), (1, made)) if text else ():
            for number, accounts in part.items():
                tally[number] = tally.get(number, 0) + sign * accounts
        words = [b"%d:%d" % pair for pair in sorted(tally.items()) if pair[1] > 0]
        text = b" ".join(words) or NOTHING
        self._change("REPLACE INTO meta VALUES (?, ?)", TALLY, text)


def tally_of(keys: bytes) -> dict[int, int]:
    """Give how many iterations these keys have; none when there are no keys."""
    digits = keys.partition(b"$")[2].partition(b":")[0]
    number = int(digits) if digits.isdigit() and len(digits) < 10 else 0
    return {number: 1} if number else {}
