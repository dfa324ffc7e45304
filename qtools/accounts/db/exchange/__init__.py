# SPDX-License-Identifier: ISC
"""Accounts from other programs' files, and into such files; see qtools-accounts(5).

Forms are named by words: `authuser`, `passwd-file` (Dovecot), `vpasswd` (vpopmail) and
`csv`. Where names come without their domain, it stands behind a colon:
`vpasswd:example.org`.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from qtools.accounts.db.store import Store

FORMS = ("authuser", "passwd-file", "vpasswd", "csv")


class Report:
    """What an import has done.

    count: accounts that were made. faults: line number, from 1, and what is wrong with
    it, in words that hold no secret and no control character. is_done: whether
    anything was stored; not, when there were faults and they were not to be skipped.
    """

    __slots__ = ("count", "faults", "is_done")

    def __init__(self, count: int, faults: list[tuple[int, str]]) -> None:
        self.count = count
        self.faults = faults
        self.is_done = False


def import_accounts(
    store: "Store", form: str, lines: "Iterable[bytes]", *, skip_bad: bool = False
) -> Report:
    """Make an account of each line, all in one transaction or none.

    Takes lines with or without their ends. skip_bad: store what is good when some
    lines are not; without it one bad line leaves everything as it was.
    Raises: Hard for a form there is none of; Temporary.
    """
    raise NotImplementedError


def export_accounts(store: "Store", form: str) -> "Iterator[bytes]":
    """Give a line, with its end, for each account; hashes and clear secrets in it.

    Raises: Hard for a form there is none of; Temporary.
    """
    raise NotImplementedError
