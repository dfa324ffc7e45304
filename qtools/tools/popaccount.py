# SPDX-License-Identifier: ISC
"""popaccount: make and fill the embedded account database.

Not part of any chain, so it may take its time and the standard library. Passwords are
read from the terminal, twice and unseen, or as one line from standard input; never
from the command line, where everybody on the machine could read them.
"""

import contextlib
import getpass
import json
import os
import sys
import time

from qtools.accounts.db.files import create
from qtools.accounts.db.store import Account, Store
from qtools.accounts.limits import check_secret
from qtools.accounts.shell import lines, upkeep
from qtools.accounts.shell.parser import VARIABLE, parser
from qtools.errors import EXIT_DONE, Hard, Refused, Temporary

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def main(argv: list[str]) -> int:
    """Do one command on one database."""
    try:
        code = _run(argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # a reader such as head(1) has had enough
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return EXIT_DONE
    except KeyboardInterrupt as why:
        raise Temporary("interrupted; nothing was changed") from why
    return code


def _run(words: list[str]) -> int:
    place = _place_of_command(words)
    if place < len(words) and lines.is_command(words[place]):
        given = parser().parse_args([*words[:place], "init"])
        asked = [os.fsencode(word) for word in words[place:]]
        return lines.run_words(_path(given), asked, read_secret)
    given = parser().parse_args(words)
    path = _path(given)
    if given.command == "init":
        create(path)
    elif given.command in upkeep.COMMANDS:
        upkeep.COMMANDS[given.command](path, given)
    else:
        COMMANDS[given.command](Store(path), given)
    if given.command in (*CHANGING, *upkeep.CHANGING):
        lines.tell_hook(path)
    return EXIT_DONE


def _place_of_command(words: list[str]) -> int:
    """Say where the options before the command end."""
    place = 0
    while place < len(words) and words[place].startswith("-"):
        place += 2 if words[place] in ("-d", "--db") else 1
    return place


def _path(given: "argparse.Namespace") -> bytes:
    return os.path.abspath(os.fsencode(given.db or _default_file()))


def _default_file() -> str:
    """Give the first db:FILE among the sources named in the environment.

    Raises: Hard when there is none.
    """
    for word in os.environ.get(VARIABLE, "").split():
        kind, _, where = word.partition(":")
        if kind == "db" and where:
            return where
    raise Hard(f"no database: give --db FILE or set {VARIABLE}=db:FILE")


def _add(store: Store, given: "argparse.Namespace") -> None:
    if not (given.home or given.maildir):
        raise Hard("an account needs --home, --maildir or both")
    for path in (given.home, given.maildir):
        if path and "\0" in path:
            raise Hard("a path can't hold NUL")
    if given.home and not given.home.startswith("/"):
        raise Hard("--home takes an absolute path")
    if not given.home and not given.maildir.startswith("/"):
        raise Hard("--maildir takes an absolute path, or one below --home")
    if (given.uid is None) != (given.gid is None):
        raise Hard("--uid and --gid go together")
    ids = None if given.uid is None else (given.uid, given.gid)
    user = os.fsencode(given.user)
    prepared = store.prepare(_read_secret(given), given.hash)
    with store:
        home, maildir = os.fsencode(given.home), os.fsencode(given.maildir)
        store.add(user, ids, home, maildir, make_domain=True)
        store.set_prepared(user, prepared, clear=given.apop)


def _passwd(store: Store, given: "argparse.Namespace") -> None:
    user = os.fsencode(given.user)
    clear = store.show(user).has_clear if given.apop is None else given.apop
    secret = _read_secret(given)
    with store:
        store.set_secret(user, secret, given.hash, clear=clear)


def _enable(store: Store, given: "argparse.Namespace") -> None:
    with store:
        is_enabled = given.command == "enable"
        store.set_enabled(os.fsencode(given.user), is_enabled=is_enabled)


def _remove(store: Store, given: "argparse.Namespace") -> None:
    with store:
        store.remove(os.fsencode(given.user))


def _show(store: Store, given: "argparse.Namespace") -> None:
    fields = _fields(store.show(os.fsencode(given.user)))
    if given.json:
        upkeep.write(json.dumps(fields))
        return
    for name, value in fields.items():
        upkeep.write(f"{name + ':':10} {_words(value)}")


def _list(store: Store, given: "argparse.Namespace") -> None:
    for account in store.list():
        if given.json:
            upkeep.write(json.dumps(_fields(account)))
        else:
            state = "" if account.is_enabled else "  (disabled)"
            upkeep.write(account.user + state)


COMMANDS = {
    "add": _add,
    "passwd": _passwd,
    "enable": _enable,
    "disable": _enable,
    "remove": _remove,
    "show": _show,
    "list": _list,
}
CHANGING = ("add", "passwd", "enable", "disable", "remove")


def _fields(account: Account) -> dict[str, object]:
    """Give what may be told of an account; secrets and hashes may not."""
    return {
        "user": account.user,
        "enabled": account.is_enabled,
        "uid": account.uid,
        "gid": account.gid,
        "home": account.home,
        "maildir": account.maildir,
        "hash": account.method.strip("$"),
        "apop": account.has_clear,
        "scram": account.has_scram,
        "may-change": account.may_change,
        "created": _date(account.created),
        "changed": _date(account.changed),
    }


def _date(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value in (None, "") else str(value)


def _read_secret(given: "argparse.Namespace") -> bytes:
    return read_secret(given.user, is_terminal=not given.stdin)


def read_secret(user: str, *, is_terminal: bool = True) -> bytes:
    """Read the password from the terminal, or one line of standard input.

    is_terminal: ask on the terminal if there is one.
    Raises: Refused.
    """
    if not (is_terminal and sys.stdin.isatty()):
        secret = sys.stdin.buffer.readline().rstrip(b"\r\n")
    else:
        secret = os.fsencode(getpass.getpass(f"Password for {user}: "))
        if secret != os.fsencode(getpass.getpass("Again: ")):
            raise Refused("the two passwords differ; nothing was changed")
    check_secret(secret)
    return secret
