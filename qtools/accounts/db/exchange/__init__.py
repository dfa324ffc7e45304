# SPDX-License-Identifier: ISC
"""Accounts from other programs' files, and into such files; see qtools-accounts(5).

Forms are named by words: `authuser`, `passwd-file` (Dovecot), `vpasswd` (vpopmail) and
`csv`. Where names come without their domain, it stands behind a colon:
`vpasswd:example.org`.
"""

from qtools.accounts.db.exchange import authuser, passwd_file, table, vpasswd
from qtools.accounts.db.exchange.entry import Entry, entries
from qtools.accounts.db.secrets import HASH, SCRAM
from qtools.accounts.refusals import Unfit
from qtools.errors import Hard, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from qtools.accounts.db.store import Store

WRITERS: "dict[str, Callable[[Entry], Iterator[bytes]]]" = {
    "authuser": authuser.write,
    "passwd-file": passwd_file.write,
    "vpasswd": vpasswd.write,
    "csv": table.write,
}
FORMS = tuple(WRITERS)


class Report:
    """What an import has done.

    count: accounts that were made. faults: line number, from 1, and what is wrong with
    it, in words that hold no secret and no control character. is_done: whether
    anything was stored; not, when there were faults and they were not to be skipped.
    """

    __slots__ = ("count", "faults", "is_done")

    def __init__(self) -> None:
        self.count = 0
        self.faults: list[tuple[int, str]] = []
        self.is_done = False


class _GivenUp(Exception):
    """The import is given up."""


def import_accounts(
    store: "Store", form: str, lines: "Iterable[bytes]", *, skip_bad: bool = False
) -> Report:
    """Make an account of each line, all in one transaction or none.

    Takes lines with or without their ends. skip_bad: store what is good when some
    lines are not; without it one bad line leaves everything as it was.
    Raises: Hard for a form there is none of; Temporary.
    """
    report = Report()
    ready: list[tuple[int, Entry]] = []
    for number, found in _read(form, lines):
        if isinstance(found, Unfit):
            report.faults.append((number, str(found)))
        else:
            ready.append((number, found))
    if report.faults and not skip_bad:
        return report
    for _, entry in ready:
        _complete(store, entry)
    try:
        _store_all(store, ready, report, skip_bad=skip_bad)
    except _GivenUp:
        report.count = 0
    else:
        report.is_done = True
    return report


def export_accounts(
    store: "Store", form: str, faults: "list[Unfit] | None" = None
) -> "Iterator[bytes]":
    """Give a line, with its end, for each account; hashes and clear secrets in it.

    faults: where it is noted which accounts can't be said in the form, instead of
    ending there; nothing of them is given.
    Raises: Hard for a form there is none of; Unfit for an account that can't be said in
    it; NoDomain; Temporary.
    """
    kind, _, where = form.partition(":")
    if form not in WRITERS and kind != "vpasswd":
        raise _no_form(form)
    domain = vpasswd.Domain(where).name if kind == "vpasswd" else None
    if kind == "csv":
        yield table.header()
    for entry in entries(store, domain):
        try:
            yield from [*WRITERS[kind](entry)]  # all of them or none
        except Unfit as why:
            if faults is None:
                raise
            faults.append(why)


def _check(report: Report) -> None:
    """Go on only if nothing was wrong.

    Raises: _GivenUp.
    """
    if report.faults:
        raise _GivenUp


def _read(form: str, lines: "Iterable[bytes]") -> "Iterator[tuple[int, Entry | Unfit]]":
    """Give line numbers and what stands there.

    Raises: Hard.
    """
    kind, _, where = form.partition(":")
    if kind == "vpasswd":
        return vpasswd.read(lines, vpasswd.Domain(where))
    readers = {
        "authuser": authuser.read,
        "passwd-file": passwd_file.read,
        "csv": table.read,
    }
    if form not in readers:
        raise _no_form(form)
    return readers[form](lines)


def _no_form(form: str) -> Hard:
    return Hard(f"no form {form}; there are {', '.join(FORMS)}")


def _complete(store: "Store", entry: Entry) -> None:
    """Make credentials of a clear password, before anybody else has to wait for us.

    Raises: Hard, Temporary.
    """
    if entry.secret and HASH in entry.made:
        entry.made = {SCRAM: store.make_keys(entry.secret)} | entry.made
    elif entry.secret:
        entry.made = store.make_credentials(entry.secret) | entry.made


def _store_all(
    store: "Store",
    ready: list[tuple[int, Entry]],
    report: Report,
    *,
    skip_bad: bool,
) -> None:
    """Make all accounts in one transaction.

    Raises: _GivenUp, with nothing stored; Temporary, Hard.
    """
    with store:
        for number, entry in ready:
            _store(store, number, entry, report)
        if not skip_bad:
            _check(report)
        store.refresh_decoy()


def _store(store: "Store", number: int, entry: Entry, report: Report) -> None:
    """Make one account, or note why it can't be.

    Raises: Temporary, Hard.
    """
    try:
        with store.attempt():
            store.add(
                entry.user, entry.ids, entry.home, entry.maildir, make_domain=True
            )
            store.set_credentials(entry.user, entry.made)
            _describe(store, entry)
    except Refused as why:
        report.faults.append((number, str(why)))
    else:
        report.count += 1


def _describe(store: "Store", entry: Entry) -> None:
    """Set what most accounts have not got.

    Raises: Refused, Temporary, Hard.
    """
    user = entry.user
    if not entry.is_enabled:
        store.set_enabled(user, is_enabled=False)
    if not entry.may_change:
        store.set_may_change(user, may_change=False)
    if entry.aliases:
        store.set_aliases(user, entry.aliases)
    if entry.rights:
        store.set_rights(user, entry.rights)
    if entry.settings:
        store.set_settings(user, entry.settings)
