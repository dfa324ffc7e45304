# SPDX-License-Identifier: ISC
"""Carry out lines of the Command Line Interface on the account database.

For PWD's privileged side, which is given a line by a dialogue that may have been taken
over, and for popaccount. A line is read here, rights are looked up anew for each, and a
change is on disk before there is an answer.
"""

from qtools.accounts import registry
from qtools.accounts.cli import accounts, domains, names, refused, server
from qtools.accounts.cli.errand import Errand
from qtools.accounts.cli.rights import SERVER_RIGHTS, Caller, master
from qtools.accounts.db.store import Store
from qtools.accounts.refusals import NotAllowed
from qtools.errors import Failure, Refused
from qtools.protocol import codes, commands
from qtools.protocol.values import Malformed, render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from qtools.accounts.cli.accounts import Done
    from qtools.accounts.cli.errand import Log
    from qtools.protocol.grammar import Call
    from qtools.protocol.values import Value

    Handler = Callable[[Errand], Value | Done]

PROBLEMS, MAJOR = 3, 2  # levels of the log

HANDLERS: "dict[str, Handler]" = {
    "NOOP": server.nothing,
    "ListAccounts": domains.list_accounts,
    "ListDomainObjects": domains.list_objects,
    "CreateAccount": accounts.create,
    "RenameAccount": accounts.rename,
    "DeleteAccount": accounts.delete,
    "GetAccountSettings": accounts.get_settings,
    "GetAccountEffectiveSettings": accounts.get_effective,
    "UpdateAccountSettings": accounts.update,
    "SetAccountSettings": accounts.replace,
    "SetAccountPassword": accounts.set_password,
    "VerifyAccountPassword": accounts.verify_password,
    "GetAccountAliases": accounts.get_aliases,
    "SetAccountAliases": accounts.set_aliases,
    "GetAccountInfo": accounts.get_info,
    "GetAccountRights": accounts.get_rights,
    "SetAccountRights": accounts.set_rights,
    "KillAccountSessions": server.kill_sessions,
    "ListDomains": domains.list_domains,
    "MainDomainName": domains.main_name,
    "CreateDomain": domains.create,
    "RenameDomain": domains.rename,
    "DeleteDomain": domains.delete,
    "GetDomainSettings": domains.get_settings,
    "GetDomainEffectiveSettings": domains.get_effective,
    "UpdateDomainSettings": domains.update_settings,
    "GetAccountDefaults": domains.get_defaults,
    "WriteLog": server.write_log,
}


class Interpreter:
    """Commands on one database, for one caller.

    user: the account of the caller as it is kept; empty for the administrator of this
    machine, who may do everything. log: takes a level from 0 to 5 and a text.
    has_changed: since the database was opened, so that the hook is to be run.
    """

    def __init__(self, path: bytes, user: bytes, log: "Log") -> None:
        """Open the database.

        Raises: Hard, Temporary.
        """
        self._path = path
        self._user = user
        self._log = log
        self._store = Store(path)
        self.has_changed = False

    def close(self) -> None:
        """Let go of the database."""
        self._store.close()

    def run(self, line: bytes) -> bytes:
        """Carry out a line; give the answer as codes.lines() takes it."""
        try:
            call = commands.read(line)
            handler = HANDLERS.get(call.command.name)
            if handler is None:
                raise commands.Unknown("a command of the dialogue's", 0)
            if not call.command.changes:
                return _answer(handler(self._errand(call)))
            return self._change(call, handler)
        except Malformed as why:
            return codes.reply(codes.WRONG, str(why).encode("ascii", "replace"))
        except Failure as why:
            level = PROBLEMS if isinstance(why, Refused) else 1
            self._log(level, f"{self._who()}: {why}")
            return refused.answer(why)

    def _change(self, call: "Call", handler: "Handler") -> bytes:
        """Carry out what changes something, and have it on disk."""
        result: Value | Done
        if handler is accounts.set_password:  # which hashes before its transaction
            result = handler(self._errand(call))
        else:
            with self._store:
                result = handler(self._errand(call))
        self.has_changed = True
        self._log(MAJOR, f"{self._who()}: {call.command.name} {_subject(call)}")
        return _answer(result)

    def _errand(self, call: "Call") -> Errand:
        return Errand(self._store, self._caller(), call, self._log, self._verify)

    def _caller(self) -> Caller:
        """Find out who the caller is by now: rights can be taken away.

        Raises: NotAllowed when the account is gone, or may not log in any more.
        """
        if not self._user:
            return master()
        try:
            is_enabled = self._store.show(self._user).is_enabled
        except Refused:
            is_enabled = False
        if not is_enabled:
            raise NotAllowed("your account may not log in any more")
        name = names.account(self._store, self._user)
        rights = set(self._store.rights(self._user))
        if b"@" in name.user:  # its domain is not the main one any more
            rights.difference_update(SERVER_RIGHTS)
        return Caller(name, rights)

    def _verify(self, user: bytes, secret: bytes) -> None:
        """Check a password.

        Raises: Refused; Temporary, Hard.
        """
        where = self._path.decode("utf-8", "surrogateescape")
        (open_source,) = registry.load([f"db:{where}"])
        registry.verify([open_source()], user, secret, b"")

    def _who(self) -> str:
        return self._user.decode("utf-8", "surrogateescape") or "administrator"


def _subject(call: "Call") -> str:
    """Give what a change was about, for the log."""
    given = (call.text(name) for name in ("account", "domain") if name in call)
    return " ".join(text.decode("utf-8", "surrogateescape") for text in given)


def _answer(result: "Value | Done") -> bytes:
    if isinstance(result, accounts.Done):
        return codes.OK
    return codes.DATA + b" " + render(result)
