# SPDX-License-Identifier: ISC
"""The arguments of popaccount, for argparse."""

import argparse

from qtools import __version__
from qtools.accounts import hashes
from qtools.accounts.db.exchange import FORMS
from qtools.accounts.interface import LARGEST_ID
from qtools.errors import Hard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

VARIABLE = "QTOOLS_ACCOUNTS"

APOP_HELP = "keep the clear password too, as APOP and CRAM-MD5 need"
HASH_HELP = f"one of {', '.join(hashes.METHODS)}; default: the database's, or the best"
FORM_HELP = f"{', '.join(FORMS)}; behind vpasswd: a colon and the domain"
EPILOG = (
    "Every command of poppassd(8)'s command line interface can be given as well, such"
    " as: popaccount CreateAccount user1"
)


class Parser(argparse.ArgumentParser):
    """argparse, with our exit code for misuse."""

    def error(self, message: str) -> "NoReturn":
        """Complain the way the other tools do."""
        raise Hard(f"{message}; try --help")


Commands = argparse._SubParsersAction  # noqa: SLF001  # it has no other name


def parser() -> Parser:
    """Give the parser for all of popaccount."""
    made = Parser(
        prog="popaccount",
        description="Keep the mail accounts' database.",
        epilog=EPILOG,
    )
    made.add_argument(
        "--version", action="version", version=f"popaccount (qtools) {__version__}"
    )
    made.add_argument(
        "-d", "--db", metavar="FILE", help=f"the database; else db:FILE in {VARIABLE}"
    )
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("init", help="make a new, empty database")
    _add_accounts(commands)
    _add_simple(commands)
    _add_details(commands)
    _add_files(commands)
    return made


def _add_accounts(commands: "Commands[Parser]") -> None:
    add = commands.add_parser("add", help="add an account; its password is read")
    add.add_argument("user", metavar="USER")
    add.add_argument("--home", default="", help="directory to enter at login")
    add.add_argument("--maildir", default="", help="the maildir, if HOME/Maildir isn't")
    add.add_argument("--uid", type=_number, help="user id to serve as")
    add.add_argument("--gid", type=_number, help="group id to serve as")
    add.add_argument("--apop", action="store_true", help=APOP_HELP)
    passwd = commands.add_parser("passwd", help="set a new password, which is read")
    passwd.add_argument("user", metavar="USER")
    passwd.add_argument("--apop", action=argparse.BooleanOptionalAction, help=APOP_HELP)
    for each in (add, passwd):
        each.add_argument("--hash", metavar="METHOD", default="", help=HASH_HELP)
        each.add_argument("--stdin", action="store_true", help="read no terminal")


def _add_simple(commands: "Commands[Parser]") -> None:
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


def _add_details(commands: "Commands[Parser]") -> None:
    change = commands.add_parser("may-change", help="may the owner change his password")
    change.add_argument("user", metavar="USER")
    change.add_argument("answer", choices=("yes", "no"))
    for name, what in (("aliases", "ALIAS"), ("rights", "RIGHT")):
        command = commands.add_parser(name, help=f"print an account's {name}, or set")
        command.add_argument("user", metavar="USER")
        command.add_argument("names", metavar=what, nargs="*", help="all there are now")
        command.add_argument("--none", action="store_true", help="there are none now")
    domain = commands.add_parser("domain", help="list, add, rename, remove domains")
    actions = ("list", "add", "rename", "remove", "main")
    domain.add_argument("action", choices=actions, help="main: which one is, or none")
    domain.add_argument("names", metavar="DOMAIN", nargs="*")
    domain.add_argument("--force", action="store_true", help="remove accounts, too")
    option = commands.add_parser("option", help="print what is chosen, or choose")
    option.add_argument("name", nargs="?", help="method, iterations, hook, ...")
    option.add_argument("value", nargs="?", help="empty to take the choice back")


def _add_files(commands: "Commands[Parser]") -> None:
    importing = commands.add_parser("import", help="add the accounts of a file")
    importing.add_argument("form", metavar="FORM", help=FORM_HELP)
    importing.add_argument("file", metavar="FILE", nargs="?", default="-")
    importing.add_argument(
        "--skip-bad", action="store_true", help="import what is good in spite of faults"
    )
    exporting = commands.add_parser("export", help="print all accounts, and hashes")
    exporting.add_argument("form", metavar="FORM", help=FORM_HELP)
    exporting.add_argument(
        "--skip-bad", action="store_true", help="export what the form can say"
    )
    backup = commands.add_parser("backup", help="copy the database while it is in use")
    backup.add_argument("file", metavar="FILE")
    commands.add_parser("migrate", help="bring an older database up to date")
    commands.add_parser("cli", help="answer lines of the command line interface")


def _number(text: str) -> int:
    """Read a uid or gid."""
    if not (text.isascii() and text.isdigit()) or int(text) > LARGEST_ID:
        raise argparse.ArgumentTypeError(f"not a number of a user or group: {text}")
    return int(text)
