# SPDX-License-Identifier: ISC
"""Subcommands of popaccount for a whole database, and for what few accounts have.

Each is called with the path of the database and what argparse has read.
"""

import os
import sys

from qtools.accounts.db import exchange, files
from qtools.accounts.db.store import Store
from qtools.accounts.shell.lines import run_lines
from qtools.errors import Hard, Refused, from_os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import BinaryIO

    from qtools.accounts.refusals import Unfit


def bring_in(path: bytes, given: "argparse.Namespace") -> None:
    """Import accounts from a file, all of them or none."""
    store = Store(path)
    try:
        with _source(given.file) as lines:
            report = exchange.import_accounts(
                store, given.form, lines, skip_bad=given.skip_bad
            )
    finally:
        store.close()
    for number, why in report.faults:
        sys.stderr.write(f"popaccount: line {number}: {printable(why)}\n")
    if not report.is_done:
        raise Refused("nothing was imported; --skip-bad imports what is good")
    write(f"{report.count} accounts imported")


def _source(name: str) -> "BinaryIO":
    if name == "-":
        return os.fdopen(os.dup(0), "rb")
    try:
        return open(name, "rb")
    except OSError as why:
        raise from_os_error(why, f"open {name}") from why


def bring_out(path: bytes, given: "argparse.Namespace") -> None:
    """Export all accounts, hashes included, or those that can be said in the form."""
    store = Store(path)
    faults: list[Unfit] | None = [] if given.skip_bad else None
    try:
        for line in exchange.export_accounts(store, given.form, faults):
            sys.stdout.buffer.write(line)
    finally:
        store.close()
    sys.stdout.buffer.flush()
    for why in faults or ():
        sys.stderr.write(f"popaccount: {printable(str(why))}\n")
    if faults:
        raise Refused(f"{len(faults)} accounts were not exported")


def back_up(path: bytes, given: "argparse.Namespace") -> None:
    """Copy the database while it is in use."""
    files.backup(path, os.fsencode(given.file))


def migrate(path: bytes, _given: "argparse.Namespace") -> None:
    """Bring an older file up to date."""
    before, after = files.migrate(path)
    write(f"version {before} is now {after}" if before != after else "up to date")


def converse(path: bytes, _given: "argparse.Namespace") -> None:
    """Answer lines of the Command Line Interface."""
    run_lines(path, sys.stdin.buffer)


def may_change(path: bytes, given: "argparse.Namespace") -> None:
    """Let an account's owner change its password, or not."""
    with Store(path) as store:
        user = os.fsencode(given.user)
        store.set_may_change(user, may_change=given.answer == "yes")


def aliases(path: bytes, given: "argparse.Namespace") -> None:
    """Print the aliases of an account, or replace them."""
    user = os.fsencode(given.user)
    if given.names or given.none:
        _only_one(given)
        with Store(path) as store:
            store.set_aliases(user, given.names)
        return
    for name in Store(path).aliases(user):
        write(name)


def rights(path: bytes, given: "argparse.Namespace") -> None:
    """Print the rights of an account, or replace them."""
    from qtools.accounts.cli.rights import KNOWN

    user = os.fsencode(given.user)
    if given.names or given.none:
        _only_one(given)
        unknown = [name for name in given.names if name.upper() not in KNOWN]
        if unknown:
            raise Hard(f"no right {unknown[0]}; there are {', '.join(KNOWN.values())}")
        with Store(path) as store:
            store.set_rights(user, [KNOWN[name.upper()] for name in given.names])
        return
    for name in Store(path).rights(user):
        write(name)


def _only_one(given: "argparse.Namespace") -> None:
    if given.names and given.none:
        raise Hard("--none takes no names")


def domain(path: bytes, given: "argparse.Namespace") -> None:
    """List domains, add, rename or remove one, or make one the main one."""
    words = [given.action, *given.names]
    if words[0] == "list" and len(words) == 1:
        store = Store(path)
        main = store.main_domain()
        for name in store.domains():
            write(f"{name}  (main)" if name == main else name)
        return
    wanted = {"add": (1, 1), "rename": (2, 2), "remove": (1, 1), "main": (0, 1)}
    least, most = wanted.get(words[0], (0, 0))
    if not least <= len(given.names) <= most:
        raise Hard(f"domain {words[0]} takes other arguments; try --help")
    with Store(path) as store:
        if words[0] == "add":
            store.add_domain(words[1])
        elif words[0] == "rename":
            store.rename_domain(words[1], words[2])
        elif words[0] == "remove":
            store.remove_domain(words[1], force=given.force)
        else:
            store.set_main_domain("".join(given.names))


def option(path: bytes, given: "argparse.Namespace") -> None:
    """Print the options of a database, or one of them, or set it."""
    from qtools.accounts.cli import options

    store = Store(path)
    if given.value is not None:
        value = os.fsencode(given.value)
        options.check(given.name, value)
        with store:
            store.set_option(given.name, value)
    elif given.name:
        write(os.fsdecode(store.option(given.name)))
    else:
        for name, value in store.options().items():
            write(f"{name} {os.fsdecode(value)}")


def write(line: str) -> None:
    """Print a line, in whatever the terminal's locale has for its letters."""
    text = printable(line) + "\n"
    sys.stdout.buffer.write(text.encode(sys.stdout.encoding, "backslashreplace"))


def printable(line: str) -> str:
    """Give a line in which no control character survives."""
    text = "".join(letter if letter.isprintable() else "?" for letter in line)
    return text.encode("utf-8", "replace").decode()


# Subcommands, those that change anything, and those that don't.
CHANGING = {
    "import": bring_in,
    "may-change": may_change,
    "aliases": aliases,
    "rights": rights,
    "domain": domain,
    "option": option,
}
COMMANDS = {
    **CHANGING,
    "export": bring_out,
    "backup": back_up,
    "migrate": migrate,
    "cli": converse,
}
