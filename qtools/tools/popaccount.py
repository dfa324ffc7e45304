# SPDX-License-Identifier: ISC
"""popaccount: make and fill the embedded account database.

Not part of any chain, so it may take its time and the standard library. Passwords are
read from the terminal, twice and unseen, or as one line from standard input; never
from the command line, where everybody on the machine could read them.
"""

import argparse
import contextlib
import getpass
import json
import os
import sys
import time

from qtools import __version__
from qtools.accounts import hashes
from qtools.accounts.db.files import create
from qtools.accounts.db.store import Account, Store
from qtools.accounts.limits import check_secret
from qtools.errors import EXIT_DONE, Hard, Refused, Temporary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

VARIABLE = "QTOOLS_ACCOUNTS"


class _Parser(argparse.ArgumentParser):
    """argparse, with our exit code for misuse."""

    def error(self, message: str) -> "NoReturn":
        """Complain the way the other tools do."""
        raise Hard(f"{message}; try --help")


def main(argv: list[str]) -> int:
    """Do one command on one database."""
    given = _parser().parse_args(argv[1:])
    path = os.fsencode(given.db or _default_file())
    try:
        if given.command == "init":
            create(path)
        else:
            COMMANDS[given.command](Store(path), given)
        sys.stdout.flush()
    except BrokenPipeError:  # a reader such as head(1) has had enough
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except KeyboardInterrupt as why:
        raise Temporary("interrupted; nothing was changed") from why
    return EXIT_DONE


def _default_file() -> str:
    """Give the first db:FILE among the sources named in the environment.

    Raises: Hard when there is none.
    """
    for word in os.environ.get(VARIABLE, "").split():
        kind, _, where = word.partition(":")
        if kind == "db" and where:
            return where
    raise Hard(f"no database: give --db FILE or set {VARIABLE}=db:FILE")


def _add(store: Store, given: argparse.Namespace) -> None:
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
    secret = _read_secret(given)
    with store:
        home, maildir = os.fsencode(given.home), os.fsencode(given.maildir)
        store.add(user, ids, home, maildir, make_domain=True)
        store.set_secret(user, secret, given.hash, clear=given.apop)


def _passwd(store: Store, given: argparse.Namespace) -> None:
    user = os.fsencode(given.user)
    clear = store.show(user).has_clear if given.apop is None else given.apop
    secret = _read_secret(given)
    with store:
        store.set_secret(user, secret, given.hash, clear=clear)


def _enable(store: Store, given: argparse.Namespace) -> None:
    with store:
        is_enabled = given.command == "enable"
        store.set_enabled(os.fsencode(given.user), is_enabled=is_enabled)


def _remove(store: Store, given: argparse.Namespace) -> None:
    with store:
        store.remove(os.fsencode(given.user))


def _show(store: Store, given: argparse.Namespace) -> None:
    fields = _fields(store.show(os.fsencode(given.user)))
    if given.json:
        _print(json.dumps(fields))
        return
    for name, value in fields.items():
        _print(f"{name + ':':10} {_words(value)}")


def _list(store: Store, given: argparse.Namespace) -> None:
    for account in store.list():
        if given.json:
            _print(json.dumps(_fields(account)))
        else:
            state = "" if account.is_enabled else "  (disabled)"
            _print(account.user + state)


COMMANDS = {
    "add": _add,
    "passwd": _passwd,
    "enable": _enable,
    "disable": _enable,
    "remove": _remove,
    "show": _show,
    "list": _list,
}


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
        "created": _date(account.created),
        "changed": _date(account.changed),
    }


def _date(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value in (None, "") else str(value)


def _print(line: str) -> None:
    """Write a line in which no control character survives."""
    text = "".join(letter if letter.isprintable() else "?" for letter in line)
    sys.stdout.write(text.encode("utf-8", "replace").decode() + "\n")


def _read_secret(given: argparse.Namespace) -> bytes:
    """Read the password from the terminal, or one line of standard input.

    Raises: Refused.
    """
    if given.stdin or not sys.stdin.isatty():
        secret = sys.stdin.buffer.readline().rstrip(b"\r\n")
    else:
        secret = os.fsencode(getpass.getpass(f"Password for {given.user}: "))
        if secret != os.fsencode(getpass.getpass("Again: ")):
            raise Refused("the two passwords differ; nothing was changed")
    check_secret(secret)
    return secret


def _parser() -> _Parser:
    parser = _Parser(prog="popaccount", description="Keep the mail accounts' database.")
    parser.add_argument(
        "--version", action="version", version=f"popaccount (qtools) {__version__}"
    )
    parser.add_argument(
        "-d", "--db", metavar="FILE", help=f"the database; else db:FILE in {VARIABLE}"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("init", help="make a new, empty database")
    add = commands.add_parser("add", help="add an account; its password is read")
    add.add_argument("user", metavar="USER")
    add.add_argument("--home", default="", help="directory to enter at login")
    add.add_argument("--maildir", default="", help="the maildir, if HOME/Maildir isn't")
    add.add_argument("--uid", type=_number, help="user id to serve as")
    add.add_argument("--gid", type=_number, help="group id to serve as")
    add.add_argument("--apop", action="store_true", help=_APOP_HELP)
    passwd = commands.add_parser("passwd", help="set a new password, which is read")
    passwd.add_argument("user", metavar="USER")
    passwd.add_argument(
        "--apop", action=argparse.BooleanOptionalAction, help=_APOP_HELP
    )
    for each in (add, passwd):
        each.add_argument("--hash", metavar="METHOD", default="", help=_HASH_HELP)
        each.add_argument("--stdin", action="store_true", help="read no terminal")
    _add_simple_commands(commands)
    return parser


_APOP_HELP = "keep the clear password too, as APOP and CRAM-MD5 need"
_HASH_HELP = f"one of {', '.join(hashes.METHODS)}; default: the system's best"


def _add_simple_commands(
    commands: "argparse._SubParsersAction[_Parser]",
) -> None:
    for name, text in (
        ("enable", "let an account log in again"),
        ("disable", "let an account log in no more"),
        ("remove", "remove an account, but not its mail"),
        ("show", "show an account, but none of its secrets"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("user", metavar="USER")
        if name == "show":
            command.add_argument("--json", action="store_true", help="one JSON object")
    listing = commands.add_parser("list", help="list all accounts")
    listing.add_argument("--json", action="store_true", help="one JSON object a line")


def _number(text: str) -> int:
    """Read a uid or gid."""
    if not (text.isascii() and text.isdigit()) or int(text) > 2**32 - 2:
        raise argparse.ArgumentTypeError(f"not a number of a user or group: {text}")
    return int(text)
